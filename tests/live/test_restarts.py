# SPDX-License-Identifier: Apache-2.0
"""A single member stopped, killed, paused and started again under calls and watches."""

from __future__ import annotations

import threading
import time

import pytest

from purecd import errors
from tests.live.fronts import SLACK, Thread, take, timed
from tests.support.proxy import FaultProxy


def test_calls_and_a_watch_when_the_member_is_killed(front, start_server, prefix):
    across_a_restart(front, start_server, prefix, "kill")


def test_calls_and_a_watch_when_the_member_is_stopped(front, start_server, prefix):
    across_a_restart(front, start_server, prefix, "stop")


@pytest.mark.faults  # later releases take up to 10 s to stop while a watch is open
@pytest.mark.every_etcd
@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_calls_and_a_watch_across_a_restart_of_any_release(front, start_server, prefix, ending):
    across_a_restart(front, start_server, prefix, ending)


def across_a_restart(front, start_server, prefix, ending):
    server = start_server()
    client = front.client(server.endpoint)
    with client.watch(prefix, prefix=True) as watch:
        client.put(prefix + "a", "1")
        assert [event.value for event in take(watch, 1)] == [b"1"]
        client.put(prefix + "a", "2")
        getattr(server, ending)()
        reader = Thread(client.get, prefix + "a")
        time.sleep(0.2)
        assert not reader.done, "a get waits for the member"
        server.start()
        started = time.monotonic()
        assert reader.result(8).value == b"2"
        print(f"get answered {time.monotonic() - started:.2f} s after the member was ready")
        client.put(prefix + "a", "3")
        client.delete(prefix + "a")
        assert [event.value for event in take(watch, 3)] == [b"2", b"3", b""]
        with pytest.raises(TimeoutError):
            watch.next(timeout=0.2)


def test_no_event_is_lost_or_repeated_over_many_restarts(front, start_server, prefix):
    server = start_server()
    writer = front.client(server.endpoint)
    reader = front.client(server.endpoint)
    written = []
    over = threading.Event()

    def write():
        number = 0
        while not over.is_set():
            number += 1
            try:
                writer.put(prefix + "k", str(number), timeout=5)
                written.append((number, True))
            except errors.EtcdError as error:
                assert error.maybe_applied, error
                written.append((number, False))
            time.sleep(0.002)

    with reader.watch(prefix, prefix=True) as watch:
        thread = Thread(write)
        for ending in ("kill", "stop", "kill"):
            time.sleep(0.3)
            getattr(server, ending)()
            server.start()
        time.sleep(0.3)
        over.set()
        thread.result()
        writer.put(prefix + "k", "end")
        values: list[bytes] = []
        while not values or values[-1] != b"end":
            values.append(watch.next(timeout=10).value)
    seen = [int(value) for value in values[:-1]]
    assert seen == sorted(set(seen)), "in order, each once"
    assert not {number for number, certain in written if certain} - set(seen), "none is missing"
    unknown = sum(not certain for _, certain in written)
    print(f"{len(seen)} events over 3 restarts, {unknown} puts of unknown outcome")


