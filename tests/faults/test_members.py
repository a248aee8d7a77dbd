# SPDX-License-Identifier: Apache-2.0
"""Members of a cluster killed, frozen, stopped and restarted under load."""

from __future__ import annotations

import time

import pytest

from purecd import errors
from tests.live.fronts import timed
from tests.support import observer
from tests.support.recorder import overshoot


def used_follower(run, cluster):
    """A follower that serves connections of the load, if one does."""
    used = run.in_use()
    return max(cluster.followers(), key=lambda member: used[member.endpoint])


def test_f1_a_follower_is_killed(trial, start_cluster):
    cluster = start_cluster()
    run = trial(cluster.endpoints)
    run.warm_up()
    victim = used_follower(run, cluster)
    run.fault()
    victim.kill()
    run.run(3)
    victim.start()
    run.wind_down(victim.endpoint)
    figures = run.report()
    run.check()
    assert figures["unavailable_s"] < 0.5 + 1
    assert figures["unknown"] <= run.load.callers
    assert figures["failed"] == 0
    assert not run.load.lost_leases(victim.endpoint)


def test_f2_the_leader_is_killed(trial, start_cluster):
    cluster = start_cluster()
    victim = cluster.leader()
    run = trial(cluster.endpoints)
    run.warm_up()
    run.fault()
    victim.kill()
    run.run(6)
    victim.start()
    run.wind_down(victim.endpoint)
    figures = run.report()
    run.check()
    assert figures["unavailable_s"] < 3 + 1
    assert figures["slowest_call_s"] < 7.1 + 1
    assert not run.load.lost_leases(victim.endpoint)


@pytest.mark.parametrize("whom", ["leader", "follower"])
def test_f3_a_member_freezes_for_ten_seconds(trial, start_cluster, whom):
    cluster = start_cluster()
    timeout = 2.0
    # Of shorter leases etcd drops all now and then, when a leader was frozen for longer than their TTL.
    run = trial(cluster.endpoints, timeout=timeout, lease_ttl=15)
    run.warm_up()
    victim = cluster.leader() if whom == "leader" else used_follower(run, cluster)
    run.fault()
    victim.pause()
    run.run(10)
    victim.resume()
    run.wind_down(victim.endpoint)
    closed = [
        moment - run.fault_at
        for moment, event, endpoint, _ in run.connections.events
        if event == "closed" and endpoint == victim.endpoint and moment > run.fault_at
    ]
    figures = run.report(closed_s=[round(each, 2) for each in closed])
    run.check()
    assert figures["unavailable_s"] < timeout + 3 + 1
    assert all(each < 12.5 + 1 for each in closed)
    # One turn of calls times out; those after it go elsewhere.
    assert figures["unknown"] + figures["failed"] <= 2 * run.load.callers
    assert not run.load.lost_leases(victim.endpoint)


def test_f4_members_are_restarted_in_turn(trial, start_cluster):
    cluster = start_cluster()
    run = trial(cluster.endpoints)
    run.warm_up()
    run.fault()
    exits = []
    for member in cluster.members:
        started = time.monotonic()
        member.stop()
        exits.append(round(time.monotonic() - started, 2))
        run.run(0.5)
        member.start()
        run.run(1.0)
    run.wind_down(cluster.members[0].endpoint)
    figures = run.report(exits_s=exits)
    run.check()
    assert figures["failed"] == 0
    # A leader that stops hands over. Where etcd does not manage to, on a busy machine, there is an election,
    # and the writes in flight have no answer.
    elected = figures["longest_gap_s"] > 0.9
    assert figures["unknown"] <= (run.load.callers if elected else 0), run.errors()
    assert figures["watch_gap_s"] < 1 + 2
    assert max(exits) < 2 + 3
    assert not run.load.lost_leases(cluster.members[0].endpoint)


def test_f5_all_members_are_killed(trial, start_cluster):
    cluster = start_cluster()
    run = trial(cluster.endpoints, lease_ttl=15)
    run.warm_up()
    run.fault()
    cluster.kill()
    run.run(1.0)
    cluster.start()
    run.heal()
    run.wind_down(cluster.members[0].endpoint)
    run.report(down_s=run.healed_at - run.fault_at)
    run.check()
    assert not run.load.lost_leases(cluster.members[0].endpoint)


