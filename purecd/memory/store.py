# SPDX-License-Identifier: Apache-2.0
"""The keys of a member in all their revisions: reading any of them, writing, compaction.

1. Revision 1 is the empty store. A transaction that changes something takes the next revision, all its
   changes together; one that changes nothing takes none.
2. A deletion is a record too (a tombstone); a key put again after it starts over at version 1.
3. `compact(r)` gives up what only reads before `r` could see: of every key the newest record up to `r`
   stays, a tombstone only when it was written at `r` itself.
4. Records never change, so copies of the state share them.

Source: etcd server/mvcc/{kvstore,kvstore_txn,index,key_index}.go.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Callable, NamedTuple

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_END = b""  # as `end` of a range: no bound; None is a single key


def range_end(sent: bytes) -> bytes | None:
    """The end of a range as the store takes it, from a request's `range_end`."""
    if not sent:
        return None
    return NO_END if sent == b"\0" else sent


class Record:
    """One change of one key.

    Attributes:
        kv: the message as reads return it; of a tombstone, its key and revision alone.
        main: revision.
        sub: place within its revision, from 0.
        deleted: it is a tombstone.
    """

    __slots__ = ("deleted", "kv", "main", "sub")

    def __init__(self, kv: pb.KeyValue, main: int, sub: int, deleted: bool) -> None:
        self.kv = kv
        self.main = main
        self.sub = sub
        self.deleted = deleted


class Found(NamedTuple):
    """What a range found.

    Attributes:
        kvs: the store's own messages, in order of keys; copy before changing.
        total: keys in the range, however few were asked for.
        revision: of the store.
    """

    kvs: list[pb.KeyValue]
    total: int
    revision: int


class Attachments:
    """Which keys hang on which lease; what the store tells about its changes."""

    def attach(self, lease_id: int, key: bytes) -> None:
        """A key was put with this lease."""

    def detach(self, lease_id: int, key: bytes) -> None:
        """A key is no longer attached to this lease."""


class Store:
    """All keys and their history.

    Args:
        leases: is told which keys are attached to and detached from leases.
        committed: called with the revision and its records, after each change.
    """

    def __init__(self, leases: Attachments, committed: Callable[[int, list[Record]], None]) -> None:
        self.leases = leases
        self.committed = committed
        self.revision = 1
        self.compacted = -1
        self.size = 0  # octets of keys and values in all records
        self._count = 0
        self._live: list[bytes] = []  # sorted
        self._current: dict[bytes, Record] = {}  # of live keys
        self._keys: list[bytes] = []  # with any record, sorted
        self._histories: dict[bytes, list[Record]] = {}
        self._log: list[list[Record]] = [[], []]  # by revision, from _log_start
        self._log_start = 0

    def range(
        self, key: bytes, end: bytes | None, limit: int = 0, revision: int = 0, count_only: bool = False
    ) -> Found:
        """Read ``[key, end)``.

        Args:
            end: None for the key alone, `NO_END` for all keys from it on.
            limit: most keys to return, 0 or less for all.
            revision: 0 or less for the newest.

        Raises:
            Status: the revision is compacted, or in the future.
        """
        return self._range_at(self.revision, key, end, limit, revision, count_only)

    def _range_at(
        self, top: int, key: bytes, end: bytes | None, limit: int, revision: int, count_only: bool
    ) -> Found:
        """A range for a reader whose newest revision is `top`."""
        if revision > top:
            raise Status(*statuses.FUTURE_REV)
        if revision <= 0:
            revision = top
        if revision < self.compacted:
            raise Status(*statuses.COMPACTED)
        if end is None:
            record = self._current.get(key) if revision == top else self._record_at(key, revision)
            found = [] if record is None else [record.kv]
            return Found([] if count_only else found, len(found), top)
        if revision == top:
            low, high = _span(self._live, key, end)
            wanted = 0 if count_only else high - low
            if 0 < limit < wanted:
                wanted = limit
            current = self._current
            return Found([current[each].kv for each in self._live[low : low + wanted]], high - low, top)
        kvs = [record.kv for record in self._records_at(key, end, revision)]
        return Found([] if count_only else kvs[:limit] if limit > 0 else kvs, len(kvs), top)

    def _records_at(self, key: bytes, end: bytes, revision: int) -> Iterator[Record]:
        low, high = _span(self._keys, key, end)
        for each in self._keys[low:high]:
            record = self._record_at(each, revision)
            if record is not None:
                yield record

    def _record_at(self, key: bytes, revision: int) -> Record | None:
        """What a key was at a revision; None when there was none."""
        history = self._histories.get(key)
        if history is None:
            return None
        place = _count_until(history, revision)
        if place == 0 or history[place - 1].deleted:
            return None
        return history[place - 1]

    def before(self, record: Record) -> pb.KeyValue | None:
        """What a key was in the revision before a record; None when it was not, or that is compacted."""
        revision = record.main - 1
        if revision < self.compacted:
            return None
        found = self._record_at(record.kv.key, revision)
        return None if found is None else found.kv

    def write(self) -> Write:
        """Begin a transaction; nothing else may happen until its `end`."""
        return Write(self)

    def compact(self, revision: int) -> None:
        """Give up history before a revision.

        Raises:
            Status: it is compacted already, or in the future.
        """
        if revision <= self.compacted:
            raise Status(*statuses.COMPACTED)
        if revision > self.revision:
            raise Status(*statuses.FUTURE_REV)
        self.compacted = revision
        past = revision + 1 - self._log_start
        # Keys without a record in there have one at most before it, and that one stays.
        touched = {record.kv.key for changes in self._log[:past] for record in changes}
        for key in sorted(touched):
            self._compact_key(key, revision)
        kept = [each for each in self._log[past - 1] if self._is_kept(each)] if past > 0 else []
        self._log[:past] = [kept]
        self._log_start = revision

    def _compact_key(self, key: bytes, revision: int) -> None:
        history = self._histories.get(key, [])
        place = _count_until(history, revision)
        if place == 0:
            return
        last = history[place - 1]
        if not (last.deleted and last.main < revision):
            place -= 1
        self.size -= sum(_size(record) for record in history[:place])
        self._count -= place
        del history[:place]
        if not history:
            del self._histories[key]
            del self._keys[bisect_left(self._keys, key)]

    def _is_kept(self, record: Record) -> bool:
        return any(record is each for each in self._histories.get(record.kv.key, ()))

    def changes_since(self, revision: int) -> Iterator[list[Record]]:
        """All changes from a revision on, oldest first, one list for each revision.

        Args:
            revision: not before the compacted one.
        """
        yield from self._log[max(0, revision - self._log_start) :]

    def count_records(self) -> int:
        """How many records are left."""
        return self._count

    def records(self) -> list[Record]:
        """All records that are left, oldest first."""
        left = [record for history in self._histories.values() for record in history]
        left.sort(key=lambda record: (record.main, record.sub))
        return left

    def copy_from(self, other: Store) -> None:
        """Take over another store's keys and history."""
        self.revision, self.compacted = other.revision, other.compacted
        self.size, self._count = other.size, other._count
        self._live, self._keys = list(other._live), list(other._keys)
        self._current = dict(other._current)
        self._histories = {key: list(history) for key, history in other._histories.items()}
        self._log, self._log_start = [list(each) for each in other._log], other._log_start


