# SPDX-License-Identifier: Apache-2.0
"""Locks against real servers: one at a time, in order, and nothing left behind by whoever gives up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import purecd
from purecd import Get, Put, Txn, errors
from purecd.core import retry
from purecd.core.methods import Policy, _message
from purecd.pb import messages
from tests.live.fronts import Thread, together

ROOT = Path(__file__).resolve().parents[2]
SOON = 10.0  # seconds


def line(client, name):
    """The keys in a line, oldest first."""
    reply = client.get(f"{name}/", prefix=True, sort_by="create_revision")
    return [kv.key for kv in reply.kvs]


def until(condition, timeout=SOON):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, "did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def other(front, server):
    """Another client of the same server."""
    return front.client(server.endpoint)


# One at a time.


@pytest.mark.every_etcd
def test_one_at_a_time(client, other, prefix):
    name, counter = prefix + "lock", prefix + "counter"

    def add(index):
        mine = (client, other)[index % 2]
        tokens = []
        for _ in range(3):
            with mine.lock(name, ttl=30) as lock:
                lock.check()
                before = mine.get(counter).value or b"0"
                mine.put(counter, str(int(before) + 1))
                tokens.append(lock.fencing_token)
        return tokens

    tokens = together(6, add)
    assert client.get(counter).value == b"18"
    assert all(each == sorted(each) for each in tokens)
    assert len({token for each in tokens for token in each}) == 18
    assert line(client, name) == []


def test_who_comes_first_is_served_first(client, other, prefix):
    name = prefix + "lock"
    got = []

    def wait(number):
        with (client, other)[number % 2].lock(name) as lock:
            got.append((number, lock.fencing_token))

    with client.lock(name) as lock:
        got.append((0, lock.fencing_token))
        waiting = []
        for number in range(1, 6):
            waiting.append(Thread(wait, number))
            until(lambda number=number: len(line(client, name)) == number + 1)
    for each in waiting:
        each.result()
    assert [number for number, _ in got] == list(range(6))
    tokens = [token for _, token in got]
    assert tokens == sorted(set(tokens))


def test_many_wait_for_one_lock(client, prefix):
    got = []

    def wait(index):
        with client.lock(prefix + "lock") as lock:
            got.append(lock.fencing_token)

    together(40, wait)
    assert got == sorted(set(got))
    assert len(got) == 40


def test_one_in_the_middle_gives_up(client, prefix):
    name = prefix + "lock"
    with client.lock(name):
        second = Thread(client.lock(name).acquire, 1.0)
        until(lambda: len(line(client, name)) == 2)
        third = Thread(client.lock(name).acquire, SOON)
        until(lambda: len(line(client, name)) == 3)
        with pytest.raises(errors.DeadlineExceeded):
            second.result()
        assert not third.done
        until(lambda: len(line(client, name)) == 2)
    third.result()


def test_a_lock_below_a_prefix(client, prefix):
    with client.namespace(prefix).lock("lock") as lock:
        assert lock.key.startswith(b"lock/")
        assert line(client, prefix + "lock") == [prefix.encode() + lock.key]
        waiter = Thread(client.namespace(prefix).lock("lock").acquire)
        until(lambda: len(line(client, prefix + "lock")) == 2)
    assert waiter.result() > 0


# Asking for it.


def test_what_a_lock_tells(client, prefix):
    lock = client.lock(prefix + "lock", ttl=30)
    assert (lock.held, lock.lost, lock.key, lock.fencing_token, lock.lease) == (False, False, b"", 0, None)
    token = lock.acquire()
    kv = client.get(lock.key).kv
    assert (lock.held, lock.lost, lock.fencing_token) == (True, False, token)
    assert (kv.create_revision, kv.lease, kv.key) == (token, lock.lease.id, lock.key)
    assert lock.key == b"%b/%x" % (lock.name, lock.lease.id)
    assert 0 < lock.lease.remaining <= 30
    lease_id = lock.lease.id
    lock.release()
    assert (lock.held, lock.lost, lock.key, lock.fencing_token, lock.lease) == (False, False, b"", 0, None)
    assert client.get(kv.key).kv is None
    assert not client.leases.time_to_live(lease_id).is_alive
    assert lock.acquire() > token, "it can be acquired again"
    lock.release()


def test_a_lock_in_use_cannot_be_acquired(client, prefix):
    lock = client.lock(prefix + "lock")
    with lock:
        with pytest.raises(RuntimeError, match="already"):
            lock.acquire()
        assert lock.held
        assert client.lock(prefix + "lock").try_acquire() is False
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    for ask in (lock.check, lock.txn, lambda: lock.guard(Txn())):
        with pytest.raises(RuntimeError, match="not held"):
            ask()


def test_two_threads_may_release_it_at_once(server, prefix):
    # One of them does; the other learns that it is gone, and disturbs nobody who acquires it meanwhile.
    with purecd.Client(server.endpoint) as client:
        lock = client.lock(prefix + "lock")
        gate = threading.Barrier(2)

        def release():
            gate.wait(SOON)
            try:
                lock.release()
            except errors.LockLost:
                pass
            except RuntimeError as error:
                assert "was not got, or was given up" in str(error)

        for _ in range(20):
            lock.acquire()
            threads = [Thread(release) for _ in range(2)]
            for thread in threads:
                thread.result(SOON)
            assert not line(client, prefix + "lock")
        with lock:
            place = lock._place
        with lock:
            lock._end(None, place, place)  # of a thread that is late
            assert lock.held
            with pytest.raises(RuntimeError, match="held or waited for"):
                lock.acquire()


def test_two_tasks_may_release_it_at_once(server, prefix):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            lock = client.lock(prefix + "lock")
            for _ in range(5):
                await lock.acquire()
                ended = await asyncio.gather(lock.release(), lock.release(), return_exceptions=True)
                assert all(each is None or isinstance(each, errors.LockLost) for each in ended), ended
            async with lock:
                place = lock._place
            async with lock:
                await lock._end(None, place, place)  # of a task that is late
                assert lock.held
                with pytest.raises(RuntimeError, match="held or waited for"):
                    await lock.acquire()

    asyncio.run(main())


def test_a_body_may_release_it(client, prefix):
    with client.lock(prefix + "lock") as lock:
        lock.release()
        with client.lock(prefix + "lock", timeout=SOON):
            pass


def test_an_error_of_the_body_releases_it(client, prefix):
    with pytest.raises(ZeroDivisionError), client.lock(prefix + "lock"):
        raise ZeroDivisionError
    assert line(client, prefix + "lock") == []


@pytest.mark.every_etcd
def test_it_cannot_be_had_in_time(client, prefix):
    name = prefix + "lock"
    with client.lock(name) as held:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match="waiting for"), client.lock(name, timeout=0.3):
            pytest.fail("the body must not run")
        assert 0.3 <= time.monotonic() - started < SOON
        assert line(client, name) == [held.key]
        lock = client.lock(name)
        with pytest.raises(TimeoutError):
            lock.acquire(timeout=0.1)
        assert line(client, name) == [held.key]
        assert lock.try_acquire() is False
        assert line(client, name) == [held.key]
    assert lock.try_acquire() is True
    assert lock.held
    lock.release()


def test_wrong_arguments(client):
    for arguments, error in (
        ({"name": ""}, ValueError),
        ({"name": 5}, TypeError),
        ({"name": "a", "ttl": 0}, ValueError),
        ({"name": "a", "lease": 5}, TypeError),
    ):
        with pytest.raises(error):
            client.lock(**arguments)
    with pytest.raises(TypeError, match="timeout"):
        client.lock("a").acquire(timeout="1")


# Lost locks.


@pytest.mark.every_etcd
def test_a_lock_that_was_taken_away_writes_nothing(client, other, prefix):
    key, name = prefix + "k", prefix + "lock"
    lock = client.lock(name)
    lock.acquire()
    reply = lock.txn([purecd.version(key) == 0], [Put(key, "1"), Get(key)], [Get(key)])
    assert (reply.succeeded, reply.gets[0].value) == (True, b"1")
    assert lock.txn([purecd.version(key) == 0], [Put(key, "2")], [Get(key)]).gets[0].value == b"1"
    guarded = lock.guard(Txn([purecd.version(key) > 0], [Put(key, "3")]))
    assert client.txn(guarded.compare, guarded.success, guarded.failure).succeeded

    other.leases.revoke(lock.lease.id)  # what an expiry does, and an operator may do
    with other.lock(name) as new:
        assert new.fencing_token > lock.fencing_token
        with pytest.raises(errors.LockLost):
            lock.txn(success=[Put(key, "4")])
        assert not client.txn(guarded.compare, guarded.success, guarded.failure).succeeded
        assert client.get(key).value == b"3"
        with pytest.raises(errors.LockLost):
            lock.release()
        assert line(client, name) == [new.key], "the other's lock is not released by that"
    lock.acquire()
    lock.release()


def test_a_lock_that_was_lost_is_told_at_the_end_of_the_block(client, other, prefix):
    with pytest.raises(errors.LockLost), client.lock(prefix + "lock") as lock:
        other.delete(lock.key)
    with pytest.raises(ZeroDivisionError), client.lock(prefix + "lock") as lock:
        other.delete(lock.key)
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_holder_learns_that_its_lease_was_revoked(client, other, prefix):
    lock = client.lock(prefix + "lock", ttl=2)
    lock.acquire()
    assert (lock.held, lock.lost) == (True, False)
    other.leases.revoke(lock.lease.id)
    until(lambda: lock.lost)
    assert not lock.held
    with pytest.raises(errors.LockLost) as caught:
        lock.check()
    assert isinstance(caught.value.__cause__, errors.LeaseLost)
    with pytest.raises(errors.LockLost):
        lock.release()


@pytest.mark.slow
def test_the_lock_of_who_is_gone_passes_on(front, client, server, prefix):
    holder = front.client(server.endpoint)
    holder.lock(prefix + "lock", ttl=2).acquire()
    waiter = Thread(client.lock(prefix + "lock", timeout=SOON).acquire)
    holder.close()  # as if it had died: nobody renews its lease
    assert waiter.result() > 0


# Leases of the caller's.


def test_one_lease_for_several_locks(client, other, prefix):
    with client.lease(30) as lease:
        first, second = (client.lock(prefix + name, lease=lease) for name in ("a", "b"))
        with first, second:
            assert first.key.rpartition(b"/")[2] == second.key.rpartition(b"/")[2] == b"%x" % lease.id
            assert first.lease.id == lease.id
            assert sorted(client.leases.time_to_live(lease, keys=True).keys) == [first.key, second.key]
        assert client.leases.time_to_live(lease, keys=True).keys == ()
        assert not lease.lost
        with client.leases.keep_alive(lease.id) as adopted:
            with client.lock(prefix + "a", lease=adopted):
                assert other.lock(prefix + "a").try_acquire() is False


def test_a_lease_stands_in_a_line_once(client, prefix):
    # Go's client lets both have the lock.
    name = prefix + "lock"
    with client.lease(30) as lease, client.lock(name, lease=lease) as lock:
        with pytest.raises(RuntimeError, match="already"):
            client.lock(name, lease=lease).acquire()
        with pytest.raises(RuntimeError, match="already"):
            client.lock(name, lease=lease).try_acquire()
        assert line(client, name) == [lock.key]


def test_giving_up_in_a_lease_of_the_caller_s(client, prefix):
    name = prefix + "lock"
    with client.lease(30) as lease, client.lock(name) as held:
        lock = client.lock(name, lease=lease)
        with pytest.raises(errors.DeadlineExceeded):
            lock.acquire(timeout=0.2)
        assert line(client, name) == [held.key]
        assert not lease.lost
        held.release()
        with lock:
            assert lock.held


def test_a_lease_that_is_closed_ends_the_wait(client, prefix):
    name = prefix + "lock"
    with client.lock(name) as held:
        for end in ("close", "revoke"):
            lease = client.lease(600)
            waiter = Thread(client.lock(name, lease=lease).acquire)
            until(lambda: len(line(client, name)) == 2)
            getattr(lease, end)()
            with pytest.raises(errors.LockLost):
                waiter.result()
            assert line(client, name) == [held.key]
            if end == "close":
                client.leases.revoke(lease.id)


@pytest.mark.slow
def test_a_lease_that_is_lost_ends_the_wait(client, other, prefix):
    name = prefix + "lock"
    with client.lock(name) as held:
        lease = client.lease(2)
        waiter = Thread(client.lock(name, lease=lease).acquire)
        until(lambda: len(line(client, name)) == 2)
        other.leases.revoke(lease.id)
        with pytest.raises(errors.LockLost):
            waiter.result()
        with pytest.raises(errors.LockLost):
            client.lock(name, lease=lease).acquire()
        assert line(client, name) == [held.key]


def test_a_client_that_is_closed_ends_the_wait(front, client, server, prefix):
    waiting = front.client(server.endpoint)
    with client.lock(prefix + "lock"):
        waiter = Thread(waiting.lock(prefix + "lock", ttl=600).acquire)
        until(lambda: len(line(client, prefix + "lock")) == 2)
        waiting.close()
        with pytest.raises(errors.ClientClosed):
            waiter.result()


# Whoever is interrupted leaves nothing behind.


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_cancelled_while_it_is_acquired(server, prefix, shared):
    # Cancelled at moments all over the way, free or held by another.
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            name = prefix + "lock"
            lease = await client.lease(600) if shared else None
            started = time.monotonic()
            async with client.lock(name, lease=lease):
                usual = time.monotonic() - started
            cancelled = 0
            for number in range(40):
                holder = client.lock(name)
                if number % 2:
                    await holder.acquire()
                lock = client.lock(name, lease=lease)
                task = asyncio.ensure_future(lock.acquire())
                await asyncio.sleep(usual * number / 30)
                if number % 2 or not task.done():
                    cancelled += task.cancel()
                try:
                    await task
                    await lock.release()
                except asyncio.CancelledError:
                    pass
                found = (await client.get(name + "/", prefix=True)).kvs
                assert [kv.key for kv in found] == ([holder.key] if number % 2 else []), number
                if number % 2:
                    await holder.release()
            assert cancelled > 20
            if lease is not None:
                await lease.revoke()

    asyncio.run(main())


PROGRAM = """
import signal, sys, purecd
signal.signal(signal.SIGINT, signal.default_int_handler)
client = purecd.Client(sys.argv[1])
lease = client.lease(600) if sys.argv[3] == "shared" else None
print("waiting", flush=True)
try:
    client.lock(sys.argv[2], ttl=600, lease=lease).acquire()
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert sys.stdin.readline()
with client.lock(sys.argv[2], timeout=10):
    print("held", flush=True)
