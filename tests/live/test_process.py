# SPDX-License-Identifier: Apache-2.0
"""A client's life in its process: forks, threads, event loops, gevent, garbage, and the end.

Most of it runs as a program of its own, in Python's development mode with warnings as errors, so
that an unclosed socket or a coroutine that was never awaited is printed, and fails the test.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest

import purecd
from purecd import errors
from tests.live.fronts import SLACK, Thread, together
from tests.support.certificates import Authority
from tests.support.peers import Silent, refused_endpoint

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts what /proc shows")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(program, *arguments, timeout=40.0, options=()):
    """What a program prints; it must end well and print no error."""
    options = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning", *options]
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


# Forks.

FORKING = """
import faulthandler, os, sys, threading, time, traceback
import purecd
from purecd import errors

endpoint, ca_file, prefix = sys.argv[1:]
tls = purecd.Tls(ca_file) if ca_file else None

def in_child(function):
    # Fork, run it in the child, and have the child end as programs end.
    pid = os.fork()
    if pid:
        return pid
    faulthandler.dump_traceback_later(15, exit=True)  # a child that hangs says where
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def wait_for(*pids):
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
"""


@forks
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_fork(start_server, prefix, tmp_path, secure):
    authority = Authority(tmp_path) if secure else None
    server = start_server(tls=authority.server() if secure else False)
    program = (
        FORKING
        + """
client = purecd.Client(endpoint, tls=tls, timeout=5)
client.put(prefix + "k", "0")
calls = client._drivers["calls"].channel.current
watch = client.watch(prefix + "k")
lease = client.lease(2)
scan = client.scan(prefix, prefix=True, page=1)
next(scan)
seen = []
reader = threading.Thread(target=lambda: seen.extend(event.value for event in watch), daemon=True)
reader.start()

def child():
    assert client.get(prefix + "k").value == b"0"
    client.put(f"{prefix}{os.getpid()}", "v")
    try:
        watch.next(timeout=5)
    except errors.ClientClosed as error:
        assert "parent" in str(error)
    else:
        raise AssertionError("a watch of the parent's must end")
    watch.close()
    for ask in (lease.check, lease.wait):
        try:
            ask()
        except errors.ClientClosed as error:
            assert "parent" in str(error)
        else:
            raise AssertionError("a lease of the parent's must end")
    with lease:
        pass  # not revoked by this process
    with client.watch(prefix, prefix=True) as own, client.lease(2) as kept:
        client.put(f"{prefix}{os.getpid()}", "w", lease=kept)
        assert any(event.value == b"w" for event in own)
    client.close()

wait_for(*[in_child(child) for _ in range(4)])
assert client._drivers["calls"].channel.current is calls, "the parent goes on with its connection"
for n in range(1, 4):
    client.put(prefix + "k", str(n))
time.sleep(2.5)
assert not lease.lost
assert client.leases.time_to_live(lease.id).ttl > 0
client.put(prefix + "k", "end", lease=lease)
deadline = time.monotonic() + 5
while len(seen) < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
assert seen == [b"1", b"2", b"3", b"end"], seen
client.close()
reader.join()
"""
    )
    run(program, server.endpoint, authority.ca_file if authority else "", prefix)


@forks
def test_fork_in_the_middle_of_calls(server, prefix):
    # Other threads hold whatever locks they hold at that moment.
    program = (
        FORKING
        + """
client = purecd.Client(endpoint, timeout=5)
going = True

def work(number):
    while going:
        client.put(f"{prefix}{number}", "v")

workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
for worker in workers:
    worker.start()
for _ in range(10):
    time.sleep(0.02)
    wait_for(in_child(lambda: client.put(f"{prefix}child", "v")))
going = False
for worker in workers:
    worker.join()
client.close()
"""
    )
    run(program, server.endpoint, "", prefix)


@forks
def test_multiprocessing(server, prefix):
    program = """
import multiprocessing, sys
import purecd

client = purecd.Client(sys.argv[1])
prefix = sys.argv[2]

def work(number):
    client.put(f"{prefix}{number}", str(number))
    return client.get(f"{prefix}{number}").value

client.get(prefix)
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(work, range(20)) == [str(number).encode() for number in range(20)]
assert client.get(prefix, prefix=True, count_only=True).count == 20
client.close()
"""
    run(program, server.endpoint, prefix)


@forks
def test_a_child_that_does_not_use_the_client(server, prefix):
    program = (
        FORKING
        + """
