# SPDX-License-Identifier: Apache-2.0
"""What programs do with the client, and what they get to see of it.

Each `Program` is one process with one client: workers that read and write, watchers, and leases kept alive.
All of it goes on while things fail; what was asked and answered is written down, to be judged later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import purecd
from purecd import errors
from purecd.core import leases
from purecd.core import watch as watches
from purecd.core.keptlease import KeptLease
from purecd.types import GetReply, WatchResponse
from tests.sim.front import SimClient
from tests.sim.lockers import LockBooks, Locker
from tests.sim.tasks import Cancelled, Future, Task
from tests.sim.world import InvariantError

if TYPE_CHECKING:
    from purecd.core.watching import Watcher, WatchRequest
    from tests.sim.history import History
    from tests.sim.network import Network
    from tests.sim.world import World

KEYS = tuple(b"k%d" % number for number in range(6))
TIMEOUTS = (0.05, 0.5, 2.0, 8.0, 20.0)
PADDINGS = (*(0,) * 20, *(100,) * 10, *(3000,) * 3, 70_000)  # octets of a value, at most
QUIET = 1.5  # seconds without news that show that there is none
OK, FAILED, AMBIGUOUS, CANCELLED = "ok", "failed", "ambiguous", "cancelled"


class Asked:
    """One command and what became of it.

    Attributes:
        number: the marker of a write, 0 of a read.
        details: what was asked, by kind.
        outcome: `OK`, `FAILED` (certainly not applied), `AMBIGUOUS`, `CANCELLED`; "" while it runs.
        open: of a write, when it ended: nothing that had arrived settled whether it was applied.
        strict: nothing fails any more, so it must succeed at once.
        stopped: seconds of it in which its process stood still.
    """

    def __init__(self, program: Program, kind: str, timeout: float, **details: Any) -> None:
        world = program.world
        self.kind = kind
        self.details = details
        self.client = program.client.name
        self.called = world.now
        self.deadline = world.now + timeout
        self.number = 0
        self.outcome = ""
        self.returned = 0.0
        self.reply: Any = None
        self.error: BaseException | None = None
        self.open = False
        self.strict = program.books.strict
        self.stopped = program.client.stood_still()

    def __repr__(self) -> str:
        return (
            f"<{self.kind} {self.number} of {self.client} at {self.called:.3f}: {self.outcome or 'running'}>"
        )


class Watched:
    """One watch and all that it delivered.

    Attributes:
        responses: in the order of delivery.
        end: ``""`` while it goes on, then ``closed`` or the error.
        ended_at: when it ended.
        strict: begun when all was well.
        complete: revision up to which it must have been told all, 0 for none.
    """

    def __init__(self, number: int, request: WatchRequest, strict: bool) -> None:
        self.number = number
        self.request = request
        self.watcher: Watcher | None = None
        self.responses: list[WatchResponse] = []
        self.end: str | BaseException = ""
        self.ended_at = 0.0
        self.complete = 0
        self.strict = strict


class Books:
    """What all programs wrote down.

    Attributes:
        strict: what is asked from now on must succeed at once.
        over: nothing new is begun.
        left_open: tells by the number of a write whether nobody at the client's end can know its fate.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.watched: list[Watched] = []
        self.watched_by_number: dict[int, Watched] = {}
        self.leases: dict[int, Held] = {}
        self.locks: LockBooks | None = None  # most runs are quicker without
        self.strict = False
        self.over = False
        self.numbers = 0
        self.left_open: Callable[[int], bool] = lambda number: False

    def number(self) -> int:
        """A new marker."""
        self.numbers += 1
        return self.numbers


class Held:
    """One lease that a program holds, or believes to hold."""

    def __init__(self, kept: KeptLease) -> None:
        self.kept = kept
        self.given_back = False
        self.client = ""

    def believed(self, now: float) -> bool:
        """Whether the client says at this moment that it lives."""
        return not (self.given_back or self.kept.lost or self.kept.alive_until <= now)