client.close()
"""


@pytest.mark.parametrize("lease", ["own", "shared"])
def test_ctrl_c_leaves_the_line(server, prefix, lease):
    name = prefix + "lock"
    with purecd.Client(server.endpoint) as client:
        with client.lock(name) as held:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PROGRAM, server.endpoint, name, lease],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                assert process.stdout.readline() == "waiting\n"
                until(lambda: len(line(client, name)) == 2)
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n"
                assert line(client, name) == [held.key]
                held.release()
                process.stdin.write("go\n")
                process.stdin.flush()
                assert process.stdout.readline() == "held\n"
                assert process.wait(SOON) == 0
            finally:
                process.kill()
                process.communicate()


@pytest.mark.parametrize("lease", ["own", "shared"])
def test_a_signal_at_any_moment_leaves_the_line(server, prefix, lease):
    # Between any two steps of acquiring; who got it releases it.
    armed = []

    def interrupt(number, frame):
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    name = prefix + "lock"
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with purecd.Client(server.endpoint) as client, client.lease(600) as given:
            lock = client.lock(name, lease=given if lease == "shared" else None)
            interrupted = 0
            for number in range(60):
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.0001)
                try:
                    armed.append(True)
                    lock.acquire()
                    armed.clear()
                except KeyboardInterrupt:
                    interrupted += 1
                if lock.key:
                    lock.release()
                assert line(client, name) == [], number
            assert interrupted
    finally:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


FORKING = """
import os, sys, purecd
client = purecd.Client(sys.argv[1])
with client.lock(sys.argv[2]) as lock:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        lock.txn(success=[purecd.Put(sys.argv[2], "held")])
        os.write(1, b"held\\n")
