# SPDX-License-Identifier: Apache-2.0
"""Peers that refuse, are silent, talk nonsense or leave: each call ends in time and tells the truth."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

import pytest

from purecd import errors
from tests.live.fronts import SLACK, Thread, timed
from tests.support.peers import Closing, Garbage, Http1, Peer, Silent, refused_endpoint
from tests.support.proxy import close_with_reset
from tests.wire import peer as octets
from tests.wire.story import STORIES

PEERS: dict[str, Callable[[], Peer]] = {
    "silent": Silent,
    "http1": Http1,
    "garbage": lambda: Garbage(seed=1),
    "fin": lambda: Closing("fin"),
    "rst": lambda: Closing("rst"),
}
REASONS = {
    "refused": "Connection refused",
    "silent": "dial timeout",
    "http1": "HTTP/1",
    "garbage": "",
    "fin": "closed by the peer",
    "rst": "reset by peer",
}


@pytest.fixture(params=["refused", *PEERS])
def bad(request):
    """(kind, endpoint)"""
    if request.param == "refused":
        yield request.param, refused_endpoint()
        return
    with PEERS[request.param]() as peer:
        yield request.param, peer.endpoint


@pytest.mark.parametrize("call", ["get", "put", "watch"])
def test_it_ends_at_its_deadline(front, bad, call):
    kind, endpoint = bad
    client = front.client(endpoint, dial_timeout=0.4)
    error, took = timed(lambda: getattr(client, call)("k", timeout=0.9))
    print(f"{(took - 0.9) * 1000:.1f} ms over the deadline: {error}")
    assert type(error) is errors.DeadlineExceeded
    assert 0.89 < took < 0.9 + SLACK
    assert not error.maybe_applied
    assert REASONS[kind] in str(error)
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < SLACK


@pytest.mark.parametrize("call", ["get", "put"])
def test_a_client_that_fails_fast_gives_the_reason(front, bad, call):
    _, endpoint = bad
    client = front.client([endpoint, refused_endpoint()], dial_timeout=0.2, fail_fast=True)
    error, took = timed(lambda: getattr(client, call)("k", timeout=5))
    print(f"{took * 1000:.1f} ms: {error}")
    assert type(error) is errors.Unavailable
    assert not error.maybe_applied
    assert took < 1 + SLACK
    assert isinstance(error.__cause__, errors.EtcdError)


def test_a_good_one_is_found_among_bad_ones(front, server):
    with Silent() as silent, Http1() as http1, Closing() as closing, Garbage(2) as garbage:
        endpoints = [refused_endpoint(), *(each.endpoint for each in (silent, http1, closing, garbage))]
        for position in (0, 3, 5):
            client = front.client([*endpoints[:position], server.endpoint, *endpoints[position:]])
            started = time.monotonic()
            assert client.get("k", timeout=5).header.revision
            took = time.monotonic() - started
            print(f"found in {took * 1000:.0f} ms")
            assert took < 0.3 + SLACK  # one silent peer costs 250 ms
            client.close()


# Cuts.


def recorded_replies():
    """What etcd 3.5.1 sent, for each moment: at once, then on a read, a put, a read.

    The last one is renumbered to follow the first, so that a read can take the place of the put.
    """
    story = json.loads((STORIES / "calls_3.5.1.json").read_text())
    replies: list[bytes] = []
    opened = True
    for kind, *rest in story["steps"]:
        if kind == "open":
            opened = True
        elif kind == "received" and opened:
            replies.append(b"")
            opened = False
        if kind == "received":
            replies[-1] += bytes.fromhex(rest[0])
    hello, greeting, put, _, read = replies[:5]
    renumbered = b"".join(
        octets.frame(each.kind, each.flags, 3 if each.stream_id else 0, each.payload)
        for each in octets.parse(read)
    )
    return hello, greeting, {"put": put, "get": renumbered}


HELLO, GREETING, REPLY = recorded_replies()
KEYS = {"put": ("foo", "bar"), "get": ("foo",)}


class Cutting(Peer):
    """Replays a server: `replies` one by one, each when another whole request has arrived.

    The first connection ends after `cut` octets, others are served to the end.

    Attributes:
        requests: count of requests after the greeting, over all connections.
    """

    def __init__(self, replies: list[bytes], cut: int, ending: str) -> None:
        super().__init__()
        self._replies = replies
        self._cut = cut
        self._ending = ending
        self.requests = 0

    def talk(self, client: socket.socket) -> None:
        room = self._cut if self.connections == 1 else 1 << 20
        came = b""
        for number, reply in enumerate(self._replies):
            while number > ended_streams(came):
                data = client.recv(65_536)
                if not data:
                    return
                came += data
            self.requests += number >= 2
            client.sendall(reply[:room])
            room -= len(reply)
            if room <= 0:
                if self._ending == "rst":
                    close_with_reset(client)
                    return
                client.shutdown(socket.SHUT_WR)
                self.requests += max(0, self._count_rest(client, came) - max(1, number))
                return
        self._read_all(client)

    def _count_rest(self, client: socket.socket, came: bytes) -> int:
        while True:
            data = client.recv(65_536)
            if not data:
                return ended_streams(came)
            came += data


def ended_streams(came: bytes) -> int:
    """How many requests have arrived as a whole."""
    preface = 24
    complete = came[preface:]
    count = 0
    while len(complete) >= 9:
        size = int.from_bytes(complete[:3], "big")
        if len(complete) < 9 + size:
            break
        count += complete[3] in (0, 1) and complete[4] & 1
        complete = complete[9 + size :]
    return count


def outcome_of_a_cut(front, call, cut, ending):
    """(whether there was a reply, maybe_applied, requests the server saw, connections)"""
    with Cutting([HELLO, GREETING, REPLY[call]], cut, ending) as peer:
        client = front.client(peer.endpoint, timeout=4)
        started = time.monotonic()
        try:
            reply = getattr(client, call)(*KEYS[call])
        except errors.Unavailable as error:
            assert (error.endpoint, error.attempts) == (peer.endpoint, 1), cut
            outcome = (False, error.maybe_applied)
        else:
            assert reply.header.revision > 1
            outcome = (True, False)
        assert time.monotonic() - started < 4 + SLACK
        client.close()
    return (*outcome, peer.requests, peer.connections)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("call", ["get", "put"])
def test_a_cut_after_every_octet_of_a_reply(front, call, ending):
    before = len(HELLO) + len(GREETING)
    total = before + len(REPLY[call])
    cuts = range(1, total + 1)
    outcomes = {}

    def run(first, stride=12):
        for cut in cuts[first::stride]:
            outcomes[cut] = outcome_of_a_cut(front, call, cut, ending)

    workers = [Thread(run, first) for first in range(12)]
    for worker in workers:
        worker.result(50)
    unknown = 0
    for cut, (answered, maybe_applied, requests, connections) in sorted(outcomes.items()):
        where = (cut, before, total, answered, maybe_applied, requests, connections)
        unknown += maybe_applied
        if call == "get":
            assert answered, where
            continue
        assert requests <= 1, where  # never sent twice
        assert answered or maybe_applied, where  # what certainly was not applied is sent again
        if cut < before - 20:  # within the greeting; its last octets matter to nobody
            assert answered, where
        elif before < cut < total - 20:
            assert maybe_applied, where
    assert outcomes[total][0] or ending == "rst"
    print(f"{len(outcomes)} cuts, {unknown} of unknown outcome")
