# SPDX-License-Identifier: Apache-2.0
"""Programs that take locks: S15, only the holder writes, and tokens grow; S16, no lock is blocked for good.

Each does what the real fronts' handles do around the operations of `purecd.core.locks`, with leases of its
own or with one for many acquisitions. It writes by guarded transactions for as long as it likes, also when it
knows that it has lost the lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from purecd import errors
from purecd.core import leases, locks
from purecd.core.keptlease import KeptLease
from purecd.core.line import Doubt, Place
from purecd.requests import Put
from tests.sim.tasks import Cancelled
from tests.sim.world import InvariantError

if TYPE_CHECKING:
    from tests.sim.history import Change, History
    from tests.sim.workloads import Program

NAMES = (b"lock-a", b"lock-b")
TTLS = (2, 3, 5)  # seconds
CLEAN_UP = 2.0  # seconds for what the handles do when an operation was given up
HOLD = 2.0  # seconds, at most
PATIENCE = (
    20.0  # seconds when all is well: others hold it, and those who are gone have it until their TTL is over
)


class Taken:
    """One lock that a program holds, or believes to hold."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.over = False

    def believed(self, now: float) -> bool:
        """Whether its client says at this moment that it holds it."""
        return not (self.over or self.place.kept.lost or self.place.kept.alive_until <= now)


class LockBooks:
    """What was done with locks.

    Attributes:
        taken: by name, all who held it, in order.
        lines: who stands in which line.
    """

    def __init__(self, history: History) -> None:
        self.lines = Lines(history)
        self.taken: dict[bytes, list[Taken]] = {name: [] for name in NAMES}


class _News:
    """Stands where a kept lease has its waiter: has whoever waits in line stop when the lease is lost."""

    def __init__(self, locker: Locker, kept: KeptLease) -> None:
        self._locker = locker
        self._kept = kept

    def set_result(self, result: None) -> None:
        """The lease was renewed or lost."""
        place = self._locker.waiting
        if self._kept.lost and place is not None:
            watcher = place.give_up()
            if watcher is not None:
                self._locker.client._streams().detach(watcher)


