# SPDX-License-Identifier: Apache-2.0
"""Leases kept alive: the machine that renews all of a client's leases on one stream.

1. A lease is believed alive until its TTL, less 1 % for clocks that drift, has passed since the last
   *answered* request was sent: this side gives up before the server does.
2. A lease is renewed when a third of its TTL has passed, give or take 10 %, and up to 5 % earlier to go
   together with others: a thousand leases do not wake the process a thousand times. A request without an
   answer is repeated once on the same stream, and sent again on the next one. When it has to be repeated and
   the stream has been silent since, the connection is suspected: a hung member must not cost a lease.
   When the repetition gets no answer either, the stream is replaced: a member that waits for a hung
   leader reads nothing more from it for 7 s. What the replaced one still answers counts, until it is
   the next one's turn: so a member may take up to six tenths of the TTL for each answer.
3. A stream that ends is opened again after 50 ms, growing to 500 ms until something is answered. A
   connection that drains is left as soon as there is another. Nothing but rule 1 gives a lease up,
   except what 4 to 6 say.
4. A TTL of 0 or less in an answer means that the lease is gone.
5. PermissionDenied ends the stream of all leases without naming one. The unanswered ones are then sent
   one at a time until the refused one is found; it ends, the others go on.
6. A rejected token is replaced once for each stream that reports it. When nobody can log in, all end.
7. A member without a leader is asked again, except for leases that were added with `require_leader`.

Source: etcd client/v3/lease.go, server/etcdserver/api/v3rpc/lease.go; the deadline counts from sending
where that client counts from receiving.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Union

from purecd import errors
from purecd.admin_types import LeaseKeepAliveReply
from purecd.core.actions import CloseStream, OpenStream, Refresh, Send, Suspect
from purecd.core.keptlease import UNKNOWN, Entry, KeptLease, LeaseStream, alive_until, together
from purecd.core.timers import Timers
from purecd.errors import EtcdError, StatusCode
from purecd.pb import codecs
from purecd.types import Header

if TYPE_CHECKING:
    from purecd.core.endpoints import Random

__all__ = ["KeepAlives", "KeptLease", "LeaseStream", "alive_until"]

Action = Union[OpenStream, Send, CloseStream, Refresh, Suspect]

JITTER = 0.1
FIRST_PAUSE = 0.05  # seconds before a stream that ended is opened again
MAX_PAUSE = 0.5
MIN_RESEND = 0.5  # seconds; a request younger than this, or than TTL/6, is not repeated
MAX_UNANSWERED = 2  # requests per lease and stream
MIN_PATIENCE = 5.0  # seconds for the first answer about a lease of unknown TTL


class KeepAlives:
    """All leases that a client keeps alive.

    Args:
        auth_mode: ``"password"``, ``"static"``, ``"cn"`` or ``"none"``; only the first two have a token
            that can be replaced.
        rng: for jitter.
        dial_timeout: seconds a connection may take to come up; the first answer may take longer by 1 s.
    """

    calm: ClassVar[bool] = False  # whatever comes may move a timer

    def __init__(self, *, auth_mode: str, rng: Random, dial_timeout: float = 5.0) -> None:
        self._can_refresh = auth_mode in ("password", "static")
        self._rng = rng
        self._patience = max(MIN_PATIENCE, dial_timeout + 1.0)
        self._entries: dict[int, Entry] = {}
        self._deadlines: Timers[Entry] = Timers()
        self._renewals: Timers[Entry] = Timers()
        self._link: Any = None
        self._generation = 0
        self._has_token = False
        self._stream: LeaseStream | None = None
        self._parted: LeaseStream | None = None  # replaced, but may still answer
        self._moving = False  # the stream's link drains
        self._stale = False  # the link's token was rejected
        self._refreshing = False
        self._reopen_at = UNKNOWN
        self._pause = FIRST_PAUSE
        self._suspects: deque[int] | None = None  # lease ids on probation (rule 5)
        self._last_error: EtcdError | None = None
        self._actions: list[Action] = []
        self._ready: dict[KeptLease, None] = {}
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do and nothing to hand out."""
        return not (self._entries or self._actions or self._ready)

    # Commands.

    def add(self, lease: KeptLease, now: float) -> None:
        """Keep a lease alive; the first request goes out at once."""
        if self._closed:
            self._finish(lease)
            return
        entry = self._entries.get(lease.lease_id)
        if entry is None:
            entry = Entry(lease.lease_id, now + max(lease.ttl, self._patience))
            self._entries[lease.lease_id] = entry
            self._renewals.set(entry, now)
        entry.add(lease)
        self._deadlines.set(entry, entry.deadline)
        self._advance(now)

    def remove(self, lease: KeptLease, now: float) -> None:
        """Stop keeping a lease; without anybody else who keeps it, it is no longer renewed."""
        if lease.closed or lease.lost:
            return
        entry = self._entries.get(lease.lease_id)
        if entry is not None and lease in entry.leases:
            entry.leases.remove(lease)
            if not entry.leases:
                self._forget(entry)
        self._finish(lease)
        self._advance(now)

    def orphan(self, error: EtcdError) -> None:
        """Nothing will move any more: give up all leases; whether they live is another's business."""
        for entry in self._entries.values():
            for lease in entry.leases:
                lease.reason = "closed"
                lease.error = copy.copy(error)

    def close(self, now: float) -> None:
        """Stop keeping all leases; none of them counts as lost."""
        self._closed = True
        for entry in list(self._entries.values()):
            for lease in entry.leases:
                self._finish(lease)
            self._forget(entry)

    # Links.

    def link_ready(self, link: Any, generation: int, has_token: bool, now: float) -> None:
        """A connection takes over; streams of a draining one move to it at once."""
        self._link = link
        self._token_of_link(generation, has_token)
        if self._stream is not None and self._moving and self._stream.link is not link:
            self._actions.append(CloseStream(self._stream))
            self._detach(now)
            self._reopen_at = now
        self._advance(now)

    def link_draining(self, link: Any, now: float) -> None:
        """A connection takes no new streams; those it has are used until another is ready."""
        self._leave(link)
        if self._stream is not None and self._stream.link is link:
            self._moving = True
        self._advance(now)

    def link_lost(self, link: Any, error: EtcdError, now: float) -> None:
        """A connection is gone, with its streams."""
        self._leave(link)
        if self._parted is not None and self._parted.link is link:
            self._parted = None
        if self._stream is not None and self._stream.link is link:
            self._last_error = error
            self._detach(now)
            self._reopen_later(now)
        self._advance(now)

    def mend(self, now: float) -> None:
        """A signal cut an input short: ask for every lease anew, on another stream."""
        self._link = self._stream = None
        self._moving = self._stale = self._refreshing = False
        self._suspects = None
        self._reopen_at = now
        self._actions.clear()
        self._deadlines, self._renewals = Timers(), Timers()
        for entry in list(self._entries.values()):
            entry.leases = [each for each in entry.leases if not (each.lost or each.closed)]
            if not entry.leases:
                del self._entries[entry.lease_id]
                continue
            entry.extend(entry.alive_until)
            self._deadlines.set(entry, entry.deadline)
            self._renewals.set(entry, now)

    def refreshed(self, link: Any, generation: int, has_token: bool, now: float) -> None:
        """A connection has a newer token."""
        if link is self._link:
            self._token_of_link(generation, has_token)
            self._advance(now)

    def refresh_failed(self, link: Any, error: EtcdError | None, now: float) -> None:
        """No newer token could be had; final only when the credentials themselves were refused."""
        if link is not self._link or not self._refreshing:
            return
        self._refreshing = False
        if error is not None and isinstance(error, errors.AuthFailed):
            if error.__cause__ is None and error is not self._last_error:
                error.__cause__ = self._last_error
            self.auth_failed(error, now)
            return
        self._reopen_later(now)
        self._advance(now)

    def auth_failed(self, error: EtcdError, now: float) -> None:
        """Nobody can log in with the client's credentials, so nothing can be renewed."""
        for entry in list(self._entries.values()):
            self._lose(entry, "refused", "can no longer be renewed", error)

    def _token_of_link(self, generation: int, has_token: bool) -> None:
        self._generation = generation
        self._has_token = has_token
        self._stale = self._refreshing = False

    def _leave(self, link: Any) -> None:
        if link is self._link:
            self._link = None
            self._stale = self._refreshing = False  # the next link brings its own token

    # Streams.

    def stream_message(self, stream: LeaseStream, reply: tuple[Header, int, int], now: float) -> None:
        """An answer: header, lease id, and the TTL in seconds from when the server renewed the lease."""
        if stream is not self._stream and stream is not self._parted:
            return
        header, lease_id, ttl = reply
        stream.heard_at = now
        self._pause = FIRST_PAUSE
        self._last_error = None
        sent_at = stream.answered(lease_id)
        entry = self._entries.get(lease_id)
        if stream is self._parted and not stream.unanswered:
            self._close_parted()
        if entry is not None and sent_at is not None:
            if ttl > 0:
                current = self._stream
                asked_again = current is not None and current is not stream and lease_id in current.unanswered
                self._renewed(entry, LeaseKeepAliveReply(header, lease_id, ttl, sent_at), asked_again)
            else:
                self._lose(entry, "expired", "has expired or was revoked", errors.LeaseNotFound())
        self._advance(now)

    def _renewed(self, entry: Entry, reply: LeaseKeepAliveReply, asked_again: bool) -> None:
        entry.ttl = reply.ttl
        entry.extend(alive_until(reply.sent_at, reply.ttl))
        self._deadlines.set(entry, entry.deadline)
        if not asked_again:
            self._renewals.set(entry, together(reply.sent_at + reply.ttl / 3 * self._jitter(), reply.ttl))
        for lease in entry.leases:
            lease.ttl = reply.ttl
            lease.inbox.append(reply)
            self._ready[lease] = None

    def stream_ended(self, stream: LeaseStream, error: EtcdError, now: float) -> None:
        """The stream is over, in whatever way."""
        if stream is self._parted:
            self._parted = None
        if stream is not self._stream:
            return
        self._last_error = error
        waiting = list(stream.unanswered)
        at_once = self._moving
        self._detach(now)
        if error.code is StatusCode.PERMISSION_DENIED and waiting:
            at_once = self._denied(waiting, error) or at_once
        elif errors.is_stale_token(error):
            self._token_rejected(stream)
        elif isinstance(error, errors.NoLeader):
            self._no_leader(error)
        if at_once:
            self._reopen_at = now
        else:
            self._reopen_later(now)
        self._advance(now)

    def _denied(self, waiting: list[int], error: EtcdError) -> bool:
        """Rule 5; whether the refused lease is known."""
        if len(waiting) > 1:
            # The server works in order, so the first one is the likeliest.
            self._suspects = deque(waiting)
            return False
        entry = self._entries.get(waiting[0])
        if entry is not None:
            self._lose(entry, "refused", "may not be renewed", error)
        return True

    def _token_rejected(self, stream: LeaseStream) -> None:
        current = stream.link is self._link and stream.generation == self._generation
        if self._can_refresh and current:
            self._stale = True
            self._refresh()

    def _refresh(self) -> None:
        self._refreshing = True
        self._actions.append(Refresh(self._link, self._generation))

    def _no_leader(self, error: EtcdError) -> None:
        for entry in list(self._entries.values()):
            for lease in [each for each in entry.leases if each.require_leader]:
                self._end(lease, "no leader", "is not renewed without a leader", error)
                entry.leases.remove(lease)
            if not entry.leases:
                self._forget(entry)

    # Time.

    def next_timer(self) -> float | None:
        """When `handle_timer` is due, monotonic seconds; None when nothing is waited for."""
        moments = [self._deadlines.first()]
        if self._stream is not None:
            if self._suspects is None:
                moments.append(self._renewals.first())
        elif self._entries and self._link is not None and not self._refreshing:
            moments.append(self._reopen_at)
        return min((each for each in moments if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._advance(now)

    # Outputs.

    def take_actions(self) -> list[Action]:
        """What the channel has to do, in this order."""
        actions, self._actions = self._actions, []
        return actions

    def take_ready(self) -> list[KeptLease]:
        """Leases that were renewed or ended since the last time."""
        ready, self._ready = self._ready, {}
        return list(ready)

    # The engine: every input ends here.

    def _advance(self, now: float) -> None:
        self._expire(now)
        if self._stream is None:
            self._open(now)
        if self._stream is not None:
            self._pump(self._stream, now)

    def _expire(self, now: float) -> None:
        while (entry := self._deadlines.pop_due(now)) is not None:
            stream = self._stream
            times = None if stream is None else stream.unanswered.get(entry.lease_id)
            self._lose(entry, "timeout", "was not renewed in time", self._last_error)
            if stream is not None and stream is self._stream and times and stream.heard_at <= times[0]:
                # It let a lease run out in silence: it may not speak for the others either.
                self._actions.append(CloseStream(stream))
                self._detach(now)
                self._reopen_later(now)

    def _open(self, now: float) -> None:
        if not self._entries or self._link is None or self._refreshing or now < self._reopen_at:
            return
        if self._stale:
            self._refresh()
            return
        self._stream = LeaseStream(self._link, self._generation, self._has_token)
        self._actions.append(OpenStream(self._stream))

    def _pump(self, stream: LeaseStream, now: float) -> None:
        if self._suspects is not None:
            while self._suspects and not stream.unanswered:
                suspect = self._entries.get(self._suspects.popleft())
                if suspect is not None:
                    self._send(stream, suspect, now)
            if stream.unanswered:
                return
            self._suspects = None
        while self._stream is stream and (entry := self._renewals.pop_due(now)) is not None:
            self._send(stream, entry, now)

    def _send(self, stream: LeaseStream, entry: Entry, now: float) -> None:
        times = stream.unanswered.get(entry.lease_id, [])
        silent = bool(times) and stream.heard_at <= times[0]
        if silent and stream.suspected_at <= times[0]:
            stream.suspected_at = now
            self._actions.append(Suspect(stream.link, times[0]))
        if len(times) >= MAX_UNANSWERED:
            self._renewals.discard(entry)  # until an answer or the next stream
            if silent:
                self._replace(stream, now)
            return
        stream.asked(entry.lease_id, now)
        self._actions.append(Send(stream, codecs.encode_keepalive(entry.lease_id)))
        self._renewals.set(entry, now + max(entry.ttl / 6, MIN_RESEND))

    def _replace(self, stream: LeaseStream, now: float) -> None:
        """Leave a silent stream for a new one, on the same connection if there is no other."""
        self._close_parted()
        self._detach(now)
        self._parted = stream
        self._reopen_at = now
        self._open(now)
        if self._stream is not None:
            self._pump(self._stream, now)

    def _close_parted(self) -> None:
        if self._parted is not None:
            self._actions.append(CloseStream(self._parted))
            self._parted = None

    def _detach(self, now: float) -> None:
        """Part with the stream; what it left unanswered is due again."""
        stream, self._stream = self._stream, None
        self._moving = False
        self._suspects = None
        if stream is not None:
            for lease_id in stream.unanswered:
                entry = self._entries.get(lease_id)
                if entry is not None:
                    self._renewals.set(entry, now)

    def _reopen_later(self, now: float) -> None:
        self._reopen_at = now + self._pause * self._jitter()
        self._pause = min(self._pause * 2, MAX_PAUSE)

    def _jitter(self) -> float:
        return 1 + JITTER * (2 * self._rng.random() - 1)

    # Ends.

    def _lose(self, entry: Entry, reason: str, what: str, cause: EtcdError | None) -> None:
        for lease in entry.leases:
            self._end(lease, reason, what, cause)
        self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.lease_id]
        self._deadlines.discard(entry)
        self._renewals.discard(entry)
        if not self._entries:
            self._close_parted()
        if not self._entries and self._stream is not None:
            self._actions.append(CloseStream(self._stream))
            self._stream = None
            self._moving = False
            self._suspects = None

    def _end(self, lease: KeptLease, reason: str, what: str, cause: EtcdError | None) -> None:
        # One error for each lease: every waiter raises its own.
        error = errors.LeaseLost(f"lease {lease.lease_id & 0xFFFFFFFFFFFFFFFF:x} {what}", reason=reason)
        if cause is not None:
            error.__cause__ = cause
            error.endpoint = cause.endpoint
        lease.inbox.clear()
        lease.reason = reason
        lease.error = error
        self._ready[lease] = None

    def _finish(self, lease: KeptLease) -> None:
        lease.inbox.clear()
        lease.reason = "closed"
        lease.closed = True
        self._ready[lease] = None