if not child:
    assert client.lock(sys.argv[2]).try_acquire() is False
    os._exit(0)
client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_does_not_release_the_lock_of_its_parent(server, prefix):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, server.endpoint, prefix + "lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr


# Trouble.


def test_a_wait_survives_a_restart(front, start_server, prefix):
    server = start_server()
    holder, waiting = (front.client(server.endpoint) for _ in range(2))
    name = prefix + "lock"
    with holder.lock(name, ttl=30) as lock:
        waiter = Thread(waiting.lock(name, ttl=30, timeout=30).acquire)
        until(lambda: len(line(holder, name)) == 2)
        server.kill()
        server.start()
        assert lock.txn(success=[Put(prefix + "k", "v")], idempotent=True).succeeded
    assert waiter.result(30) > lock.fencing_token


# Others that stand in the same lines.

LOCK = _message("/v3lockpb.Lock/Lock", "v3lockpb.LockResponse", Policy.WRITE)
UNLOCK = _message("/v3lockpb.Lock/Unlock", "v3lockpb.UnlockResponse", Policy.WRITE)


@pytest.mark.every_etcd
def test_the_lock_service_of_the_server(server, prefix):
    # It runs what Go's clients run, on the same keys.
    name = prefix + "lock"
    with purecd.Client(server.endpoint) as client, client.lease(30) as lease:

        def lock_by_server():
            request = messages.LockRequest(name=name.encode(), lease=lease.id)
            return client._run(retry.call(LOCK, request), 30.0).key

        with client.lock(name):
            waiter = Thread(lock_by_server)
            until(lambda: len(line(client, name)) == 2)
        key = waiter.result()
        assert key == b"%b/%x" % (name.encode(), lease.id)
        assert client.lock(name).try_acquire() is False
        ours = Thread(client.lock(name, timeout=30).acquire)
        until(lambda: len(line(client, name)) == 2)
        assert not ours.done
        client._run(retry.call(UNLOCK, messages.UnlockRequest(key=key)), 30.0)
        assert ours.result() > 0