class Write:
    """One transaction of a store: it reads its own changes, and takes one revision for all.

    Attributes:
        revision: of the store when it began.
        changes: made so far.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.revision = store.revision
        self.changes: list[Record] = []

    def range(
        self, key: bytes, end: bytes | None, limit: int = 0, revision: int = 0, count_only: bool = False
    ) -> Found:
        """As `Store.range`, with the changes made so far."""
        top = self.revision + 1 if self.changes else self.revision
        return self._store._range_at(top, key, end, limit, revision, count_only)

    def put(self, key: bytes, value: bytes, lease: int) -> int:
        """Put a key; returns the revision it gets.

        Args:
            lease: id of a lease that exists, or 0.
        """
        store = self._store
        main = self.revision + 1
        old = store._current.get(key)
        if old is None:
            kv = pb.KeyValue(
                key=key, create_revision=main, mod_revision=main, version=1, value=value, lease=lease
            )
            insort(store._live, key)
        else:
            kv = pb.KeyValue(
                key=key,
                create_revision=old.kv.create_revision,
                mod_revision=main,
                version=old.kv.version + 1,
                value=value,
                lease=lease,
            )
            if old.kv.lease:
                store.leases.detach(old.kv.lease, key)
        store._current[key] = self._add(key, kv, main, False)
        if lease:
            store.leases.attach(lease, key)
        return main

    def delete_range(self, key: bytes, end: bytes | None) -> tuple[int, int]:
        """Delete ``[key, end)``; returns how many keys, and the revision of the reply."""
        live = self._store._live
        if end is None:
            gone = [key] if key in self._store._current else []
            low = bisect_left(live, key)
        else:
            low, high = _span(live, key, end)
            gone = live[low:high]
        del live[low : low + len(gone)]
        for each in gone:
            self._delete(each)
        return len(gone), self.revision + 1 if self.changes else self.revision

    def _delete(self, key: bytes) -> None:
        store = self._store
        main = self.revision + 1
        old = store._current.pop(key)
        self._add(key, pb.KeyValue(key=key, mod_revision=main), main, True)
        if old.kv.lease:
            store.leases.detach(old.kv.lease, key)

    def _add(self, key: bytes, kv: pb.KeyValue, main: int, deleted: bool) -> Record:
        store = self._store
        record = Record(kv, main, len(self.changes), deleted)
        self.changes.append(record)
        history = store._histories.get(key)
        if history is None:
            store._histories[key] = [record]
            insort(store._keys, key)
        else:
            history.append(record)
        store.size += _size(record)
        store._count += 1
        return record

    def end(self) -> None:
        """Commit."""
        if not self.changes:
            return
        store = self._store
        store.revision += 1
        store._log.append(self.changes)
        store.committed(store.revision, self.changes)


def _span(keys: list[bytes], key: bytes, end: bytes) -> tuple[int, int]:
    """Where ``[key, end)`` begins and ends in a sorted list."""
    low = bisect_left(keys, key)
    high = bisect_left(keys, end) if end else len(keys)
    return low, max(low, high)


def _count_until(history: list[Record], revision: int) -> int:
    """How many records of one key are not newer than a revision."""
    low, high = 0, len(history)
    while low < high:
        middle = (low + high) // 2
        if history[middle].main <= revision:
            low = middle + 1
        else:
            high = middle
    return low


def _size(record: Record) -> int:
    return len(record.kv.key) + len(record.kv.value)
