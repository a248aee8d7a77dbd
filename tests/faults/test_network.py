# SPDX-License-Identifier: Apache-2.0
"""Networks that fail: between the clients and their members, and among the members."""

from __future__ import annotations

import json
import random
import time
from contextlib import ExitStack

import pytest

from purecd import errors
from purecd.testing import EtcdCluster
from tests.live.fronts import timed
from tests.support.observer import seconds_left
from tests.support.peernet import PeerNetwork
from tests.support.proxy import FaultProxy
from tests.support.recorder import ConnectionLog


@pytest.fixture
def proxied(start_cluster):
    """``proxied()``: a cluster and one proxy in front of each member."""
    with ExitStack() as stack:

        def start():
            cluster = start_cluster()
            proxies = [stack.enter_context(FaultProxy(each)) for each in cluster.endpoints]
            return cluster, proxies

        yield start


@pytest.fixture
def networked(binary):
    """``networked()``: a cluster whose members can be kept apart."""
    with ExitStack() as stack:

        def start():
            cluster = EtcdCluster(3, binary=binary)
            network = stack.enter_context(PeerNetwork(cluster))
            stack.enter_context(cluster)
            return cluster, network

        yield start


def figures(name, **values):
    print(f"FIGURES {json.dumps({'test': name, **values})}")


def serving(proxies):
    """The proxies with open connections, the busiest first."""
    return sorted(proxies, key=lambda each: -each.open_connections)


# --- between clients and members ---


@pytest.mark.parametrize("directions", [(), ("tx",), ("rx",)], ids=["both", "tx", "rx"])
def test_f6_a_member_is_blackholed(trial, proxied, directions):
    cluster, proxies = proxied()
    run = trial([each.endpoint for each in proxies], timeout=2.0)
    run.warm_up()
    run.fault()
    hole = serving(proxies)[0]
    hole.blackhole(*directions)
    run.run(8)
    hole.heal()
    run.wind_down(cluster.members[0].endpoint)
    measured = run.report()
    run.check()
    assert measured["unavailable_s"] < 2.0 + 1 + 1
    assert measured["unknown"] + measured["failed"] <= 2 * run.load.callers
    assert not run.load.lost_leases(cluster.members[0].endpoint)


def test_f9_connections_are_reset_every_50_ms(trial, proxied):
    cluster, proxies = proxied()
    run = trial([each.endpoint for each in proxies], lease_ttl=15)
    run.warm_up()
    run.fault()
    while time.monotonic() < run.fault_at + 8:
        for proxy in proxies:
            proxy.reset()
        run.run(0.05)
    run.heal()
    run.wind_down(cluster.members[0].endpoint)
    tried = run.connections.times("connect", run.fault_at)
    rate = len([each for each in tried if each < run.healed_at]) / (run.healed_at - run.fault_at)
    measured = run.report(connects_per_s=rate)
    run.check()
    assert measured["recovery_s"] < 1 + 1
    assert rate < 2 * 20, "for two clients"


def test_f9_connections_are_cut_at_any_byte(trial, proxied, seed):
    cluster, proxies = proxied()
    rng = random.Random(seed)
    run = trial([each.endpoint for each in proxies], lease_ttl=15)
    run.warm_up()
    run.fault()
    while time.monotonic() < run.fault_at + 8:
        for proxy in proxies:
            proxy.cut_after(rng.randrange(20_000), rng.choice(["tx", "rx"]), rng.choice(["fin", "rst"]))
        run.run(0.1)
    for proxy in proxies:
        proxy.heal()
    run.heal()
    run.wind_down(cluster.members[0].endpoint)
    measured = run.report()
    run.check()
    assert measured["recovery_s"] < 1 + 1


@pytest.mark.parametrize("how", ["latency", "slices", "bandwidth"])
def test_f10_slow_networks(trial, proxied, how):
    cluster, proxies = proxied()
    rate = {"latency": 100.0, "slices": 40.0, "bandwidth": 20.0}[how]
    # A lease that is not renewed within a sixth of its TTL makes the client look elsewhere.
    watches = 2 if how == "bandwidth" else 8
    run = trial([each.endpoint for each in proxies], rate=rate, watches=watches, lease_ttl=15)
    run.warm_up(1.0)
    run.fault()
    for proxy in proxies:
        if how == "latency":
            proxy.delay(0.1, 0.05)
        elif how == "slices":
            proxy.slice(5, 0.0005)
        else:
            proxy.bandwidth(20_000)
    run.run(6)
    for proxy in proxies:
        proxy.heal()
    run.wind_down(cluster.members[0].endpoint)
    measured = run.report()
    run.check()
    assert not measured["errors"], run.errors()[:5]
    assert measured["connects"] <= 4, "slow is not dead"
    assert not run.load.lost_leases(cluster.members[0].endpoint)