def test_f8_without_a_quorum(front, start_cluster):
    cluster = start_cluster()
    survivor, *others = cluster.members
    client = front.client(survivor.endpoint, timeout=10)
    patient = front.client(cluster.endpoints, timeout=10)
    client.put("k", "before")
    patient.get("k")
    with client.watch("k", require_leader=True) as strict, client.watch("k") as plain:
        for member in others:
            member.kill()
        killed_at = time.monotonic()
        with pytest.raises(errors.NoLeader):
            strict.next(timeout=15)
        no_leader = time.monotonic() - killed_at
        started = time.monotonic()
        assert client.get("k", serializable=True, timeout=5).value == b"before"
        serializable = time.monotonic() - started
        put, put_took = timed(lambda: client.put("k", "without", timeout=2))
        get, get_took = timed(lambda: client.get("k", timeout=2))
        # With time enough it is the member who gives up, after 7 s.
        slow, slow_took = timed(lambda: client.put("k", "without too", timeout=9))
        everywhere, everywhere_took = timed(lambda: patient.put("k", "nor there", timeout=2))
        for member in others:
            member.start(wait=False)
        started = time.monotonic()
        patient.put("k", "after")
        recovery = time.monotonic() - started
        values: list[bytes] = []
        while not values or values[-1] != b"after":
            values.append(plain.next(timeout=10).value)
    print(
        "FIGURES "
        f'{{"test": "test_f8[{front.name}]", "no_leader_s": {no_leader:.2f}, '
        f'"serializable_ms": {serializable * 1000:.1f}, "overshoot_ms": {(put_took - 2) * 1000:.1f}, '
        f'"server_gives_up_s": {slow_took:.2f}, "recovery_s": {recovery:.2f}}}'
    )
    assert type(put) is errors.DeadlineExceeded
    assert put.maybe_applied
    assert type(get) is errors.DeadlineExceeded
    assert not get.maybe_applied
    assert slow.maybe_applied
    assert slow_took < 7.1 + 1
    assert everywhere.maybe_applied in (True, False)
    assert max(put_took, get_took, everywhere_took) < 2 + 1
    assert serializable < 0.05 + 0.5
    assert no_leader < 5 + 1
    # What was of unknown outcome may have been applied when the others were back; what failed was not.
    assert values[-1] == b"after"
    assert set(values[:-1]) <= {b"without", b"without too", b"nor there"}
    assert everywhere.maybe_applied or b"nor there" not in values


def test_f8_a_load_without_a_quorum(trial, start_cluster):
    cluster = start_cluster()
    run = trial(cluster.endpoints, timeout=2.0, lease_ttl=30)
    run.warm_up()
    run.fault()
    for member in cluster.members[1:]:
        member.pause()
    run.run(5)
    for member in cluster.members[1:]:
        member.resume()
    run.wind_down(cluster.members[0].endpoint)
    run.report()
    run.check()
    stale = [each for each in run.operations if each.serializable and each.called_at > run.fault_at + 2.5]
    assert any(each.outcome == "ok" for each in stale), "serializable reads need no quorum"
    assert not run.load.lost_leases(cluster.members[0].endpoint)


def holds_k(server):
    return "count" in observer.gateway(server.endpoint, "kv/range", {"key": "aw=="})


def test_f21_an_endpoint_that_now_belongs_to_another_cluster(front, start_server):
    servers = [start_server(), start_server()]
    client = front.client([each.endpoint for each in servers], timeout=3)
    for number in range(20):
        client.put("k", str(number))
    used, other = sorted(servers, key=lambda each: not holds_k(each))
    assert not holds_k(other), "all went to one of them"
    used.kill()
    time.sleep(0.1)  # so long that the end of the connection is seen before the call is sent
    error, took = timed(lambda: client.put("k", "elsewhere", timeout=2))
    assert not error.maybe_applied
    assert took < 2 + 1
    assert not holds_k(other), "nothing got there"
    used.start()
    assert client.put("k", "back").header.revision
    assert client.get("k").value == b"back"


def test_f21_a_member_that_was_wiped(front, start_server):
    server = start_server()
    client = front.client(server.endpoint, timeout=3)
    client.put("k", "before")
    with client.watch("k") as watch:
        client.put("k", "seen")
        assert watch.next(timeout=5).value == b"seen"
        server.kill()
        server.wipe()
        server.args.append("--initial-cluster-token=another")
        server.start()
        error, _ = timed(lambda: client.put("k", "after", timeout=2))
        assert not error.maybe_applied
        assert "cluster" in str(error), str(error)


