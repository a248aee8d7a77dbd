# SPDX-License-Identifier: Apache-2.0
"""A load on etcd through both clients: calls, watches and leases, each of them recorded.

Callers are threads; those of the asyncio front are as many tasks on one loop. Keys are few, so that
callers meet; values are unique, so that each change can be traced to its call.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

from purecd import errors
from tests.support import observer
from tests.support.history import Change, Condition, Operation, Step, check
from tests.support.recorder import Recorder
from tests.support.watchcheck import WatchRecord, check_watch

PREFIX = "load/"
PREFIX_END = "load0"
MARKER = "load/~end"


class WatchReader:
    """One watch, read by a thread of its own until the marker was written and deleted."""

    def __init__(self, client: Any, record: WatchRecord, **options: Any) -> None:
        self.record = record
        self.error: BaseException | None = None
        self.moments: list[float] = []
        self.done = False
        self.ended_at = 0.0
        self._watch = client.watch(
            record.key,
            record.range_end,
            start_revision=record.start_revision,
            prev_kv=record.prev_kv,
            exclude=record.exclude,
            **options,
        )
        record.start_revision = record.start_revision or self._watch.resume_revision
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for response in self._watch.responses():
                self.record.responses.append(response)
                self.moments.append(time.monotonic())
                self.done = self.done or any(map(self._is_last, response.events))
        except errors.Compacted as error:
            self.ended_at = time.monotonic()
            self.record.compact_revision = error.compact_revision
            self.error = error
        except BaseException as error:
            self.error = error

    def _is_last(self, event: Any) -> bool:
        return event.key == MARKER.encode() and (event.is_delete or "delete" in self.record.exclude)

    def finish(self, until: int, deadline: float) -> None:
        """Wait until it has delivered everything up to a revision, then close it."""
        while not self.done and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.record.compact_revision == 0:
            self.record.until = until
        self._watch.close()
        self._thread.join(5)
        if self._thread.is_alive():
            self.error = RuntimeError("the watch did not end when it was closed")


class Load:
    """Callers, watches and leases on some clients.

    Args:
        clients: their methods block; callers are dealt out in turn.
        callers: how many calls there are at a time, at most.
        rate: calls per second, all callers together.
        timeout: seconds for each call.
        watches, leases: how many.
        seed: for the choice of calls.
    """

    def __init__(
        self,
        clients: Sequence[Any],
        *,
        callers: int = 16,
        rate: float = 200.0,
        timeout: float = 5.0,
        watches: int = 8,
        leases: int = 4,
        lease_ttl: int = 5,
        keys: int = 6,
        seed: int = 0,
    ) -> None:
        self.recorder = Recorder()
        self.readers: list[WatchReader] = []
        self.leases: list[Any] = []
        self.lost_at: list[float] = []
        self.callers = callers
        self.timeout = timeout
        self._clients = clients
        self._pause = callers / rate
        self._counts = (watches, leases, lease_ttl)
        self._keys = [f"{PREFIX}k{number}" for number in range(keys)]
        self._seed = seed
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(number,), daemon=True) for number in range(callers)
        ]

    def start(self) -> None:
        """Open watches and leases, then let the callers run."""
        watches, leases, ttl = self._counts
        for number in range(watches):
            self.readers.append(self._watch(number))
        for number in range(leases):
            client = self._clients[number % len(self._clients)]
            lease = client.lease(ttl, on_lost=lambda lease: self.lost_at.append(time.monotonic()))
            client.put(f"lease/{number}", "held", lease=lease)
            self.leases.append(lease)
        for thread in self._threads:
            thread.start()

    def _watch(self, number: int) -> WatchReader:
        record = WatchRecord(
            PREFIX,
            PREFIX_END,
            start_revision=(0, 1)[number % 2],
            prev_kv=number % 3 == 0,
            exclude=((), (), ("put",), ("delete",))[number % 4],
        )
        client = self._clients[number % len(self._clients)]
        return WatchReader(client, record, progress_notify=number % 2 == 0)

    def _call(self, number: int) -> None:
        client = self._clients[number % len(self._clients)]
        rng = random.Random(f"{self._seed}/{number}")
        last_seen: dict[str, int] = {}
        self._stopping.wait(rng.random() * self._pause)
        while not self._stopping.is_set():
            operation = self._choose(rng, last_seen)
            operation.caller = number
            operation.timeout = self.timeout
            self.recorder.perform(client, operation)
            if operation.outcome == "ok":
                last_seen[operation.success[0].key] = operation.revision
            spent = time.monotonic() - operation.called_at
            self._stopping.wait(max(0.001, self._pause * (0.5 + rng.random()) - spent))

    def _choose(self, rng: random.Random, last_seen: dict[str, int]) -> Operation:
        key, other = rng.sample(self._keys, 2)
        kind = rng.random()
        if kind < 0.40:
            return Operation("put", (Step("put", key, self.recorder.unique()),))
        if kind < 0.60:
            return Operation("get", (Step("get", key),))
        if kind < 0.65:
            return Operation("get", (Step("get", key),), serializable=True)
        if kind < 0.75:
            return Operation("delete", (Step("delete", key),))
        # True when nobody wrote the key meanwhile, or else.
        relation: Literal["<", ">"] = "<" if rng.random() < 0.5 else ">"
        condition = Condition(key, "mod_revision", relation, last_seen.get(key, 1) + 1)
        put = Step("put", key, self.recorder.unique())
        if kind < 0.90:  # compare and set
            return Operation("txn", (put,), (Step("get", key),), (condition,))
        elsewhere = Step("put", other, self.recorder.unique())
        return Operation("txn", (Step("get", other), put, Step("delete", other)), (elsewhere,), (condition,))

    def run(self, seconds: float) -> None:
        """Let the load go on."""
        time.sleep(seconds)

    def stop(self) -> None:
        """End the callers, and wait until the last call has ended."""
        self._stopping.set()
        deadline = time.monotonic() + self.timeout + 10
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.recorder.surprises.append("a call did not end")

    def finish(self, endpoint: str, live: observer.Observer | None = None) -> list[Change]:
        """Mark the end, let the watches come to it and read the log.

        Args:
            endpoint: a member that serves.
            live: who watched along, where the log alone would be compacted.
        """
        observer.put(endpoint, MARKER, "end")
        until = observer.delete(endpoint, MARKER)
        deadline = time.monotonic() + 15
        for reader in self.readers:
            reader.finish(until, deadline)
        changes = live.finish(until) if live is not None else observer.read_log(endpoint, until)
        return [each for each in changes if each.key.startswith(PREFIX)]

    def problems(self, changes: Sequence[Change]) -> list[str]:
        """All that is wrong, by the history, the watches and what nobody should have seen."""
        calls = [each for each in changes if each.key != MARKER]
        wrong = check(self.recorder.operations, calls) + self.recorder.surprises
        for number, reader in enumerate(self.readers):
            wrong += [
                f"watch {number} {reader.record.exclude}: {each}"
                for each in check_watch(reader.record, changes)
            ]
            if reader.error is not None and not reader.record.compact_revision:
                wrong.append(f"watch {number} ended: {reader.error!r}")
        return wrong

    def lost_leases(self, endpoint: str) -> list[str]:
        """Leases that ended, and those that this side believes alive while the server does not."""
        wrong = []
        for lease in self.leases:
            if lease.lost:
                wrong.append(f"{lease!r} was lost")
            elif observer.seconds_left(endpoint, lease.id) < 0:
                wrong.append(f"{lease!r} is believed alive, and gone")
        return wrong
