# SPDX-License-Identifier: Apache-2.0
"""The whole client in a simulated world: one seed from begin to end.

A world, a cluster, programs, trouble; then peace, and judgement. Network, members and time are made up, so a
seed decides everything, and what it showed once it shows again.

    world.py       time, chance, and the record of what happened
    tasks.py       coroutines on that time
    network.py     connections that delay, cut, hold back and lose bytes
    cluster.py     members that agree on a log and change their leader
    nodes.py       each of these: how it lags, crashes and comes back
    headers.py     how members compress headers: alike with every h2
    front.py       a third front of the client, beside those for threads and asyncio
    tap.py         what really went over each connection
    workloads.py   what programs do with the client
    lockers.py     those that take locks
    plans.py       what goes wrong meanwhile, and how long until nothing does any more
    history.py     what really happened, according to the log
    invariants.py  what must be true of it all
    planted.py     bugs put into the client on purpose, which all this has to find
"""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any, NamedTuple

from purecd.memory.calls import ServerCall
from tests.sim.cluster import PASSWORD, Cluster
from tests.sim.invariants import Resumes, check, check_commands, check_watch
from tests.sim.lockers import LockBooks, check_locks
from tests.sim.network import Network
from tests.sim.nodes import ClusterOptions
from tests.sim.plans import Plan
from tests.sim.tap import Sendings
from tests.sim.workloads import Books, Program
from tests.sim.world import Chance, World

TROUBLE = 60.0  # seconds
SETTLE = 4.0  # seconds in which a leader is elected, and what hung ends
PEACE = 20.0
DIALS_PER_SECOND = 20  # to one member, from all channels of a client
MAX_EVENTS = 400_000  # of the simulation, for one seed
MOST_DOUBT = 1.2


class Outcome(NamedTuple):
    """What one seed gave.

    Attributes:
        digest: of all notes; equal whenever the seed is run again.
        seconds: simulated.
        counts: calls by outcome, events, faults by kind.
        failure: "" or what was violated.
        notes: the last of them.
    """

    seed: int
    digest: str
    seconds: float
    counts: Counter[str]
    failure: str
    notes: list[str]


def doubt(counts: Counter[str]) -> float:
    """S5: how many times as many writes were said to be open as really were; no more than `MOST_DOUBT`.

    A single seed has few of either: count many seeds together.
    """
    return counts["writes called open"] / max(counts["writes open"], 1)


