# SPDX-License-Identifier: Apache-2.0
"""Leases against real servers: every call, and leases kept alive through what may happen to them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import purecd
from purecd import errors
from tests.live.etcds import QUICK
from tests.live.fronts import Thread, take
from tests.support.proxy import FaultProxy

ROOT = Path(__file__).resolve().parents[2]
LATE = 0.3  # seconds a busy machine may take to run what is due


def until(condition, timeout=10.0):
    """Wait until something is true; returns how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, "did not come true in time"
        time.sleep(0.01)
    return time.monotonic() - started


def pause(server):
    """Freeze a member; its threads stop one after the other, and this waits for the last."""
    server.pause()
    os.waitpid(server.pid, os.WUNTRACED)


# Single calls.


def test_a_closed_lease_is_not_kept_alive_in_silence(client):
    lease = client.lease(60)
    lease.keep_alive()
    lease.close()
    with pytest.raises(RuntimeError, match="was closed"):
        lease.keep_alive()
    with client.leases.keep_alive(lease) as again:
        again.check()


@pytest.mark.every_etcd
def test_cancelled_grants_are_taken_back(start_server):
    # Cancelled at moments all over the way; what was granted is revoked without anybody waiting for it.
    # Servers answer streams side by side, so now and then the revocation comes before its grant.
    server = start_server()

    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            started = time.monotonic()
            await client.leases.revoke((await client.leases.grant(600)).id)
            usual = (time.monotonic() - started) / 2
            cancelled = 0
            for number in range(40):
                task = asyncio.ensure_future(client.leases.grant(600))
                await asyncio.sleep(usual * number / 30)
                task.cancel()
                try:
                    await client.leases.revoke(await task)
                except asyncio.CancelledError:
                    cancelled += 1
            assert cancelled
            deadline = time.monotonic() + 5
            while (left := (await client.leases.list()).ids) and time.monotonic() < deadline:  # noqa: ASYNC110 - etcd does not tell
                await asyncio.sleep(0.05)
            assert len(left) <= min(2, cancelled // 3)

    asyncio.run(main())


@pytest.mark.every_etcd
def test_grant_look_at_list_and_revoke(client, prefix):
    granted = client.leases.grant(60)
    assert (granted.ttl, granted.id > 0, granted.header.revision > 0) == (60, True, True)
    chosen = client.leases.grant(70, lease_id=granted.id + 1)
    assert (chosen.id, chosen.ttl) == (granted.id + 1, 70)
    with pytest.raises(errors.LeaseExist):
        client.leases.grant(60, lease_id=granted.id)
    client.put(prefix + "a", "1", lease=granted.id)
    client.put(prefix + "b", "2", lease=granted)
    assert client.get(prefix + "a").kv.lease == granted.id

    found = client.leases.time_to_live(granted.id, keys=True)
    assert (found.id, found.granted_ttl, found.is_alive) == (granted.id, 60, True)
    assert 55 <= found.ttl <= 60
    assert sorted(found.keys) == [(prefix + "a").encode(), (prefix + "b").encode()]
    assert client.leases.time_to_live(granted.id).keys == ()
    assert {granted.id, chosen.id} <= set(client.leases.list().ids)

    before = client.get(prefix + "a").header.revision
    client.leases.revoke(granted.id)
    reply = client.get(prefix, prefix=True)
    assert (reply.kvs, reply.header.revision) == ([], before + 1), "all keys go in one revision"
    with pytest.raises(errors.LeaseNotFound):
        client.leases.revoke(granted.id)
    gone = client.leases.time_to_live(granted.id, keys=True)
    assert (gone.ttl, gone.granted_ttl, gone.keys, gone.is_alive) == (-1, 0, (), False)
    assert granted.id not in client.leases.list().ids
    with pytest.raises(errors.LeaseNotFound):
        client.leases.keep_alive_once(granted.id)
    with pytest.raises(errors.LeaseNotFound):
        client.put(prefix + "a", "1", lease=granted.id)
    client.leases.revoke(chosen)


def test_limits_of_the_ttl(client):
    short = client.leases.grant(1)
    assert short.ttl == 2, "the server's minimum"
    long = client.leases.grant(9_000_000_000)
    assert long.ttl == 9_000_000_000
    with pytest.raises(errors.LeaseTTLTooLarge):
        client.leases.grant(9_000_000_001)
    for lease in (short, long):
        client.leases.revoke(lease.id)
    for ttl in (0, -1):
        with pytest.raises(ValueError, match="ttl"):
            client.leases.grant(ttl)


def test_a_negative_id(client, prefix):
    lease = client.leases.grant(60, lease_id=-7)
    assert lease.id == -7
    client.put(prefix + "k", "v", lease=-7)
    assert client.leases.time_to_live(-7, keys=True).keys == ((prefix + "k").encode(),)
    assert client.leases.keep_alive_once(-7).ttl == 60
    client.leases.revoke(-7)


@pytest.mark.slow
def test_renewed_once_it_has_its_whole_ttl_again(client):
    lease = client.leases.grant(10)
    time.sleep(2.1)
    assert client.leases.time_to_live(lease.id).ttl < 8
    renewed = client.leases.keep_alive_once(lease.id)
    assert (renewed.id, renewed.ttl) == (lease.id, 10)
    assert client.leases.time_to_live(lease.id).ttl >= 9
    client.leases.revoke(lease.id)


def test_a_put_keeps_or_drops_the_lease(client, prefix):
    lease = client.leases.grant(60)
    client.put(prefix + "k", "1", lease=lease)
    client.put(prefix + "k", "2", ignore_lease=True)
    assert client.get(prefix + "k").kv.lease == lease.id
    client.put(prefix + "k", "3")
    assert client.get(prefix + "k").kv.lease == 0
    client.leases.revoke(lease.id)
    assert client.get(prefix + "k").value == b"3"


# Kept alive.


@pytest.mark.slow
def test_a_kept_lease_outlives_its_ttl_and_a_closed_one_does_not(client, prefix):
    with client.lease(2) as kept, client.lease(2) as closed:
        client.put(prefix + "kept", "v", lease=kept)
        client.put(prefix + "closed", "v", lease=closed)
        closed.close()
        with client.watch(prefix, prefix=True) as watch:
            event = watch.next(timeout=6)
            assert event.is_delete
            assert event.key == (prefix + "closed").encode()
        assert closed.lost
        assert not kept.lost
        assert 0 < kept.remaining <= 2
        kept.check()
        assert kept.time_to_live(keys=True).keys == ((prefix + "kept").encode(),)
        assert kept.keep_alive_once().ttl == 2
    assert client.get(prefix, prefix=True).kvs == []
    assert kept.time_to_live().ttl == -1, "revoked at the end"


def test_a_lease_revoked_by_another_is_lost_alone(front, server, client, prefix, caplog):
    told = []
    lost = client.lease(3, on_lost=told.append)
    others = [client.lease(3) for _ in range(2)]
    waiters = [Thread(lost.wait) for _ in range(3)]
    front.client(server.endpoint).leases.revoke(lost.id)
    with caplog.at_level(logging.WARNING, "purecd"):
        for waiter in waiters:
            with pytest.raises(errors.LeaseLost) as caught:
                waiter.result(timeout=3 / 3 * 1.1 + 1)
    assert caught.value.reason == "expired"
    assert isinstance(caught.value.__cause__, errors.LeaseNotFound)
    assert f"{lost.id:x}" in str(caught.value)
    assert (lost.lost, lost.remaining) == (True, 0)
    with pytest.raises(errors.LeaseLost):
        lost.check()
    until(lambda: told)
    time.sleep(0.1)
    assert [lease.id for lease in told] == [lost.id], "told once"
    assert [record.levelname for record in caplog.records if f"{lost.id:x}" in record.message] == ["WARNING"]
    for lease in others:
        assert lease.wait(timeout=0.01) is False
        lease.check()
        lease.revoke()


def test_a_callback_that_fails_harms_nobody(client, caplog):
    def fail(lease):
        raise RuntimeError("from the user's code")

    first = client.lease(3, on_lost=fail)
    second = client.lease(3)
    third = client.lease(3)
    client.leases.revoke(first.id)
    client.leases.revoke(second.id)
    for lease in (first, second):
        with pytest.raises(errors.LeaseLost):
            lease.wait(timeout=3)
    until(lambda: "from the user's code" in caplog.text)
    assert not third.lost
    third.revoke()


@pytest.mark.slow
def test_a_paused_server_costs_the_lease_in_time(front, start_server):
    server = start_server()
    client = front.client(server.endpoint)
    told = []
    lease = client.lease(3, on_lost=told.append)
    time.sleep(1.5)  # a renewal at 1 s
    pause(server)
    paused_at = time.monotonic()
    assert not lease.lost
    waiter = Thread(lease.wait)
    with pytest.raises(errors.LeaseLost) as caught:
        waiter.result(timeout=5)
    took = time.monotonic() - paused_at
    assert caught.value.reason == "timeout"
    # The last renewal was sent before the pause, at most a third of the TTL and a bit.
    assert 3 * 0.99 - 1.2 - 0.6 < took < 3 + LATE
    print(f"lost {took:.2f} s after the pause")
    server.resume()
    until(lambda: told)
    assert [each.id for each in told] == [lease.id]
    assert client.leases.list(timeout=10).header.member_id, "the client goes on"


@pytest.mark.slow
def test_an_unreachable_server_costs_the_lease_before_the_server_drops_it(front, server, prefix):
    # F16, R-L5
    direct = front.client(server.endpoint)
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(proxy.endpoint)
        lease = client.lease(3)
        direct.put(prefix + "k", "v", lease=lease.id)
        time.sleep(1.5)
        with direct.watch(prefix + "k") as watch:
            proxy.blackhole()
            cut_at = time.monotonic()
            with pytest.raises(errors.LeaseLost) as caught:
                lease.wait()
            took = time.monotonic() - cut_at
            assert caught.value.reason == "timeout"
            assert took < 3 + LATE
            assert direct.get(prefix + "k").kv is not None, "lost here before it is lost there"
            assert take(watch, 1)[0].is_delete
            print(f"lost {took:.2f} s after the cut, gone {time.monotonic() - cut_at:.2f} s after it")
        proxy.heal()
        with client.lease(3) as another:
            another.check()


@pytest.mark.slow
def test_a_lease_without_renewals_is_lost_after_its_ttl(client):
    lease = client.lease(2, keep_alive=False)
    assert lease.wait(timeout=0.5) is False
    started = time.monotonic()
    with pytest.raises(errors.LeaseLost) as caught:
        lease.wait()
    assert caught.value.reason == "timeout"
    assert 1.0 < time.monotonic() - started < 1.5 + LATE
    assert lease.lost


def test_closing_a_lease_wakes_who_waits(client):
    lease = client.lease(60)
    waiter = Thread(lease.wait)
    time.sleep(0.05)
    lease.close()
    assert waiter.result(timeout=2) is True
    assert lease.wait() is True
    assert not lease.lost
    client.leases.revoke(lease.id)


def test_closing_the_client_wakes_who_waits(front, server):
    client = front.client(server.endpoint)
    told = []
    lease = client.lease(5, on_lost=told.append)
    waiter = Thread(lease.wait)
    time.sleep(0.05)
    client.close()
    assert waiter.result(timeout=2) is True
    assert told == [], "it was given up, not lost"
    with pytest.raises(errors.ClientClosed):
        lease.time_to_live()
    with pytest.raises(errors.ClientClosed):
        client.lease(5)


@pytest.mark.slow
def test_hundreds_of_leases_share_one_stream_and_one_thread(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    client.get(prefix)
    with client.lease(60):
        before = threading.active_count()
        leases = [client.lease(5) for _ in range(500)]
        assert threading.active_count() == before
        time.sleep(6.5)
        assert not any(lease.lost for lease in leases)
        assert {lease.id for lease in leases} <= set(client.leases.list().ids)
        assert server.metric("grpc_server_started_total", grpc_method="LeaseKeepAlive") == 1
        renewals = server.metric("grpc_server_msg_received_total", grpc_method="LeaseKeepAlive")
        # Every 5/3 s for at least 6.5 s, and at least as long for those granted first.
        assert 500 * 3 <= renewals <= 500 * 8, renewals
        for lease in leases:
            lease.close()


# Faults.


def serving(cluster):
    """The member that the renewals go to."""
    before = {
        each.name: each.metric("grpc_server_msg_received_total", grpc_method="LeaseKeepAlive")
        for each in cluster.members
    }
    found = []

    def look():
        found[:] = [
            each
            for each in cluster.members
            if each.metric("grpc_server_msg_received_total", grpc_method="LeaseKeepAlive") > before[each.name]
        ]
        return found

    until(look)
    return found[0]


@pytest.mark.slow
def test_renewals_go_on_after_a_restart(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    with client.lease(4) as lease:
        client.put(prefix + "k", "v", lease=lease)
        server.kill()
        time.sleep(0.5)
        server.start()
        time.sleep(5)
        lease.check()
        assert client.get(prefix + "k").kv.lease == lease.id


@pytest.mark.slow
def test_a_short_lease_survives_a_hung_member(front, start_cluster, prefix):
    # Its connection stays open and is silent: nothing but the missing answer shows it.
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    told = []
    with client.lease(5, on_lost=told.append) as lease:
        client.put(prefix + "k", "v", lease=lease)
        member = serving(cluster)
        pause(member)
        try:
            time.sleep(6)
            lease.check()
            assert client.get(prefix + "k", timeout=10).kv.lease == lease.id
        finally:
            member.resume()
    assert told == []


@pytest.mark.faults
@pytest.mark.parametrize("ending", ["kill", "stop", "pause"])
@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_lease_survives_the_loss_of_any_member(front, start_cluster, prefix, ending, who):
    cluster = start_cluster(3, args=QUICK)
    leader = cluster.leader()
    # The renewals go to a follower, which hands them to the leader.
    client = front.client([each.endpoint for each in cluster.followers()])
    with client.lease(5) as lease:
        client.put(prefix + "k", "v", lease=lease)
        member = leader if who == "leader" else serving(cluster)
        {"kill": member.kill, "stop": member.stop, "pause": lambda: pause(member)}[ending]()
        try:
            time.sleep(8)
            lease.check()
            assert client.get(prefix + "k", timeout=10).kv.lease == lease.id
        finally:
            if ending == "pause":
                member.resume()


@pytest.mark.faults
def test_a_lease_survives_a_hung_leader_behind_a_sole_member(front, start_cluster, prefix):
    # The member waits 7 s for the leader that it knows, and there is a new one after 2 s.
    cluster = start_cluster(3)
    leader = cluster.leader()
    client = front.client(cluster.followers()[0].endpoint)
    with client.lease(5) as lease:
        client.put(prefix + "k", "v", lease=lease)
        time.sleep(1)
        pause(leader)
        try:
            time.sleep(8)
            lease.check()
            # Looked at before the old leader is back: releases revoke then what it believes expired.
            assert client.get(prefix + "k").kv.lease == lease.id
        finally:
            leader.resume()


@pytest.mark.faults
@pytest.mark.every_etcd
def test_a_lease_survives_a_rolling_restart(front, start_cluster, prefix):
    # R-L2, R-L6
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    with client.lease(6) as lease:
        client.put(prefix + "k", "v", lease=lease)
        for _ in cluster.rolling_restart():
            lease.check()
            time.sleep(1)
        lease.check()
        assert client.get(prefix + "k").kv.lease == lease.id


HOLDERS = {
    "threads": """
import sys, time
import purecd

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # one write, so that threads do not mix
    sys.stdout.flush()

def report(lease):
    say("told", time.monotonic(), True)

client = purecd.Client(sys.argv[1])
lease = client.lease(2, on_lost=report)
say(lease.id)
while True:
    before = time.monotonic()
    lost = lease.lost
    say("asked", before, lost)
    time.sleep(0.001)
""",
    "aio": """
import asyncio, sys, time
import purecd

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # one write, so that threads do not mix
    sys.stdout.flush()

def report(lease):
    say("told", time.monotonic(), True)

async def main():
    async with purecd.AsyncClient(sys.argv[1]) as client:
        lease = await client.lease(2, on_lost=report)
        say(lease.id)
        while True:
            before = time.monotonic()
            lost = lease.lost
            say("asked", before, lost)
            await asyncio.sleep(0.001)

asyncio.run(main())
""",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="both processes must read the same clock")
def test_a_stopped_process_knows_on_waking_that_its_lease_is_lost(front, server, client):
    # F17: before any of the user's code runs, whatever the other threads do.
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDERS[front.name], server.endpoint],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines: list[str] = []
    output = process.stdout
    assert output is not None
    reader = Thread(lambda: lines.extend(output))
    try:
        until(lambda: len(lines) > 10)
        lease_id = int(lines[0])
        process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        until(lambda: client.leases.time_to_live(lease_id).ttl == -1, timeout=10)
        gone_at = time.monotonic()
        process.send_signal(signal.SIGCONT)
        until(lambda: any(line.startswith("told") for line in lines), timeout=5)
    finally:
        process.kill()
        process.wait()
        reader.result()
        output.close()
    answers = [line.split() for line in lines[1:] if line.endswith("\n") and line.count(" ") == 2]
    assert any(float(before) > gone_at for _, before, _ in answers)
    for kind, before, lost in answers:
        if float(before) > stopped_at + 2:
            assert lost == "True", (kind, before, stopped_at)
    assert [kind for kind, *_ in answers].count("told") == 1


# Rights.


@pytest.mark.every_etcd
def test_a_lease_that_may_not_be_renewed_stops_alone(front, start_server, etcd, prefix):
    # B.26: the refusal ends the stream of all leases and names none.
    major, minor, patch = map(int, etcd.version.split("."))
    if patch < {4: 42, 5: 28, 6: 9}.get(minor, 0) or (major, minor) < (3, 4):
        pytest.skip("this release lets everybody renew")
    server = start_server()
    with purecd.Client(server.endpoint) as admin:
        for name in ("root", "bob"):
            admin.users.add(name, f"{name}-pw")
            admin.roles.add(name)
            admin.users.grant_role(name, name)
        admin.roles.grant_permission("bob", "b/", prefix=True, allow="readwrite")
        admin.auth.enable()
    root = front.client(server.endpoint, user="root", password="root-pw")
    bob = front.client(server.endpoint, user="bob", password="bob-pw")
    mine = [bob.lease(3) for _ in range(5)]
    forbidden = bob.lease(3)
    mine += [bob.lease(3) for _ in range(5)]
    for number, lease in enumerate(mine):
        bob.put(f"b/{number}", "v", lease=lease)
    root.put("a/1", "v", lease=forbidden.id)
    with pytest.raises(errors.LeaseLost) as caught:
        forbidden.wait(timeout=5)
    assert caught.value.reason == "refused"
    assert isinstance(caught.value.__cause__, errors.PermissionDenied)
    time.sleep(4)
    for lease in mine:
        lease.check()
    assert len(root.get("b/", prefix=True).kvs) == len(mine)
    assert root.get("a/1").kv is None, "nobody renewed it any more"


def test_a_lease_of_another_program_is_kept_alive_by_its_id(front, server, client):
    with purecd.Client(server.endpoint) as other:
        granted = other.leases.grant(2)
    lease = client.leases.keep_alive(granted.id)
    time.sleep(3)
    assert not lease.lost
    assert client.leases.time_to_live(granted.id).ttl >= 0
    lease.revoke()
    with pytest.raises(errors.LeaseNotFound):
        client.leases.keep_alive(granted.id)


def test_an_error_in_the_body_is_not_hidden_by_a_revoke_that_fails(start_server):
    server = start_server()
    with purecd.Client(server.endpoint, timeout=1.0) as client:
        with pytest.raises(ZeroDivisionError):
            with client.lease(30):
                server.kill()
                raise ZeroDivisionError