client = purecd.Client(endpoint)
client.get(prefix)
with client.watch(prefix, prefix=True) as watch:
    wait_for(in_child(lambda: None))
    client.put(prefix, "v")
    assert watch.next(5).value == b"v"
client.close()
"""
    )
    run(program, server.endpoint, "", prefix)


@forks
def test_a_child_follows_the_members_itself(server, prefix):
    program = (
        FORKING
        + """
client = purecd.Client(["127.0.0.1:1", endpoint], auto_sync_interval=0.2, timeout=5)

def child():
    client.get(prefix)
    deadline = time.monotonic() + 5
    while client.endpoints != (endpoint,):
        assert time.monotonic() < deadline, client.endpoints
        time.sleep(0.01)
    client.close()

wait_for(in_child(child))
client.close()
"""
    )
    run(program, server.endpoint, "", prefix)


@forks
def test_fork_beside_an_event_loop(server, prefix):
    program = (
        FORKING
        + """
import asyncio, logging

logging.getLogger("asyncio").setLevel(logging.ERROR)  # development mode tells of slow steps

async def child(client, watch, lease):
    assert (await client.get(prefix + "k")).value == b"0"
    for ask in (watch.next, lease.wait):
        try:
            await asyncio.wait_for(ask(), 5)
        except errors.ClientClosed as error:
            assert "parent" in str(error)
        else:
            raise AssertionError("what is the parent's must end")
    await client.close()

async def main():
    async with purecd.AsyncClient(endpoint, timeout=5) as client:
        await client.put(prefix + "k", "0")
        lease = await client.lease(5)
        async with client.watch(prefix + "k") as watch:
            def forked():
                asyncio._set_running_loop(None)  # as multiprocessing's children find it
                asyncio.run(child(client, watch, lease))
            wait_for(in_child(forked))
            await client.put(prefix + "k", "1")
            assert (await watch.next(5)).value == b"1"
            assert not lease.lost

asyncio.run(main())
"""
    )
    run(program, server.endpoint, "", prefix)


# gevent.


def test_gevent(server, prefix):
    pytest.importorskip("gevent")
    program = """
import gevent.monkey; gevent.monkey.patch_all()
import sys, time
import gevent, purecd

endpoint, prefix = sys.argv[1:]
client = purecd.Client(endpoint, timeout=10)
ticks = []

def ticker():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)

beside = gevent.spawn(ticker)
with client.watch(prefix, prefix=True) as watch:
    try:
        watch.next(timeout=0.5)
    except TimeoutError:
        pass
    assert len(ticks) > 20, f"only {len(ticks)} ticks beside a waiting call"
    gaps = [later - sooner for sooner, later in zip(ticks, ticks[1:])]
    assert max(gaps) < 0.25, max(gaps)

    def work(number):
        for n in range(20):
            client.put(f"{prefix}{number}", str(n))
            assert client.get(f"{prefix}{number}").value == str(n).encode()
        return number

    jobs = [gevent.spawn(work, number) for number in range(10)]
    gevent.joinall(jobs, timeout=20, raise_error=True)
    assert [job.value for job in jobs] == list(range(10))
    events = [watch.next(5) for _ in range(200)]
    revisions = [event.kv.mod_revision for event in events]
    assert revisions == sorted(revisions)
with client.lease(2) as lease:
    gevent.sleep(2.5)
    lease.check()
localhost = endpoint.replace("127.0.0.1", "localhost")
with purecd.Client(localhost, timeout=5) as named:  # a name is resolved in a thread
    assert named.get(prefix).header.revision
beside.kill()
client.close()
"""
    # gevent itself warns in development mode.
    run(program, server.endpoint, prefix, options=["-X", "dev=0", "-W", "ignore"])


# Event loops.


def test_clients_of_loops_that_come_and_go(server, prefix):
    async def use(client):
        written = (await client.put(prefix, "v")).header.revision
        async with client.watch(prefix, start_revision=written) as watch:
            assert (await watch.next(5)).value == b"v"
        return client

    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await use(client)

    for _ in range(3):
        asyncio.run(main())


def test_one_client_on_one_loop_after_the_other(server, prefix):
    program = """