class Run:
    """All that takes part in one seed."""

    def __init__(self, seed: int, echo: bool = False) -> None:
        self.world = world = World(seed, echo)
        rng = world.rng
        self.network = Network(world)
        self.cluster = Cluster(world, self.network, ClusterOptions(rng))
        self.history = self.cluster.history
        self.books = Books()
        if Chance(-1 - seed).chance(0.3):  # drawn apart: runs without locks are what they would be anyway
            self.books.locks = LockBooks(self.history)
        auth = rng.chance(0.3)
        if auth:
            self.cluster.create_users()
        self.sendings = Sendings(self.cluster.answer)
        self.books.left_open = self.sendings.left_open
        self.programs = [
            Program(world, self.network, self.history, self.books, number, self._client_options(auth))
            for number in range(1 + rng.below(3))
        ]
        self.clients = [each.client for each in self.programs]
        resumes = Resumes(self.books, self.history)
        for client in self.clients:
            client.listen(self.sendings.whole, resumes.created)
        self.plan = Plan(world, self.network, self.cluster, self.clients, auth)
        self._tokens = Tokens(self.cluster)
        self.history.lease_ended = self._lease_ended
        self.network.dialled = self._dialled
        self._dials: dict[tuple[str, str], list[float]] = {}

    def _client_options(self, auth: bool) -> dict[str, Any]:
        rng = self.world.rng
        options: dict[str, Any] = {
            "endpoints": [node.name + ":1" for node in self.cluster.nodes],
            "dial_timeout": rng.pick((1.0, 5.0)),
            "watch_buffer_events": rng.pick((10_000, 3)),
            "require_leader": rng.chance(0.2),
        }
        if auth:
            options.update(user="root", password=PASSWORD)
        return options

    # What is checked at each step.

    def _lease_ended(self, lease_id: int) -> None:
        held = self.books.leases.get(lease_id)
        believed = held is not None and held.believed(self.world.now)
        check(
            not believed,
            "S13",
            "a lease ended that its client believes alive",
            lease_id,
            held and held.client,
        )

    def _dialled(self, client: str, host: str) -> None:
        self.world.counts["dials"] += 1
        dials = self._dials.setdefault((client, host), [])
        dials.append(self.world.now)
        recent = [when for when in dials if when > self.world.now - 1.0]
        dials[:] = recent
        check(len(recent) <= DIALS_PER_SECOND, "S20", "dials too often", client, host, len(recent))

    # The course of events.

    def _advance(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds, MAX_EVENTS)

    def run(self) -> None:
        """Trouble, then peace, then judgement."""
        self.plan.begin()
        self._advance(TROUBLE)
        self.plan.heal()
        self._advance(SETTLE)
        self.plan.make_space()  # an alarm may have been on its way
        probes = [each.begin(each.probe()) for each in self.programs]
        self._advance(SETTLE)
        check(all(each.done for each in probes), "S20", "no answer when all was well")
        self.books.strict = True
        self._advance(PEACE)
        self.books.over = True
        self._advance(25.0)  # what was begun in bad times has timeouts of up to 20 s
        self._judge()
        self._end()

    def _judge(self) -> None:
        for program in self.programs:
            for task in program.tasks:
                if task.error is not None:
                    raise task.error
                check(task.done, "S17", "a task never ended", program.client.name, task)
        check_commands(self.books.asked, self.history, self.sendings)
        for watched in self.books.watched:
            check_watch(watched, self.history)
        if self.books.locks is not None:
            check_locks(self.books.locks, self.history)
        trouble = self.world.counts["lease trouble when all was well"]
        check(not trouble, "S14", "a lease was lost or not granted when all was well")
        trouble = self.world.counts["locks not had when all was well"]
        check(not trouble, "S16", "a lock was not had when all was well")

    def _end(self) -> None:
        """S19: nothing is left over."""
        for client in self.clients:
            for name, driver in client.drivers.items():
                left = sum(link.conn.open_streams for link in driver.channel.links)
                check(not left, "S19", "streams left open", client.name, name, left)
                check(not driver.channel._waiting, "S19", "calls left waiting", client.name, name)
            client.close()
        self._advance(1.0)
        for node in self.cluster.nodes:
            orphans = sum(each.socket.orphaned for each in node.sessions)
            check(len(node.sessions) == orphans, "S19", "connections left", node.name, len(node.sessions))
            watchers = len(node.member.watchers._synced) + len(node.member.watchers._unsynced)
            check(orphans or not watchers, "S19", "watchers left at a member", node.name, watchers)


class Tokens:
    """S18: which tokens members see on a connection, one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self._known: set[tuple[Any, str]] = set()
        self._newest: dict[Any, str] = {}
        cluster.identified = self._identified

    def _identified(self, peer: str, conn: Any, call: ServerCall) -> None:
        token = call.metadata.get("token", "")
        if not token:
            return
        newest = self._newest.get(conn)
        if newest != token:
            check(
                (conn, token) not in self._known, "S18", "a token is used that was replaced", peer, call.path
            )
            self._known.add((conn, token))
            self._newest[conn] = token


def simulate(seed: int, echo: bool = False) -> Outcome:
    """Run one seed."""
    gc.disable()  # so that nothing is taken apart while things happen; it is quicker, too
    try:
        return _simulate(seed, echo)
    finally:
        gc.collect(0)  # the whole world, which is young
        gc.enable()


def _simulate(seed: int, echo: bool) -> Outcome:
    run = Run(seed, echo)
    failure = ""
    try:
        run.run()
    except Exception as error:  # all of them are findings, whatever raised them
        import traceback

        run.world.over = True
        failure = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    world = run.world
    counts = Counter(world.counts)  # what is taken apart afterwards does not count
    return Outcome(seed, world.digest, world.now - 1000.0, counts, failure, world.notes[-40:])
