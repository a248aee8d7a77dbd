# SPDX-License-Identifier: Apache-2.0
"""The simulated world: its time, its chance, and the record of what happened in it.

1. Nothing happens between two events. An event is a function to be called at a time; those of one
   time are called in the order in which they were asked for.
2. All chance comes from one generator, which the seed starts. Only `random` of it is used: what other
   methods make of the same state differs between versions of Python.
3. Whatever matters is noted. The digest of the notes is equal for two runs of one seed, on whatever
   interpreter; it may depend on no set, hash, address or clock.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Callable, TypeVar

T = TypeVar("T")

Action = Callable[[], None]


class InvariantError(AssertionError):
    """Something that must always be true is not; `str` begins with the number of the invariant."""


class Timer:
    """An event to come; it can be cancelled."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Action) -> None:
        self.when = when
        self.action: Action | None = action

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None


class Chance:
    """Random decisions, all made from `random` alone; the generator of the client and servers, too."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.random = self._rng.random

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.random()

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        return int(self.random() * bound)

    def pick(self, choices: Sequence[T]) -> T:
        """One of several."""
        return choices[self.below(len(choices))]

    def some(self, choices: Sequence[T]) -> list[T]:
        """Each of several with probability 1/2, one at least."""
        chosen = [each for each in choices if self.random() < 0.5]
        return chosen or [self.pick(choices)]

    def getrandbits(self, bits: int) -> int:
        """So many random bits, for the members' ids and tokens."""
        value = 0
        for _ in range(0, bits, 16):
            value = value << 16 | self.below(1 << 16)
        return value & ((1 << bits) - 1)

    def randrange(self, start: int, stop: int | None = None) -> int:
        """As `random.Random.randrange`, for what is written for one."""
        return self.below(start) if stop is None else start + self.below(stop - start)

    def choices(self, choices: Sequence[T], *, k: int) -> list[T]:
        """As `random.Random.choices`, for what is written for one."""
        return [self.pick(choices) for _ in range(k)]

    def choice(self, choices: Sequence[T]) -> T:
        """As `random.Random.choice`, for what is written for one."""
        return self.pick(choices)


class Process:
    """Something that runs on a machine: it can be stopped, as by SIGSTOP, and go on.

    Attributes:
        stopped: it stands still; what should happen in it waits.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.stopped = False
        self._held: list[Action] = []
        self._stood_still = 0.0
        self._stopped_at = 0.0

    def stood_still(self) -> float:
        """For how many seconds it did, in all."""
        return self._stood_still + (self.world.now - self._stopped_at if self.stopped else 0.0)

    def soon(self, action: Action) -> None:
        """Have something happen in this process: next, or when it goes on."""
        if self.stopped:
            self._held.append(action)
        else:
            self.world.at(self.world.now, lambda: self.within(action))

    def within(self, action: Action) -> None:
        """Let something happen in this process, now or when it goes on."""
        if self.stopped:
            self._held.append(action)
        else:
            action()

    def later(self, when: float, action: Action) -> Timer:
        """Have something happen in this process at a time, or when it goes on after it."""
        return self.world.at(when, lambda: self.within(action))

    def stop(self, stopped: bool) -> None:
        """Let the process stand still, or go on."""
        if self.stopped:
            self._stood_still += self.world.now - self._stopped_at
        self.stopped = stopped
        self._stopped_at = self.world.now
        if not stopped:
            held, self._held = self._held, []
            for action in held:
                self.soon(action)


class World:
    """Time and chance.

    Args:
        seed: decides everything that happens.
        echo: print every note.

    Attributes:
        now: seconds since the world began.
        steps: how many events have happened.
        counts: how often things happened, for the report.
        notes: to be shown when something fails.
        over: it came to a bad end; whatever still moves is only being taken apart.
    """

    def __init__(self, seed: int, echo: bool = False) -> None:
        self.seed = seed
        self.rng = Chance(seed)
        # Not 0, which is easily mistaken for "none".
        self.now = 1000.0
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self.over = False
        self._echo = echo
        self._events: list[tuple[float, int, Timer]] = []
        self._asked = 0
        self._digest = hashlib.sha256()

    def at(self, when: float, action: Action) -> Timer:
        """Have `action` called at a time; what has passed already is now."""
        self._asked += 1
        if when < self.now:
            when = self.now
        timer = Timer(when, action)
        heappush(self._events, (when, self._asked, timer))
        return timer

    def after(self, delay: float, action: Action) -> Timer:
        """Have `action` called in so many seconds."""
        return self.at(self.now + delay, action)

    def run(self, until: float, most: int) -> None:
        """Let everything happen up to a time; raises when that is more than `most` events in all."""
        events = self._events
        while events and events[0][0] <= until:
            when, _, timer = heappop(events)
            action = timer.action
            if action is not None:
                self.now = when
                self.steps += 1
                if self.steps > most:
                    raise InvariantError(f"S19 more than {most} events: it runs in circles")
                action()
        self.now = until

    def note(self, *what: Any) -> None:
        """Record what happened: texts, numbers and bytes, all of which must repeat."""
        if self.over:
            return
        line = f"{self.now:.6f} {' '.join(map(str, what))}"
        self._digest.update(line.encode())
        self.notes.append(line)
        if self._echo:
            print(line)

    @property
    def digest(self) -> str:
        """Of all notes so far."""
        return self._digest.hexdigest()[:16]