def test_f21_a_store_that_begins_anew(front, start_server):
    # The same cluster by its id, so only the revision tells.
    server = start_server()
    client = front.client(server.endpoint, timeout=3)
    for number in range(20):
        client.put("k", str(number))
    with client.watch("k", start_revision=client.get("k").kv.mod_revision) as watch:
        assert watch.next(timeout=5).value == b"19"
        server.kill()
        server.wipe()
        server.start()
        client.put("k", "anew")
        with pytest.raises(errors.ClusterMismatch, match="went backwards"):
            watch.next(timeout=10)


def test_f21_a_member_is_replaced_under_load(trial, start_cluster):
    cluster = start_cluster(args=["--strict-reconfig-check=false"])  # else it waits for 5 s of health
    run = trial(cluster.endpoints)
    run.warm_up()
    victim = used_follower(run, cluster)
    run.fault()
    client = run.clients[0]
    (gone,) = [each for each in client.members.list().members if each.name == victim.name]
    client.members.remove(gone.id)
    run.run(1.0)
    victim.kill()
    victim.wipe()
    client.members.add([victim.peer_url])
    victim.initial_cluster_state = "existing"
    victim.start()
    run.run(2.0)
    run.wind_down(victim.endpoint)
    figures = run.report()
    run.check()
    assert figures["unknown"] + figures["failed"] <= 2 * run.load.callers
    assert not run.load.lost_leases(victim.endpoint)


def test_r_b3_the_member_in_use_is_terminated(front, start_cluster):
    cluster = start_cluster()
    client = front.client(cluster.endpoints)
    client.put("k", "0")
    client.put("other", "0")  # or a watch whose member goes at once may see the change of its own revision
    calls = {
        "put": lambda: client.put("k", "1"),
        "get": lambda: client.get("k"),
        "serializable": lambda: client.get("k", serializable=True),
        "txn": lambda: client.txn([], [], []),
        "delete": lambda: client.delete("other"),
    }
    slowest = {}
    with client.watch("k") as watch:
        for name, call in calls.items():
            leader = cluster.leader()
            leader.stop()
            started = time.monotonic()
            call()
            slowest[name] = round(time.monotonic() - started, 2)
            leader.start()
            if name == "put":
                started = time.monotonic()
                assert watch.next(timeout=7).value == b"1"
                assert time.monotonic() - started < 3
    print(f'FIGURES {{"test": "test_r_b3[{front.name}]", "slowest": "{slowest}"}}')
    assert max(slowest.values()) < 1 + 2


def test_r_b4_two_members_down_and_one_comes_back(front, start_cluster):
    cluster = start_cluster()
    client = front.client(cluster.endpoints, timeout=15)
    client.put("k", "v")
    for member in cluster.members[:2]:
        member.kill()
    cluster.members[0].start(wait=False)
    took = []
    for serializable in (True, False):
        started = time.monotonic()
        assert client.get("k", serializable=serializable).value == b"v"
        took.append(round(time.monotonic() - started, 2))
    print(f'FIGURES {{"test": "test_r_b4[{front.name}]", "get_s": {took}}}')
    assert max(took) < 7 + 1


def test_r_b10_a_member_that_stops_answers_what_it_accepted(trial, start_cluster):
    cluster = start_cluster(1)
    server = cluster.members[0]
    run = trial(cluster.endpoints, rate=2000.0, watches=0, leases=0, timeout=8.0)
    run.warm_up()
    run.fault()
    for _ in range(3):
        server.stop()
        server.start()
        run.run(0.5)
    run.wind_down(server.endpoint)
    run.report()
    run.check()
    assert overshoot(run.operations) < 1
    assert not run.errors(), run.errors()[:5]


def test_f15_members_are_restarted_while_tokens_run_out(trial, start_cluster):
    cluster = start_cluster(args=["--auth-token-ttl=2"])
    run = trial(cluster.endpoints, client_options={"user": "root", "password": "secret"}, lease_ttl=15)
    admin = run.fronts[0].client(cluster.endpoints)
    admin.users.add("root", "secret")
    admin.users.grant_role("root", "root")
    admin.auth.enable()
    run.warm_up()
    run.fault()
    for member in cluster.members:
        member.kill()
        member.start()
        run.run(2.5)
    run.clients[0].auth.disable()
    run.run(1.0)
    admin.auth.enable()
    run.run(1.0)
    run.clients[1].auth.disable()  # the observer has no password
    run.wind_down(cluster.members[0].endpoint)
    logins = sum(
        member.metric("grpc_server_started_total", grpc_method="Authenticate") for member in cluster.members
    )
    measured = run.report(logins=logins)
    run.check()
    assert measured["failed"] == 0
    assert measured["unknown"] <= 3 * run.load.callers
    assert logins < 100
    assert not run.load.lost_leases(cluster.members[0].endpoint)
