# SPDX-License-Identifier: Apache-2.0
"""What really happened: every revision, every command of the log, as a reference member saw them.

The reference applies the log the moment that it is agreed upon, and never crashes, lags or talks to a client.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

from purecd.memory.calls import Status
from tests.sim.tap import marker_of


class Change(NamedTuple):
    """One change of one key.

    Attributes:
        value: None for a deletion.
        create_revision, version: 0 for a deletion.
        before: value and mod_revision before the change, None when there was no such key.
    """

    revision: int
    key: bytes
    value: bytes | None
    create_revision: int
    version: int
    lease: int
    before: Change | None


class Applied(NamedTuple):
    """One command with a marker that was carried out.

    Attributes:
        revision: of the store after it.
        changed: it took a revision of its own.
    """

    revision: int
    changed: bool


class History:
    """The truth.

    Attributes:
        changes: all, in order.
        revision: of the store.
        compactions: (when, at which revision), oldest first.
        lease_ended: told the id of a lease that was revoked or has expired.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.revision = 1
        self.compactions: list[tuple[float, int]] = []
        self.lease_ended: Callable[[int], None] = lambda lease_id: None
        self._ended: set[int] = set()
        self.applied: dict[int, list[Applied]] = {}
        self._by_key: dict[bytes, list[Change]] = {}

    # What the reference tells.

    def changed(self, revision: int, records: list[tuple[bytes, Any, bool]]) -> None:
        """One revision.

        Args:
            records: key, its message, and whether it was deleted, of each change in order.
        """
        self.revision = revision
        for key, kv, deleted in records:
            of_key = self._by_key.setdefault(key, [])
            last = of_key[-1] if of_key and of_key[-1].value is not None else None
            if deleted:
                change = Change(revision, key, None, 0, 0, 0, last)
            else:
                created = last.create_revision if last is not None else revision
                version = last.version + 1 if last is not None else 1
                change = Change(revision, key, kv.value, created, version, kv.lease, last)
            if last is not None:
                change = change._replace(before=last._replace(before=None))
            of_key.append(change)
            self.changes.append(change)

    def commanded(self, request: Any, outcome: Any, before: int, now: float) -> None:
        """A command was applied.

        Args:
            outcome: the reply or a Status.
            before: revision of the store before it.
        """
        refused = isinstance(outcome, Status)
        if refused and self.revision == before:
            return
        kind = type(request).DESCRIPTOR.name
        if kind == "CompactionRequest":
            self.compactions.append((now, request.revision))
        elif kind == "LeaseGrantRequest":
            self._ended.discard(request.ID)  # an earlier attempt may have granted one that has expired
        elif kind == "LeaseRevokeRequest":
            self._ended.add(request.ID)
            self.lease_ended(request.ID)
        marker = marker_of(request.SerializeToString())
        if marker:
            self.applied.setdefault(marker, []).append(Applied(self.revision, self.revision > before))

    # What is asked of it.

    def at(self, key: bytes, revision: int) -> Change | None:
        """What a key was at a revision, None when there was none."""
        of_key = self._by_key.get(key, [])
        place = bisect_right([each.revision for each in of_key], revision)
        if place == 0 or of_key[place - 1].value is None:
            return None
        return of_key[place - 1]

    def range_at(self, key: bytes, end: bytes, revision: int) -> list[Change]:
        """What a range was at a revision, in order of keys."""
        found = (self.at(each, revision) for each in sorted(self._by_key) if within(each, key, end))
        return [each for each in found if each is not None]

    def between(self, key: bytes, end: bytes, first: int, last: int) -> Iterator[Change]:
        """Changes in a range from revision `first` to `last`, inclusive."""
        revisions = [each.revision for each in self.changes]
        for change in self.changes[bisect_left(revisions, first) : bisect_right(revisions, last)]:
            if within(change.key, key, end):
                yield change

    def has_ended(self, lease_id: int) -> bool:
        """Whether a lease was revoked or has expired."""
        return lease_id in self._ended

    @property
    def compacted(self) -> int:
        """The revision up to which history is forgotten."""
        return self.compactions[-1][1] if self.compactions else 0

    def compacted_at(self, moment: float) -> int:
        """The same, as it was at a time."""
        return max((revision for when, revision in self.compactions if when <= moment), default=0)


def within(key: bytes, start: bytes, end: bytes) -> bool:
    """Whether a key is in a range as requests tell it: without an end it is one key, b"\\0" is no bound."""
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)
