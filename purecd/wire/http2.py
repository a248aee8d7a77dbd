# SPDX-License-Identifier: Apache-2.0
"""The client side of one HTTP/2 connection: what its user calls.

Source: RFC 9113; `receiving` lists the rules beyond it.
"""

from __future__ import annotations

from . import frames
from .connection import GoAway
from .frames import ENHANCE_YOUR_CALM, pack_head
from .output import REPLY_LIMIT
from .receiving import CONFIRM_RESET, ReceivingHalf
from .streams import Stream

__all__ = ["ENHANCE_YOUR_CALM", "GoAway", "Http2Connection", "Stream"]

UNLIMITED_STREAMS = 2**32 - 1


class Http2Connection(ReceivingHalf):
    """One connection to a server.

    Args:
        stream_window: octets the server may send ahead on a stream, at least 65,535.
        connection_window: octets the server may send ahead on all streams, at least 65,535.
        max_header_list_size: largest header list taken, octets (RFC 9113 §6.5.2).
        max_frame_size: largest frame payload taken, octets.

    Attributes:
        blocked: the driver says that the socket takes no more now, so no stream may be opened.
        frames_at_once: most frames that one call of `receive_data` processes.
        more: whole frames wait for the next call, with or without further octets.
        ready: the server's SETTINGS have come; streams may be opened.
        error: how the server broke the protocol, None if it did not.
        goaway: newest GOAWAY of the server.
        exhausted: all stream ids are used up; whoever wants another stream needs another connection.
        closed: nothing more can come of this connection: it failed, ended, was closed, or the
            last stream ended after GOAWAY. What is queued should still be written.
        reason: why the connection is closed, "" while it is not.
        active: streams with news since the caller last took the list, each once: response
            headers, whole messages, their end, or all held-back data sent. Take it with
            ``taken, conn.active = conn.active, []``.
        pings: PINGs of ours that were answered.
        received_frames: grows with everything that arrives, for watching liveness.
        output: queued frames and how far they got.
        peer: settings of the server.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        stream_window: int = 1 << 20,
        connection_window: int = 1 << 24,
        max_header_list_size: int = 65_536,
        max_frame_size: int = frames.DEFAULT_FRAME_SIZE,
    ) -> None:
        # §6.9.2: smaller windows would bind the server only after it has seen our SETTINGS.
        stream_window = max(stream_window, frames.DEFAULT_WINDOW)
        connection_window = max(connection_window, frames.DEFAULT_WINDOW)
        super().__init__(stream_window, connection_window, max_header_list_size, max_frame_size)
        self.output.put(frames.PREFACE)
        values = [
            (frames.ENABLE_PUSH, 0),
            (frames.INITIAL_WINDOW_SIZE, stream_window),
            (frames.MAX_HEADER_LIST_SIZE, max_header_list_size),
        ]
        if max_frame_size != frames.DEFAULT_FRAME_SIZE:
            values.append((frames.MAX_FRAME_SIZE, max_frame_size))
        self.output.put(frames.settings(values))
        if connection_window > frames.DEFAULT_WINDOW:
            self.output.put(frames.window_update(0, connection_window - frames.DEFAULT_WINDOW))

    # Octets.

    def data_to_send(self) -> bytes:
        """All queued octets, in order, handed over to the driver; b"" if none."""
        return self.output.take()

    def data_written(self, count: int) -> None:
        """Tell that the next `count` octets from `data_to_send` reached the kernel or TLS."""
        self.output.wrote(count)

    @property
    def unwritten(self) -> int:
        """Octets queued or handed over but not reported as written."""
        return self.output.queued - self.output.written

    @property
    def throttled(self) -> bool:
        """The server provokes replies faster than it reads them: do not read before all is written."""
        return self.output.replies > REPLY_LIMIT

    # Streams.

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def streams(self) -> list[Stream]:
        """Those that are open."""
        return list(self._streams.values())

    def available_streams(self) -> int:
        """How many more streams may be opened now; 0 before SETTINGS, after GOAWAY and while `blocked`."""
        if self.blocked:
            return 0
        room = self._limit - len(self._streams) - self._unconfirmed
        return room if room > 0 else 0

    def open_stream(self, stream: Stream, block: bytes, data: bytes, end_stream: bool) -> None:
        """Send a request, as much of it as the windows allow now and the rest later.

        Args:
            block: encoded header block.
            data: the whole request of a unary call, b"" for none yet.
            end_stream: nothing will follow `data`.

        Raises:
            RuntimeError: `available_streams` is 0.
        """
        streams = self._streams
        if len(streams) >= self._limit:
            raise RuntimeError("no stream may be opened on this connection now")
        stream_id = self._next_id
        self._next_id = stream_id + 2
        stream.id = stream_id
        stream.conn = self
        stream.receive_window = self._stream_window
        streams[stream_id] = stream
        if self._size_update:
            block = self._size_update + block
            self._size_update = b""
        size = len(data)
        length = len(block)
        sending = self._sending
        if data and size <= sending.connection and size + length <= sending.at_once and not sending.line:
            # The usual case: HEADERS and DATA leave as one piece.
            sending.connection -= size
            stream.send_window = sending.initial - size
            stream.local_closed = end_stream
            frame = b"".join(
                (
                    pack_head(length << 8 | 1, 4, stream_id),
                    block,
                    pack_head(size << 8, 1 if end_stream else 0, stream_id),
                    data,
                )
            )
            output = self.output
            output.chunks.append(frame)
            output.queued = stream.left_at = output.queued + len(frame)
        else:
            self._open_slowly(stream, block, data, end_stream)
        if stream_id + 2 > frames.MAX_STREAM_ID:
            self._limit = 0  # §5.1.1: ids are not reused, a new connection has to follow
            self.exhausted = True

    def _open_slowly(self, stream: Stream, block: bytes, data: bytes, end_stream: bool) -> None:
        sending = self._sending
        stream.send_window = sending.initial
        ends_now = end_stream and not data
        self.output.put(frames.headers_frames(stream.id, block, ends_now, sending.max_frame_size))
        if data:
            sending.send(stream, data, end_stream)
        else:
            stream.local_closed = ends_now
            stream.left_at = self.output.queued

    def send_data(self, stream: Stream, data: bytes, end_stream: bool = False) -> None:
        """Send more on an open stream; ignored when the stream is over."""
        if self._streams.get(stream.id) is stream and not stream.local_closed:
            self._sending.send(stream, data, end_stream)

    def reset_stream(self, stream: Stream, code: int = frames.CANCEL) -> None:
        """End a stream with RST_STREAM; ignored when it is over. None of its methods is called."""
        if self._streams.get(stream.id) is not stream:
            return
        self._discard(stream.id)
        self.output.put(frames.rst_stream(stream.id, code))
        self._drop(stream)
        if self.peer.max_concurrent_streams != UNLIMITED_STREAMS and self._may_confirm:
            # The server may count the stream until it has seen the reset (CVE-2023-44487),
            # which the answer to a PING proves (golang/net f35fec92).
            if not self._unconfirmed:
                self.ping(CONFIRM_RESET)
            self._unconfirmed += 1

    def consume(self, stream: Stream, count: int) -> None:
        """Return credit for a message of `count` octets taken from a stream with `manual_window`."""
        stream.unacknowledged += count
        if stream.unacknowledged > self._stream_low and self._streams.get(stream.id) is stream:
            self._grow_receive_window(stream, stream.unacknowledged)
            stream.unacknowledged = 0

    def expect_message(self, stream: Stream, missing: int) -> None:
        """Open the window for a message whose prefix has come and that lacks `missing` octets.

        So the server need not wait in the middle of it. What a manual window grows beyond its size is taken
        back when the message is consumed.
        """
        lacking = missing - stream.receive_window
        if stream.manual_window:
            stream.unacknowledged += 5  # the prefix is never seen by the application
            if lacking > 0:
                stream.unacknowledged -= lacking
        if lacking > 0:
            self._grow_receive_window(stream, lacking)

    # The connection.

    def ping(self, payload: bytes = b"purecd:k") -> None:
        """Send PING; `pings` grows when its answer comes. payload: 8 octets."""
        self.output.put(frames.ping(payload))
        self._pings_sent.append(payload)

    def close(self, code: int = frames.NO_ERROR) -> None:
        """Send GOAWAY and end all open streams as lost; requests that have not left never leave."""
        if not self.closed:
            self._part(code)
            self._end("connection closed by this client")
