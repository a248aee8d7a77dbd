# SPDX-License-Identifier: Apache-2.0
"""The bad peers do what they are named for."""

from __future__ import annotations

import select
import socket
import threading
import time

import pytest

from tests.support import peers


def connect(peer: peers.Peer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", peer.port), timeout=5)


def read_all(client: socket.socket) -> bytes:
    data = b""
    while part := client.recv(65_536):
        data += part
    return data


def test_silent_reads_and_says_nothing():
    with peers.Silent() as peer, connect(peer) as client:
        client.sendall(b"hello")
        assert not select.select([client], [], [], 0.05)[0]
        assert peer.received == b"hello"
        assert peer.connections == 1


def test_closing_by_fin():
    with peers.Closing() as peer, connect(peer) as client:
        client.sendall(b"hello")
        assert read_all(client) == b""


def test_closing_by_rst():
    with peers.Closing("rst") as peer:
        with pytest.raises(ConnectionResetError):  # already in connect() when the peer is quick
            with connect(peer) as client:
                client.recv(1)


def test_http1_answers_400():
    with peers.Http1() as peer, connect(peer) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\n")
        assert read_all(client) == peers.Http1.ANSWER


def test_garbage_is_the_same_for_a_seed():
    with peers.Garbage(7, size=100) as peer, connect(peer) as client:
        client.sendall(b"x")
        assert client.recv(100, socket.MSG_WAITALL) == peer.garbage == peers.Garbage(7, size=100).garbage
        assert peer.garbage != peers.Garbage(8, size=100).garbage


@pytest.mark.parametrize("cut_after", [0, 1, 7, 8])
def test_replay_is_cut_by_fin(cut_after):
    with peers.Replay(b"recorded", after=3, cut_after=cut_after) as peer, connect(peer) as client:
        client.sendall(b"ab")
        assert not select.select([client], [], [], 0.02)[0]  # one byte is missing
        client.sendall(b"c")
        assert read_all(client) == b"recorded"[:cut_after]


def test_replay_is_cut_by_rst():
    with peers.Replay(b"recorded", cut_after=4, ending="rst") as peer, connect(peer) as client:
        client.sendall(b"x")
        assert client.recv(4, socket.MSG_WAITALL) == b"reco"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_whole_replay_stays_open():
    with peers.Replay(b"recorded") as peer, connect(peer) as client:
        client.sendall(b"x")
        assert client.recv(8, socket.MSG_WAITALL) == b"recorded"
        assert not select.select([client], [], [], 0.02)[0]


def test_leaving_the_block_ends_connections_and_threads():
    before = threading.active_count()
    with peers.Silent() as peer:
        clients = [connect(peer) for _ in range(3)]
        for client in clients:
            client.sendall(b"x")
        while len(peer.received) < 3:  # all are accepted, none is in the backlog
            time.sleep(0.001)
    for client in clients:
        with client:
            assert client.recv(1) == b""
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        connect(peer)


def test_a_refused_endpoint_refuses():
    host, _, port = peers.refused_endpoint().rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