class Locker:
    """One thread of a program that takes locks, writes, and lets go of them."""

    def __init__(self, program: Program, books: LockBooks) -> None:
        self.client = program.client
        self.waiting: Place | None = None
        self._program = program
        self._books = books
        self._world = program.world
        self._doubts: set[Doubt] = set()
        self._left: list[Place] = []  # in the present lease; their keys must not be there

    async def run(self) -> None:
        """Take locks until all is over."""
        rng, world = self._world.rng, self._world
        while not self._program.books.over:
            await self.client.sleep(3 * rng.random())
            own, strict = rng.chance(0.5), self._program.books.strict
            kept = None
            try:
                kept = await self._lease()
                for _ in range(1 if own else 1 + rng.below(4)):
                    if self._program.books.over:
                        break  # each may take as long as all the rest of the run
                    await self._once(Place(rng.pick(NAMES), kept, own, self._doubts))
            except errors.EtcdError as error:
                world.note(self.client.name, "lock", repr(str(error)))
                if strict:
                    world.counts["locks not had when all was well"] += 1
            if kept is not None:
                await self._give_back(kept)

    async def _lease(self) -> KeptLease:
        granted = await self.client._run(leases.grant(self._world.rng.pick(TTLS)), 5.0)
        kept = KeptLease(granted.id, granted.ttl, granted.sent_at)
        kept.waiter = _News(self, kept)
        self.client._streams().attach(kept)
        self._doubts.clear()
        self._left.clear()
        return kept

    async def _give_back(self, kept: KeptLease) -> None:
        self._check_left()
        self.client._streams().detach(kept)
        if not kept.lost:
            try:
                await self.client._run(leases.revoke(kept.lease_id), CLEAN_UP)
            except errors.EtcdError as error:
                self._world.note(self.client.name, "lock", "lease not revoked", repr(str(error)))

    async def _once(self, place: Place) -> None:
        """Take a lock, or give up."""
        world, rng = self._world, self._world.rng
        began, strict = world.now, self._program.books.strict
        stopped = self.client.stood_still()
        timeout = PATIENCE if strict else rng.pick((0.1, 1.0, 5.0, 20.0))
        acquire = locks.try_acquire if rng.chance(0.2) else locks.acquire
        self.waiting = place
        task = self.client.spawn(self.client._run(acquire(place), timeout))
        if not strict and rng.chance(0.2):
            self.client.later(world.now + rng.pick((0.01, 0.1, 2.0)) * rng.random(), task.cancel)
        await task.ended
        self.waiting = None
        world.counts[f"locks {'taken' if task.result else 'given up'}"] += 1
        world.note(self.client.name, "lock", place.key, place.create_revision, repr(task.error))
        late = world.now - began - timeout - CLEAN_UP - (self.client.stood_still() - stopped)
        if late > 0.1:
            raise InvariantError(f"S17 {place} was given up {late:.3f} s after the time for cleaning up")
        if task.result:
            await self._hold(place)
            return
        if not place.own and place.doubt not in self._doubts:
            self._left.append(place)
            self._check_left()
        if strict and isinstance(task.error, errors.DeadlineExceeded):
            raise InvariantError(f"S16 {place} not had in {timeout} s when all was well")
        if task.error is not None and not isinstance(task.error, Cancelled):
            raise task.error

    def _check_left(self) -> None:
        """S16: the keys of places that were given up are gone, and stay so."""
        history = self._program.history
        for place in self._left:
            there = history.at(place.key, history.revision)
            if there is not None and there.value == place.value:
                raise InvariantError(f"S16 {place} was given up, and its key is there")

    async def _hold(self, place: Place) -> None:
        """Have a lock for a while, write now and then, and let go of it."""
        world, rng = self._world, self._world.rng
        taken = self._got(place)
        until = world.now + HOLD * rng.random()
        try:
            while world.now < until and not self._program.books.over:
                await self.client.sleep(3 * rng.random())
                self._check_holder(taken)
                success = [Put(b"work-" + place.name, b"%d" % place.create_revision)]
                try:
                    await self.client._run(locks.guarded(place, [], success, [], False), 2.0)
                    world.counts["guarded writes"] += 1
                except errors.LockLost:
                    world.counts["guarded writes refused"] += 1
                    return
                except errors.EtcdError as error:
                    world.note(self.client.name, "guarded", repr(str(error)))
        finally:
            taken.over = True
        await self.client._run(locks.release(place), 5.0)

    def _got(self, place: Place) -> Taken:
        """S15: nobody else believes to hold it, and all before had lower tokens."""
        before = self._books.taken[place.name]
        for each in before:
            if each.believed(self._world.now):
                raise InvariantError(f"S15 {place} was got while {each.place} is held")
        if before and before[-1].place.create_revision >= place.create_revision:
            raise InvariantError(f"S15 {place} was got after {before[-1].place}, which came later")
        taken = Taken(place)
        before.append(taken)
        self._check_holder(taken)
        return taken

    def _check_holder(self, taken: Taken) -> None:
        """S15: who believes to hold a lock holds it."""
        place, lines = taken.place, self._books.lines
        if taken.believed(self._world.now):
            for _ in lines.news():
                pass  # judged in the end
            holder = lines.holder(place.name)
            if holder != place.create_revision:
                raise InvariantError(f"S15 {place} of {place.create_revision} is believed held, not {holder}")


class Lines:
    """Who stood in which line, one change of the store after the other.

    Attributes:
        keys: by name, the create revisions of the keys in it, oldest first.
    """

    def __init__(self, history: History) -> None:
        self.keys: dict[bytes, dict[bytes, int]] = {name: {} for name in NAMES}
        self._history = history
        self._next = 0

    def news(self) -> Iterator[Change]:
        """What was written by holders since the last time, at that moment."""
        changes = self._history.changes
        while self._next < len(changes):
            change = changes[self._next]
            self._next += 1
            kind = change.key[:4]
            if kind == b"lock":
                line = self.keys[change.key.partition(b"/")[0]]
                line.pop(change.key, None)
                if change.value is not None:
                    line[change.key] = change.create_revision
            elif kind == b"work":
                yield change

    def holder(self, name: bytes) -> int:
        """The create revision of the oldest key in a line, 0 when there is none."""
        return next(iter(self.keys[name].values()), 0)


def check_locks(books: LockBooks, history: History) -> None:
    """Judge what was done with locks in a run: S15, S16."""
    lines = Lines(history)
    last = dict.fromkeys(NAMES, 0)
    for change in lines.news():
        name, token = change.key.partition(b"-")[2], int(change.value or b"0")
        if token != lines.holder(name):
            raise InvariantError(f"S15 {change} was written when {lines.holder(name)} had the lock")
        if token < last[name]:
            raise InvariantError(f"S15 {change} was written after {last[name]} had the lock")
        last[name] = token
    for name in NAMES:
        if lines.keys[name]:
            raise InvariantError(f"S16 keys are left over: {lines.keys[name]}")
