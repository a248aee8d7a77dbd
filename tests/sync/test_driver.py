# SPDX-License-Identifier: Apache-2.0
"""The blocking driver, on real sockets to a small server: who leads, who is woken, what is left."""

from __future__ import annotations

import gc
import signal
import socket
import struct
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

import purecd
from purecd import errors
from purecd.core.endpoints import parse_endpoint
from purecd.core.op import Call
from purecd.sync.transport import BRIEF, Poller, Transport
from purecd.wire.grpc import GrpcStream
from tests.support.answering import REPLY, Answering, Deaf, Loud, eventually, open_files
from tests.wire import peer as octets


@pytest.fixture
def server():
    with Answering() as server:
        yield server


@pytest.fixture
def client(server):
    with purecd.Client(server.endpoint, timeout=10) as client:
        yield client


class Calling(threading.Thread):
    """A get in a thread of its own; `outcome` is its reply or error, `took` its seconds."""

    def __init__(self, client, timeout=10.0, call="get"):
        super().__init__(daemon=True)
        self.client, self.timeout, self.call = client, timeout, call
        self.outcome = None
        self.start()

    def run(self):
        started = time.monotonic()
        try:
            self.outcome = getattr(self.client, self.call)("k", timeout=self.timeout)
        except Exception as error:
            self.outcome = error
        self.took = time.monotonic() - started

    def result(self):
        self.join(15)
        assert not self.is_alive()
        return self.outcome


def in_flight(client, server, count, **options):
    """So many gets in flight, all held by the server."""
    client.get("k")
    server.holding = True
    already = len(server.paths)
    calls = [Calling(client, **options) for _ in range(count)]
    eventually(lambda: len(server.paths) == already + count)
    return calls


def test_one_thread_alone_leads(client, server):
    assert client.get("k").header.revision == 5
    assert threading.active_count() == len([t for t in threading.enumerate() if "purecd" not in t.name])
    assert server.paths == ["Range"]


def test_all_that_wait_are_answered(client, server):
    calls = in_flight(client, server, 32)
    server.release()
    assert {call.result().header.revision for call in calls} == {5}
    assert server.connections == 1


class OneAtATime(Answering):
    """Takes one stream at a time."""

    def talk(self, client):
        client.sendall(octets.frame(octets.SETTINGS, 0, 0, bytes.fromhex("0003 00000001")))
        super().talk(client)


def test_a_call_in_line_is_sent_when_the_answer_to_the_leading_call_makes_room():
    with OneAtATime() as server, purecd.Client(server.endpoint) as client:
        (leading,) = in_flight(client, server, 1)
        in_line = [Calling(client, timeout=3.0) for _ in range(3)]
        eventually(lambda: len(client._driver("calls")._followers) == 3)
        server.release()
        assert leading.result().header.revision == 5
        assert [each.result().header.revision for each in in_line] == [5, 5, 5]
        assert max(each.took for each in in_line) < 2


def test_a_follower_that_was_nudged_is_not_kept(client, server):
    # It would be woken, in vain, in the place of one that has to lead.
    (leading,) = in_flight(client, server, 1)
    driver = client._driver("calls")
    waiters = [driver.waiter() for _ in range(3)]
    threads = [threading.Thread(target=driver.serve, args=(each, None)) for each in waiters]
    for thread in threads:
        thread.start()
    following = Calling(client)
    eventually(lambda: len(driver._followers) == 4)
    for waiter in waiters:
        driver.nudge(waiter)
    for thread in threads:
        thread.join(5)
    assert list(driver._followers.values()) == [None], "who waits on, and nobody else"
    server.release()
    assert {leading.result().header.revision, following.result().header.revision} == {5}


def test_the_lead_is_handed_over_when_the_leading_call_times_out(client, server):
    (leading,) = in_flight(client, server, 1, timeout=0.3)
    following = [Calling(client) for _ in range(3)]
    eventually(lambda: len(server.paths) == 5)
    assert isinstance(leading.result(), errors.DeadlineExceeded)
    assert all(each.is_alive() for each in following)
    server.release()
    assert {each.result().header.revision for each in following} == {5}


def test_a_follower_times_out_by_itself(client, server):
    (leading,) = in_flight(client, server, 1)
    following = Calling(client, timeout=0.2)
    assert isinstance(following.result(), errors.DeadlineExceeded)
    assert 0.19 < following.took < 0.7
    assert leading.is_alive()
    server.release()
    assert leading.result().header.revision == 5


