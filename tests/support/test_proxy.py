# SPDX-License-Identifier: Apache-2.0
"""The proxy's faults, each seen from both ends of a connection."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from tests.support.peers import refused_endpoint
from tests.support.proxy import FaultProxy, Faults, Flow


class Ends(NamedTuple):
    client: socket.socket
    server: socket.socket


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[FaultProxy]:
    with FaultProxy(f"127.0.0.1:{listener.getsockname()[1]}") as proxy:
        yield proxy


@contextmanager
def connected(proxy: FaultProxy, listener: socket.socket) -> Iterator[Ends]:
    """A connection through the proxy, both ends."""
    with ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=5))
        server = stack.enter_context(listener.accept()[0])
        server.settimeout(5)
        yield Ends(client, server)


@pytest.fixture
def ends(proxy: FaultProxy, listener: socket.socket) -> Iterator[Ends]:
    with connected(proxy, listener) as ends:
        yield ends


def take(end: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes."""
    data = b""
    while len(data) < count:
        part = end.recv(count - len(data))
        assert part, f"the connection ended after {len(data)} of {count} bytes"
        data += part
    return data


def nothing_comes(end: socket.socket) -> bool:
    return not select.select([end], [], [], 0.05)[0]


def test_bytes_pass_both_ways_and_are_counted(proxy, ends):
    sent = random.Random(1).randbytes(3_000_000)
    ends.client.sendall(b"hello")
    assert take(ends.server, 5) == b"hello"
    ends.server.setblocking(False)
    received = b""
    at = 0
    while len(received) < len(sent):  # both ends by turns: more is under way than buffers hold
        if at < len(sent) and select.select([], [ends.server], [], 0)[1]:
            at += ends.server.send(sent[at : at + 100_000])
        if select.select([ends.client], [], [], 0)[0]:
            received += ends.client.recv(1_000_000)
    assert received == sent
    assert (proxy.connections, proxy.open_connections) == (1, 1)
    assert proxy.transferred == {"tx": 5, "rx": 3_000_000}


def test_each_half_ends_by_itself(proxy, ends):
    ends.client.sendall(b"last")
    ends.client.shutdown(socket.SHUT_WR)
    assert take(ends.server, 4) == b"last"
    assert ends.server.recv(1) == b""
    ends.server.sendall(b"answer")
    assert take(ends.client, 6) == b"answer"
    ends.server.close()
    assert ends.client.recv(1) == b""


def test_the_scheme_of_the_target_is_kept():
    proxy = FaultProxy("https://127.0.0.1:2379")
    with proxy:
        assert proxy.endpoint == f"https://127.0.0.1:{proxy.port}"


def test_a_dead_target_resets_the_client():
    with FaultProxy(refused_endpoint()) as proxy:
        with pytest.raises(ConnectionResetError):  # already in connect() when the proxy is quick
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
                client.recv(1)


def test_drop_is_seen_as_fin_even_with_bytes_unread(proxy, ends):
    proxy.stop_reading()
    ends.client.sendall(b"unread")
    proxy.drop()
    assert ends.client.recv(1) == b""
    assert ends.server.recv(1) == b""
    ends.client.sendall(b"more")  # the peer of a FIN may go on sending
    assert ends.client.recv(1) == b""
    assert proxy.open_connections == 0


def test_reset_is_seen_as_rst(proxy, ends):
    proxy.reset()
    for end in ends:
        with pytest.raises(ConnectionResetError):
            end.recv(1)


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_reset_by_one_end_reaches_the_other(proxy, ends, breaker):
    one = getattr(ends, breaker)
    other = ends.server if breaker == "client" else ends.client
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    one.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)


def test_refused_until_healed_while_open_connections_live(proxy, listener, ends):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    ends.client.sendall(b"x")
    assert take(ends.server, 1) == b"x"
    proxy.heal()
    with connected(proxy, listener) as more:
        more.client.sendall(b"y")
        assert take(more.server, 1) == b"y"


def test_paused_accept_connects_but_reaches_nobody_until_healed(proxy, listener):
    proxy.pause_accept()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"x")
        assert nothing_comes(listener)
        proxy.heal()
        with listener.accept()[0] as server:
            assert take(server, 1) == b"x"


