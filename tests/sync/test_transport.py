# SPDX-License-Identifier: Apache-2.0
"""Sockets of the blocking front: what the kernel does not take at once. The driver tests the rest."""

from __future__ import annotations

import socket

import pytest

from purecd.core.endpoints import parse_endpoint
from purecd.sync.transport import RECEIVE_SIZE, Transport


@pytest.fixture
def pair():
    """A transport, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport = Transport(parse_endpoint("http://127.0.0.1:1"), 5.0)
    transport.sock, transport.connected = ours, True
    yield transport, theirs
    transport.close()
    theirs.close()


def drain(theirs, count):
    data = b""
    while len(data) < count:
        data += theirs.recv(65_536)
    return data


def test_what_the_kernel_takes_leaves_nothing(pair):
    transport, theirs = pair
    assert transport.send(b"abc") == 3
    assert not transport.backlog
    assert drain(theirs, 3) == b"abc"


def test_what_waits_goes_first_and_arrives_whole(pair):
    transport, theirs = pair
    pieces = [bytes([number]) * 300_000 for number in range(10)]
    sent = sum(transport.send(piece) for piece in pieces)
    assert 0 < sent < 3_000_000
    assert len(transport.backlog) == 3_000_000 - sent
    received = drain(theirs, sent)
    while transport.backlog:
        count = transport.send(b"")
        received += drain(theirs, count)
    assert received == b"".join(pieces)


def test_what_waits_is_not_copied_when_the_kernel_takes_some_of_it(pair):
    transport, theirs = pair
    data = bytes(4_000_000)
    sent = transport.send(data)
    while transport.backlog:
        assert transport.backlog.obj is data
        drain(theirs, sent)
        sent = transport.send(b"")
        assert sent > 0


def test_a_kernel_that_takes_nothing_leaves_everything(pair):
    transport, _ = pair
    transport.send(bytes(4_000_000))
    before = len(transport.backlog)
    assert transport.send(b"more") == 0
    assert len(transport.backlog) == before + 4
    assert bytes(transport.backlog[-4:]) == b"more"


def test_where_much_waits_more_is_read_at_once(pair):
    transport, theirs = pair
    theirs.sendall(bytes(150_000))
    assert len(transport.receive()) == RECEIVE_SIZE
    assert len(transport.receive()) == 150_000 - RECEIVE_SIZE
    theirs.sendall(bytes(100))
    assert len(transport.receive()) == 100
    theirs.sendall(bytes(150_000))
    assert len(transport.receive()) == RECEIVE_SIZE


def test_a_brief_wait_reads_as_much(pair):
    transport, theirs = pair
    transport.sock.settimeout(5)
    theirs.sendall(bytes(150_000))
    for size in (RECEIVE_SIZE, 150_000 - RECEIVE_SIZE):
        assert transport.wait_briefly()
        assert len(transport.receive()) == size
