# SPDX-License-Identifier: Apache-2.0
"""The receiving half of a connection: octets in, calls of stream methods out.

Frames in the shapes that etcd sends all the time go straight to their stream; all others go
through `_HANDLERS`, by type. A rule whose breach ends the connection raises `ConnectionFault`, which
`receive_data` turns into GOAWAY.

Rules beyond RFC 9113, most of them answers to attacks or to what etcd does:

1. What one stream's response does wrong ends that stream; the other calls go on.
2. After GOAWAY the accepted streams run to their end. etcd stops in two steps: GOAWAY with the
   highest stream id, PING, then GOAWAY with the last id it took.
3. Frames for a stream that is over are discarded, after one RST_STREAM at most. Header blocks
   are still decoded and DATA still counts for the connection's window.
4. Frames that advance no stream spend a budget that progress and time refill. etcd sends a
   PING with almost every reply, so there is no limit on PING as such.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Callable

from . import frames
from .blocks import FieldBlock, HeaderBlockParts
from .connection import CALM_BUDGET, ConnectionState, GoAway
from .faults import ConnectionFault
from .frames import HEAD

if TYPE_CHECKING:
    from .streams import Stream

DEBUG_KEPT = 1024
MUCH = 1 << 14
"""Octets that are not copied just to stand behind the beginning of a frame. Of a range of 10 MiB that
leaves 0.93 of the CPU (benchmarks/ranges.py)."""
CONFIRM_RESET = b"purecd:r"

# What the first octet of something that is not HTTP/2 gives away.
_HINTS = {0x48: "; an HTTP/1 server?", 0x15: "; a TLS port?", 0x16: "; a TLS port?"}

_unpack_u32 = Struct(">L").unpack_from
# A reply up to its message: HEADERS with two octets, header of DATA, compression flag, length.
_unpack_reply = Struct(">LBL2sLBLBL").unpack_from
_REPLY_HEAD = 25
_unpack_trailers = Struct(">LBL2s").unpack_from
_REPLY_TAIL = 11
_SHORTEST_REPLY = _REPLY_HEAD + _REPLY_TAIL
_TWO_OCTETS = 2 << 8 | frames.HEADERS
_LONGEST_MESSAGE = frames.DEFAULT_FRAME_SIZE - 5
# WINDOW_UPDATE of the connection and PING, as etcd puts them before a reply.
_CREDIT = 4 << 8 | frames.WINDOW_UPDATE
_unpack_preamble = Struct(">9sL9s8s").unpack_from
_PREAMBLE_SIZE = 30
_CREDIT_HEAD = frames.pack_head(_CREDIT, 0, 0)
_PING_HEAD = frames.pack_head(8 << 8 | frames.PING, 0, 0)
_PING_SIZE = 17
_unpack_u32_pair = Struct(">LL").unpack_from


class ReceivingHalf(ConnectionState):
    """What received frames do to a connection. See `Http2Connection`."""

    __slots__ = ()

    def receive_data(self, data: bytes, now: float = 0.0) -> None:
        """Process what arrived; never raises for what the server does.

        Args:
            now: monotonic seconds, for refilling the budget of rule 4; only differences count.
        """
        if self.closed:
            return
        if not self.received_frames:
            self._refilled_at = now  # time before the first octet earns nothing
        self.received_frames += 1
        rest = self._rest
        used = 0
        if rest:
            lacking = self._rest_size - len(rest)
            if len(data) < lacking:
                rest += data
                return
            if len(data) < MUCH or self._rest_size == frames.HEAD_SIZE:
                data = b"".join((rest, data))
            else:
                used = lacking
        self.more = False
        size = len(data)
        try:
            if used:
                # Only what lacks of the frame is copied, not all that came with it.
                self._receive_frames(b"".join((rest, data[:used])), 0, now)
            elif self.ready and self._block is None and len(data) > frames.HEAD_SIZE:
                used = self._receive_usual(data, now) if data[3] != frames.DATA else self._receive_lone(data)
            if used < size:
                used = self._receive_frames(data, used, now)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        if rest:
            rest.clear()
        if used < size:
            rest += data[used:]

    def receive_eof(self, reason: str) -> None:
        """Tell that the connection is gone; every open stream ends as lost."""
        if self.closed:
            return
        if not self.ready:
            reason += " before the server's SETTINGS"
        if self.goaway is not None:
            reason += f", received prior goaway: code: {frames.error_name(self.goaway.code)}"
            if self.goaway.debug:
                reason += f", debug data: {self.goaway.debug.decode('utf-8', 'replace')!r}"
        self.output.discard()
        self._end(reason)

    # Frames.

    def _receive_frames(self, data: bytes, position: int, now: float) -> int:
        """Process the whole frames in `data` from `position` on; returns the octets used."""
        if not self.ready:
            _check_first_frame(data)
        unpack = HEAD.unpack_from
        streams = self._streams
        memo = self._decoder.memo
        max_frame_size = self.max_frame_size
        handlers = _HANDLERS
        left = self.frames_at_once
        size = len(data)
        start = position + 9
        while start <= size and not self.closed:
            if not left:
                self.more = True
                break
            left -= 1
            head, flags, stream_id = unpack(data, position)
            kind = head & 255
            length = head >> 8
            if length > max_frame_size:
                # Before the payload is waited for (CVE-2023-33953).
                raise ConnectionFault(
                    frames.FRAME_SIZE_ERROR,
                    f"{frames.frame_name(kind)} of {length} octets, over {max_frame_size} (RFC 9113 §4.2)",
                )
            stop = start + length
            if stop > size:
                self._rest_size = stop - position
                return position
            payload = data[start:stop]
            position = stop
            start = stop + 9
            if self._block is not None:
                self._block.check(kind, stream_id)
            elif kind == 1:
                # HEADERS without padding or priority, decoded before.
                if flags & 0x2C == 4 and payload in memo:
                    stream = streams.get(stream_id)
                    if stream is not None:
                        self._deliver_headers(stream, memo[payload], flags & 1 == 1)
                        continue
            elif kind == 0 and not flags & 8 and length:
                # DATA without padding.
                stream = streams.get(stream_id)
                if stream is not None:
                    self._deliver_data(stream, payload, length, flags & 1 == 1)
                    continue
            if kind < 10:
                handlers[kind](self, flags, stream_id & 0x7FFFFFFF, payload, now)
            else:
                self._spend(now)  # §4.1: frames of unknown type are discarded
        self._rest_size = 9
        return position

    def _receive_usual(self, data: bytes, now: float) -> int:
        """Take what etcd sends all the time, each in one step, as long as `data` goes on with it.

        That is the whole reply to a unary call: HEADERS and trailers of two octets seen before, and
        between them a DATA frame with one message; and WINDOW_UPDATE of the connection followed by
        PING. With this a call takes 0.5 of the time that it takes frame by frame
        (benchmarks/wire_call.py).

        Returns:
            The octets used; nothing was done about the others.
        """
        streams = self._streams
        memo = self._decoder.memo
        longest = len(data) - _SHORTEST_REPLY  # of a message that `data` holds whole, if there is one
        position = 0
        for _ in range(self.frames_at_once):
            if position > longest:
                break
            if data[position + 3] == frames.WINDOW_UPDATE:
                if not self._receive_preamble(data, position, now):
                    break
                position += _PREAMBLE_SIZE
                continue
            kind, flags, stream_id, head, kind2, flags2, id2, compressed, length = _unpack_reply(
                data, position
            )
            # kind2: DATA is type 0, and its length that of the message with its prefix.
            if (
                kind != _TWO_OCTETS
                or flags != 4
                or flags2
                or compressed
                or kind2 != length + 5 << 8
                or length > longest - position
                or length > _LONGEST_MESSAGE
            ):
                break
            start = position + _REPLY_HEAD
            middle = start + length
            kind, flags, id3, tail = _unpack_trailers(data, middle)
            if kind != _TWO_OCTETS or flags != 5 or not stream_id == id2 == id3:
                break
            stream = streams.get(stream_id)
            if (
                stream is None
                or head not in memo
                or tail not in memo
                or not stream.receive_reply(memo[head], data[start:middle], memo[tail])
            ):
                break
            position = middle + _REPLY_TAIL
            self._data_frames += 1
            window = self._receive_window
            window.left -= length + 5
            if window.left < window.low:
                self._acknowledge()
            self._list(stream)
            if stream.local_closed and self.goaway is None:
                del streams[stream_id]
                self._may_confirm = True
            else:
                self._finish(stream)
                if self.closed:
                    break
        return position

    def _receive_lone(self, data: bytes) -> int:
        """Take a read that is one DATA frame, as for most responses of a watch; the octets used, or 0."""
        head, flags, stream_id = HEAD.unpack_from(data)
        length = head >> 8
        stream = self._streams.get(stream_id)
        if flags or stream is None or not length == len(data) - frames.HEAD_SIZE <= self.max_frame_size:
            return 0
        self._deliver_data(stream, data[frames.HEAD_SIZE :], length, False)
        return len(data)

    def _receive_preamble(self, data: bytes, position: int, now: float) -> bool:
        """Take WINDOW_UPDATE of the connection that moves nothing, and PING; False if it is another thing."""
        credit, increment, ping, payload = _unpack_preamble(data, position)
        sending = self._sending
        if (
            credit != _CREDIT_HEAD
            or ping != _PING_HEAD
            or not 0 < increment <= frames.MAX_WINDOW - sending.connection
            or sending.line
        ):
            return False
        sending.connection += increment
        self._spent += 2
        if self._spent > CALM_BUDGET:
            self._refill(now)
        output = self.output  # as `Output.reply` does it; a frame less for each call
        output.chunks.append(frames.PING_ACK_HEAD + payload)
        output.queued += _PING_SIZE
        output.replies += 1
        return True

    def _on_data(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        self._check_known(stream_id, "DATA")
        size = len(payload)
        if flags & frames.PADDED:
            payload = _strip_padding(payload, "DATA (RFC 9113 §6.1)")
        stream = self._streams.get(stream_id)
        if stream is None:
            self._charge_connection(size)
            self._refuse_closed(stream_id, now)
            return
        end_stream = flags & frames.END_STREAM == 1
        if not payload and not end_stream:
            self._spend(now)
        if stream.manual_window:
            stream.unacknowledged += size - len(payload)
        self._deliver_data(stream, payload, size, end_stream)

    def _deliver_data(self, stream: Stream, data: bytes, size: int, end_stream: bool) -> None:
        """Hand DATA over. size: octets that count for flow control, padding included."""
        if data:
            self._data_frames += 1
        window = self._receive_window
        window.left -= size
        if window.left < window.low:
            self._acknowledge()
        stream.receive_window -= size
        if stream.receive_window < self._stream_low:
            if stream.receive_window < 0:
                text = f"DATA over the window of stream {stream.id} (RFC 9113 §6.9.1)"
                self._violate(stream, frames.FLOW_CONTROL_ERROR, text)
                return
            if not stream.manual_window and not end_stream:
                self._grow_receive_window(stream, self._stream_window - stream.receive_window)
        news = stream.receive_data(data, end_stream)
        if end_stream:
            self._finish(stream)
        if news:
            self._list(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if not stream_id & 1:
            raise ConnectionFault(
                frames.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which is not ours (RFC 9113 §5.1.1)"
            )
        self._check_known(stream_id, "HEADERS")
        if flags & frames.PADDED:
            payload = _strip_padding(payload, "HEADERS (RFC 9113 §6.2)")
        if flags & frames.PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFault(
                    frames.FRAME_SIZE_ERROR, "HEADERS too short for its priority (RFC 9113 §6.2)"
                )
            payload = payload[5:]
        end_stream = flags & frames.END_STREAM == 1
        if flags & frames.END_HEADERS:
            self._receive_block(stream_id, payload, end_stream, now)
        else:
            self._block = HeaderBlockParts(stream_id, payload, end_stream)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        parts = self._block
        if parts is None:
            raise ConnectionFault(
                frames.PROTOCOL_ERROR,
                f"CONTINUATION on stream {stream_id} outside a header block (RFC 9113 §6.10)",
            )
        parts.octets += payload
        if flags & frames.END_HEADERS:
            self._block = None
            self._receive_block(stream_id, bytes(parts.octets), parts.end_stream, now)

    def _receive_block(self, stream_id: int, octets: bytes, end_stream: bool, now: float) -> None:
        # §4.3: also for a stream that is over, or later blocks would decode wrongly.
        block = self._decoder.memo.get(octets) or self._decoder.decode(octets)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._refuse_closed(stream_id, now)
        else:
            self._deliver_headers(stream, block, end_stream)

    def _deliver_headers(self, stream: Stream, block: FieldBlock, end_stream: bool) -> None:
        news = stream.receive_headers(block, end_stream)
        if end_stream:
            self._finish(stream)
        if news:
            self._list(stream)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        # §5.3.2: the signal itself is deprecated and has no effect.
        self._spend(now)
        if not stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PRIORITY on stream 0 (RFC 9113 §6.3)")
        if len(payload) != 5:
            stream = self._streams.get(stream_id)
            if stream is not None:
                text = f"PRIORITY of {len(payload)} octets (RFC 9113 §6.3)"
                self._violate(stream, frames.FRAME_SIZE_ERROR, text)

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        _check_length(payload, 4, "RST_STREAM (RFC 9113 §6.4)")
        self._check_known(stream_id, "RST_STREAM")
        stream = self._streams.get(stream_id)
        if stream is None:
            # §5.1: it may have crossed with our end; etcd sends RST_STREAM after trailers.
            self._spend(now)
            return
        self._drop(stream)
        stream.receive_reset(_unpack_u32(payload)[0])
        self._list(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        self._spend(now)
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"SETTINGS on stream {stream_id} (RFC 9113 §6.5)")
        if flags & frames.ACK:
            _check_length(payload, 0, "SETTINGS with ACK (RFC 9113 §6.5)")
            return
        peer = self.peer
        smallest_table = peer.update(payload)
        if smallest_table < 4096 and self._table_used:
            # RFC 7541 §4.2: the next block must tell that the table shrank. Our encoder keeps
            # no dynamic table, so it gives up all of it at once.
            self._table_used = False
            self._size_update = b"\x20"
        if self.goaway is None and self._next_id <= frames.MAX_STREAM_ID:
            self._limit = peer.max_concurrent_streams
        # §6.5.3: at once, and so before DATA that only the new values allow: h2 as a server
        # enforces them from the ACK on.
        self.output.reply(frames.SETTINGS_ACK)
        sending = self._sending
        sending.max_frame_size = peer.max_frame_size
        if peer.initial_window_size != sending.initial:
            for stream in sending.set_initial(peer.initial_window_size, list(self._streams.values())):
                self._list(stream)
        sending.at_once = min(sending.initial, sending.max_frame_size)
        self.ready = True

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        # §8.4: we sent ENABLE_PUSH 0.
        raise ConnectionFault(frames.PROTOCOL_ERROR, "PUSH_PROMISE although push is disabled (RFC 9113 §8.4)")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"PING on stream {stream_id} (RFC 9113 §6.7)")
        if len(payload) != 8:
            _check_length(payload, 8, "PING (RFC 9113 §6.7)")
        if not flags & frames.ACK:
            self._spend(now)
            self.output.reply(frames.PING_ACK_HEAD + payload)
        elif payload in self._pings_sent:
            self._pings_sent.remove(payload)
            self.pings += 1
            if payload == CONFIRM_RESET:
                self._unconfirmed = 0
                self._may_confirm = False
        else:
            self._spend(now)

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        self._spend(now)
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"GOAWAY on stream {stream_id} (RFC 9113 §6.8)")
        if len(payload) < 8:
            _check_length(payload, 8, "GOAWAY (RFC 9113 §6.8)")
        last, code = _unpack_u32_pair(payload)
        last &= frames.MAX_STREAM_ID
        if last and not last & 1:
            raise ConnectionFault(
                frames.PROTOCOL_ERROR, f"GOAWAY with last stream {last}, which is not ours (RFC 9113 §6.8)"
            )
        if self.goaway is not None and last > self.goaway.last_stream_id:
            raise ConnectionFault(
                frames.PROTOCOL_ERROR,
                f"GOAWAY raises the last stream from {self.goaway.last_stream_id} to {last} (RFC 9113 §6.8)",
            )
        self.goaway = GoAway(last, code, payload[8 : 8 + DEBUG_KEPT])
        self._limit = 0
        for stream in [stream for number, stream in self._streams.items() if number > last]:
            self._drop(stream)
            text = "the stream is rejected because the server is draining the connection"
            stream.receive_unprocessed(text, code != 0 and stream.id == 1)
            self._list(stream)
        self._retire_if_drained()

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if len(payload) != 4:
            _check_length(payload, 4, "WINDOW_UPDATE (RFC 9113 §6.9)")
        self._spend(now)
        increment = _unpack_u32(payload)[0] & 0x7FFFFFFF
        sending = self._sending
        if not stream_id:
            if not increment:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of 0 (RFC 9113 §6.9)")
            for stream in sending.grow_connection(increment):
                self._list(stream)
            return
        self._check_known(stream_id, "WINDOW_UPDATE")
        target = self._streams.get(stream_id)
        if target is None:
            return
        if not increment:
            text = f"WINDOW_UPDATE of 0 on stream {stream_id} (RFC 9113 §6.9)"
            self._violate(target, frames.PROTOCOL_ERROR, text)
        elif target.send_window + increment > frames.MAX_WINDOW:
            text = f"window of stream {stream_id} over 2^31-1 (RFC 9113 §6.9.1)"
            self._violate(target, frames.FLOW_CONTROL_ERROR, text)
        else:
            for stream in sending.grow_stream(target, increment):
                self._list(stream)


def _check_first_frame(data: bytes) -> None:
    """Recognise by its first octets what is not an HTTP/2 server (RFC 9113 §3.4)."""
    # A first SETTINGS is shorter than 64 KiB, so its first octet is 0.
    if data and data[0]:
        hint = _HINTS.get(data[0], "")
        raise ConnectionFault(frames.PROTOCOL_ERROR, f"not an HTTP/2 server{hint} (RFC 9113 §3.4)")
    if len(data) >= frames.HEAD_SIZE and (data[3] != frames.SETTINGS or data[4] & frames.ACK):
        raise ConnectionFault(
            frames.PROTOCOL_ERROR,
            f"first frame is {frames.frame_name(data[3])}, not SETTINGS (RFC 9113 §3.4)",
        )


def _strip_padding(payload: bytes, what: str) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(frames.PROTOCOL_ERROR, f"padding longer than the payload in {what}")
    return payload[1 : len(payload) - payload[0]]


def _check_length(payload: bytes, length: int, what: str) -> None:
    if len(payload) != length:
        raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"{len(payload)} octets in {what}")


_HANDLERS: tuple[Callable[[ReceivingHalf, int, int, bytes, float], None], ...] = (
    ReceivingHalf._on_data,
    ReceivingHalf._on_headers,
    ReceivingHalf._on_priority,
    ReceivingHalf._on_rst_stream,
    ReceivingHalf._on_settings,
    ReceivingHalf._on_push_promise,
    ReceivingHalf._on_ping,
    ReceivingHalf._on_goaway,
    ReceivingHalf._on_window_update,
    ReceivingHalf._on_continuation,
)
