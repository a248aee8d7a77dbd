# SPDX-License-Identifier: Apache-2.0
"""A gRPC response: messages and status out of one HTTP/2 stream.

Rules, in the order a response goes through them:

1. The first block that is not 1xx must be a response of type `application/grpc`, or the call
   ends by its HTTP status with up to 1 KiB of the body as explanation.
2. With END_STREAM on it, the first block holds the trailers as well (Trailers-Only).
3. Messages are framed by a compression flag and a length, regardless of DATA boundaries. The
   limit is checked on the length, before anything is kept, and room is made for 16 times of what
   has arrived at most. No encoding is ever offered, so a compressed message ends the call and there
   is no decompressor to attack.
4. Only trailers end a call well; END_STREAM on DATA, a cut message or more than one message
   for a unary call are errors, whatever status comes with them.

Source: gRPC doc/PROTOCOL-HTTP2.md (Responses), grpc-go internal/transport/http2_client.go.
"""

from __future__ import annotations

from collections import deque
from io import BytesIO
from struct import Struct
from typing import Any, Protocol

from ..errors import StatusCode
from . import frames
from .blocks import FieldBlock
from .status import Status, decode_binary, from_http, from_reset, from_trailers
from .streams import Stream

MAX_INFORMATIONAL = 16
MAX_BODY_SHOWN = 1024
FIRST_ROOM = 1 << 16
ROOM_GROWTH = 16

_unpack_prefix = Struct(">BL").unpack_from

# Where the response is.
_HEADERS, _MESSAGES, _FOREIGN_BODY, _ENDED = range(4)


class Arriving(Protocol):
    """A message of which not all has come.

    Attributes:
        missing: octets that have not come.
    """

    missing: int

    def add(self, piece: bytes) -> None:
        """Take what came next, 1 octet or more and no more than what was missing."""

    def whole(self) -> Any:
        """The message, once nothing is missing."""


class _Message:
    """A message that is kept until all of it has come.

    Of a message of ten megabytes one is moved when the room for it grows, and nothing at its end: that takes
    0.7 of the time of appending to a bytearray, on PyPy 0.4.

    Args:
        length: its octets once it is whole, 1 or more.

    Attributes:
        missing: octets that have not come.
    """

    __slots__ = ("_kept", "_length", "_room", "missing")

    def __init__(self, length: int) -> None:
        self.missing = self._length = length
        self._room = min(length, FIRST_ROOM)
        # One that is made from `bytes` of the right size never grows, and its value is they, not a copy.
        self._kept = BytesIO(bytes(self._room))

    def add(self, piece: bytes) -> None:
        """Keep what came next, no more than what was missing."""
        self.missing -= len(piece)
        arrived = self._length - self.missing
        if arrived > self._room:
            self._room = min(self._length, max(self._room * ROOM_GROWTH, arrived))
            before = self._kept.getvalue()[: arrived - len(piece)]
            self._kept = BytesIO(bytes(self._room))
            self._kept.write(before)
        self._kept.write(piece)

    def whole(self) -> bytes:
        """All of it, once nothing is missing."""
        return self._kept.getvalue()


