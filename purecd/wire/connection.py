# SPDX-License-Identifier: Apache-2.0
"""What a connection remembers, and how it lets go of streams and of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ProtocolError
from ..records import NamedTuple
from . import frames
from .blocks import BlockDecoder, HeaderBlockParts
from .faults import ConnectionFault
from .output import Output
from .settings import PeerSettings
from .windows import ReceiveWindow, SendWindows

if TYPE_CHECKING:
    from .streams import Stream

CALM_BUDGET = 10_000
CALM_PER_SECOND = 1_000
CALM_PER_FRAME = 10
DISCARDED_IDS = 1024


class GoAway(NamedTuple):
    """The newest GOAWAY.

    Attributes:
        last_stream_id: streams above it were not and will not be processed.
        code: error code, 0 for a graceful stop.
        debug: text for people, at most 1,024 octets kept.
    """

    last_stream_id: int
    code: int
    debug: bytes


class ConnectionState:
    """State of a connection and what both of its halves do with it. See `Http2Connection`."""

    __slots__ = (
        "_block",
        "_data_frames",
        "_decoder",
        "_discarded",
        "_limit",
        "_may_confirm",
        "_next_id",
        "_pings_sent",
        "_progress_seen",
        "_receive_window",
        "_refilled_at",
        "_rest",
        "_rest_size",
        "_sending",
        "_size_update",
        "_spent",
        "_stream_low",
        "_stream_window",
        "_streams",
        "_table_used",
        "_turn",
        "_unconfirmed",
        "active",
        "blocked",
        "closed",
        "error",
        "exhausted",
        "frames_at_once",
        "goaway",
        "max_frame_size",
        "more",
        "output",
        "peer",
        "pings",
        "ready",
        "reason",
        "received_frames",
    )

    def __init__(
        self, stream_window: int, connection_window: int, max_header_list_size: int, max_frame_size: int
    ) -> None:
        self.ready = False
        self.error: ProtocolError | None = None
        self.goaway: GoAway | None = None
        self.closed = False
        self.exhausted = False
        self.reason = ""
        self.active: list[Stream] = []
        self.pings = 0
        self.received_frames = 0
        self.frames_at_once = 1 << 62
        self.more = False
        self.blocked = False
        self.peer = PeerSettings()
        self.output = Output()
        self.max_frame_size = max_frame_size
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._limit = 0  # how many streams may be open at once, 0 while none may be opened
        self._turn = 0  # number of the list now in `active`
        self._sending = SendWindows(self.output)
        self._receive_window = ReceiveWindow(connection_window)
        self._stream_window = stream_window
        self._stream_low = stream_window >> 1
        self._decoder = BlockDecoder(max_header_list_size)
        self._table_used = True  # our encoder may still have a dynamic table, in the server's eyes
        self._size_update = b""  # what our next header block must begin with
        self._block: HeaderBlockParts | None = None
        self._rest = bytearray()  # beginning of a frame that has not fully arrived
        self._rest_size = 0  # octets it has to grow to before another look is worth it
        self._discarded: dict[int, None] = {}  # streams over, whose frames meet no further answer
        self._pings_sent: list[bytes] = []
        self._unconfirmed = 0  # streams we reset that may still count on the server's side
        self._may_confirm = True  # a PING to confirm resets would not be a strike
        self._spent = 0
        self._data_frames = 0
        self._progress_seen = 0
        self._refilled_at = 0.0

    # Ends.

    def _violate(self, stream: Stream, code: int, text: str) -> None:
        """End one stream because the server broke a rule on it."""
        self._drop(stream)
        self._discard(stream.id)
        self.output.reply(frames.rst_stream(stream.id, code))
        stream.receive_violation(code, text)
        self._list(stream)

    def _finish(self, stream: Stream) -> None:
        """The server ended the stream; end our side, too."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._may_confirm = True
        if not stream.local_closed:
            # The server answers without waiting for the rest (RFC 9113 §8.1).
            self._sending.drop(stream)
            self._discard(stream.id)
            self.output.put(frames.rst_stream(stream.id, frames.NO_ERROR))
        if self.goaway is not None:
            self._retire_if_drained()

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream.id]
        self._sending.drop(stream)
        if self.goaway is not None:
            self._retire_if_drained()

    def _retire_if_drained(self) -> None:
        if not self._streams and not self.closed:
            self._end("the server is draining the connection")

    def _fail(self, fault: ConnectionFault) -> None:
        self.error = ProtocolError(fault.text)
        self._part(fault.code)
        self._end(fault.text)

    def _part(self, code: int) -> None:
        """Say GOAWAY; a request that has not left by now does not leave any more."""
        # It ends as lost, and may be sent again elsewhere: were it to leave, it would be executed twice.
        if not all(stream.request_left for stream in self._streams.values()):
            self.output.discard()
        self.output.put(frames.goaway(0, code))  # §6.8: last stream 0, for the server never opened one

    def _end(self, reason: str) -> None:
        """Nothing more comes of this connection; end what is open."""
        self.closed = True
        self.reason = reason
        self._limit = 0
        lost = list(self._streams.values())
        self._streams.clear()
        self._sending.line.clear()
        for stream in lost:
            stream.receive_lost(reason)
            self._list(stream)

    # Bookkeeping.

    def _list(self, stream: Stream) -> None:
        """Put the stream into `active` unless it is there."""
        active = self.active
        if not active:
            self._turn += 1  # the caller has taken the list
        if stream.turn != self._turn:
            stream.turn = self._turn
            active.append(stream)

    def _check_known(self, stream_id: int, name: str) -> None:
        # §5.1: only HEADERS of a server push and PRIORITY may come for an idle stream.
        if not stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"{name} on stream 0 (RFC 9113 §5.1.1)")
        if not stream_id & 1 or stream_id >= self._next_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"{name} on idle stream {stream_id} (RFC 9113 §5.1)")

    def _refuse_closed(self, stream_id: int, now: float) -> None:
        """Answer DATA or HEADERS on a stream that is over, once (RFC 9113 §5.1)."""
        self._spend(now)
        if stream_id not in self._discarded:
            self._discard(stream_id)
            self.output.reply(frames.rst_stream(stream_id, frames.STREAM_CLOSED))

    def _discard(self, stream_id: int) -> None:
        """Answer no further frame of this stream, as long as ids are remembered."""
        self._discarded[stream_id] = None
        if len(self._discarded) > DISCARDED_IDS:
            del self._discarded[next(iter(self._discarded))]

    def _grow_receive_window(self, stream: Stream, increment: int) -> None:
        stream.receive_window += increment
        self.output.put(frames.window_update(stream.id, increment))

    def _charge_connection(self, size: int) -> None:
        self._receive_window.left -= size
        if self._receive_window.left < self._receive_window.low:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Return credit for DATA to the connection's window, which is more than half used."""
        if self._receive_window.left < 0:
            raise ConnectionFault(
                frames.FLOW_CONTROL_ERROR, "DATA over the window of the connection (RFC 9113 §6.9.1)"
            )
        self.output.put(frames.window_update(0, self._receive_window.refill()))

    def _spend(self, now: float) -> None:
        """Count a frame that advances no stream."""
        self._spent += 1
        if self._spent > CALM_BUDGET:
            self._refill(now)

    def _refill(self, now: float) -> None:
        # Every stream opened stands for two frames sent; its DATA frames are counted.
        progress = self._next_id + self._data_frames + self._sending.frames_sent
        earned = CALM_PER_FRAME * (progress - self._progress_seen)
        earned += int(CALM_PER_SECOND * max(0.0, now - self._refilled_at))
        self._progress_seen = progress
        self._refilled_at = now
        self._spent = max(0, self._spent - earned)
        if self._spent > CALM_BUDGET:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM, f"over {CALM_BUDGET} frames that advance no stream"
            )