def test_a_deadline_leaves_the_connection_usable(client, server):
    (call,) = in_flight(client, server, 1, timeout=0.1)
    assert isinstance(call.result(), errors.DeadlineExceeded)
    eventually(lambda: server.resets)
    server.release()
    assert client.get("k").header.revision == 5
    assert server.resets == [5], "the greeting was 1, the first get 3"
    assert server.ports[0] not in server.ended, "another, dialled while it was silent, may have come and gone"


def test_close_wakes_everybody(client, server):
    calls = in_flight(client, server, 16)
    started = time.monotonic()
    client.close()
    assert {type(call.result()) for call in calls} == {errors.ClientClosed}
    assert time.monotonic() - started < 1
    with pytest.raises(errors.ClientClosed):
        client.get("k")
    client.close()


def test_close_while_dialling_wakes_who_waits():
    with Answering() as server:
        silent = server.endpoint
        server.hang_up()
    client = purecd.Client(silent, timeout=10)
    calls = [Calling(client) for _ in range(4)]
    time.sleep(0.2)
    client.close()
    assert {type(call.result()) for call in calls} == {errors.ClientClosed}


def test_a_lost_connection_reaches_every_waiting_call(client, server):
    reads = in_flight(client, server, 4)
    writes = [Calling(client, call="put") for _ in range(4)]
    eventually(lambda: len(server.paths) == 9)
    server.holding = False
    server.hang_up()
    assert {call.result().header.revision for call in reads} == {5}, "reads are sent again"
    for call in writes:
        assert type(call.result()) is errors.Unavailable
        assert call.result().maybe_applied
    assert server.paths.count("Put") == 4, "writes are not"


def test_who_closes_a_watch_wakes_its_reader(client, server):
    # The reader has the lead of its channel and waits without limit.
    from purecd.core.watching import Watcher, WatchRequest

    driver = client._driver("streams")
    watcher = Watcher(WatchRequest(b"k"))
    driver.attach(watcher)
    ended = []
    reader = threading.Thread(target=lambda: ended.append(driver.next(watcher, None)), daemon=True)
    reader.start()
    time.sleep(0.1)
    driver.detach(watcher)
    reader.join(0.5)
    assert ended == [None]


def test_an_idle_connection_that_was_closed_is_noticed_before_a_call(client, server):
    client.get("k")
    server.hang_up()
    time.sleep(0.1)
    assert client.put("k", timeout=5).header.revision == 5
    assert server.connections == 2


def test_nothing_is_left_after_a_hundred_clients(server):
    def opened():
        return open_files(), threading.active_count()

    with purecd.Client(server.endpoint) as client:
        client.get("k")
    eventually(lambda: not server._open)
    before = opened()
    for _ in range(100):
        with purecd.Client(server.endpoint) as client:
            client.get("k")
    eventually(lambda: not server._open)
    eventually(lambda: opened()[0] <= before[0] and opened()[1] <= before[1])


def test_a_client_that_was_never_used_opens_nothing():
    before = open_files()
    client = purecd.Client("127.0.0.1:1")
    assert open_files() == before
    client.close()


def test_a_name_is_resolved(server):
    with purecd.Client(f"localhost:{server.port}", timeout=5) as client:
        assert client.get("k").header.revision == 5


def test_a_name_that_nobody_has():
    with purecd.Client("nobody.invalid:1", timeout=3, fail_fast=True) as client:
        with pytest.raises(errors.Unavailable, match="cannot connect"):
            client.get("k")


