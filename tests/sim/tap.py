# SPDX-License-Identifier: Apache-2.0
"""An ear on each connection: what really went over it, frame by frame, and which rules that broke.

It reads the bytes themselves and shares nothing with the client's own HTTP/2: only this can tell whether
the last byte of a request left, how often a request was sent, and what the windows allowed (S4, S5, S21).

A write carries a *marker* (``~17~``) in its key range or value, so that it is recognised wherever it turns
up: on the wire, and in the log.
"""

from __future__ import annotations

import re
from struct import Struct, unpack_from
from typing import TYPE_CHECKING, Callable

from purecd.memory import statuses
from tests.sim.world import InvariantError

if TYPE_CHECKING:
    from purecd.memory.calls import Status
    from tests.sim.network import Socket

MARKER = re.compile(rb"~(\d+)~")
WATCH_MARKER = re.compile(rb"~w(\d+)~")
PREFACE = 24  # octets
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
REFUSED_STREAM = 7

_head = Struct(">HBBBL").unpack_from  # of a frame: length in two parts, type, flags, stream


def marker_of(data: bytes, pattern: re.Pattern[bytes] = MARKER) -> int:
    """The number of the write that a message asks for, 0 when it is none."""
    found = pattern.search(data)
    return int(found.group(1)) if found is not None else 0


class Sending:
    """One request on its way.

    Args:
        socket: the client's end of its connection.
        stream_id: of its stream there.

    Attributes:
        whole: the last octet of its message was taken by the socket.
        answered: its stream was ended in order by the server, and that has arrived.
        replied: with a message, not with an error.
        refused: the server said that it did not process it.
    """

    __slots__ = ("answered", "marker", "refused", "replied", "socket", "stream_id", "whole")

    def __init__(self, socket: Socket, stream_id: int) -> None:
        self.socket = socket
        self.stream_id = stream_id
        self.marker = 0
        self.whole = False
        self.answered = False
        self.replied = False
        self.refused = False


class _Stream:
    __slots__ = ("data", "local_closed", "remote_closed", "sending", "window")

    def __init__(self, window: int, sending: Sending) -> None:
        self.window = window
        self.data = b""
        self.local_closed = False
        self.remote_closed = False
        self.sending = sending


class Frames:
    """Cuts frames out of bytes."""

    def __init__(self, skip: int, frame: Callable[[int, int, int, bytes], None]) -> None:
        self._skip = skip
        self._rest = b""
        self._frame = frame

    def feed(self, data: bytes) -> None:
        """More bytes; calls back with type, flags, stream and payload of each whole frame."""
        if self._rest:
            data = self._rest + data
        size = len(data)
        at = min(self._skip, size)
        self._skip -= at
        while size - at >= 9:
            high, low, kind, flags, stream_id = _head(data, at)
            end = at + 9 + (high << 8 | low)
            if size < end:
                break
            self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[at + 9 : end])
            at = end
        self._rest = data[at:]


