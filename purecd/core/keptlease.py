# SPDX-License-Identifier: Apache-2.0
"""What the keep-alive machine keeps: leases, streams, and one entry per lease id."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from purecd.admin_types import LeaseKeepAliveReply
from purecd.errors import EtcdError

DRIFT = 0.01  # how much faster than ours the server's clock may run
EARLY = 0.05  # of a third of the TTL: how much sooner a lease may be renewed to go together with others
LONGEST_SHARED = 600  # seconds of TTL; moments are 8 s apart then
MAX_INBOX = 16  # renewals kept for a consumer that does not read

UNKNOWN = float("-inf")


class KeptLease:
    """One lease of one caller, being kept alive; a source of its renewals.

    Args:
        lease_id: id given by the server, 64-bit signed.
        ttl: granted time to live in seconds, 0 when not known.
        sent_at: when the request was sent that `ttl` is the answer to, monotonic seconds; None when not
            known.
        require_leader: give up as soon as the member asked reports that it has no leader.

    Attributes:
        alive_until: monotonic seconds until which the lease is certainly alive, minus infinity before the
            first answer. It only grows.
        error: a `LeaseLost` that says why, once the lease is given up; its cause is the last failure.
        reason: ``""`` while kept, then ``"expired"`` (the server no longer knows it), ``"timeout"``
            (rule 1), ``"refused"``, ``"no leader"`` or ``"closed"`` (by this side).
        closed: ended by this side.
    """

    __slots__ = (
        "alive_until",
        "closed",
        "error",
        "inbox",
        "lease_id",
        "reason",
        "require_leader",
        "ttl",
        "waiter",
    )

    channel = "streams"
    machine = "leases"

    def __init__(
        self, lease_id: int, ttl: int = 0, sent_at: float | None = None, *, require_leader: bool = False
    ) -> None:
        self.lease_id = lease_id
        self.ttl = ttl
        self.require_leader = require_leader
        self.alive_until = UNKNOWN if sent_at is None else alive_until(sent_at, ttl)
        self.inbox: deque[LeaseKeepAliveReply] = deque(maxlen=MAX_INBOX)
        self.error: EtcdError | None = None
        self.reason = ""
        self.closed = False
        self.waiter: Any = None

    @property
    def lost(self) -> bool:
        """Whether the lease was given up."""
        return self.error is not None

    def take(self) -> LeaseKeepAliveReply | None:
        """The oldest renewal not yet taken; of those that nobody takes the latest 16 are kept."""
        return self.inbox.popleft() if self.inbox else None


def alive_until(sent_at: float, ttl: float) -> float:
    """Until when a lease is certainly alive, monotonic seconds.

    Args:
        sent_at: when the answered request was sent.
        ttl: seconds that the answer promised.
    """
    return sent_at + ttl * (1 - DRIFT)


def together(when: float, ttl: int) -> float:
    """Move a renewal to the moment before it that it shares with others.

    Such moments lie at most 5 % of a third of the TTL apart, by powers of two: different TTLs meet, too.

    Args:
        when: monotonic seconds.
        ttl: of the lease, seconds, 1 or more.
    """
    # Bounded, for the TTL is the server's word.
    step = 2.0 ** math.floor(math.log2(min(ttl, LONGEST_SHARED) / 3 * EARLY))
    return when // step * step


class LeaseStream:
    """One LeaseKeepAlive stream.

    Attributes:
        generation, has_token: of the token that it was opened with.
        carrier: the channel's own.
        unanswered: by lease id, when the requests without an answer were sent; oldest lease first.
        heard_at: when the last message arrived.
        suspected_at: when its silence was reported last.
    """

    __slots__ = ("carrier", "generation", "has_token", "heard_at", "link", "suspected_at", "unanswered")

    require_leader = True

    def __init__(self, link: Any, generation: int, has_token: bool) -> None:
        self.link = link
        self.generation = generation
        self.has_token = has_token
        self.carrier: Any = None
        self.unanswered: dict[int, list[float]] = {}
        self.heard_at = UNKNOWN
        self.suspected_at = UNKNOWN

    def asked(self, lease_id: int, now: float) -> None:
        """A request goes out."""
        self.unanswered.setdefault(lease_id, []).append(now)

    def answered(self, lease_id: int) -> float | None:
        """An answer arrived: when its request was sent, None for an answer to nothing.

        The server answers the requests of one lease in their order, each one once.
        """
        times = self.unanswered.pop(lease_id, None)
        if not times:
            return None
        sent_at = times.pop(0)
        if times:
            self.unanswered[lease_id] = times  # now behind the leases that wait longer
        return sent_at


class Entry:
    """What is done for one lease id, on behalf of all who keep it."""

    __slots__ = ("alive_until", "give_up_at", "lease_id", "leases", "ttl")

    def __init__(self, lease_id: int, give_up_at: float) -> None:
        self.lease_id = lease_id
        self.give_up_at = give_up_at  # while nothing is known of the lease
        self.leases: list[KeptLease] = []
        self.alive_until = UNKNOWN
        self.ttl = 0

    @property
    def deadline(self) -> float:
        return self.give_up_at if self.alive_until == UNKNOWN else self.alive_until

    def add(self, lease: KeptLease) -> None:
        """Somebody keeps the lease alive, too."""
        self.leases.append(lease)
        self.ttl = self.ttl or lease.ttl
        self.extend(lease.alive_until)

    def extend(self, moment: float) -> None:
        """The lease is believed alive until `moment`, monotonic seconds, if not longer already."""
        self.alive_until = max(self.alive_until, moment)
        for lease in self.leases:
            lease.alive_until = self.alive_until
