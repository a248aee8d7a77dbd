# SPDX-License-Identifier: Apache-2.0
"""The leases of a member: granted and revoked through the log, kept alive and expired by the leader.

1. A lease is the same on all members but for its deadline: only the leader, who is *primary*, has one.
   A member that becomes primary gives every lease its whole time anew, plus an election timeout.
2. The primary reports a lease whose deadline passed, for revoking; again after 3 s while it is there.
3. A lease that expired is not renewed any more: who asks waits until it is revoked.
4. Of a lease with more than 5 minutes left the primary checkpoints the time left every 5 minutes, so
   that the next primary goes on from there. Renewing takes the checkpoint back.

Source: etcd server/lease/lessor.go.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import Callable

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.store import Attachments

MAX_TTL = 9_000_000_000  # seconds
CHECKPOINT_INTERVAL = 300.0  # seconds
RETRY_INTERVAL = 3.0  # seconds until an expired lease is reported again
FOREVER = 9_223_372_036  # seconds left that a member without a deadline reports

Renewed = Callable[[int], None]  # is given the TTL, 0 when the lease is gone


class Lease:
    """One lease.

    Attributes:
        ttl: granted, seconds.
        remaining: checkpointed seconds left, 0 for none.
        expires_at: on the primary, monotonic seconds.
        keys: attached, in the order of attaching.
        waiting: whom to tell that it is gone; they asked to renew it when it had expired.
    """

    __slots__ = ("expires_at", "keys", "lease_id", "remaining", "ttl", "waiting")

    def __init__(self, lease_id: int, ttl: int) -> None:
        self.lease_id = lease_id
        self.ttl = ttl
        self.remaining = 0
        self.expires_at: float | None = None
        self.keys: dict[bytes, None] = {}
        self.waiting: list[Renewed] = []

    def seconds_left(self, now: float) -> int:
        """Whole seconds until the deadline, rounded towards zero."""
        return FOREVER if self.expires_at is None else int(self.expires_at - now)

    def refresh(self, now: float, extend: float = 0.0) -> None:
        """Count the whole time left from now on."""
        self.expires_at = now + (self.remaining or self.ttl) + extend


class Leases(Attachments):
    """All leases of a member.

    Args:
        min_ttl: seconds granted at least; etcd's is half as much again as an election timeout.
        primary: this member leads.
    """

    def __init__(self, min_ttl: int = 2, primary: bool = True) -> None:
        self.min_ttl = min_ttl
        self.primary = primary
        self._leases: dict[int, Lease] = {}
        self._serial = count()
        self._due: list[tuple[float, int, int]] = []  # heap of deadline, serial, id; may be outdated
        self._checkpoints: list[tuple[float, int, int]] = []

    def get(self, lease_id: int) -> Lease | None:
        """The lease of that id, None when there is none."""
        return self._leases.get(lease_id)

    def by_deadline(self) -> list[Lease]:
        """All leases, the one that expires next first."""
        return sorted(self._leases.values(), key=lambda lease: (lease.expires_at or 0.0, lease.lease_id))

    def grant(self, lease_id: int, ttl: int, now: float) -> Lease:
        """Grant a lease.

        Raises:
            Status: there is one of that id, or the TTL is out of bounds.
        """
        if lease_id == 0:
            raise Status(*statuses.LEASE_NOT_FOUND)
        if ttl > MAX_TTL:
            raise Status(*statuses.LEASE_TTL_TOO_LARGE)
        if lease_id in self._leases:
            raise Status(*statuses.LEASE_EXIST)
        lease = self._leases[lease_id] = Lease(lease_id, max(ttl, self.min_ttl))
        if self.primary:
            self._watch_over(lease, now)
        return lease

    def _watch_over(self, lease: Lease, now: float, extend: float = 0.0) -> None:
        lease.refresh(now, extend)
        self._schedule(lease)
        self._plan_checkpoint(lease, now)

    def _schedule(self, lease: Lease) -> None:
        assert lease.expires_at is not None
        heappush(self._due, (lease.expires_at, next(self._serial), lease.lease_id))

    def _plan_checkpoint(self, lease: Lease, now: float) -> None:
        if (lease.remaining or lease.ttl) > CHECKPOINT_INTERVAL:
            heappush(self._checkpoints, (now + CHECKPOINT_INTERVAL, next(self._serial), lease.lease_id))

    def find(self, lease_id: int) -> Lease:
        """The lease of that id.

        Raises:
            Status: there is none.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            raise Status(*statuses.LEASE_NOT_FOUND)
        return lease

    def remove(self, lease_id: int) -> None:
        """Forget a lease whose keys are deleted, and tell those who wait for that."""
        lease = self._leases.pop(lease_id)
        waiting, lease.waiting = lease.waiting, []
        for done in waiting:
            done(0)

    def renew(self, lease_id: int, now: float, done: Renewed) -> bool:
        """On the primary: give a lease its whole time again.

        Returns:
            The lease had a checkpoint, which is to be taken back through the log.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            done(0)
            return False
        assert lease.expires_at is not None, "only the primary renews"
        if lease.expires_at <= now:
            lease.waiting.append(done)
            return False
        had_checkpoint = lease.remaining > 0
        lease.remaining = 0
        lease.refresh(now)
        self._schedule(lease)
        done(lease.ttl)
        return had_checkpoint

    def checkpoint(self, lease_id: int, remaining: int, now: float) -> None:
        """Note how many seconds a lease has left, on all members."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining = remaining
        if self.primary:
            self._plan_checkpoint(lease, now)

    def attach(self, lease_id: int, key: bytes) -> None:
        self._leases[lease_id].keys[key] = None

    def detach(self, lease_id: int, key: bytes) -> None:
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.keys.pop(key, None)

    def promote(self, now: float, extend: float) -> None:
        """This member leads from now on.

        Args:
            extend: an election timeout, in which the former leader may have renewed leases; seconds.
        """
        self.primary = True
        for lease in self._leases.values():
            self._watch_over(lease, now, extend)

    def demote(self) -> None:
        """Another member leads from now on."""
        self.primary = False
        self._due.clear()
        self._checkpoints.clear()
        for lease in self._leases.values():
            lease.expires_at = None
            lease.waiting.clear()

    def next_timer(self) -> float | None:
        """When a lease expires or is to be checkpointed next."""
        self._drop_outdated()
        due = self._due[0][0] if self._due else None
        if self._checkpoints and (due is None or self._checkpoints[0][0] < due):
            due = self._checkpoints[0][0]
        return due

    def _drop_outdated(self) -> None:
        """Entries of leases that are gone, or were renewed since."""
        while self._due:
            at, _, lease_id = self._due[0]
            lease = self._leases.get(lease_id)
            if lease is not None and lease.expires_at is not None and lease.expires_at <= at:
                return
            heappop(self._due)

    def take_expired(self, now: float) -> list[int]:
        """Ids of leases to revoke; each comes again after `RETRY_INTERVAL` unless it is gone."""
        expired: list[int] = []
        while True:
            self._drop_outdated()
            if not self._due or self._due[0][0] > now:
                return expired
            _, serial, lease_id = heappop(self._due)
            expired.append(lease_id)
            heappush(self._due, (now + RETRY_INTERVAL, serial, lease_id))

    def take_checkpoints(self, now: float) -> list[tuple[int, int]]:
        """Ids of leases to checkpoint now, each with its seconds left."""
        taken = []
        while self._checkpoints and self._checkpoints[0][0] <= now:
            _, _, lease_id = heappop(self._checkpoints)
            lease = self._leases.get(lease_id)
            if lease is None or lease.expires_at is None or lease.expires_at <= now:
                continue
            left = -int(now - lease.expires_at)  # rounded up
            if left < lease.expires_at - now:
                left += 1
            if left < lease.ttl:
                taken.append((lease_id, left))
        return taken

    def copy_from(self, other: Leases) -> None:
        """Take over another member's leases, without their deadlines."""
        self._leases.clear()
        self._due.clear()
        self._checkpoints.clear()
        for lease in other._leases.values():
            mine = self._leases[lease.lease_id] = Lease(lease.lease_id, lease.ttl)
            mine.remaining = lease.remaining
            mine.keys = dict(lease.keys)
