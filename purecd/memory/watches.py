# SPDX-License-Identifier: Apache-2.0
"""The watchers of a member, and what each has still to be told.

1. A watcher is *synced* while it has been told all there is; then each change goes to it at once. One
   that starts in the past, or whose stream is congested, is *unsynced*: a round every 100 ms tells it
   what it missed, at most 1,000 revisions at a time, under the revision the store has then.
2. An unsynced watcher that needs what is compacted is told so and drops out. Its stream remembers it,
   though: until the client cancels it, its id is taken and no requested progress is answered.
3. Progress is told to watchers that are synced and whose first revision is not in the future.

Source: etcd server/mvcc/{watchable_store,watcher,watcher_group}.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from purecd.memory.store import NO_END
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from purecd.memory.store import Record, Store

BATCH_REVISIONS = 1000
NO_PUT, NO_DELETE = 0, 1


class Stream(Protocol):
    """Who is told about a watcher's changes."""

    @property
    def congested(self) -> bool:
        """It takes no more for now."""
        ...

    def tell(self, watcher: Watcher, revision: int, changes: Sequence[Record]) -> None:
        """Changes of whole revisions, oldest first; none for progress. `revision` is the store's."""

    def tell_compacted(self, watcher: Watcher, revision: int) -> None:
        """The watcher ended: what it needs was compacted at `revision`."""


class Watcher:
    """One watcher.

    Attributes:
        start: first revision asked for, 0 for what comes.
        next: first revision that it was not told yet.
        end: as `Store.range` takes it.
    """

    __slots__ = ("end", "filters", "key", "next", "start", "stream", "watch_id")

    def __init__(
        self, stream: Stream, watch_id: int, key: bytes, end: bytes | None, start: int, filters: set[int]
    ) -> None:
        self.stream = stream
        self.watch_id = watch_id
        self.key = key
        self.end = end
        self.start = start
        self.next = start
        self.filters = filters

    def wants(self, record: Record) -> bool:
        """Whether a change is in its range and not before its time."""
        if record.main < self.next:
            return False
        key = record.kv.key
        if self.end is None:
            return key == self.key
        return self.key <= key and (self.end == NO_END or key < self.end)

    def passes(self, record: Record) -> bool:
        """Whether its filters let a change through."""
        return (NO_DELETE if record.deleted else NO_PUT) not in self.filters


class Watchers:
    """All watchers of a member.

    Args:
        interval: seconds between two rounds for unsynced watchers.
        batch: revisions told to each of them in a round, in one response.
    """

    def __init__(self, store: Store, interval: float = 0.1, batch: int = BATCH_REVISIONS) -> None:
        self._store = store
        self._interval = interval
        self._batch = batch
        # As ordered sets: whoever came first is told first.
        self._unsynced: dict[Watcher, None] = {}
        self._synced: dict[Watcher, None] = {}
        self._by_key: dict[bytes, dict[Watcher, None]] = {}  # the synced ones of single keys
        self._ranges: dict[Watcher, None] = {}  # the other synced ones
        self._round_at: float | None = None

    def add(self, watcher: Watcher, now: float) -> None:
        """Begin to tell a watcher about changes."""
        revision = self._store.revision
        if watcher.start == 0 or watcher.start > revision:
            watcher.next = max(revision + 1, watcher.start)
            self._add_synced(watcher)
        else:
            self._unsynced[watcher] = None
            self._plan_round(now)

    def _plan_round(self, now: float) -> None:
        if self._unsynced and self._round_at is None:
            self._round_at = now + self._interval

    def _add_synced(self, watcher: Watcher) -> None:
        self._synced[watcher] = None
        if watcher.end is None:
            self._by_key.setdefault(watcher.key, {})[watcher] = None
        else:
            self._ranges[watcher] = None

    def _remove_synced(self, watcher: Watcher) -> None:
        del self._synced[watcher]
        if watcher.end is not None:
            del self._ranges[watcher]
            return
        same = self._by_key[watcher.key]
        del same[watcher]
        if not same:
            del self._by_key[watcher.key]

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher; nothing happens when it dropped out already."""
        self._unsynced.pop(watcher, None)
        if watcher in self._synced:
            self._remove_synced(watcher)

    def is_current(self, watcher: Watcher) -> bool:
        """Whether progress may be told to it."""
        return watcher in self._synced and watcher.start <= self._store.revision

    def committed(self, revision: int, changes: list[Record], now: float) -> None:
        """Tell the synced watchers what one revision changed."""
        if not self._synced:
            return
        told: dict[Watcher, list[Record]] = {}
        for record in changes:
            for watcher in self._by_key.get(record.kv.key, ()):
                if record.main >= watcher.next:
                    told.setdefault(watcher, []).append(record)
            for watcher in self._ranges:
                if watcher.wants(record):
                    told.setdefault(watcher, []).append(record)
        for watcher, records in told.items():
            self._tell_synced(watcher, revision, records, now)

    def _tell_synced(self, watcher: Watcher, revision: int, records: list[Record], now: float) -> None:
        passed = [record for record in records if watcher.passes(record)]
        if passed and watcher.stream.congested:
            watcher.next = revision
            self._remove_synced(watcher)
            self._unsynced[watcher] = None
            self._plan_round(now)
            return
        watcher.next = revision + 1
        if passed:
            watcher.stream.tell(watcher, revision, passed)

    def next_timer(self) -> float | None:
        """When the next round for unsynced watchers is due."""
        return self._round_at

    def handle_timer(self, now: float) -> None:
        """Tell unsynced watchers what they missed."""
        if self._round_at is None or now < self._round_at:
            return
        self._round_at = None
        for watcher in list(self._unsynced):
            if not watcher.stream.congested:
                self._catch_up(watcher)
        self._plan_round(now)

    def _catch_up(self, watcher: Watcher) -> None:
        store = self._store
        if watcher.next < store.compacted:
            del self._unsynced[watcher]
            watcher.stream.tell_compacted(watcher, store.compacted)
            return
        missed, more = self._missed(watcher)
        watcher.next = more or max(store.revision + 1, watcher.next)
        if not more:
            del self._unsynced[watcher]
            self._add_synced(watcher)
        passed = [record for record in missed if watcher.passes(record)]
        if passed:
            watcher.stream.tell(watcher, store.revision, passed)

    def _missed(self, watcher: Watcher) -> tuple[list[Record], int]:
        """What a watcher missed, and the first revision with more of it; 0 when that is all."""
        missed: list[Record] = []
        revisions = 0
        for changes in self._store.changes_since(watcher.next):
            wanted = [record for record in changes if watcher.wants(record)]
            if not wanted:
                continue
            revisions += 1
            if revisions > self._batch:
                return missed, wanted[0].main
            missed += wanted
        return missed, 0

    def restored(self, now: float) -> None:
        """The store was replaced by a newer one: synced watchers have something to catch up with."""
        for watcher in list(self._synced):
            self._remove_synced(watcher)
            self._unsynced[watcher] = None
        self._plan_round(now)


def event(store: Store, record: Record, prev_kv: bool) -> pb.Event:
    """A change as watchers see it.

    Args:
        prev_kv: with what the key was before, unless it was created or that is compacted.
    """
    told = pb.Event(type=1 if record.deleted else 0, kv=record.kv)
    if prev_kv and (record.deleted or record.kv.create_revision != record.main):
        before = store.before(record)
        if before is not None:
            told.prev_kv.CopyFrom(before)
    return told
