# SPDX-License-Identifier: Apache-2.0
"""A channel: calls in, answers out, over connections that heal themselves.

1. Calls go out on the current link. Without a usable one they wait, until their deadline, and
   the channel dials: one endpoint, and while that takes long another every 250 ms.
2. The first link to get through its greeting becomes the current one; the others that were
   being dialled are closed. A replaced link drains: its calls end there.
3. GOAWAY, silence, a learner's refusal and calls that time out make the channel look for
   another link at once; where no other endpoint is to be had the old one is used on.
4. Every call ends exactly once: `done` with a message or an error. An error says whether the
   request may have been applied; it may from the moment when its last byte left.
5. Whatever ended or got something to read is in `ready` once; the driver takes it from there
   and wakes who waits for it.

Nothing in here blocks, reads a clock or calls the user's code.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.carriers import Carriers
from purecd.core.endpoints import Address, Endpoint, Endpoints, Random
from purecd.core.failures import call_failed, expired
from purecd.core.link import Link, LinkState, lost
from purecd.core.op import Call, Refresh
from purecd.core.serverstream import ServerStream
from purecd.core.tokens import FREE_REFRESHES, REFRESH_GAP, Answer, Greeting, Tokens, is_passing
from purecd.errors import EtcdError
from purecd.wire.grpc import GrpcStream
from purecd.wire.http2 import ENHANCE_YOUR_CALM
from purecd.wire.status import encode_timeout, message_frame

if TYPE_CHECKING:
    from purecd.options import Options

HURRY = 0.25
SHORT_LIFE = 1.0
DEMOTE_AFTER = 0.5
MAX_KEEPALIVE_TIME = 7200.0

_REQUIRE_LEADER = ((b"hasleader", b"true"),)
# Answers that say: this member cannot serve now, another one may.
_UNHEALTHY = (
    errors.NoLeader,
    errors.Timeout,
    errors.TimeoutDueToLeaderFail,
    errors.TimeoutDueToConnectionLost,
    errors.Stopped,
    errors.Unhealthy,
)


class Channel:
    """All connections of one kind of traffic.

    Args:
        options: the client's.
        addresses: the parsed endpoints.
        rng: for jitter and the start of the rotation.
        agent: value of ``user-agent``.
        metadata: what every request carries besides.

    Attributes:
        opening: links to be connected by the driver.
        closing: links whose socket the driver closes once their last bytes are written.
        ready: calls, refreshes and sources that ended or got something to read.
        notes: what happened to links, for logs and hooks: (event, endpoint, detail).
    """

    def __init__(
        self,
        options: Options,
        addresses: list[Address],
        rng: Random,
        agent: str,
        metadata: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.options = options
        self.endpoints = Endpoints(addresses, rng)
        self.tokens = Tokens(options)
        self.carriers = Carriers(self, rng)
        self.links: list[Link] = []
        self.current: Link | None = None
        self.opening: list[Link] = []
        self.closing: list[Link] = []
        self.ready: list[Any] = []
        self.notes: list[tuple[str, str, str]] = []
        self.closed = False
        self._agent = agent
        self._metadata = metadata
        self._waiting: deque[Call] = deque()
        self._keepalive_time = options.keepalive_time
        self._hurry_at: float | None = None
        self._max_receive = options.max_receive_size
        self._require_leader = options.require_leader

    # Calls.

    def start(self, call: Call, now: float) -> None:
        """Send a call, or let it wait for a link. May end it at once."""
        call.started_at = now
        if self.closed:
            self._end(call, errors.ClientClosed("the client is closed"))
            return
        link = self.current
        if link is not None and not link.suspect and link.conn.available_streams() > 0:
            self._send(call, link, now)
            return
        self._waiting.append(call)
        if link is None or link.suspect:
            self._dial(now)

    def _send(self, call: Call, link: Link, now: float) -> None:
        timeout = b""
        if call.deadline is not None:
            remaining = call.deadline - now
            if remaining <= 0:
                self._end(call, expired(call, link.name, None))
                return
            timeout = encode_timeout(remaining)
        if type(call) is ServerStream:
            stream = GrpcStream(call, max_receive=self._max_receive, manual_window=True)
            end_stream = call.half_close
        else:
            stream = GrpcStream(call, max_receive=self._max_receive, unary=True)
            end_stream = True
        call.stream = stream
        call.link = link
        call.generation = link.generation
        call.sent_at = now
        method = call.method
        extra = call.metadata
        if call.require_leader or self._require_leader:
            extra = (*_REQUIRE_LEADER, *extra)
        token = link.token if method.authenticated else b""
        block = link.headers.block(method.raw_path, timeout, token, extra)
        link.conn.open_stream(stream, block, message_frame(call.data), end_stream)

    def expire(self, call: Call, now: float) -> None:
        """The deadline of a call passed."""
        if call.done:
            return
        link: Link | None = call.link
        self._end(call, expired(call, link.name if link else "", self.endpoints.last_error()))
        if link is not None and self.current is link:
            self._missed(link, call, now)

    def _missed(self, link: Link, call: Call, now: float) -> None:
        """A call on the current link got no answer in time: is the link to blame?"""
        if link.last_received <= call.sent_at:
            link.probe(now)
            self._dial(now)
        if now - call.sent_at >= DEMOTE_AFTER:
            self._turn_from(link, now)

    def abandon(self, call: Call) -> None:
        """The caller gave up on a call; its error says whether it may have been applied."""
        if not call.done:
            self._end(call, errors.Canceled("the call was cancelled"))

    def _end(self, call: Call, error: EtcdError) -> None:
        """End a call from this side."""
        stream = call.stream
        if stream is None:
            if call in self._waiting:
                self._waiting.remove(call)
        elif stream.status is None:
            error.maybe_applied = stream.request_left
            call.link.conn.reset_stream(stream)
        error.method = call.method.path
        self._done(call, error)

    def _done(self, call: Call, error: EtcdError | None) -> None:
        call.error = error
        call.done = True
        if type(call) is ServerStream:
            call.closed = True
        self.ready.append(call)

    def refresh(self, request: Refresh, now: float) -> None:
        """Get a newer token than a failed call carried; ends with `again` told or an error."""
        call = request.call
        link: Link | None = call.link
        if link is None or link.state >= LinkState.DRAINING or link.generation != call.generation:
            request.again = True
        elif self.tokens.mode == "cn" or self.tokens.mode == "none":
            # Without a token only "old revision" can pass by itself.
            request.again = isinstance(call.error, errors.AuthOldRevision)
        else:
            link.waiting_refresh.append(request)
            self.start_refresh(link, now)
            return
        request.done = True
        self.ready.append(request)

    def start_refresh(self, link: Link, now: float) -> None:
        """Have the token of a link replaced, unless that is under way."""
        if link.login is not None or link.refresh_at is not None:
            return
        if link.refreshes_in_a_row >= FREE_REFRESHES and now < link.refreshed_at + REFRESH_GAP:
            link.refresh_at = link.refreshed_at + REFRESH_GAP
            return
        greeting = self.tokens.refresh()
        if greeting is not None:
            link.refreshes_in_a_row += 1
            link.refreshed_at = now
            self._greet(link, greeting, now)

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
        elif self.carriers.taken(source, now):
            self.settle(now)
        return item

    def detach(self, source: Any, now: float) -> None:
        """End a source from this side."""
        if isinstance(source, ServerStream):
            self.abandon(source)
            return
        self.carriers.detach(source, now)
        self.settle(now)

    def request_progress(self, require_leader: bool, now: float) -> None:
        """Ask the server to report progress on the watchers of a kind."""
        self.carriers.request_progress(require_leader, now)
        self.settle(now)

    # What happens to links.

    def link_opened(self, link: Link, now: float) -> None:
        """The driver's socket is connected."""
        try:
            link.opened(now)
        except EtcdError as error:
            self._drop(link, error, now)

    def link_received(self, link: Link, data: bytes, now: float) -> None:
        """Bytes arrived."""
        if link.state is LinkState.CLOSED:
            return
        try:
            link.receive(data, now)
        except EtcdError as error:
            self._drop(link, error, now)
            return
        conn = link.conn
        if conn.active:
            self._collect(link, now)
        if link.state is not LinkState.READY or conn.goaway is not None or conn.error is not None:
            self._advance(link, now)
        if self._waiting:
            self._pump(now)
        if self.carriers.busy:
            self.settle(now)

    def link_lost(self, link: Link, error: EtcdError, now: float) -> None:
        """The driver's socket failed, or the peer closed it."""
        if link.state is not LinkState.CLOSED:
            self._drop(link, error, now)

    def _collect(self, link: Link, now: float) -> None:
        """Hand on what streams received."""
        conn = link.conn
        active, conn.active = conn.active, []
        for stream in active:
            owner: Any = stream.owner  # type: ignore[attr-defined]  # every stream here is a GrpcStream
            if type(owner) is Call:
                if stream.status is not None and not owner.done:  # type: ignore[attr-defined]
                    self._finish(owner, stream, link, now)
            elif type(owner) is ServerStream:
                self._stream_active(owner, stream, link, now)
            elif type(owner) is Greeting:
                if stream.status is not None and not owner.done:  # type: ignore[attr-defined]
                    self._greeted(owner, stream, link, now)
            else:
                self.carriers.active(owner, stream, link, now)

    def _finish(self, call: Call, stream: Any, link: Link, now: float) -> None:
        messages = stream.messages
        if stream.status.code == 0 and len(messages) == 1:
            call.message = messages[0]
            call.done = True
            link.refreshes_in_a_row = 0
            self.ready.append(call)
            return
        error = call_failed(call, stream, link.name)
        if self.closed:
            error = _closed_during(error)
        else:
            self._judge(link, error, now)
        self._done(call, error)

    def _stream_active(self, source: ServerStream, stream: Any, link: Link, now: float) -> None:
        if source.closed:
            return
        if stream.messages:
            source.inbox.extend(stream.messages)
            stream.messages.clear()
            self.ready.append(source)
        if stream.status is not None:
            error = None if stream.status.code == 0 else call_failed(source, stream, link.name)
            self._done(source, _closed_during(error) if error is not None and self.closed else error)

    def _judge(self, link: Link, error: EtcdError, now: float) -> None:
        """Draw conclusions about an endpoint from what it answered."""
        if isinstance(error, errors.NotSupportedForLearner):
            if len(self.endpoints) > 1:
                error.elsewhere = True
                self._turn_from(link, now)
        elif isinstance(error, _UNHEALTHY):
            self._turn_from(link, now)

    def _turn_from(self, link: Link, now: float) -> None:
        """Look for another endpoint; new calls wait for it unless it cannot be had."""
        self.endpoints.demote(link.endpoint, now)
        if link is self.current and self.endpoints.better_than(link.endpoint, now):
            self._note("turn", link, "answers badly")
            link.suspect = True
            self._dial(now)

    # From dialling to the end.

    def _dial(self, now: float) -> None:
        """See to it that a link is being dialled."""
        if not self.closed and not any(each.state < LinkState.READY for each in self.links):
            self._dial_one(now)

    def _dial_one(self, now: float) -> None:
        busy = [each.endpoint for each in self.links if each.state < LinkState.READY]
        if self.current is not None and len(self.endpoints) > 1:
            busy.append(self.current.endpoint)
        endpoint = self.endpoints.pick(now, busy)
        self._hurry_at = now + HURRY if endpoint is not None else self.endpoints.next_retry(busy)
        if endpoint is None:
            return
        link = Link(endpoint, self.options, now, self._keepalive_time, self._agent, self._metadata)
        self.tokens.prepare(link)
        self.links.append(link)
        self.opening.append(link)
        self._note("connect", link, "")

    def _wanted(self) -> bool:
        """Whether somebody waits for a link."""
        if self.closed or (self.current is not None and self.current.usable):
            return False
        return bool(self._waiting) or self.carriers.busy

    def _advance(self, link: Link, now: float) -> None:
        """Move a link on after something arrived."""
        conn = link.conn
        if conn.error is not None:
            self._drop(link, conn.error, now)
        elif link.state is LinkState.STARTING:
            if conn.ready:
                link.state = LinkState.GREETING
                self._greet(link, self.tokens.greeting(), now)
        elif conn.goaway is not None and link.state is LinkState.READY:
            self._goaway(link, now)
        if conn.goaway is not None and not conn.open_streams and link.state is not LinkState.CLOSED:
            self._drop(link, errors.Unavailable("the server closed the connection (GOAWAY)"), now)

    def _goaway(self, link: Link, now: float) -> None:
        goaway = link.conn.goaway
        assert goaway is not None
        detail = goaway.debug.decode("utf-8", "replace")[:100]
        self._note("goaway", link, detail)
        if goaway.code == ENHANCE_YOUR_CALM and self._keepalive_time is not None:
            # gRPC keepalive: after too_many_pings the client doubles its keepalive time.
            self._keepalive_time = min(self._keepalive_time * 2, MAX_KEEPALIVE_TIME)
        self._retire(link, now)
        if self._waiting or self.carriers.busy:
            self._dial(now)

    def _retire(self, link: Link, now: float) -> None:
        """Let a link end its streams and take no new ones."""
        link.drain(now)
        if self.current is link:
            self.current = None
        if self.carriers.busy:
            self.carriers.link_draining(link, now)

    def _greet(self, link: Link, greeting: Greeting, now: float) -> None:
        link.login = greeting
        greeting.deadline = now + self.options.dial_timeout
        link.greeting_deadline = greeting.deadline
        self._send(greeting, link, now)

    def _greeted(self, greeting: Greeting, stream: Any, link: Link, now: float) -> None:
        greeting.done = True
        link.login = None
        link.greeting_deadline = None
        if stream.status.code == 0 and len(stream.messages) == 1:
            greeting.message = stream.messages[0]
        else:
            greeting.error = call_failed(greeting, stream, link.name)
        if link.state is LinkState.CLOSED:
            return  # `_drop` speaks for the link
        try:
            answer = self.tokens.answered(link, greeting)
        except errors.ClusterMismatch as error:
            self._drop(link, error, now)
            return
        except ValueError as error:
            broken = errors.ProtocolError(f"undecodable reply to {greeting.method.name}")
            broken.__cause__ = error
            self._drop(link, broken, now)
            return
        if link.state is LinkState.GREETING:
            self._greeting_done(link, answer, greeting, now)
        else:
            self._refresh_done(link, answer, greeting, now)

    def _greeting_done(self, link: Link, answer: Answer, greeting: Greeting, now: float) -> None:
        error = greeting.error
        if answer is Answer.ASK_CLUSTER:
            self._greet(link, self.tokens.ask_cluster(), now)
            return
        if answer is Answer.FAILED and error is not None and not is_passing(error):
            self._note("auth-failed", link, error.message)
            error.final = True
            self._fail_waiting(error)
            self.carriers.auth_failed(error, now)
            self._drop(link, error, now)
            return
        if isinstance(error, _UNHEALTHY) and self.endpoints.better_than(link.endpoint, now):
            self.endpoints.demote(link.endpoint, now)
        self._ready(link, now)

    def _ready(self, link: Link, now: float) -> None:
        """A link got through its greeting: it takes over."""
        link.state = LinkState.READY
        link.opened_at = now
        self.endpoints.succeeded(link.endpoint, now)
        self._hurry_at = None
        self._note("ready", link, "")
        old, self.current = self.current, link
        for other in [each for each in self.links if each.state < LinkState.READY]:
            self._drop(other, None, now)
        if old is not None:
            self._retire(old, now)
            if not old.conn.open_streams:
                self._drop(old, None, now)
        self.carriers.link_ready(link, now)
        self._pump(now)

    def _refresh_done(self, link: Link, answer: Answer, greeting: Greeting, now: float) -> None:
        waiting, link.waiting_refresh = link.waiting_refresh, []
        for request in waiting:
            request.again = answer is not Answer.FAILED
            if answer is Answer.FAILED and self.tokens.mode == "password":
                request.error = greeting.error
            request.done = True
            self.ready.append(request)
        self._note("token", link, answer.value)
        self.carriers.refreshed(link, answer is not Answer.FAILED, greeting.error, now)

    def _drop(self, link: Link, error: EtcdError | None, now: float) -> None:
        """End a link; `error` tells why, None for a link that is not needed any more."""
        state, link.state = link.state, LinkState.CLOSED
        reason = error if error is not None else errors.Unavailable("connection closed by this side")
        reason.endpoint = reason.endpoint or link.name
        link.failure = reason
        self.links.remove(link)
        if self.current is link:
            self.current = None
        if error is None:
            link.conn.close()  # says goodbye with GOAWAY
        else:
            link.conn.receive_eof(reason.message)
        self._collect(link, now)
        if link in self.opening:
            self.opening.remove(link)
        self.closing.append(link)
        self._note("closed", link, reason.message if error is not None else "")
        if error is not None and (state < LinkState.READY or now - link.opened_at < SHORT_LIFE):
            self.endpoints.failed(link.endpoint, error, now)
            self._give_back(now)
        for request in link.waiting_refresh:
            request.again = request.done = True
            self.ready.append(request)
        link.waiting_refresh = []
        self.carriers.link_lost(link, reason, now)
        if self._wanted():
            if error is not None and state < LinkState.READY:
                self._dial_one(now)  # at once, whatever the others being dialled come to
            else:
                self._dial(now)

    def _give_back(self, now: float) -> None:
        """An attempt to get away from a link failed: use it on, if it is alive."""
        current = self.current
        dialling = any(each.state < LinkState.READY for each in self.links)
        if current is not None and current.suspect and current.ping_sent_at is None and not dialling:
            current.suspect = False
            self._pump(now)
        if self.endpoints.all_failed():
            failed = [each for each in self._waiting if each.fail_fast]
            for call in failed:
                self._end(call, _no_endpoint(self.endpoints.last_error()))

    def _fail_waiting(self, error: EtcdError) -> None:
        for call in list(self._waiting):
            own = type(error)(error.message, code=error.code, endpoint=error.endpoint)
            own.final = True
            own.__cause__ = error
            self._end(call, own)

    def _pump(self, now: float) -> None:
        """Send waiting calls as far as the current link takes them."""
        link = self.current
        while self._waiting and link is not None and link.usable and link.conn.available_streams() > 0:
            self._send(self._waiting.popleft(), link, now)

    def settle(self, now: float) -> None:
        """Carry out what the machines of the streams ask for."""
        self.carriers.run(now)
        if self._wanted():
            self._dial(now)

    # Time and end.

    def next_timer(self) -> float | None:
        """When `handle_timer` must be called next, monotonic seconds."""
        timer = self._hurry_at if self._hurry_at is not None and self._wanted() else None
        for link in self.links:
            for moment in (link.next_timer(), link.refresh_at, link.greeting_deadline):
                if moment is not None and (timer is None or moment < timer):
                    timer = moment
        if self.carriers.busy:
            moment = self.carriers.next_timer()
            if moment is not None and (timer is None or moment < timer):
                timer = moment
        return timer

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for link in list(self.links):
            reason = link.check(now)
            if reason is not None:
                self._drop(link, errors.Unavailable(reason, endpoint=link.name), now)
                continue
            if link.refresh_at is not None and now >= link.refresh_at:
                link.refresh_at = None
                self.start_refresh(link, now)
            if link.greeting_deadline is not None and now >= link.greeting_deadline:
                self._drop(link, errors.Unavailable("no answer to the greeting", endpoint=link.name), now)
        if self._wanted() and self._hurry_at is not None and now >= self._hurry_at:
            self._dial_one(now)
        if self.carriers.busy:
            self.carriers.handle_timer(now)
            self.settle(now)

    def replace_endpoints(self, addresses: list[Address], now: float) -> None:
        """Use another list from now on; a link to a removed endpoint drains."""
        self.endpoints.replace(addresses)
        for link in list(self.links):
            if link.endpoint in self.endpoints:
                continue
            if link.state < LinkState.READY:
                self._drop(link, None, now)
            elif link.state is LinkState.READY:
                self._retire(link, now)
                if not link.conn.open_streams:
                    self._drop(link, None, now)
        self.settle(now)

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

    def _note(self, event: str, link: Link, detail: str) -> None:
        self.notes.append((event, link.name, detail))

    def endpoint_of(self, link: Link) -> Endpoint:
        """The endpoint that a link goes to."""
        return link.endpoint


def _closed_during(error: EtcdError) -> EtcdError:
    """The error of a call in flight when the client was closed."""
    return errors.ClientClosed(
        "the client was closed",
        method=error.method,
        endpoint=error.endpoint,
        maybe_applied=error.maybe_applied,
    )


def _no_endpoint(cause: BaseException | None) -> EtcdError:
    """The error of a call that does not want to wait for an endpoint."""
    message = f"no endpoint answered: {cause}" if cause is not None else "no endpoint answered"
    kind = errors.TlsError if isinstance(cause, errors.TlsError) else errors.Unavailable
    error = kind(message)
    error.final = True
    error.__cause__ = cause
    return error


__all__ = ["Channel", "lost"]
