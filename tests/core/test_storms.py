# SPDX-License-Identifier: Apache-2.0
"""Faults in any order: whatever happens, a write is executed at most once and its outcome is told truly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from purecd import errors
from purecd.core import kv
from purecd.core.link import LinkState
from purecd.pb import messages
from tests.support.h2peer import REFUSED_STREAM, H2Peer, Request
from tests.support.steps import Member, Run, World, is_greeting, refusing

ENDPOINTS = ("a:1", "b:1", "c:1")
MAX_CONCURRENT_STREAMS = 3


class Storm:
    """A world whose servers execute writes or refuse them, answer or not, come and go.

    Attributes:
        executed: how often each value was stored.
        runs: the writes, by value.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        options: dict[str, Any] = self.rng.choice(
            [{}, {}, {"user": "root", "password": "x"}, {"token": "jwt"}, {"keepalive_time": None}]
        )
        self.world = World(*ENDPOINTS, **options)
        self.executed: dict[bytes, int] = {}
        self.runs: dict[bytes, Run] = {}
        self.calm = False
        for name, member in self.world.members.items():
            for rpc in ("Put", "Range", "Authenticate"):
                member.answers[rpc] = self.answer
            member.answers["greeting"] = self.answer
            if self.rng.random() < 0.3:
                self.world.settings[name] = {MAX_CONCURRENT_STREAMS: self.rng.randrange(1, 4)}

    def answer(self, peer: H2Peer, request: Request) -> None:
        if not self.calm and self.rng.random() < 0.3:
            self.refuse(peer, request)
            return
        if request.name == "Put":
            value = messages.PutRequest.FromString(request.latest).value
            self.executed[value] = self.executed.get(value, 0) + 1
        if self.calm or self.rng.random() < 0.6:
            fields = {"token": "t"} if request.name == "Authenticate" else {}
            peer.ok(request, Member().reply(request, **fields))
        elif self.rng.random() < 0.5:
            refusing(errors.Timeout)(peer, request)
        elif self.rng.random() < 0.5:
            peer.begin(request)
            peer.reset(request, self.rng.choice([0, 2, 8]))

    def refuse(self, peer: H2Peer, request: Request) -> None:
        """Answer without executing anything."""
        answers: list[Any] = [
            lambda: refusing(errors.NoLeader)(peer, request),
            lambda: refusing(errors.TooManyRequests)(peer, request),
            lambda: refusing(errors.NotSupportedForLearner)(peer, request),
            lambda: peer.reset(request, REFUSED_STREAM),
        ]
        if not is_greeting(request) and request.name != "Authenticate":
            answers.append(lambda: refusing(errors.InvalidAuthToken)(peer, request))
        self.rng.choice(answers)()

    def fault(self) -> None:
        world, rng = self.world, self.rng
        name = rng.choice(ENDPOINTS)
        kind = rng.randrange(9)
        if kind == 0:
            world.refused ^= {name}
        elif kind == 1:
            world.unreachable ^= {name}
        elif kind == 2:
            world.frozen ^= {name}
        elif kind == 3:
            world.capacity[name] = rng.randrange(120)
        elif kind == 4:
            world.capacity.pop(name, None)
        elif kind == 5 and world.is_connected(name):
            world.cut(name)
        elif kind == 6 and world.is_connected(name):
            peer = world.peer(name)
            # Never below what it has seen whole, and perhaps executed.
            seen = max((request.stream_id for request in peer.requests if request.messages), default=0)
            peer.say_goaway(rng.choice([seen, 2**31 - 1]), rng.choice([0, 0, 2, 11]))
        elif kind == 7:
            order = list(ENDPOINTS)
            rng.shuffle(order)
            world.channel.replace_endpoints(
                [each.address for each in world.channel.endpoints._all if each.address.text in order],
                world.now,
            )
        elif kind == 8 and self.runs:
            run = rng.choice(list(self.runs.values()))
            if run.calls:
                world.channel.abandon(run.calls[-1], world.now)
        world.settle()

    def write(self) -> None:
        value = b"%d" % len(self.runs)
        self.runs[value] = self.world.run(kv.put("k", value), timeout=self.rng.choice([0.3, 2.0, 8.0]))

    def read(self) -> None:
        self.world.run(kv.get("k"), timeout=self.rng.choice([0.3, 2.0]))

    def blow(self) -> None:
        for _ in range(self.rng.randrange(20, 60)):
            self.rng.choice([self.write, self.read, self.fault, self.fault])()
            self.world.advance(self.rng.choice([0.0, 0.0, 0.01, 0.3, 3.0]))

    def end(self) -> None:
        """The servers are well again; all calls end, and the next one is answered."""
        self.calm = True
        world = self.world
        for trouble in (world.refused, world.unreachable, world.frozen, world.capacity):
            trouble.clear()
        world.settle()
        world.advance(30.0)
        assert all(run.done for run in world.runs)
        assert world.do(kv.get("k")).header.revision == 7


@pytest.mark.parametrize("seed", range(100))
def test_a_write_is_executed_at_most_once_and_its_outcome_is_told_truly(seed):
    storm = Storm(seed)
    storm.blow()
    storm.end()
    for value, run in storm.runs.items():
        count = storm.executed.get(value, 0)
        assert count <= 1, f"seed {seed}: {value!r} was executed {count} times"
        if run.error is None:
            assert count == 1, f"seed {seed}: {value!r} was acknowledged and never executed"
        else:
            assert isinstance(run.error, errors.EtcdError), f"seed {seed}"
            if count:
                assert run.error.maybe_applied, (
                    f"seed {seed}: {value!r} was executed, {run.error!r} denies it"
                )


@pytest.mark.parametrize("seed", range(0, 100, 10))
def test_a_channel_that_is_closed_in_a_storm_ends_everything(seed):
    storm = Storm(seed)
    storm.blow()
    world = storm.world
    world.channel.close(world.now)
    world.settle()
    assert all(run.done or run.wake_at is not None for run in world.runs)
    world.advance(30.0)
    assert all(run.done for run in world.runs)
    assert world.channel.links == []
    assert world.channel.next_timer() is None
    assert all(link.state is LinkState.CLOSED for link in world.peers)