import asyncio, sys
import purecd

client = purecd.AsyncClient(sys.argv[1])

async def main():
    asyncio.get_running_loop().slow_callback_duration = 10  # of development mode
    written = (await client.put(sys.argv[2], "v")).header.revision
    async with client.watch(sys.argv[2], start_revision=written) as watch:
        assert (await watch.next(5)).value == b"v"

asyncio.run(main())
asyncio.run(main())
asyncio.run(client.close())
"""
    # A loop that is closed leaves its transports behind; asyncio says so, and it cannot be helped.
    run(program, server.endpoint, prefix, options=["-W", "ignore::ResourceWarning"])


def test_two_loops_at_once_are_refused(server):
    client = purecd.AsyncClient(server.endpoint)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.get("k"))

    async def elsewhere():
        with pytest.raises(RuntimeError, match="another event loop"):
            await client.get("k")

    asyncio.run(elsewhere())
    assert loop.run_until_complete(client.get("k")).header.revision, "and nothing was harmed"
    loop.run_until_complete(client.close())
    loop.close()


def test_a_client_is_made_outside_of_any_loop(server):
    client = purecd.AsyncClient(server.endpoint)

    async def main():
        async with client:
            return await client.get("k")

    assert asyncio.run(main()).header.revision


# Threads.


def test_threads_that_come_and_go(server, prefix):
    with purecd.Client(server.endpoint) as client:
        for _ in range(5):
            together(20, lambda index: client.put(f"{prefix}{index}", "v"))
        assert client.get(prefix, prefix=True, count_only=True).count == 20


def test_a_client_is_closed_by_another_thread(front, server):
    client = front.client(server.endpoint)
    watch = client.watch("k")
    waiting = [Thread(watch.next)]
    with Silent() as peer:
        quiet = front.client(peer.endpoint)
        waiting += [Thread(quiet.get, "k") for _ in range(3)]
        time.sleep(0.1)
        client.close()
        quiet.close()
        for each in waiting[1:]:
            with pytest.raises(errors.ClientClosed):
                each.result(2)
    try:
        assert waiting[0].result(2) is None
    except errors.ClientClosed:
        pass
    with pytest.raises(errors.ClientClosed):
        client.get("k")


def test_the_thread_of_leases_ends(server):
    def workers():
        return [thread for thread in threading.enumerate() if thread.name.startswith("purecd")]

    with purecd.Client(server.endpoint) as client:
        with client.lease(5), client.lease(5):
            assert len(workers()) == 1
            assert all(thread.daemon for thread in workers())
        until_true(lambda: not workers())
        lease = client.lease(5)
        assert len(workers()) == 1
    until_true(lambda: not workers())
    assert not lease.lost or lease.remaining >= 0


def until_true(condition, timeout=3.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Nothing is left behind.


def open_things():
    """Descriptors and threads of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


@linux
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_hundred_clients(start_server, tmp_path, secure):
    authority = Authority(tmp_path)
    server = start_server(tls=authority.server() if secure else False)
    tls = purecd.Tls(authority.ca_file) if secure else None

    def cycle():
        with purecd.Client(server.endpoint, tls=tls) as client:
            client.put("k", "v")
            with client.watch("k"), client.lease(5) as lease:
                client.put("k", "w", lease=lease)

    cycle()
    until_true(lambda: threading.active_count() == 1 or not purecd_threads())
    before = open_things()
    for _ in range(100):
        cycle()
    until_true(lambda: open_things() == before)
    until_true(lambda: connections(server) <= 2)


@linux
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_hundred_clients_of_asyncio(start_server, tmp_path, secure):
    authority = Authority(tmp_path)
    server = start_server(tls=authority.server() if secure else False)
    tls = purecd.Tls(authority.ca_file) if secure else None

    async def cycle():
        async with purecd.AsyncClient(server.endpoint, tls=tls) as client:
            await client.put("k", "v")
            async with client.watch("k"), await client.lease(5) as lease:
                await client.put("k", "w", lease=lease)

    async def main():
        await cycle()
        await asyncio.sleep(0.05)
        before, tasks = open_things(), len(asyncio.all_tasks())
        for _ in range(100):
            await cycle()
        await asyncio.sleep(0.05)
        assert open_things() == before
        assert len(asyncio.all_tasks()) == tasks

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    until_true(lambda: connections(server) <= 2)