class GrpcStream(Stream):
    """One gRPC call as the client sees it.

    Args:
        owner: whoever started the call; not used here.
        max_receive: largest message taken, octets without the prefix.
        unary: exactly one message must come with status 0.
        manual_window: see `Stream`; consume the length of each message taken.

    Attributes:
        messages: whole messages nobody has taken yet, oldest first: bytes, or what `gather` makes of them.
        status: set once, when the call has ended; no message comes after.
        unprocessed: the server certainly has not processed the call.
        refused_connection: unprocessed because the whole connection was refused.
    """

    __slots__ = (
        "_body_left",
        "_head",
        "_informational",
        "_message",
        "_partial",
        "_state",
        "_tail",
        "max_receive",
        "messages",
        "owner",
        "refused_connection",
        "status",
        "unary",
        "unprocessed",
    )

    def __init__(
        self, owner: object, max_receive: int, unary: bool = False, manual_window: bool = False
    ) -> None:
        Stream.__init__(self, manual_window)  # `super()` takes longer, before Python 3.12
        self.owner = owner
        self.max_receive = max_receive
        self.unary = unary
        self.messages: deque[Any] | list[Any] = [] if unary else deque()
        self.status: Status | None = None
        self.unprocessed = False
        self.refused_connection = False
        self._state = _HEADERS
        self._head: FieldBlock | None = None
        self._tail: FieldBlock | None = None
        self._informational = 0
        self._body_left = -1  # octets of DATA content-length still promises, -1 without one
        self._partial = b""  # a prefix, or a foreign body, that has not fully arrived
        self._message: Arriving | None = None  # behind its prefix

    def gather(self, length: int) -> Arriving:
        """Begin a message that does not come all at once; a subclass may do more than keep it.

        Args:
            length: its octets, 1 or more.
        """
        return _Message(length)

    @property
    def headers_seen(self) -> bool:
        return self._head is not None

    @property
    def metadata(self) -> dict[str, tuple[str | bytes, ...]]:
        """Response headers; empty before they came and for a Trailers-Only response."""
        return _as_metadata(self._head) if self._head is not self._tail else {}

    @property
    def trailers(self) -> dict[str, tuple[str | bytes, ...]]:
        """Trailers; empty before they came."""
        return _as_metadata(self._tail)

    def receive_headers(self, block: FieldBlock, end_stream: bool) -> bool:
        if block.too_large:
            text = f"header list over the limit, {len(block.fields)} fields"
            return self._fail(StatusCode.RESOURCE_EXHAUSTED, text, frames.ENHANCE_YOUR_CALM)
        if block.problem:
            return self._malformed(block.problem)
        state = self._state
        if state == _HEADERS:
            if block.status < 200:
                return self._receive_informational(block, end_stream)
            self._head = block
            self._body_left = block.content_length
            media_type = block.media_type
            if media_type != b"application/grpc" and not media_type.startswith(
                (b"application/grpc+", b"application/grpc;")
            ):
                return self._receive_foreign(end_stream)
            block.opens_reply = block.content_length < 0
            self._state = _MESSAGES
            if not end_stream:
                return True
        elif state == _FOREIGN_BODY:
            return self._end_foreign(reset=not end_stream)
        elif not end_stream:
            return self._malformed("a HEADERS frame cannot appear in the middle of a stream")
        elif block.status:
            return self._malformed(":status in trailers (RFC 9113 §8.1)")
        self._receive_trailers(block)
        return True

    def receive_data(self, data: bytes, end_stream: bool) -> bool:
        size = len(data)
        if self._state == _MESSAGES and self._body_left < 0 and not end_stream:
            # The usual cases: one frame is one message, or lies within one.
            message = self._message
            if message is not None:
                if size < message.missing:
                    message.add(data)
                    return False
            elif size > 4 and not (self._partial or self.manual_window or (self.unary and self.messages)):
                flag, length = _unpack_prefix(data, 0)
                if length == size - 5 and not flag and length <= self.max_receive:
                    self.messages.append(data[5:])
                    return True
        return self._receive_any_data(data, end_stream)

    def receive_reply(self, head: FieldBlock, message: bytes, tail: FieldBlock) -> bool:
        if not (
            self.unary
            and self._state == _HEADERS
            and head.opens_reply
            and tail.ends_well
            and len(message) <= self.max_receive
        ):
            return False
        self._head = head
        self._tail = tail
        self.messages.append(message)
        self.status = tail.verdict
        self._state = _ENDED
        return True

    def receive_reset(self, code: int) -> None:
        if self._state == _FOREIGN_BODY:
            self._end_foreign(reset=False)
            return
        status = from_reset(code)
        # RFC 9113 §8.7: REFUSED_STREAM says that nothing was processed. After a response has
        # begun that cannot be true.
        if status.source == "unprocessed":
            if self._head is None:
                self.unprocessed = True
            else:
                status = status._replace(source="reset")
        self._end(status)

    def receive_lost(self, reason: str) -> None:
        if self._state == _FOREIGN_BODY:
            self._end_foreign(reset=False)
            return
        self._end(Status(StatusCode.UNAVAILABLE, reason, "lost"))

    def receive_unprocessed(self, reason: str, refused_connection: bool) -> None:
        self.unprocessed = True
        self.refused_connection = refused_connection
        self._end(Status(StatusCode.UNAVAILABLE, reason, "unprocessed"))

    def receive_violation(self, code: int, text: str) -> None:
        self._end(Status(StatusCode.INTERNAL, text, "protocol"))

    def _receive_informational(self, block: FieldBlock, end_stream: bool) -> bool:
        # RFC 9113 §8.1: any number of 1xx blocks may precede the response, none may end it.
        if not block.status:
            return self._malformed("response without :status (RFC 9113 §8.3.2)")
        if end_stream or block.status == 101:
            return self._malformed(f"response {block.status} as the final one (RFC 9113 §8.1, §8.6)")
        self._informational += 1
        if self._informational > MAX_INFORMATIONAL:
            text = f"over {MAX_INFORMATIONAL} informational responses"
            return self._fail(StatusCode.INTERNAL, text, frames.ENHANCE_YOUR_CALM)
        return False

    def _receive_trailers(self, block: FieldBlock) -> None:
        self._tail = block
        status = block.verdict
        if status is None:
            status = block.verdict = from_trailers(block.get(b"grpc-status"), block.get(b"grpc-message"))
            block.ends_well = not (status.code or block.status or block.problem or block.too_large)
        if not status.code:
            if self._message is not None or self._partial:
                status = Status(StatusCode.INTERNAL, "response ends within a message", "protocol")
            elif self.unary and not self.messages:
                text = "cardinality violation: received no response message for a unary call"
                status = Status(StatusCode.INTERNAL, text, "protocol")
        if self._body_left > 0:
            self._malformed("DATA shorter than content-length (RFC 9113 §8.1.1)")
            return
        self._end(status)

    def _receive_foreign(self, end_stream: bool) -> bool:
        self._state = _FOREIGN_BODY
        if end_stream:
            return self._end_foreign(reset=False)
        return False

    def _receive_any_data(self, data: bytes, end_stream: bool) -> bool:
        if self._state == _FOREIGN_BODY:
            self._partial += data[: MAX_BODY_SHOWN - len(self._partial)]
            if end_stream or len(self._partial) >= MAX_BODY_SHOWN:
                return self._end_foreign(reset=not end_stream)
            return False
        if self._state == _HEADERS:
            return self._malformed("DATA before HEADERS (RFC 9113 §8.1)")
        if self._body_left >= 0:
            self._body_left -= len(data)
            if self._body_left < 0:
                return self._malformed("DATA longer than content-length (RFC 9113 §8.1.1)")
        news = self._deframe(data)
        if end_stream and self.status is None:
            self._end(
                Status(StatusCode.INTERNAL, "server closed the stream without sending trailers", "protocol")
            )
        return news or end_stream

    def _deframe(self, data: bytes) -> bool:
        """Cut messages out of `data`; returns whether there is news for the caller."""
        news = False
        position = 0
        size = len(data)
        while position < size:
            message = self._message
            if message is None:
                start = position + 5 - len(self._partial)
                prefix = self._partial + data[position:start]
                if start > size:
                    self._partial = prefix
                    break
                self._partial = b""
                length = self._accept_prefix(prefix, size - start)
                if length < 0:
                    return True
                position = start + length
                if position > size:
                    self._message = self.gather(length)
                    self._message.add(data[start:])
                    break
                octets = data[start:position]
            else:
                piece = data[position : position + message.missing]
                position += len(piece)
                message.add(piece)
                if message.missing:
                    break
                octets = message.whole()
                self._message = None
            if self.unary and self.messages:
                text = "cardinality violation: received a second message for a unary call"
                return self._fail(StatusCode.INTERNAL, text, frames.CANCEL)
            self.messages.append(octets)
            news = True
        return news

    def _accept_prefix(self, prefix: bytes, at_hand: int) -> int:
        """Check the five octets before a message: its length, or -1 when they ended the call.

        Args:
            prefix: those octets.
            at_hand: octets that have arrived behind the prefix.
        """
        flag, length = _unpack_prefix(prefix, 0)
        if flag:
            self._refuse_flag(flag)
            return -1
        if length > self.max_receive:
            text = f"received message larger than max ({length} vs. {self.max_receive}); see max_receive_size"
            self._fail(StatusCode.RESOURCE_EXHAUSTED, text, frames.CANCEL)
            return -1
        self.conn.expect_message(self, length - at_hand)
        return int(length)

    def _refuse_flag(self, flag: int) -> None:
        encoding = self._head.get(b"grpc-encoding") if self._head else None
        if flag > 1:
            text = f"received unexpected payload format {flag}"
        elif encoding in (None, b"", b"identity"):
            text = "compressed flag set with identity or empty encoding"
        else:
            text = f"message compressed with {encoding!r}, which was not offered"
        self._fail(StatusCode.INTERNAL, text, frames.CANCEL)

    def _end_foreign(self, reset: bool) -> bool:
        head = self._head
        if head is not None:
            self._end(from_http(head.status, head.media_type, self._partial))
        if reset:
            self.conn.reset_stream(self, frames.PROTOCOL_ERROR)
        return True

    def _malformed(self, problem: str) -> bool:
        # RFC 9113 §8.1.1: a malformed response is a stream error of type PROTOCOL_ERROR.
        return self._fail(StatusCode.INTERNAL, f"malformed response: {problem}", frames.PROTOCOL_ERROR)

    def _fail(self, code: int, text: str, reset: int) -> bool:
        self._end(Status(code, text, "protocol"))
        self.conn.reset_stream(self, reset)
        return True

    def _end(self, status: Status) -> None:
        if self.status is None:
            self.status = status
        self._state = _ENDED
        self._partial = b""
        self._message = None


def _as_metadata(block: FieldBlock | None) -> dict[str, tuple[str | bytes, ...]]:
    """Fields by name, in order; values of `-bin` names decoded, pseudo-headers left out."""
    found: dict[str, tuple[str | bytes, ...]] = {}
    for name, value in block.fields if block else ():
        if name.startswith(b":"):
            continue
        key = name.decode("ascii")
        values: list[bytes] | list[str] = [value.decode("utf-8", "replace")]
        if name.endswith(b"-bin"):
            values = decode_binary(value) or []
        found[key] = found.get(key, ()) + tuple(values)
    return found
