# SPDX-License-Identifier: Apache-2.0
"""Flow control: what may be sent when, and what is returned when (RFC 9113 §5.2, §6.9).

Rules:

1. DATA leaves only as far as the stream's and the connection's window allow; a stream's
   window may be negative and then waits to grow above zero (§6.9.2).
2. Streams that wait for the connection's window send one frame each in turn. A stream that
   waits for its own window is out of the line until that grows.
3. Windows over 2^31-1 are an error of the peer (§6.9.1).
4. Against a peer that opens windows octet by octet, a frame carries at least 1 KiB, the rest
   of the data, or half of the peer's initial window (the sender's side of RFC 1122 §4.2.3.4).
5. Of received DATA the whole payload counts, padding included (§6.1). The connection's window
   is returned on receipt, a stream's on receipt or when the application consumed it, both
   once half of the window is used up. For a message larger than what is left of its stream's
   window that is opened as soon as the message's length is known, so the server sends it in one go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from . import frames
from .faults import ConnectionFault
from .output import Output
from .streams import Stream

SMALLEST_PIECE = 1024


class SendWindows:
    """The send side of all flow-control windows of one connection, and the data they hold back.

    Args:
        output: where DATA frames go.

    Attributes:
        connection: octets of DATA the connection's window still allows.
        initial: window of a new stream, octets.
        max_frame_size: largest payload of a frame the peer takes, octets.
        at_once: what a new stream may send in one frame, as far as that depends on the settings.
        frames_sent: DATA frames that left through here.
    """

    __slots__ = ("at_once", "connection", "frames_sent", "initial", "line", "max_frame_size", "output")

    def __init__(self, output: Output) -> None:
        self.output = output
        self.connection = frames.DEFAULT_WINDOW
        self.initial = frames.DEFAULT_WINDOW
        self.max_frame_size = frames.DEFAULT_FRAME_SIZE
        self.at_once = frames.DEFAULT_FRAME_SIZE
        self.frames_sent = 0
        self.line: deque[Stream] = deque()  # streams with data that only `connection` holds back

    def send(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        """Queue `data` behind what the stream already waits to send, and send what is allowed."""
        if stream.pending or stream.pending_end:
            stream.pending = stream.pending[stream.pending_at :] + data
            stream.pending_at = 0
            stream.pending_end = end_stream
        elif data:
            stream.pending = data
            stream.pending_at = 0
            stream.pending_end = end_stream
            self._join_line(stream)
        else:
            # §6.9: a frame without payload may be sent however small the window is.
            self.output.put(frames.data_frame(stream.id, b"", end_stream))
            stream.local_closed = end_stream
            if stream.left_at < 0:
                stream.left_at = self.output.queued
            return
        self.pump()

    def grow_connection(self, increment: int) -> list[Stream]:
        """Take a WINDOW_UPDATE for stream 0; returns the streams whose data has all left now."""
        self.connection += increment
        if self.connection > frames.MAX_WINDOW:
            raise ConnectionFault(
                frames.FLOW_CONTROL_ERROR, "window of the connection over 2^31-1 (RFC 9113 §6.9.1)"
            )
        return self.pump() if self.line else []

    def grow_stream(self, stream: Stream, increment: int) -> list[Stream]:
        """Add to one stream's window, which the caller has checked against 2^31-1."""
        stream.send_window += increment
        if not stream.pending or stream.in_line:
            return []
        self._join_line(stream)
        return self.pump()

    def set_initial(self, size: int, streams: Iterable[Stream]) -> list[Stream]:
        """Obey INITIAL_WINDOW_SIZE: open streams' windows move by the difference (§6.9.2)."""
        change = size - self.initial
        self.initial = size
        done: list[Stream] = []
        for stream in streams:
            if stream.send_window + change > frames.MAX_WINDOW:
                raise ConnectionFault(
                    frames.FLOW_CONTROL_ERROR,
                    f"SETTINGS raise the window of stream {stream.id} over 2^31-1 (RFC 9113 §6.9.2)",
                )
            done += self.grow_stream(stream, change)
        return done

    def drop(self, stream: Stream) -> None:
        """Forget a stream's unsent data."""
        stream.pending = b""
        stream.pending_at = 0
        stream.pending_end = False
        if stream.in_line:
            stream.in_line = False
            self.line.remove(stream)

    def pump(self) -> list[Stream]:
        """Send one frame per waiting stream in turn while the windows last."""
        done: list[Stream] = []
        line = self.line
        while line:
            stream = line[0]
            left = len(stream.pending) - stream.pending_at
            enough = min(left, SMALLEST_PIECE, max(1, self.initial >> 1))
            if self.connection < enough:
                break
            line.popleft()
            if stream.send_window < enough:
                stream.in_line = False
                continue
            self._send_piece(stream, min(left, stream.send_window, self.connection, self.max_frame_size))
            if stream.pending:
                line.append(stream)
            else:
                stream.in_line = False
                done.append(stream)
        return done

    def _join_line(self, stream: Stream) -> None:
        stream.in_line = True
        self.line.append(stream)

    def _send_piece(self, stream: Stream, size: int) -> None:
        start = stream.pending_at
        stop = start + size
        self.connection -= size
        stream.send_window -= size
        self.frames_sent += 1
        last = stop == len(stream.pending)
        end_stream = last and stream.pending_end
        self.output.put(frames.data_frame(stream.id, stream.pending[start:stop], end_stream))
        if not last:
            stream.pending_at = stop
            return
        stream.pending = b""
        stream.pending_at = 0
        stream.pending_end = False
        stream.local_closed = end_stream
        if stream.left_at < 0:
            stream.left_at = self.output.queued


class ReceiveWindow:
    """The receive side of the connection's window: octets are returned on receipt.

    Args:
        size: octets the window opens to, at least 65,535.
    """

    __slots__ = ("left", "low", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self.low = size >> 1

    def refill(self) -> int:
        """Increment of the WINDOW_UPDATE that opens the window fully again."""
        increment = self.size - self.left
        self.left = self.size
        return increment
