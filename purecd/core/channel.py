# SPDX-License-Identifier: Apache-2.0
"""A channel: calls in, answers out, over connections that heal themselves.

1. Calls go out on the current link. Without a usable one, or while its server takes no further
   stream, they wait in line until their deadline.
2. Every call ends exactly once: `done` with a message or an error. An error says whether the
   request may have been applied; it may as soon as nothing keeps its last byte back.
3. No leader, a learner's refusal, requests that time out in the cluster and 0.5 s in which calls
   time out and none is answered make the channel look for another endpoint; in silence the link is
   also tested.
4. Whatever ended or got something to read is in `ready` once; the driver takes it from there
   and wakes who waits for it.
5. An input that a signal cut short leaves nobody knows what half done. `mend` believes only what is
   true at any moment: `calls`, and the lists of watchers and leases. With them it begins anew.

How links come and go is told in `purecd.core.links`, what they ask on their own account in
`purecd.core.logins`. Nothing in here blocks, reads a clock or
calls the user's code.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core import health
from purecd.core.carriers import Carriers
from purecd.core.endpoints import Address, Random
from purecd.core.failures import call_failed, closed_during, expired, no_endpoint, own_copy
from purecd.core.health import NOT_SERVING, SERVING, HealthWatch
from purecd.core.link import Link, LinkState
from purecd.core.links import CUT_SHORT
from purecd.core.logins import Logins
from purecd.core.op import Call
from purecd.core.serverstream import ServerStream
from purecd.core.tokens import Greeting
from purecd.errors import EtcdError
from purecd.wire.grpc import GrpcStream
from purecd.wire.status import message_frame

if TYPE_CHECKING:
    from purecd.options import Options

DEMOTE_AFTER = 0.5
LONG_LIVED = 3
"""Streams: watches with and without `require_leader`, and keep-alives."""
UNDO_TIMEOUT = 5.0

_REQUIRE_LEADER = ((b"hasleader", b"true"),)
# Answers that say: this member cannot serve now, another one may.
_UNHEALTHY = (
    errors.NoLeader,
    errors.Timeout,
    errors.TimeoutDueToLeaderFail,
    errors.TimeoutDueToConnectionLost,
    errors.Stopped,
    errors.Unhealthy,
    errors.DeadlineExceeded,  # the server's: so ends a proposal without a quorum
)


class Channel(Logins):
    """All connections of one kind of traffic.

    Args:
        options: the client's.
        addresses: the parsed endpoints.
        rng: for jitter and the start of the rotation.
        agent: value of ``user-agent``.
        metadata: what every request carries besides.

    Attributes:
        carriers: the machines behind watches and leases, and their streams.
        calls: all that were started and have not ended, oldest first.
        unsent: what arrived or passed caused something to be queued; the driver sets it back.
        stirred: more came of it than that somebody is to be woken. There may be bytes to send, or a timer
            that ends earlier; the driver sets it back.
    """

    def __init__(
        self,
        options: Options,
        addresses: list[Address],
        rng: Random,
        agent: str,
        metadata: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(options, addresses, rng, agent, metadata)
        self.carriers = Carriers(self, rng)
        self.unsent = False
        self.stirred = False
        self.calls: dict[Call, None] = {}
        self._waiting: deque[Call] = deque()
        self._max_receive = options.max_receive_size
        self._require_leader = options.require_leader

    # Calls.

    def start(self, call: Call, now: float) -> None:
        """Send a call, or let it wait for a link. May end it at once."""
        call.started_at = now
        self.calls[call] = None
        link = self.current  # none when closed
        if link is not None and link.usable and link.conn.available_streams() > 0:
            self._send(call, link, now)
            return
        if self.closed:
            self._end(call, errors.ClientClosed("the client is closed"))
            return
        self._waiting.append(call)
        if link is None or not link.usable:
            self._dial(now)

    def _send(self, call: Call, link: Link, now: float) -> None:
        remaining = None
        if call.deadline is not None:
            remaining = call.deadline - now
            if remaining <= 0:
                self._end(call, expired(call, None))
                return
        if type(call) is ServerStream:
            stream = GrpcStream(call, self._max_receive, manual_window=True)
            end_stream = call.half_close
        else:
            stream = call.method.stream(call, self._max_receive, True)
            end_stream = True
        call.stream = stream
        call.link = link
        call.generation = link.generation
        call.sent_at = now
        extra = tuple(call.metadata)
        if call.require_leader or self._require_leader:
            extra = (*_REQUIRE_LEADER, *extra)
        head = link.request_head(call.method, remaining, extra)
        link.conn.open_stream(stream, head, message_frame(call.data), end_stream)
        if link.conn.exhausted and link.state is LinkState.READY:
            self._retire(link, now)  # after 2^30 calls: 60 hours of 5,000 in a second
            if self._wanted():
                self._dial(now)

    def expire(self, call: Call, now: float) -> None:
        """The deadline of a call passed."""
        if call.done:
            return
        reason = self.endpoints.last_error() if self.current is None else None
        self._end(call, expired(call, reason))
        link: Link | None = call.link
        if link is None:
            return
        self.unanswered(link, call.sent_at, now)
        self._ended_here(link, now)

    def unanswered(self, link: Link, sent_at: float, now: float) -> None:
        """What was sent on a link got no answer in time: is the link to blame?"""
        if self.current is not link:
            return
        if link.last_received <= sent_at:
            link.probe(now)
            self._dial(now)
        if link.stalled(sent_at, now) >= DEMOTE_AFTER:
            self._turn_from(link, now)

    def abandon(self, call: Call, now: float) -> None:
        """The caller gave up on a call; its error says whether it may have been applied."""
        if call.done:
            if call.error is None:
                self._undo(call, now)  # the answer came, and reaches nobody
            return
        error = errors.Canceled("the call was cancelled")
        error.final = True
        self._end(call, error)
        if call.link is not None:
            self._ended_here(call.link, now)
        if error.maybe_applied:
            self._undo(call, now)

    def _undo(self, call: Call, now: float) -> None:
        """Undo what a call did of which nobody will know; without a connection it has to stay."""
        undo, link = call.undo, self.current
        if undo is not None and link is not None and link.usable:
            undo.data = undo.method.encode(undo.request)
            undo.deadline = now + UNDO_TIMEOUT
            self.unsent = True
            self.start(undo, now)

    def _ended_here(self, link: Link, now: float) -> None:
        """A stream ended from this side, which may make room for another."""
        self._sweep(link, now)
        if link.login is not None:
            self._push_login(link, now)
        if self._waiting:
            self._pump(now)

    def _end(self, call: Call, error: EtcdError) -> None:
        """End a call from this side."""
        stream = call.stream
        if stream is None:
            if call in self._waiting:
                self._waiting.remove(call)
        else:
            error.maybe_applied = stream.request_leaves and not stream.unprocessed
            error.endpoint = error.endpoint or call.link.name
            call.link.conn.reset_stream(stream)
        error.method = call.method.path
        self._done(call, error)

    def _done(self, call: Call, error: EtcdError | None) -> None:
        call.error = error
        call.done = True
        if type(call) is ServerStream:
            call.closed = True
        self.ready.append(call)
        self.calls.pop(call, None)

    def _wanted(self) -> bool:
        if self.closed or (self.current is not None and self.current.usable):
            return False
        return bool(self._waiting) or self.carriers.busy

    def _pump(self, now: float) -> None:
        link = self.current
        while self._waiting and link is not None and link.usable and link.conn.available_streams() > 0:
            self._send(self._waiting.popleft(), link, now)
            self.unsent = True

    def _unreachable(self) -> None:
        for call in [each for each in self._waiting if each.fail_fast]:
            self._end(call, no_endpoint(self.endpoints.last_error()))

    def elsewhere(self, call: Call, now: float) -> None:
        """An answer will not do: prefer another endpoint than the one that gave it."""
        if call.link is not None:
            self._turn_from(call.link, now)

    @property
    def few_streams(self) -> bool:
        """Whether a connection takes fewer streams than watches and leases may need together."""
        return self.current is not None and self.current.conn.peer.max_concurrent_streams < LONG_LIVED

    # Sources.

    def attach(self, source: Any, now: float) -> None:
        """Begin a source."""
        if isinstance(source, ServerStream):
            self.start(source, now)
            return
        if self.closed:
            raise errors.ClientClosed("the client is closed")
        self.carriers.attach(source, now)
        self.settle(now)

    def take(self, source: Any, now: float) -> Any:
        """The next item of a source, None when there is none at the moment."""
        item = source.take()
        if item is None:
            return None
        if isinstance(source, ServerStream):
            if source.stream is not None and source.stream.status is None:
                source.link.conn.consume(source.stream, len(item))
                self.stirred = True
        elif self.carriers.taken(source, now):
            self.settle(now)
        return item

    def detach(self, source: Any, now: float) -> None:
        """End a source from this side."""
        if isinstance(source, ServerStream):
            self.abandon(source, now)
            return
        self.carriers.detach(source, now)
        self.settle(now)

    def request_progress(self, require_leader: bool, now: float) -> None:
        """Ask the server to report progress on the watchers of a kind."""
        self.carriers.request_progress(require_leader, now)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Carry out what the machines of the streams ask for."""
        self.stirred = True
        self.carriers.run(now)
        for link in list(self.links):
            self._sweep(link, now)
            if link.conn.unwritten:
                self.unsent = True
        if self._wanted():
            self._dial(now)

    # What arrives.

    def link_received(self, link: Link, data: bytes, now: float) -> None:
        """Bytes arrived."""
        if link.state is LinkState.CLOSED:
            return
        try:
            link.receive(data, now)
        except EtcdError as error:
            self._drop(link, error, now)
            self.stirred = True
            return
        conn = link.conn
        if conn.closed or (conn.goaway is not None and link.state < LinkState.READY):
            self._connection_ended(link, now)
        else:
            calm = bool(conn.active) and self._collect(link, now)
            moves = link.state is not LinkState.READY or conn.goaway is not None or link.login is not None
            if calm and not (moves or self._waiting or conn.unwritten):
                self.carriers.tell()  # the usual case of a watch
                return
            if link.state is not LinkState.READY or conn.goaway is not None:
                self._advance(link, now)
            if link.login is not None:
                self._push_login(link, now)
        if self._waiting:
            self._pump(now)
        if self.carriers.busy:
            self.settle(now)

    def link_blocked(self, link: Link, blocked: bool, now: float) -> None:
        """The socket takes no more bytes for now, or it does again; meanwhile no stream is opened."""
        link.conn.blocked = blocked
        if not blocked and link.state is not LinkState.CLOSED:
            if self._waiting:
                self._pump(now)
            if self.carriers.busy:
                self.settle(now)

    def _collect(self, link: Link, now: float) -> bool:
        conn = link.conn
        active: list[Any] = conn.active  # every stream here is a GrpcStream
        conn.active = []
        calm = 0
        for stream in active:
            owner = stream.owner
            if type(owner) is Call:
                status = stream.status
                if status is not None and not owner.done:
                    # No cycle: what a call leaves behind is free at once, without the collector.
                    stream.owner = None
                    messages = stream.messages
                    if status.code == 0 and len(messages) == 1:
                        owner.message = messages[0]
                        owner.done = True
                        link.refreshes_in_a_row = 0
                        link.stalled_since = None
                        self.ready.append(owner)
                        self.calls.pop(owner, None)
                    else:
                        self._done(owner, self._failure(owner, stream, link, now))
            elif type(owner) is ServerStream:
                self._stream_active(owner, stream, link, now)
            elif type(owner) is Greeting:
                if stream.status is not None and owner is link.login:
                    self._greeted(owner, stream, link, now)
            elif type(owner) is HealthWatch:
                self._health_told(owner, link, now)
            else:
                calm += self.carriers.active(owner, stream, link, now)
        return calm == len(active)

    def _stream_active(self, source: ServerStream, stream: Any, link: Link, now: float) -> None:
        if source.closed:
            return
        if stream.messages:
            source.inbox.extend(stream.messages)
            stream.messages.clear()
            link.refreshes_in_a_row = 0
            link.stalled_since = None
        if stream.status is None:
            self.ready.append(source)
        else:
            self._done(source, self._failure(source, stream, link, now) if stream.status.code else None)

    def _failure(self, call: Call, stream: Any, link: Link, now: float) -> EtcdError:
        """The error of a call whose stream ended, and what follows for the endpoint."""
        error = call_failed(call, stream, link.name)
        if self.closed:
            return closed_during(error)
        if isinstance(error, errors.Canceled) and call.deadline is not None and now >= call.deadline:
            # The server measures the deadline too, and cancels the stream when it was quicker to look.
            late = expired(call, None)
            late.maybe_applied, late.method = error.maybe_applied, error.method
            error = late
        if isinstance(error, errors.DeadlineExceeded):
            # One that was short says nothing about the member that reports it, but many in a row do.
            if link.stalled(call.sent_at, now) >= DEMOTE_AFTER:
                self.judge(link, error, now)
        else:
            if stream.status.source == "trailers":
                link.stalled_since = None
            self.judge(link, error, now)
        return error

    def judge(self, link: Link, error: EtcdError, now: float) -> None:
        """Draw conclusions about an endpoint from what it answered."""
        if isinstance(error, errors.NotSupportedForLearner):
            if len(self.endpoints) > 1:
                error.elsewhere = True
                self._turn_from(link, now)
        elif isinstance(error, _UNHEALTHY):
            self._turn_from(link, now)

    def _health_told(self, watch: HealthWatch, link: Link, now: float) -> None:
        state = watch.take()
        if link.health is not watch:
            return
        if state == NOT_SERVING:
            self._turn_from(link, now, "says that it does not serve")
        elif state == SERVING and link.avoided:
            self._take_back(link, now)

    # What happens to links.

    def _serving(self, link: Link, now: float) -> None:
        self.carriers.link_ready(link, now)
        self._pump(now)
        if self.options.health_check and len(self.endpoints) > 1:
            health.begin(link)

    def _barred(self, error: EtcdError, now: float) -> None:
        for call in list(self._waiting):
            self._end(call, own_copy(error))
        self.carriers.auth_failed(error, now)

    def _refreshed(self, link: Link, ok: bool, error: EtcdError | None, now: float) -> None:
        self.carriers.refreshed(link, ok, error, now)

    def _draining(self, link: Link, now: float) -> None:
        health.end(link)
        super()._draining(link, now)
        self.carriers.link_draining(link, now)

    def _gone(self, link: Link, error: EtcdError, now: float) -> None:
        super()._gone(link, error, now)
        self.carriers.link_lost(link, error, now)

    # Time and end.

    def next_timer(self) -> float | None:
        """When `handle_timer` must be called next, monotonic seconds."""
        timer = self._hurry_at if self._hurry_at is not None and self._wanted() else None
        for link in self.links:
            moment = link.next_timer()
            if moment is not None and (timer is None or moment < timer):
                timer = moment
            if link.refresh_at is not None and (timer is None or link.refresh_at < timer):
                timer = link.refresh_at
            if link.login is not None and (timer is None or link.login.deadline < timer):
                timer = link.login.deadline
        if self.carriers.busy:
            moment = self.carriers.next_timer()
            if moment is not None and (timer is None or moment < timer):
                timer = moment
        return timer

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for link in list(self.links):
            if link.state is LinkState.CLOSED:
                continue
            reason = link.check(now)
            if reason is not None:
                self._drop(link, errors.Unavailable(reason, endpoint=link.name), now)
                continue
            if link.refresh_at is not None and now >= link.refresh_at:
                link.refresh_at = None
                self.start_refresh(link, now)
            if link.login is not None and now >= link.login.deadline:
                self._login_late(link, now)
        if self._hurry_at is not None and now >= self._hurry_at and self._wanted():
            self._dial_one(now)
        if self.carriers.busy:
            self.carriers.handle_timer(now)
            self.settle(now)

    def mend(self, now: float) -> None:
        """A signal cut an input short: give up all connections, and begin anew with new ones.

        Calls that had not been sent wait for the next connection; the others end, and may have been
        applied. Who waits for anything looks for himself afterwards, as `ready` is not complete.
        """
        super().mend(now)
        self._waiting.clear()
        for call in list(self.calls):
            if call.done:
                del self.calls[call]
            elif call.stream is None and not self.closed:
                self._waiting.append(call)
            else:
                error = errors.Unavailable(f"connection lost: {CUT_SHORT}", method=call.method.path)
                error.maybe_applied = call.stream is not None
                self._done(call, closed_during(error) if self.closed else error)
        self.carriers.mend(now)
        if self.closed:
            self.carriers.close(now)
        elif self._wanted():
            self._dial(now)

    def replace_endpoints(self, addresses: list[Address], now: float) -> None:
        """Use another list from now on; a link to a removed endpoint drains."""
        super().replace_endpoints(addresses, now)
        self.settle(now)

    def orphan(self, error: EtcdError) -> None:
        """The connections are out of reach: end what was begun on them, and send nothing.

        For a child process, and for an event loop that was closed. Whatever another thread was
        doing at that moment stays undone, so nothing is done here but to end the sources.

        Args:
            error: what is raised in whoever reads one of them.
        """
        self.closed = True
        self.carriers.orphan(error)
        for call in list(self.calls):
            if type(call) is ServerStream and not call.closed:
                call.error = own_copy(error)
                call.done = call.closed = True
        for link in self.links:
            link.state = LinkState.CLOSED
        self.links, self.opening, self.closing, self.current = [], [], [], None

    def close(self, now: float) -> None:
        """End everything; each call in flight ends with `ClientClosed`."""
        if self.closed:
            return
        self.closed = True
        self.carriers.close(now)
        for call in list(self._waiting):
            self._end(call, errors.ClientClosed("the client was closed"))
        for link in list(self.links):
            self._drop(link, None, now)