def purecd_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("purecd")]


def connections(server):
    """How many TCP connections to a server this machine has."""
    port = f":{server.client_port:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(1 for line in lines if line.split()[2].endswith(port) and line.split()[3] == "01")


@linux
def test_a_hundred_clients_that_reach_nobody(front):
    endpoint = refused_endpoint()

    def cycle():
        client = front.client(endpoint, fail_fast=True)
        with pytest.raises(errors.Unavailable):
            client.get("k", timeout=1)
        client.close()

    cycle()
    before = open_things()
    for _ in range(100):
        cycle()
    until_true(lambda: open_things() == before)


def test_importing_and_making_a_client_opens_nothing():
    program = """
import os, threading
import purecd
client, aclient = purecd.Client(), purecd.AsyncClient()
assert threading.active_count() == 1
before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
purecd.Client("127.0.0.1:1").close()
assert len(os.listdir("/proc/self/fd")) == len(before) if before else True
"""
    run(program)


# The end.

ENDS = {
    "client": "client.get(prefix)",
    "watch": "watch = client.watch(prefix)",
    "lease": "lease = client.lease(60)",
    "all": "client.get(prefix); watch = client.watch(prefix); lease = client.lease(60)",
    "thread": """
import threading
watch = client.watch(prefix)
threading.Thread(target=watch.next, daemon=True).start()
time.sleep(0.1)
""",
    "sync": "client = purecd.Client(endpoint, auto_sync_interval=0.05); client.get(prefix); time.sleep(0.1)",
    "garbage": "client.get(prefix); watch = client.watch(prefix); del client, watch; gc.collect()",
    "cycle": """
class Holder:
    def __del__(self):
        self.client.close()
holder = Holder()
holder.client = client
holder.itself = holder
client.get(prefix)
""",
}


@pytest.mark.parametrize("what", list(ENDS))
def test_the_program_ends_with_it_open(server, prefix, what):
    program = "import gc, sys, time, purecd\nendpoint, prefix = sys.argv[1:]\n"
    program += "client = purecd.Client(endpoint)\n" + ENDS[what] + "\nprint(time.time())\n"
    # An open socket is told at the end by Python itself; everything else is ours.
    printed = run(program, server.endpoint, prefix, options=["-W", "ignore::ResourceWarning"])
    took = time.time() - float(printed)
    print(f"{took:.2f} s from the last line to the end")
    assert took < 1 + SLACK


@pytest.mark.parametrize("what", ["client", "watch", "lease"])
def test_the_program_of_asyncio_ends_with_it_open(server, prefix, what):
    line = {
        "client": "await client.get(prefix)",
        "watch": "watch = client.watch(prefix); await watch.open()",
        "lease": "lease = await client.lease(60)",
    }[what]
    program = f"""
import asyncio, sys, time
from purecd import AsyncClient
endpoint, prefix = sys.argv[1:]

async def main():
    asyncio.get_running_loop().slow_callback_duration = 10  # of development mode
    client = AsyncClient(endpoint)
    {line}
    print(time.time())

asyncio.run(main())
"""
    printed = run(program, server.endpoint, prefix, options=["-W", "ignore::ResourceWarning"])
    assert time.time() - float(printed) < 1 + SLACK


@pytest.mark.parametrize("front", ["Client", "AsyncClient"])
def test_a_program_that_closes_leaves_no_warning(server, prefix, front):
    program = """
import asyncio, sys, purecd
endpoint, prefix = sys.argv[1:]

def main():
    with purecd.Client(endpoint) as client:
        with client.watch(prefix), client.lease(5):
            client.put(prefix, "v")

async def amain():
    asyncio.get_running_loop().slow_callback_duration = 10  # of development mode
    async with purecd.AsyncClient(endpoint) as client:
        async with client.watch(prefix), await client.lease(5):
            await client.put(prefix, "v")
"""
    program += "main()" if front == "Client" else "asyncio.run(amain())"
    run(program, server.endpoint, prefix)


def test_an_exception_ends_the_program_as_usual(server, prefix):
    program = "import sys, purecd\nclient = purecd.Client(sys.argv[1])\nclient.watch('k')\nclient.get('')\n"
    done = subprocess.run(
        [sys.executable, "-c", program, server.endpoint],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "ValueError" in done.stderr