@pytest.mark.parametrize("fault", ["blackhole", "stop_reading"])
@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
def test_a_stopped_direction_holds_its_bytes_until_healed(proxy, ends, fault, direction):
    getattr(proxy, fault)(*() if direction == "both" else (direction,))
    ends.client.sendall(b"up")
    ends.server.sendall(b"down")
    for name, end, sent in (("tx", ends.server, b"up"), ("rx", ends.client, b"down")):
        if direction in (name, "both"):
            assert nothing_comes(end)
        else:
            assert take(end, len(sent)) == sent
    proxy.heal()
    for name, end, sent in (("tx", ends.server, b"up"), ("rx", ends.client, b"down")):
        if direction in (name, "both"):
            assert take(end, len(sent)) == sent


def test_a_blackhole_hides_the_end_of_a_connection(proxy, ends):
    proxy.blackhole()
    ends.server.sendall(b"x")
    ends.server.close()
    assert nothing_comes(ends.client)
    proxy.heal()
    assert take(ends.client, 1) == b"x"
    assert ends.client.recv(1) == b""


def test_a_blackhole_hides_a_reset(proxy, ends):
    proxy.blackhole()
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.server.close()
    assert nothing_comes(ends.client)


def test_a_sender_is_blocked_when_nobody_reads(proxy, ends):
    proxy.stop_reading("tx")
    ends.client.settimeout(0.05)
    with pytest.raises(OSError, match="timed out"):  # TimeoutError from Python 3.10 on
        for _ in range(1000):
            ends.client.sendall(bytes(100_000))


def test_delay_moves_every_byte_and_keeps_the_order(proxy, ends):
    proxy.delay(0.05, 0.04, "rx")
    started = time.monotonic()
    for number in range(20):
        ends.server.sendall(bytes([number]))
    assert take(ends.client, 20) == bytes(range(20))
    assert time.monotonic() - started >= 0.01


def test_jitter_does_not_let_later_bytes_overtake():
    faults = Faults()
    faults.delay, faults.jitter = 1.0, 0.9
    sender, source = socket.socketpair()
    with sender, source:
        flow = Flow(source, source, faults)
        for number in range(20):
            sender.send(bytes([number]))
            flow.receive(0.0, random.Random(number))
    dues = [due for due, _ in flow.held]
    assert len(dues) == 20
    assert dues == sorted(dues)
    assert 0.1 <= dues[0] < dues[-1] <= 1.9


def test_one_direction_is_delayed_and_the_other_not(proxy, ends):
    proxy.delay(60, 0.0, "rx")
    ends.server.sendall(b"later")
    ends.client.sendall(b"x")
    assert take(ends.server, 1) == b"x"
    assert nothing_comes(ends.client)


def test_bandwidth_takes_its_time(proxy, ends):
    proxy.bandwidth(100_000, "rx")
    started = time.monotonic()
    ends.server.sendall(bytes(20_000))
    take(ends.client, 20_000)
    assert time.monotonic() - started >= 0.18  # 0.2 s but for the last hundredth


def test_slices_arrive_one_by_one(proxy, ends):
    proxy.slice(3, 0.005, "rx")
    ends.server.sendall(b"0123456789")
    parts: list[bytes] = []
    while sum(map(len, parts)) < 10:
        parts.append(ends.client.recv(100))
    assert b"".join(parts) == b"0123456789"
    assert len(parts) > 1  # a slow reader may find two slices at once


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_an_open_connection_is_cut_after_so_many_bytes_more(proxy, ends, count, ending):
    ends.server.sendall(b"before")
    assert take(ends.client, 6) == b"before"
    proxy.cut_after(count, "rx", ending)
    if count:  # else it is cut already
        ends.server.sendall(b"12345")
    assert take(ends.client, count) == b"12345"[:count]
    if ending == "fin":
        assert ends.client.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            ends.client.recv(1)


def test_new_connections_are_cut_counting_from_their_start_until_healed(proxy, listener):
    proxy.cut_after(3, "tx")
    for _ in range(2):
        with connected(proxy, listener) as ends:
            ends.client.sendall(b"12345")
            assert take(ends.server, 3) == b"123"
            assert ends.server.recv(1) == b""
    proxy.heal()
    with connected(proxy, listener) as ends:
        ends.client.sendall(b"12345")
        assert take(ends.server, 5) == b"12345"