class Stalling(Answering):
    """Lets all of a request out, but does not read it before the test says so."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()

    def talk(self, client):
        most = octets.u32(2**31 - 1)
        client.sendall(octets.frame(octets.SETTINGS, 0, 0, bytes.fromhex("0004") + most))
        client.sendall(octets.frame(octets.WINDOW_UPDATE, 0, 0, octets.u32(2**31 - 1 - 65_535)))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        early = b""
        while b"Range" not in early:
            early += client.recv(4096)
        client.sendall(octets.answer(1, REPLY))
        self.go_on.wait(10)


@pytest.mark.parametrize(
    ("backlog", "torn", "sent"),
    [(b"", False, b"goodbye"), (b"the rest of a request", False, b""), (b"", True, b"")],
)
def test_what_was_called_unsent_does_not_leave_with_the_goodbye(client, backlog, torn, sent):
    here, there = socket.socketpair()
    transport = Transport(parse_endpoint("127.0.0.1:1"), 5.0)
    transport.sock, transport.connected, transport.backlog = here, True, backlog
    link: Any = SimpleNamespace(transport=transport, torn=torn, data_to_send=lambda: b"goodbye")
    client._driver("calls")._close_link(link)
    with there:
        assert there.recv(100) == sent
    assert transport.closed


def test_a_server_that_reads_nothing_costs_the_timeout_and_no_work():
    with Stalling() as server, purecd.Client(server.endpoint, max_send_size=16 << 20) as client:
        started, worked = time.monotonic(), time.process_time()
        with pytest.raises(errors.DeadlineExceeded) as caught:
            client.put("k", bytes(8 << 20), timeout=0.5)
        assert time.monotonic() - started < 2
        assert time.process_time() - worked < 0.4
        assert caught.value.maybe_applied, "what is queued leaves as soon as the server reads"
        server.go_on.set()


def brief_waits():
    """Whether this platform reads without polling before."""
    return sys.platform == "linux" and sys.implementation.name == "cpython"


@pytest.mark.skipif(not brief_waits(), reason="it polls here")
def test_a_quick_answer_is_read_without_polling(client, server, monkeypatch):
    client.get("k")
    monkeypatch.setattr(Poller, "wait", None)
    driver = client._driver("calls")
    transport = driver.channel.current.transport
    transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 10, 0))
    for _ in range(10):
        assert client.get("k").header.revision == 5


def test_what_nobody_takes_is_not_piled_up():
    with Deaf() as peer:
        with purecd.Client(peer.endpoint) as client:
            for _ in range(12):
                with pytest.raises(errors.DeadlineExceeded) as caught:
                    client.put("k", bytes(1 << 20), timeout=0.1)
            assert not caught.value.maybe_applied, "it was never handed to the socket"
            (link,) = client._drivers["calls"].channel.links
            assert link.conn.unwritten < 2 << 20, "what the kernel's buffers do not take waits in line"
        eventually(lambda: peer.ended)


def test_nothing_is_read_while_replies_wait():
    with Loud() as peer, purecd.Client(peer.endpoint) as client:
        call = Calling(client, timeout=30)
        eventually(lambda: peer.stalled, 10)
        (link,) = client._drivers["calls"].channel.links
        assert link.conn.unwritten < 1 << 18, "the replies to what was read at once, and a backlog"
        client.close()
        assert isinstance(call.result(), errors.ClientClosed)


def test_a_slow_answer_is_polled_for_and_who_waits_can_be_woken(client, server):
    (call,) = in_flight(client, server, 1)
    time.sleep(3 * BRIEF)
    started = time.monotonic()
    client.close()
    assert isinstance(call.result(), errors.ClientClosed)
    assert time.monotonic() - started < 5


def test_what_was_read_when_a_signal_came_is_taken_by_the_next(client, server):
    client.get("k")
    driver = client._driver("calls")
    transport = driver.channel.current.transport
    transport.inbox.append(octets.frame(octets.PING, 0, 0, b"12345678"))
    driver._reading = True
    assert client.get("k").header.revision == 5
    assert not transport.inbox
    assert not driver._reading
    assert server.connections == 1


@pytest.mark.skipif(not brief_waits(), reason="it polls here")
def test_interrupting_a_brief_wait_costs_no_connection(client, server):
    class Enough(Exception):
        pass

    def handler(number, frame):
        raise Enough

    client.get("k")
    server.holding = True
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, BRIEF / 4)
        with pytest.raises(Enough):
            client.get("k")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    server.release()
    assert client.get("k").header.revision == 5


def test_a_brief_wait_reports_how_the_connection_ended():
    here, there = socket.socketpair()
    transport = Transport(parse_endpoint("127.0.0.1:1"), 5.0)
    transport.sock, transport.connected = here, True
    here.settimeout(5)
    there.sendall(b"octets")
    assert transport.wait_briefly()
    assert transport.receive() == b"octets"
    there.close()
    assert transport.wait_briefly()
    assert transport.receive() == b""
    transport.close()
    assert not transport.wait_briefly()
    assert transport.receive() is None
    with pytest.raises(OSError, match="closed"):
        transport.send(b"octets")


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="objects are freed at other times here")
def test_a_call_leaves_nothing_to_the_garbage_collector(client, server):
    client.get("k")
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, (Call, GrpcStream))}  # of other tests
    gc.disable()
    try:
        for _ in range(10):
            client.get("k")
        left = [each for each in gc.get_objects() if isinstance(each, (Call, GrpcStream))]
    finally:
        gc.enable()
    assert [each for each in left if id(each) not in before] == []