def test_threads_end_with_the_locks(server, prefix):
    before = set(threading.enumerate())
    with purecd.Client(server.endpoint) as client, client.lock(prefix + "lock"):
        started = set(threading.enumerate()) - before
        assert [each.name for each in started] == ["purecd-leases"]
    until(lambda: not any(each.is_alive() for each in started))


def test_a_user_with_rights_below_a_prefix(front, start_server):
    # R-C2 with auth: who may not stand in a line is told so, and leaves no lease behind.
    server = start_server()
    root = front.client(server.endpoint)
    root.roles.add("root")
    root.users.add("root", "r")
    root.users.grant_role("root", "root")
    root.roles.add("locker")
    root.roles.grant_permission("locker", "locks/", prefix=True, allow="readwrite")
    root.users.add("ann", "a")
    root.users.grant_role("ann", "locker")
    root.auth.enable()
    ann = front.client(server.endpoint, user="ann", password="a")
    with ann.lock("locks/a", ttl=30) as lock:
        waiter = Thread(ann.lock("locks/a", ttl=30).acquire)
        until(lambda: len(line(ann, "locks/a")) == 2)
        assert lock.txn(success=[Put("locks/data", "1")]).succeeded
    assert waiter.result() > 0
    with ann.election("locks/e", ttl=30) as election:
        election.campaign("ann")
        leaders = ann.election("locks/e").observe(timeout=SOON)
        assert next(leaders).value == b"ann"
        leaders.close()
    before = ann.leases.list().ids
    with pytest.raises(errors.PermissionDenied):
        ann.lock("others").acquire()
    assert ann.leases.list().ids == before
