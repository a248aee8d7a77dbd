# SPDX-License-Identifier: Apache-2.0
"""Rows that a script of one connection cannot tell: beginnings that never end, limits, ids that run out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from purecd import errors
from purecd.core import link
from purecd.wire.http2 import Http2Connection
from tests.conformance.script import REPLY
from tests.live.fronts import SLACK, timed, together
from tests.support.answering import Answering
from tests.support.h2peer import H2Peer
from tests.support.peers import Peer
from tests.wire import peer as octets

MAX_CONCURRENT_STREAMS = 3


class Trickle(Peer):
    """Sends the server's SETTINGS octet by octet, never the last one."""

    def talk(self, client):
        hello = octets.frame(octets.SETTINGS, 0, 0, octets.setting(3, 100))
        for octet in hello[:-1]:
            client.sendall(bytes((octet,)))
        self._read_all(client)


def test_h21_d14_settings_that_never_come_to_an_end(front):
    with Trickle() as peer:
        client = front.client(peer.endpoint, dial_timeout=0.3, fail_fast=True)
        error, took = timed(lambda: client.get("k", timeout=5))
    assert type(error) is errors.Unavailable
    assert "dial timeout" in str(error)
    assert 0.29 < took < 0.3 + SLACK


class Counting(Peer):
    """An honest server on h2 that takes so many streams at once, and counts them.

    Attributes:
        most: streams that were open at once.
    """

    def __init__(self, limit):
        super().__init__()
        self._limit = limit
        self.most = 0

    def talk(self, client):
        waiting = []

        def answer(peer, request):
            waiting.append(request)
            self.most = max(self.most, len(waiting))

        peer = H2Peer(answer, {MAX_CONCURRENT_STREAMS: self._limit})
        client.sendall(peer.data_to_send())
        while True:
            data = client.recv(65_536)
            if not data:
                return
            peer.receive(data)  # h2 raises at one stream too many
            client.sendall(peer.data_to_send())
            while waiting:
                peer.ok(waiting.pop(0), REPLY)
                client.sendall(peer.data_to_send())


def test_g6_max_streams(front):
    with Counting(1) as peer:
        client = front.client(peer.endpoint)
        replies = together(10, lambda number: client.get(str(number)))
        client.close()
    assert [reply.header.revision for reply in replies] == [5] * 10
    assert (peer.most, peer.connections) == (1, 1)


def test_h37_stream_ids_run_out(front, monkeypatch):
    class Late(Http2Connection):
        """A connection whose ids are nearly used up."""

        def __init__(self):
            super().__init__()
            self._next_id = 2**31 - 5

    monkeypatch.setattr(link, "Http2Connection", Late)
    with Answering() as server:
        client = front.client(server.endpoint)
        for _ in range(6):
            assert client.put("k", "v").header.revision == 5
        client.close()
    assert server.connections > 2


def test_d13_nothing_that_reads_json_is_imported():
    code = "import purecd, sys; purecd.Client('a:1'); sys.exit('google.protobuf.json_format' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["colon:", "Upper", "grpc-x", "a b", "a\r\nb", ""])
def test_g45_metadata_names(name):
    from purecd.wire.status import check_metadata

    with pytest.raises(ValueError, match="metadata name"):
        check_metadata(name.encode(), b"v")
