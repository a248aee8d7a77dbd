# SPDX-License-Identifier: Apache-2.0
"""The asyncio driver, on real sockets to a small server: cancellation, loops, what is left."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time

import pytest

import purecd
from purecd import errors
from purecd.aio.driver import Driver
from purecd.core.op import Call
from purecd.wire.grpc import GrpcStream
from tests.support.answering import Answering, Deaf, Loud, eventually, open_files


@pytest.fixture
def server():
    with Answering() as server:
        yield server


async def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        await asyncio.sleep(0.005)


async def in_flight(client, server, count, call="get", **options):
    """So many calls in flight, all held by the server."""
    await client.get("k")
    server.holding = True
    already = len(server.paths)
    tasks = [asyncio.ensure_future(getattr(client, call)("k", **options)) for _ in range(count)]
    await until(lambda: len(server.paths) == already + count)
    return tasks


def test_many_tasks_share_a_connection(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            tasks = await in_flight(client, server, 32)
            server.release()
            assert {reply.header.revision for reply in await asyncio.gather(*tasks)} == {5}

    asyncio.run(main())
    assert server.connections == 1


def test_no_thread_is_started(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            return threading.active_count()

    before = threading.active_count()
    with_one_for_the_connection = before + 1  # the server's
    assert asyncio.run(main()) <= with_one_for_the_connection


def test_a_cancelled_task_leaves_the_connection_usable(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            cancelled, other = await in_flight(client, server, 2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await until(lambda: server.resets)
            server.release()
            assert (await other).header.revision == 5
            assert (await client.get("k")).header.revision == 5

    asyncio.run(main())
    assert server.connections == 1
    assert server.resets == [5], "the greeting was 1, the first get 3"


def test_a_cancelled_task_that_waits_for_a_connection():
    async def main():
        async with purecd.AsyncClient("127.0.0.1:1") as client:
            task = asyncio.ensure_future(client.put("k"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_wait_for_is_a_timeout_too(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            server.holding = True
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.get("k"), 0.05)
            await until(lambda: server.resets)

    asyncio.run(main())


def test_a_deadline_leaves_the_connection_usable(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            server.holding = True
            started = time.monotonic()
            with pytest.raises(errors.DeadlineExceeded) as caught:
                await client.put("k", timeout=0.1)
            assert 0.09 < time.monotonic() - started < 0.6
            assert caught.value.maybe_applied
            await until(lambda: server.resets)
            server.release()
            assert (await client.get("k")).header.revision == 5
            assert server.ports[0] not in server.ended

    asyncio.run(main())
    assert server.resets == [5]


def test_close_ends_calls_in_flight(server):
    async def main():
        client = purecd.AsyncClient(server.endpoint)
        tasks = await in_flight(client, server, 8)
        started = time.monotonic()
        await client.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} == {errors.ClientClosed}
        assert time.monotonic() - started < 1
        with pytest.raises(errors.ClientClosed):
            await client.get("k")
        await client.close()

    asyncio.run(main())


def test_a_lost_connection_reaches_every_waiting_call(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            reads = await in_flight(client, server, 4)
            writes = [asyncio.ensure_future(client.put("k")) for _ in range(4)]
            await until(lambda: len(server.paths) == 9)
            server.holding = False
            server.hang_up()
            assert {reply.header.revision for reply in await asyncio.gather(*reads)} == {5}
            for end in await asyncio.gather(*writes, return_exceptions=True):
                assert type(end) is errors.Unavailable
                assert end.maybe_applied

    asyncio.run(main())
    assert server.paths.count("Put") == 4


def test_what_is_called_before_the_loop_tells_of_a_lost_connection_goes_to_a_new_one(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            # As after a failed send: the transport takes bytes and drops them until the loop tells us.
            client._drivers["calls"].channel.current.transport.abort()
            await client.put("k")

    asyncio.run(main())
    assert server.connections == 2


def test_another_loop_while_the_first_lives_is_refused(server):
    client = purecd.AsyncClient(server.endpoint)
    first = asyncio.new_event_loop()
    first.run_until_complete(client.get("k"))

    async def elsewhere():
        with pytest.raises(RuntimeError, match="event loop"):
            await client.get("k")

    asyncio.run(elsewhere())
    assert first.run_until_complete(client.get("k")).header.revision == 5
    first.run_until_complete(client.close())
    first.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of the loop that was left; it comes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # from a destructor
def test_another_loop_after_the_first_was_closed(server):
    client = purecd.AsyncClient(server.endpoint)

    async def get():
        return (await client.get("k")).header.revision

    async def get_and_close():
        revision = await get()
        await client.close()
        return revision

    assert asyncio.run(get()) == 5
    assert asyncio.run(get_and_close()) == 5
    assert server.connections == 2
    gc.collect()


def test_nothing_is_left_after_a_hundred_clients(server):
    def opened():
        return open_files()

    async def one():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")

    async def main():
        await one()
        await until(lambda: not server._open)
        before = opened()
        for _ in range(100):
            await one()
        await until(lambda: not server._open)
        await until(lambda: opened() <= before)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    eventually(lambda: not server._open)


def test_a_client_is_made_outside_of_a_loop():
    client = purecd.AsyncClient("127.0.0.1:1")
    asyncio.run(client.close())


def test_requests_of_one_turn_of_the_loop_leave_in_one_write(server, monkeypatch):
    writes = []
    sent = Driver._flush

    def counted(driver, link):
        before = link.conn.unwritten
        sent(driver, link)
        if before:
            writes.append(before)

    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            monkeypatch.setattr(Driver, "_flush", counted)
            await asyncio.gather(*[client.get("k") for _ in range(20)])

    asyncio.run(main())
    requests = [size for size in writes if size > 100]
    assert len(requests) == 1, "twenty requests, one write"


def test_calls_with_different_deadlines_share_a_timer(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            server.holding = True
            started = time.monotonic()
            ended = {}

            async def late(timeout):
                with pytest.raises(errors.DeadlineExceeded):
                    await client.get("k", timeout=timeout)
                ended[timeout] = time.monotonic() - started

            timeouts = [0.3, 0.1, 0.2, 0.1001, 0.3001]
            await asyncio.gather(*[late(timeout) for timeout in timeouts])
            assert list(ended) == sorted(timeouts)
            assert all(ended[timeout] >= timeout for timeout in timeouts)
            driver = client._drivers["calls"]
            assert not driver._open

    asyncio.run(main())


def test_what_nobody_takes_is_not_piled_up():
    async def main():
        with Deaf() as peer:
            client = purecd.AsyncClient(peer.endpoint)
            for _ in range(12):
                with pytest.raises(errors.DeadlineExceeded) as caught:
                    await client.put("k", bytes(1 << 20), timeout=0.1)
            assert not caught.value.maybe_applied, "it was never handed to the socket"
            (link,) = client._drivers["calls"].channel.links
            waiting = link.transport.get_write_buffer_size() + link.conn.unwritten
            assert waiting < 2 << 20, "what the kernel's buffers do not take waits in line"
            await until(lambda: link.conn.throttled)  # replies to PINGs wait where they are counted
            assert link.conn.blocked
            await client.close()
            await until(lambda: peer.ended)  # although not all was written

    asyncio.run(main())


def test_nothing_is_read_while_replies_wait():
    async def main():
        with Loud() as peer:
            client = purecd.AsyncClient(peer.endpoint)
            call = asyncio.ensure_future(client.get("k", timeout=30))
            await until(lambda: peer.stalled, 10)
            (link,) = client._drivers["calls"].channel.links
            waiting = link.transport.get_write_buffer_size() + link.conn.unwritten
            assert waiting < 1 << 18, "the replies to one portion, and what asyncio keeps"
            assert not call.done()
            await client.close()
            with pytest.raises(errors.ClientClosed):
                await call

    asyncio.run(main())


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="objects are freed at other times here")
def test_a_call_leaves_nothing_to_the_garbage_collector(server):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.get("k")
            gc.collect()
            before = {id(each) for each in gc.get_objects() if isinstance(each, (Call, GrpcStream))}
            gc.disable()
            try:
                for _ in range(10):
                    await client.get("k")
                left = [each for each in gc.get_objects() if isinstance(each, (Call, GrpcStream))]
            finally:
                gc.enable()
            return [each for each in left if id(each) not in before]

    assert asyncio.run(main()) == []