def test_a_lease_is_kept_while_each_answer_takes_four_tenths_of_its_ttl(front, start_server):
    ttl = 4  # of a longer one so much would be more than a PING may take
    server = start_server()
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(proxy.endpoint, timeout=20)
        with client.watch("k"):  # so that the connection of the renewals is up
            lease = client.lease(ttl)
        proxy.delay(0.21 * ttl)  # in either direction
        assert not lease.wait(5 * ttl)
        assert not lease.lost
        proxy.heal()
    assert seconds_left(server.endpoint, lease.id) > 0


@pytest.mark.parametrize("directions", [(), ("rx",)], ids=["both", "rx"])
def test_r_b1_a_watch_on_a_blackholed_endpoint(front, proxied, directions):
    cluster, proxies = proxied()
    # The shortest that purecd allows is 10 s.
    client = front.client([each.endpoint for each in proxies], keepalive_time=10.0, keepalive_timeout=2.0)
    writer = front.client(cluster.endpoints)
    with client.watch("k") as watch:
        writer.put("k", "1")
        assert watch.next(timeout=5).value == b"1"
        hole = serving(proxies)[0]
        hole.blackhole(*directions)
        started = time.monotonic()
        writer.put("k", "2")
        assert watch.next(timeout=20).value == b"2"
        took = time.monotonic() - started
    figures(f"test_r_b1[{front.name}-{'-'.join(directions) or 'both'}]", event_s=round(took, 2))
    assert took < 10 + 2 + 1 + 1


@pytest.mark.parametrize("what", ["put", "delete", "txn", "get", "serializable"])
def test_r_b2_without_keepalive_one_call_fails(front, proxied, what):
    _, proxies = proxied()
    client = front.client([each.endpoint for each in proxies], keepalive_time=None, timeout=1.0)
    calls = {
        "put": lambda: client.put("k", "v"),
        "delete": lambda: client.delete("k"),
        "txn": lambda: client.txn([], [], []),
        "get": lambda: client.get("k"),
        "serializable": lambda: client.get("k", serializable=True),
    }
    calls[what]()
    serving(proxies)[0].blackhole()
    failed = 0
    started = time.monotonic()
    while True:
        try:
            calls[what]()
            break
        except errors.DeadlineExceeded as error:
            failed += 1
            assert failed < 5, error
    figures(f"test_r_b2[{front.name}-{what}]", failed=failed, seconds=round(time.monotonic() - started, 2))
    assert failed <= 1


def test_r_b8_endpoints_change_at_run_time(front, proxied):
    cluster, proxies = proxied()
    follower = cluster.members.index(cluster.followers()[0])
    proxies = [*proxies[follower:], *proxies[:follower]]
    client = front.client([proxies[0].endpoint])
    client.put("k", "1")
    with client.watch("k", start_revision=client.get("k").kv.mod_revision + 1) as watch:
        set_endpoints(client, [proxies[1].endpoint])
        client.put("k", "2")
        assert watch.next(timeout=5).value == b"2"
        assert proxies[1].open_connections
        deadline = time.monotonic() + 5
        while proxies[0].open_connections:
            assert time.monotonic() < deadline, "the removed endpoint's connections drain"
            with pytest.raises(TimeoutError):  # the blocking client moves when somebody reads
                watch.next(timeout=0.05)
        # A dead endpoint first, a living one then; and the other way round.
        cluster.members[follower].kill()
        set_endpoints(client, [proxies[0].endpoint])
        error, _ = timed(lambda: client.put("k", "3", timeout=0.5))
        assert not error.maybe_applied
        started = time.monotonic()
        set_endpoints(client, [proxies[0].endpoint, proxies[2].endpoint])
        client.put("k", "4")
        took = time.monotonic() - started
        assert watch.next(timeout=5).value == b"4"
    figures(f"test_r_b8[{front.name}]", next_call_s=round(took, 2))
    assert took < 1 + 1


def set_endpoints(client, endpoints):
    getattr(client, "client", client).endpoints = endpoints