def test_a_put_to_a_dead_member_was_not_applied(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    client.get(prefix)
    server.kill()
    time.sleep(0.1)  # so long that the end of the connection is looked for before a call is sent
    error, took = timed(lambda: client.put(prefix + "k", "v", timeout=0.6))
    assert type(error) is errors.DeadlineExceeded
    assert not error.maybe_applied
    assert 0.5 < took < 0.6 + SLACK
    server.start()
    assert client.get(prefix + "k").kv is None


def test_a_paused_member(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    client.put(prefix + "k", "before")
    server.pause()
    error, took = timed(lambda: client.get(prefix + "k", timeout=0.4))
    print(f"get: {(took - 0.4) * 1000:.1f} ms over its deadline")
    assert type(error) is errors.DeadlineExceeded
    assert not error.maybe_applied
    assert 0.39 < took < 0.4 + SLACK
    assert error.endpoint == server.endpoint
    # The link is suspect now, so this one may wait for another connection, which gets no answer either.
    error, took = timed(lambda: client.put(prefix + "k", "during", timeout=0.4))
    print(f"put: {(took - 0.4) * 1000:.1f} ms over its deadline")
    assert type(error) is errors.DeadlineExceeded
    assert 0.39 < took < 0.4 + SLACK
    server.resume()
    started = time.monotonic()
    assert client.put(prefix + "k", "after").header.revision
    print(f"usable {(time.monotonic() - started) * 1000:.0f} ms after the member went on")
    assert client.get(prefix + "k").value == b"after"


def test_a_put_that_left_may_have_been_applied(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    client.get(prefix)
    server.pause()
    error, took = timed(lambda: client.put(prefix + "k", "v", timeout=0.3))
    server.resume()
    assert (type(error), error.maybe_applied, error.attempts) == (errors.DeadlineExceeded, True, 1)
    assert took < 0.3 + SLACK
    assert client.get(prefix + "k").value in (None, b"v")


def test_many_calls_time_out_together(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    client.get(prefix)
    server.pause()
    timeouts = [0.2 + 0.02 * i for i in range(16)]
    threads = [Thread(timed, lambda timeout=each: client.get(prefix, timeout=timeout)) for each in timeouts]
    results = [thread.result() for thread in threads]
    server.resume()
    assert {type(error) for error, _ in results} == {errors.DeadlineExceeded}
    over = [took - timeout for (_, took), timeout in zip(results, timeouts)]
    print(f"at most {max(over) * 1000:.0f} ms over the deadline")
    assert max(over) < SLACK
    assert client.get(prefix).kv is None


def test_a_watch_wait_times_out_and_lives_on(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    with client.watch(prefix, prefix=True) as watch:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            watch.next(timeout=0.3)
        assert 0.29 < time.monotonic() - started < 0.3 + SLACK
        server.pause()
        with pytest.raises(TimeoutError):
            watch.next(timeout=0.1)
        error, took = timed(lambda: client.watch(prefix, timeout=0.3))
        assert type(error) is errors.DeadlineExceeded
        assert took < 0.3 + SLACK
        server.resume()
        client.put(prefix + "a", "1")
        assert watch.next(timeout=5).value == b"1"


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_lost_connections(front, server, prefix, fault):
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(proxy.endpoint)
        with client.watch(prefix, prefix=True) as watch:
            for i in range(5):
                client.put(f"{prefix}{i}", "v")
                getattr(proxy, fault)()
                client.get(prefix + "k")
            assert [event.key.decode()[len(prefix) :] for event in take(watch, 5)] == list("01234")
        client.close()


def test_one_connection_for_calls_and_one_for_watches(front, server, prefix):
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(proxy.endpoint)
        for _ in range(10):
            client.get(prefix)
        assert proxy.connections == 1
        with client.watch(prefix), client.watch(prefix), client.watch(prefix):
            assert proxy.connections == 2
        with pytest.raises(errors.FutureRev):
            client.get(prefix, revision=2**40)
        assert proxy.connections == 2
        client.close()
        deadline = time.monotonic() + 5
        while proxy.open_connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_deadline_leaves_the_connection(front, server, prefix):
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(proxy.endpoint)
        client.get(prefix)
        proxy.delay(0.3, 0.0, "rx")
        error, took = timed(lambda: client.get(prefix, timeout=0.1))
        assert type(error) is errors.DeadlineExceeded
        assert took < 0.1 + SLACK
        proxy.heal()
        assert client.get(prefix, timeout=5).kv is None
        client.close()
        assert proxy.connections <= 2


def test_closing_ends_waiting_calls(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint, timeout=20)
    client.get(prefix)
    server.pause()
    calls = [Thread(timed, lambda: client.put(prefix + "k", "v")) for _ in range(8)]
    time.sleep(0.3)
    started = time.monotonic()
    client.close()
    errors_seen = [call.result(5)[0] for call in calls]
    print(f"closed within {(time.monotonic() - started) * 1000:.0f} ms")
    assert time.monotonic() - started < 1
    assert [type(error) for error in errors_seen] == [errors.ClientClosed] * 8
    assert all(error.maybe_applied for error in errors_seen)
    server.resume()


@pytest.mark.every_etcd
def test_a_member_that_shuts_down_does_not_wait_for_us(front, start_server, prefix):
    """Neither for an answer on the idle connection of the calls, 5 s, nor for the watch to end, 7 s."""
    server = start_server()
    client = front.client(server.endpoint)
    client.put(prefix + "a", "1")
    with client.watch(prefix, prefix=True) as watch:
        reader = Thread(watch.next)
        time.sleep(0.3)
        started = time.monotonic()
        server.stop()
        seconds = time.monotonic() - started
        print(f"stopped in {seconds:.2f} s")
        assert seconds < 4
        server.start()
        client.put(prefix + "a", "2")
        assert reader.result(15).value == b"2"
