# SPDX-License-Identifier: Apache-2.0
"""One client's HTTP/2 connection to an etcd in memory: bytes in, bytes out, as grpc-go's server does it.

1. A unary call begins with its first message, whether the client half-closes or not; what comes after that
   message is ignored. When a call ends before the client has half-closed, RST_STREAM(NO_ERROR) follows.
2. Above the stream limit: RST_STREAM(REFUSED_STREAM). No gRPC: HTTP status 415, 405 or 400, with a gRPC
   status. Too many PINGs: GOAWAY(ENHANCE_YOUR_CALM, "too_many_pings").
3. Replies of all calls take turns, a frame each, as far as the client's windows go.
4. Shutting down: GOAWAY(2^31-1, "graceful_stop") and a PING; at its answer, or after 5 s, GOAWAY of the last
   stream; the connection closes when the last call has ended. Streams opened after that are not served.
5. A client that breaks HTTP/2 is told by GOAWAY, where grpc-go closes without a word. All calls of a
   connection that ends are cancelled.

Source: grpc-go internal/transport/{http2_server,controlbuf}.go, server.go.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from purecd.memory import frames
from purecd.memory.bandwidth import FIRST, PROBE, Estimate
from purecd.memory.calls import ServerCall, Service, Status
from purecd.memory.callstream import UNIMPLEMENTED, CallStream, MessageReader
from purecd.memory.frames import BrokenFraming, FrameReader
from purecd.memory.headerblocks import SilentDecoder
from purecd.memory.pings import PingGuard
from purecd.memory.requesthead import (
    CONTENT_TYPE,
    Malformed,
    Refusal,
    RequestHead,
    list_size,
    percent_encode,
    quoted,
    read_head,
)

if TYPE_CHECKING:
    from purecd.memory.calls import Handler
    from purecd.memory.journal import Journal
    from purecd.pb.messages import Message

UNLIMITED = 2**32 - 1
LAST_STREAM = 2**31 - 1
MAX_RECEIVE_SIZE = 2_097_152  # etcd: --max-request-bytes and 512 KiB
MAX_HEADER_LIST = 16 << 20
SLACK = 1 << 20  # octets over that limit which end a call, not the connection
DRAIN_PROBE = bytes((1, 6, 1, 8, 0, 3, 3, 9))
DRAIN_TIMEOUT = 5.0
DEADLINE_EXCEEDED = 4
CLIENT_STREAMS = frozenset(("/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"))


class ServerConnection:
    """The server's side of one connection; a machine.

    Args:
        service: answers the calls.
        max_concurrent_streams: more calls at once are refused; the setting is sent when it is given.
        min_ping_interval: seconds (see `PingGuard`).
        bdp_pings: send PINGs to find out how large windows should be, as etcd does.
        common_name: of the client's verified certificate.
        max_receive_size: octets of the largest request message.
        max_header_list: octets of the largest list of request header fields (RFC 9113 §6.5.2).
        journal: keeps what was asked.
        on_output: called when there may be new bytes to send because of something else than this connection's
            own inputs, such as a watched key.

    Attributes:
        closed: nothing more will be received or sent; its socket is to be closed.
    """

    def __init__(
        self,
        service: Service,
        *,
        max_concurrent_streams: int = UNLIMITED,
        min_ping_interval: float = 5.0,
        bdp_pings: bool = True,
        common_name: str = "",
        max_receive_size: int = MAX_RECEIVE_SIZE,
        max_header_list: int = MAX_HEADER_LIST,
        journal: Journal | None = None,
        on_output: Callable[[], None] | None = None,
    ) -> None:
        self._service = service
        self._max_streams = max_concurrent_streams
        self._common_name = common_name
        self._max_receive_size = max_receive_size
        self._max_header_list = max_header_list
        self._journal = journal
        self._on_output = on_output
        self._now = 0.0  # of the last input
        self._reader = FrameReader()
        self._pings = PingGuard(min_ping_interval)
        self._estimate = Estimate() if bdp_pings else None
        self._window = FIRST  # of the connection
        self._streams: dict[int, CallStream] = {}
        self._line: deque[CallStream] = deque()  # streams with something to send
        self._blocked: set[int] = set()  # streams out of window
        self._deadlines: list[tuple[float, int]] = []
        self._last_id = 0
        self._drain_at: float | None = None
        self._draining = False  # the second GOAWAY is out
        self._ending = False  # closed once everything is sent
        self._amid_headers = False  # only CONTINUATION is allowed
        self._out = bytearray()
        self._h2 = _quiet_h2(max_header_list)
        limit = {frames.MAX_CONCURRENT_STREAMS: max_concurrent_streams}
        self._write(
            frames.settings(
                {
                    frames.MAX_FRAME_SIZE_SETTING: frames.MAX_FRAME_SIZE,
                    **(limit if max_concurrent_streams < UNLIMITED else {}),
                }
            )
        )

    @property
    def closed(self) -> bool:
        return self._ending and not self._out

    @property
    def unsent(self) -> int:
        """Octets that `data_to_send` has not handed out, besides replies that wait in their streams."""
        return len(self._out)

    @property
    def calls(self) -> list[ServerCall]:
        """The calls that have not ended, oldest first."""
        return [each.call for each in self._streams.values() if each.call is not None]

    # Inputs.

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes of the client."""
        self._now = now
        try:
            for frame in self._reader.receive(data):
                if self._ending:
                    return
                self._receive_frame(frame, now)
        except BrokenFraming as broken:
            if broken.code is not None:
                self._write(frames.goaway(self._last_id, broken.code, str(broken).encode()))
            self._lose(now)

    def receive_eof(self, now: float) -> None:
        """The client closed the connection."""
        self.abort(now)

    def shutdown(self, now: float) -> None:
        """Stop in order, as at SIGTERM: calls may end, and then the connection closes."""
        if self._ending or self._draining or self._drain_at is not None:
            return
        self._drain_at = now + DRAIN_TIMEOUT
        self._write(frames.goaway(LAST_STREAM, frames.NO_ERROR, b"graceful_stop") + frames.ping(DRAIN_PROBE))

    def abort(self, now: float) -> None:
        """Drop the connection and what was not sent."""
        self._lose(now)
        self._out.clear()

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called, monotonic seconds."""
        while self._deadlines and self._deadlines[0][1] not in self._streams:
            heapq.heappop(self._deadlines)
        due = self._deadlines[0][0] if self._deadlines else None
        if self._drain_at is not None and (due is None or self._drain_at < due):
            due = self._drain_at
        return due

    def handle_timer(self, now: float) -> None:
        """End calls whose deadline has passed, and waiting for an answer to the drain's PING."""
        if self._drain_at is not None and now >= self._drain_at:
            self._drain()
        while self._deadlines and self._deadlines[0][0] <= now:
            stream = self._streams.get(heapq.heappop(self._deadlines)[1])
            if stream is not None and not stream.ending:
                if stream.call is not None:
                    stream.call.cancel(now)
                stream.end(Status(DEADLINE_EXCEEDED, "context deadline exceeded"))

    # Output.

    def data_to_send(self, limit: int | None = None) -> bytes:
        """Bytes for the client.

        Args:
            limit: octets after which no further DATA is taken; what is left waits for the next call.
        """
        self._flush(UNLIMITED if limit is None else limit)
        data = bytes(self._out)
        self._out.clear()
        return data

    def _flush(self, limit: int) -> None:
        while self._line and len(self._out) < limit and not self._ending:
            stream = self._line.popleft()
            stream.queued = False
            if self._streams.get(stream.stream_id) is stream and self._advance(stream):
                self._queue(stream)
            self._write()

    def _advance(self, stream: CallStream) -> bool:
        """Send the next frame of a stream; whether there may be more."""
        stream_id = stream.stream_id
        if stream.backlog:
            if not stream.begun:
                self._send_headers(stream_id, _HEAD, end_stream=False)
                stream.begun = True
            window = self._h2.local_flow_control_window(stream_id)
            if window <= 0:
                self._blocked.add(stream_id)
                return False
            data = stream.take(min(window, self._h2.max_outbound_frame_size, frames.MAX_FRAME_SIZE))
            self._h2.send_data(stream_id, data)
            self._pings.sent()
            return True
        if stream.ending:
            head = [] if stream.begun else _HEAD
            self._send_headers(stream_id, [*head, *_trailers(stream.status)], end_stream=True)
            if self._journal is not None and stream.call is not None:
                self._journal.ended(stream.call, stream.status, self._now)
            if not stream.ended:
                self._h2.reset_stream(stream_id, frames.NO_ERROR)
            self._forget(stream_id)
        return False

    def _send_headers(self, stream_id: int, fields: list[tuple[str, str]], *, end_stream: bool) -> None:
        self._h2.send_headers(stream_id, fields, end_stream=end_stream)
        self._pings.sent()

    def _write(self, frame: bytes = b"") -> None:
        """Put a frame after those that h2 has made so far."""
        self._out += self._h2.data_to_send()
        self._out += frame

    def _queue(self, stream: CallStream) -> None:
        if not stream.queued and stream.stream_id not in self._blocked:
            stream.queued = True
            self._line.append(stream)

    def _has_output(self, stream: CallStream) -> None:
        self._queue(stream)
        if self._on_output is not None:
            self._on_output()

    def _unblock(self) -> None:
        blocked, self._blocked = sorted(self._blocked), set()
        for stream_id in blocked:
            if stream_id in self._streams:
                self._queue(self._streams[stream_id])

    # The connection.

    def _receive_frame(self, frame: bytes, now: float) -> None:
        kind = frame[3]
        if kind == frames.GOAWAY:
            return  # grpc-go's server takes no notice either
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._amid_headers = not frame[4] & frames.END_HEADERS
        elif frame.startswith(frames.PONG) and not self._amid_headers:
            self._receive_pong(frame[len(frames.PONG) :], now)
            return
        late = kind == frames.DATA and frames.stream_of(frame) not in self._streams
        try:
            events = self._h2.receive_data(frame)
        except h2.exceptions.ProtocolError:
            self._write()  # with h2's GOAWAY
            self._lose(now)
            return
        for event in events:
            receive = _RECEIVERS.get(type(event))
            if receive is not None:
                receive(self, event, now)
        if late:
            # h2 answers DATA that crossed our RST_STREAM with another one.
            self._out += frames.without_resets(self._h2.data_to_send())
        self._write()

    def _receive_ping(self, event: Any, now: float) -> None:
        if self._pings.received(now, idle=not self._streams):
            self._write(frames.goaway(self._last_id, frames.ENHANCE_YOUR_CALM, b"too_many_pings"))
            self._lose(now)

    def _receive_pong(self, payload: bytes, now: float) -> None:
        if payload == DRAIN_PROBE and self._drain_at is not None:
            self._drain()
        elif payload == PROBE and self._estimate is not None and self._estimate.answered(now):
            self._widen(self._estimate.size)

    def _receive_window(self, event: Any, now: float) -> None:
        self._unblock()

    def _widen(self, size: int) -> None:
        if size > self._window:
            self._h2.increment_flow_control_window(size - self._window)
            self._window = size
            self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})
            self._write()

    def _drain(self) -> None:
        self._drain_at = None
        self._draining = True
        self._write(frames.goaway(self._last_id, frames.NO_ERROR, b"graceful_stop"))
        self._ending = not self._streams

    def _lose(self, now: float) -> None:
        """Nothing is received or answered any more."""
        self._ending = True
        self._drain_at = None
        streams, self._streams = self._streams, {}
        self._line.clear()
        self._deadlines.clear()
        for stream in streams.values():
            self._cancel(stream, now)

    def _cancel(self, stream: CallStream, now: float) -> None:
        call = stream.call
        if call is None or call.finished:
            return
        if self._journal is not None:
            self._journal.gone(call, now)
        call.cancel(now)

    # Calls.

    def _receive_request(self, event: Any, now: float) -> None:
        stream_id = event.stream_id
        if self._draining:
            return
        self._last_id = stream_id
        ended = event.stream_ended is not None
        if list_size(event.headers) > self._max_header_list:
            self._h2.reset_stream(stream_id, frames.FRAME_SIZE_ERROR)
            return
        try:
            head = read_head(event.headers)
        except Malformed:
            self._h2.reset_stream(stream_id, frames.PROTOCOL_ERROR)
        except Refusal as refusal:
            self._refuse(stream_id, refusal, ended)
        else:
            if len(self._streams) >= self._max_streams:
                self._h2.reset_stream(stream_id, frames.REFUSED_STREAM)
            else:
                self._start(stream_id, head, now)

    def _refuse(self, stream_id: int, refusal: Refusal, ended: bool) -> None:
        head = [(":status", str(refusal.http_status)), ("content-type", CONTENT_TYPE)]
        self._send_headers(stream_id, [*head, *_trailers(refusal.status)], end_stream=True)
        if not ended:
            self._h2.reset_stream(stream_id, frames.NO_ERROR)

    def _start(self, stream_id: int, head: RequestHead, now: float) -> None:
        reader = MessageReader(self._max_receive_size, head.encoding)
        stream = self._streams[stream_id] = CallStream(stream_id, reader, self._has_output)
        deadline = None if head.timeout is None else now + head.timeout
        call = ServerCall(
            head.path, stream, metadata=head.metadata, deadline=deadline, common_name=self._common_name
        )
        stream.call = call
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, stream_id))
        try:
            if "/" not in head.path.lstrip("/"):
                raise Status(UNIMPLEMENTED, f"malformed method name: {quoted(head.path)}")
            stream.message_class = self._service.request_class(head.path)
            call.handler = self._service.start(call, now)
        except Status as status:
            call.finish(status)

    def _receive_data(self, event: Any, now: float) -> None:
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if self._estimate is not None and self._estimate.arrived(event.flow_controlled_length, now):
                self._write(frames.ping(PROBE))
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.call is None or stream.call.handler is None:
            return
        unary = stream.call.path not in CLIENT_STREAMS
        try:
            for data in stream.reader.receive(event.data) if stream.reading else ():
                if not stream.call.finished:
                    stream.reading = not unary
                    self._tell(stream.call, stream.call.handler, stream.parse(data, unary=unary), now)
                if not stream.reading:
                    break
        except Status as status:
            self._refuse_call(stream, status, now)

    def _tell(self, call: ServerCall, handler: Handler, message: Message, now: float) -> None:
        if self._journal is not None:
            self._journal.request(call, message, now)
        handler.receive(message, now)

    def _receive_end(self, event: Any, now: float) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.ended = True
        call = stream.call
        if call is None or call.handler is None or call.finished:
            return
        unary = call.path not in CLIENT_STREAMS
        try:
            if stream.reading and (unary or stream.reader.amid):
                raise stream.cut_off(unary=unary)
            call.handler.half_close(now)
        except Status as status:
            self._refuse_call(stream, status, now)

    def _refuse_call(self, stream: CallStream, status: Status, now: float) -> None:
        """End a call whose handler raised, or that never reached it."""
        stream.reading = False
        call = stream.call
        if call is not None and not call.finished:
            call.cancel(now)
            stream.end(status)

    def _receive_reset(self, event: Any, now: float) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._forget(event.stream_id)
            self._cancel(stream, now)

    def _forget(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._blocked.discard(stream_id)
        if self._draining and not self._streams:
            self._ending = True


_HEAD = [(":status", "200"), ("content-type", CONTENT_TYPE)]

_RECEIVERS: dict[type, Callable[[ServerConnection, Any, float], None]] = {
    h2.events.RequestReceived: ServerConnection._receive_request,
    h2.events.DataReceived: ServerConnection._receive_data,
    h2.events.StreamEnded: ServerConnection._receive_end,
    h2.events.StreamReset: ServerConnection._receive_reset,
    h2.events.PingReceived: ServerConnection._receive_ping,
    h2.events.WindowUpdated: ServerConnection._receive_window,
    h2.events.RemoteSettingsChanged: ServerConnection._receive_window,
}


def _trailers(status: Status | None) -> list[tuple[str, str]]:
    code, text = (0, "") if status is None else (status.code, status.text)
    return [("grpc-status", str(code)), ("grpc-message", percent_encode(text))]


def _quiet_h2(max_header_list: int) -> h2.connection.H2Connection:
    """An h2 connection that has begun without sending its own SETTINGS.

    It checks neither the stream limit nor the fields of requests, both of which h2 would punish by ending the
    whole connection.
    """
    config = h2.config.H2Configuration(
        client_side=False,
        header_encoding=None,
        validate_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    made = h2.connection.H2Connection(config)
    initial: Any = dict(made.local_settings)
    initial[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = UNLIMITED
    made.local_settings = h2.settings.Settings(client=False, initial_values=initial)
    made.decoder = SilentDecoder(max_header_list + SLACK)
    made.initiate_connection()
    made.data_to_send()
    return made