@pytest.mark.parametrize("fault", ["expired", "unknown"])
def test_r_b7_tls_that_fails_says_so_at_once(front, start_server, tmp_path, fault):
    trustme = pytest.importorskip("trustme")
    import datetime

    from purecd import Tls
    from purecd.testing import TlsFiles

    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "stranger.pem"))
    past = datetime.datetime(2020, 1, 1)
    cert = authority.issue_cert("127.0.0.1", not_after=past if fault == "expired" else None)
    cert.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "cert.pem").write_bytes(b"".join(each.bytes() for each in cert.cert_chain_pems))
    server = start_server(tls=TlsFiles(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")))
    trusted = tmp_path / ("ca.pem" if fault == "expired" else "stranger.pem")
    client = front.client(server.endpoint, tls=Tls(ca_cert=str(trusted)), fail_fast=True)
    error, took = timed(lambda: client.put("k", "v"))
    figures(f"test_r_b7[{front.name}-{fault}]", seconds=round(took, 3))
    assert isinstance(error, errors.TlsError)
    assert fault in str(error) or "self-signed" in str(error) or "issuer" in str(error), str(error)
    assert not error.maybe_applied
    assert took < 1 + 1


# --- among the members ---


@pytest.mark.parametrize("whom", ["leader", "follower"])
def test_f7_a_member_is_isolated(trial, networked, whom):
    cluster, network = networked()
    run = trial(cluster.endpoints, timeout=3.0, lease_ttl=20)
    run.warm_up()
    used = run.in_use()
    leader = cluster.leader()
    followers = [each for each in cluster.members if each is not leader]
    victim = leader if whom == "leader" else max(followers, key=lambda each: used[each.endpoint])
    run.fault()
    network.isolate(victim)
    run.run(8)
    network.heal()
    run.wind_down(leader.endpoint)
    measured = run.report()
    run.check()
    assert measured["unavailable_s"] < 3 + 3 + 1
    assert not run.load.lost_leases(leader.endpoint)


def test_f7_nobody_reaches_anybody(trial, networked):
    cluster, network = networked()
    run = trial(cluster.endpoints, timeout=2.0, lease_ttl=20)
    run.warm_up()
    run.fault()
    network.split(*([each] for each in cluster.members))
    run.run(5)
    network.heal()
    run.wind_down(cluster.members[0].endpoint)
    run.report()
    run.check()


def test_r_b5_an_isolated_member(front, networked):
    cluster, network = networked()
    victim = cluster.followers()[0]
    log = ConnectionLog()
    client = front.client(cluster.endpoints, timeout=10, hooks=[log])
    client.put("k", "0")
    # Have it connected to the member that will be alone.
    set_endpoints(client, [victim.endpoint])
    client.put("k", "1")
    set_endpoints(
        client, [victim.endpoint, *(each.endpoint for each in cluster.members if each is not victim)]
    )
    client.get("k")
    network.isolate(victim)
    started = time.monotonic()
    assert client.get("k", serializable=True).value is not None
    serializable = time.monotonic() - started
    attempts, took = {}, {}
    for name, call in {
        "get": lambda: client.get("k", timeout=3),
        "put": lambda: client.put("k", "2", timeout=3),
        "txn": lambda: client.txn([], [], [], timeout=3),
    }.items():
        started = time.monotonic()
        attempts[name] = 1
        while True:
            try:
                call()
                break
            except errors.EtcdError as error:
                attempts[name] += 1
                assert attempts[name] <= 3, error
        took[name] = round(time.monotonic() - started, 2)
    network.heal()
    figures(
        f"test_r_b5[{front.name}]",
        serializable_ms=round(serializable * 1000, 1),
        attempts=attempts,
        took=took,
    )
    assert serializable < 1
    assert max(attempts.values()) <= 2


def test_r_b6_a_read_while_the_leader_changes(front, networked):
    cluster, network = networked()
    leader = cluster.leader()
    client = front.client(cluster.endpoints, timeout=10)
    set_endpoints(client, [leader.endpoint])
    client.put("k", "1")
    set_endpoints(client, cluster.endpoints)
    network.isolate(leader)
    started = time.monotonic()
    assert client.get("k", timeout=15).value == b"1"
    took = time.monotonic() - started
    network.heal()
    figures(f"test_r_b6[{front.name}]", get_s=round(took, 2))
    assert took < 10 + 1