class Program:
    """One process that uses the client."""

    def __init__(
        self,
        world: World,
        network: Network,
        history: History,
        books: Books,
        number: int,
        options: dict[str, Any],
    ) -> None:
        self.world = world
        self.history = history
        self.books = books
        endpoints = options.pop("endpoints")
        self.client = SimClient(world, network, f"c{number}", endpoints, **options)
        self.tasks: list[Task] = []
        rng = world.rng
        self.pace = rng.pick((1.0, 2.0, 6.0))
        for _ in range(1 + rng.below(2)):
            self.begin(self._work())
        for _ in range(rng.below(4)):
            self.begin(self._watch_on())
        if rng.chance(0.5):
            self.begin(self._hold_leases())
        if books.locks is not None:
            for _ in range(1 + rng.below(2)):
                self.begin(Locker(self, books.locks).run())

    def begin(self, coroutine: Any) -> Task:
        """Begin a task of this program."""
        task = self.client.spawn(coroutine)
        self.tasks.append(task)
        return task

    async def _pause(self, mean: float) -> None:
        await self.client.sleep(mean * 2 * self.world.rng.random())

    def _timeout(self) -> float:
        return 10.0 if self.books.strict else self.world.rng.pick(TIMEOUTS)

    # Reading and writing.

    async def _work(self) -> None:
        rng = self.world.rng
        await self._pause(self.pace)
        while not self.books.over:
            kinds = (
                self._put,
                self._put,
                self._put,
                self._get,
                self._get,
                self._txn,
                self._delete,
                self._compact,
            )
            task = self.client.spawn(rng.pick(kinds)(rng.pick(KEYS)))
            if not self.books.strict and rng.chance(0.1):
                self.client.later(
                    self.world.now + rng.pick((0.0, 0.001, 0.01, 1.0)) * rng.random(), task.cancel
                )
            await task.ended
            if task.error is not None and not isinstance(task.error, Cancelled):
                raise task.error
            await self._pause(self.pace)

    async def _ask(self, asked: Asked, answer: Any) -> None:
        """Wait for the answer to a command and write down what it was."""
        self.books.asked.append(asked)
        try:
            asked.reply = await answer
            asked.outcome = OK
        except errors.EtcdError as error:
            asked.error = error
            asked.outcome = AMBIGUOUS if error.maybe_applied else FAILED
        except Cancelled:
            asked.outcome = CANCELLED
            raise
        finally:
            asked.returned = self.world.now
            asked.stopped = self.client.stood_still() - asked.stopped
            self.world.counts[f"calls {asked.outcome}"] += 1
            if asked.number and asked.outcome != CANCELLED:
                asked.open = self.books.left_open(asked.number)
                self.world.counts["writes"] += 1
                self.world.counts["writes open"] += asked.open
                self.world.counts["writes called open"] += asked.outcome == AMBIGUOUS
            result = asked.reply.header.revision if asked.reply is not None else repr(str(asked.error))
            self.world.note(asked.client, asked.kind, asked.number, asked.outcome, result)

    def _value(self, number: int) -> bytes:
        rng = self.world.rng
        padding = 0 if self.books.strict else rng.pick(PADDINGS)
        return b"~%d~" % number + b"." * int(padding * rng.random())

    async def _put(self, key: bytes) -> None:
        number, timeout = self.books.number(), self._timeout()
        value, prev_kv = self._value(number), self.world.rng.chance(0.3)
        asked = Asked(self, "put", timeout, key=key, value=value, prev_kv=prev_kv)
        asked.number = number
        await self._ask(asked, self.client.put(key, value, prev_kv=prev_kv, timeout=timeout))

    async def _delete(self, key: bytes) -> None:
        number, timeout = self.books.number(), self._timeout()
        asked = Asked(self, "delete", timeout, key=key)
        asked.number = number
        # No other key is in this range; its end is there to carry the number.
        end = key + b"\0~%d~" % number
        await self._ask(asked, self.client.delete(key, end, prev_kv=True, timeout=timeout))

    async def _txn(self, key: bytes) -> None:
        number, timeout = self.books.number(), self._timeout()
        known = self.history.at(key, self.history.revision)
        expected = known.revision if known is not None else 0
        value = self._value(number)
        asked = Asked(self, "txn", timeout, key=key, value=value, expected=expected)
        asked.number = number
        compare = purecd.mod_revision(key) == expected
        others = [purecd.Put(each, value) for each in KEYS if each != key and self.world.rng.chance(0.3)]
        success = [purecd.Put(key, value), *others]
        await self._ask(asked, self.client.txn([compare], success, [purecd.Get(key)], timeout=timeout))

    async def _get(self, key: bytes) -> None:
        timeout = self._timeout()
        serializable, all_keys = self.world.rng.chance(0.3), self.world.rng.chance(0.2)
        end = b"k~" if all_keys else b""
        asked = Asked(self, "get", timeout, key=key, end=end, serializable=serializable)
        answer: Any = self.client.get(key, end or None, serializable=serializable, timeout=timeout)
        await self._ask(asked, answer)

    async def _compact(self, key: bytes) -> None:
        timeout = self._timeout()
        revision = max(1, self.history.revision - self.world.rng.below(30))
        if self.books.strict or self.world.rng.chance(0.5):
            return await self._get(key)
        asked = Asked(self, "compact", timeout, revision=revision)
        await self._ask(asked, self.client.compact(revision, timeout=timeout))
        return None

    async def probe(self) -> GetReply | None:
        """A read that tells that all is well again."""
        asked = Asked(self, "get", 10.0, key=KEYS[0], end=b"", serializable=False)
        asked.strict = True
        await self._ask(asked, self.client.get(KEYS[0], timeout=10.0))
        return None

    # Watching.

    def _watch_request(self, number: int, start: int) -> WatchRequest:
        rng = self.world.rng
        key = rng.pick(KEYS)
        last = rng.pick(KEYS)
        return watches.watch_request(
            min(key, last),
            max(key, last) + b"\0~w%d~" % number,  # the last key, and nothing after it
            start_revision=start,
            prev_kv=rng.chance(0.5),
            progress_notify=rng.chance(0.5),
            exclude=rng.pick(((), (), ("put",), ("delete",))),
            fragment=rng.chance(0.8),
            require_leader=rng.chance(0.2),
        )

    async def _watch_on(self) -> None:
        rng = self.world.rng
        await self._pause(3.0)
        while not self.books.over:
            revision = self.history.revision
            start = max(0, rng.pick((0, 0, revision - rng.below(60), revision + 1, revision + rng.below(6))))
            number = self.books.number()
            watched = Watched(number, self._watch_request(number, start), self.books.strict)
            self.books.watched.append(watched)
            self.books.watched_by_number[number] = watched
            await self._watch(watched, self.world.now + rng.pick((1.0, 10.0, 1000.0)))

    async def _watch(self, watched: Watched, until: float) -> None:
        try:
            await self._follow(watched, until)
            watched.end = "closed"
        except errors.EtcdError as error:
            watched.end = error
            self.world.note(self.client.name, "watch", watched.number, repr(str(error)))
        watched.ended_at = self.world.now

    async def _follow(self, watched: Watched, until: float) -> None:
        """Open a watch, and read from it until its time is over or nothing more will come."""
        client, rng = self.client, self.world.rng
        slow = rng.pick((0.0, 0.0, 0.5, 3.0))
        watcher = watched.watcher = await client._run(watches.open_watch(watched.request), 10.0)
        while self.world.now < until and not watched.complete:
            response = await self._read(watched, watcher)
            if response is not None and slow and not self.books.strict:
                await self._pause(slow)
        await client._run(watches.close_watch(watcher), None)

    async def _read(self, watched: Watched, watcher: Watcher) -> WatchResponse | None:
        """The next response, None when there is none for a while: in the end that means that it got all."""
        client, quiet_since = self.client, self.world.now
        revision, over = self.history.revision, self.books.over
        while self.world.now < quiet_since + QUIET:
            try:
                response = await client._run(watches.next_response(watcher, QUIET), None)
            except TimeoutError as error:
                if isinstance(error, errors.EtcdError):
                    raise
                break
            watcher.taken = None
            assert response is not None, "nobody closed it"
            watched.responses.append(response)
            count = len(response.events)
            self.world.counts["events"] += count
            self.world.note(client.name, "watch", watched.number, response.header.revision, count)
            if count or not over:
                return response
        if over:
            watched.complete = revision
        return None

    # Leases.

    async def _hold_leases(self) -> None:
        rng = self.world.rng
        while not self.books.over:
            await self._pause(1.0)
            try:
                await self._hold_one(2 + rng.below(5))
            except errors.EtcdError as error:
                self.world.note(self.client.name, "lease", repr(str(error)))
                if self.books.strict and not isinstance(error, errors.LeaseNotFound):
                    self.world.counts["lease trouble when all was well"] += 1

    async def _hold_one(self, ttl: int) -> None:
        client, rng, world = self.client, self.world.rng, self.world
        strict = self.books.strict
        granted = await client._run(leases.grant(ttl), 5.0)
        kept = KeptLease(granted.id, granted.ttl, granted.sent_at)
        kept.waiter = Future()  # nobody waits for it
        held = self.books.leases[granted.id] = Held(kept)
        held.client = client.name
        client._streams().attach(kept)
        try:
            await self._use_lease(held)
        finally:
            held.given_back = True
            client._streams().detach(kept)
            world.counts["leases lost"] += kept.lost
            world.note(client.name, "lease", granted.id, kept.reason)
        if strict and kept.lost:
            world.counts["lease trouble when all was well"] += 1
        if not kept.lost and rng.chance(0.7):
            await client._run(leases.revoke(granted.id), 5.0)

    async def _use_lease(self, held: Held) -> None:
        """Attach a key to a lease, and hold it for a while."""
        client, world, kept = self.client, self.world, held.kept
        key = b"lease-%d" % kept.lease_id
        until = world.now + world.rng.pick((1.0, 5.0, 30.0))
        await client.put(key, lease=kept.lease_id, timeout=2.0)
        while world.now < until and not self.books.over and not kept.lost:
            await client.sleep(0.5)
            if held.believed(world.now) and self.history.has_ended(kept.lease_id):
                raise InvariantError(
                    f"S13 lease {kept.lease_id} has ended, and {client.name} believes it alive"
                )