class Tap:
    """What one connection carried.

    Args:
        place: of the connection, for messages.
        socket: the client's end of it.
        whole: called with a `Sending` whose last octet has left.
        create: called with each request for a watcher that has left.
        next_stream_id: the id that the client would use next.

    Attributes:
        going_away: the member said GOAWAY, and meant no harm.
    """

    def __init__(
        self,
        place: str,
        socket: Socket,
        whole: Callable[[Sending], None],
        create: Callable[[bytes], None],
        next_stream_id: Callable[[], int],
    ) -> None:
        self._place = place
        self._socket = socket
        self._whole = whole
        self._create = create
        self._next_stream_id = next_stream_id
        self._out = Frames(PREFACE, self._sent)
        self._in = Frames(0, self._received)
        self._streams: dict[int, _Stream] = {}
        self._window = 65535
        self._initial_window = 65535
        self._max_streams: int | None = None
        self._barred_from: int | None = None  # stream ids that GOAWAY forbids
        self.going_away = False
        self.credit = 65535  # octets of DATA that the member may still send, on all streams
        self.sent = self._out.feed
        self.received = self._in.feed

    def _broken(self, what: str) -> None:
        raise InvariantError(f"S21 {what} on {self._place}")

    def _sent(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            if self._barred_from is not None and stream_id >= self._barred_from:
                self._broken(f"stream {stream_id} opened after GOAWAY")
            stream = _Stream(self._initial_window, Sending(self._socket, stream_id))
            self._streams[stream_id] = stream
            if self._max_streams is not None and self._open() > self._max_streams:
                self._broken(f"{self._open()} streams where {self._max_streams} are allowed")
            stream.local_closed = bool(flags & 1)
        elif kind == DATA:
            self._sent_data(self._streams[stream_id], stream_id, payload, bool(flags & 1))
        elif kind == WINDOW_UPDATE and stream_id == 0:
            self.credit += unpack_from(">L", payload)[0]
        elif kind == RST_STREAM and stream_id in self._streams:
            self._streams[stream_id].local_closed = self._streams[stream_id].remote_closed = True

    @property
    def unanswered(self) -> int:
        """How many calls the member has whole, and will answer yet."""
        return sum(each.local_closed and not each.remote_closed for each in self._streams.values())

    def _open(self) -> int:
        # Closed streams are forgotten here, where it matters how many there are.
        self._streams = {
            number: each
            for number, each in self._streams.items()
            if not (each.local_closed and each.remote_closed)
        }
        return len(self._streams)

    def _sent_data(self, stream: _Stream, stream_id: int, payload: bytes, end: bool) -> None:
        stream.window -= len(payload)
        self._window -= len(payload)
        if stream.window < 0 or self._window < 0:
            self._broken(f"DATA over the window on stream {stream_id}")
        stream.local_closed = end
        stream.data += payload
        while len(stream.data) >= 5:
            length = 5 + int.from_bytes(stream.data[1:5], "big")
            if len(stream.data) < length:
                break
            message, stream.data = stream.data[5:length], stream.data[length:]
            self._message(stream.sending, message)

    def _message(self, sending: Sending, message: bytes) -> None:
        if not sending.whole:
            sending.whole = True
            sending.marker = marker_of(message)
            self._whole(sending)
        if WATCH_MARKER.search(message):
            self._create(message)

    def _received(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        stream = self._streams.get(stream_id)
        if kind == DATA:
            self.credit -= len(payload)
        if kind == SETTINGS and not flags & 1:
            for at in range(0, len(payload), 6):
                self._setting(*unpack_from(">HL", payload, at))
        elif kind == WINDOW_UPDATE:
            if stream_id == 0:
                self._window += unpack_from(">L", payload)[0]
            elif stream is not None:
                stream.window += unpack_from(">L", payload)[0]
        elif kind == GOAWAY:
            last_stream_id, code = unpack_from(">LL", payload)
            self.going_away = code == 0
            self._goaway(last_stream_id & 0x7FFFFFFF)
        elif stream is not None and kind in (HEADERS, DATA):
            stream.sending.replied = stream.sending.replied or kind == DATA
            if flags & 1:
                stream.remote_closed = stream.sending.answered = True
        elif stream is not None and kind == RST_STREAM:
            stream.sending.refused = unpack_from(">L", payload)[0] == REFUSED_STREAM
            stream.local_closed = stream.remote_closed = True

    def _setting(self, key: int, value: int) -> None:
        if key == MAX_CONCURRENT_STREAMS:
            self._max_streams = value
        elif key == INITIAL_WINDOW_SIZE:
            for stream in self._streams.values():
                stream.window += value - self._initial_window
            self._initial_window = value

    def _goaway(self, last_stream_id: int) -> None:
        if self._barred_from is None:
            self._barred_from = self._next_stream_id()
        for number, stream in self._streams.items():
            if number > last_stream_id:
                stream.sending.refused = True
                stream.local_closed = stream.remote_closed = True


# Answers that say that a request did not get as far as the log (docs/failures.md).
UNPROCESSED = {
    statuses.NO_LEADER[1],
    statuses.REQUEST_TOO_MANY_REQUESTS[1],
    statuses.INVALID_AUTH_TOKEN[1],
    statuses.AUTH_OLD_REVISION[1],
    statuses.USER_EMPTY[1],
}
# Answers that leave open whether a write was or will be applied.
OPEN = {
    statuses.TIMEOUT[1],
    statuses.TIMEOUT_DUE_TO_LEADER_FAIL[1],
    statuses.TIMEOUT_DUE_TO_CONNECTION_LOST[1],
    statuses.STOPPED[1],
    statuses.NO_SPACE[1],
    "context deadline exceeded",
    "context canceled",
}


class Sendings:
    """All requests with a marker that were sent, by whatever connection (S4, S5).

    Args:
        answer: the error that a member answered a request with, None if there is none.
    """

    def __init__(self, answer: Callable[[Sending], Status | None]) -> None:
        self._by_marker: dict[int, Sending] = {}
        self._answer = answer

    def whole(self, sending: Sending) -> None:
        """The last octet of a request has left."""
        if not sending.marker:
            return
        before = self._by_marker.get(sending.marker)
        if before is not None and not self._unprocessed(before):
            raise InvariantError(f"S4 write {sending.marker} was sent again, and it may have been applied")
        self._by_marker[sending.marker] = sending

    def _unprocessed(self, sending: Sending) -> bool:
        """Whether the client was told that a request never got to the log."""
        status = self._answer(sending) if sending.answered else None
        return sending.refused or (status is not None and status.text in UNPROCESSED)

    def left_open(self, marker: int) -> bool:
        """Whether a write may have been applied or not, as far as anybody can tell at the client's end.

        Nothing is known of one whose last octet has left until it is refused, or the server ends its stream
        in order; some answers tell no more.
        """
        sending = self._by_marker.get(marker)
        if sending is None or sending.refused:
            return False
        if sending.answered and sending.replied:
            return False
        status = self._answer(sending) if sending.answered else None
        return status is None or status.text in OPEN

    def left(self, marker: int) -> bool:
        """Whether the last octet of any attempt has left."""
        return marker in self._by_marker
