# SPDX-License-Identifier: Apache-2.0
"""One call on its stream: gRPC messages out of DATA, and what is waiting to go out.

Source: grpc-go rpc_util.go, server.go (texts and codes of refusals); gRPC doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Callable

from purecd.memory.calls import Status
from purecd.memory.requesthead import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from purecd.memory.calls import ServerCall
    from purecd.pb.messages import Message

UNKNOWN, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 2, 8, 12, 13
PREFIX = 5  # octets before each message

_prefix = Struct(">BL").pack


class MessageReader:
    """Cuts messages out of DATA.

    Args:
        limit: octets of the largest message that is taken.
        encoding: what the call says that it compresses with; nothing is supported.
    """

    def __init__(self, limit: int, encoding: str = "") -> None:
        self._limit = limit
        self._encoding = "" if encoding == "identity" else encoding
        self._buffer = bytearray()

    @property
    def amid(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Yield whole messages. Raises `Status` at the beginning of one that is refused."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= PREFIX:
            length = int.from_bytes(buffer[1:PREFIX], "big")
            self._check(buffer[0], length)
            if len(buffer) < PREFIX + length:
                return
            message = bytes(buffer[PREFIX : PREFIX + length])
            del buffer[: PREFIX + length]
            yield message

    def _check(self, flag: int, length: int) -> None:
        if length > self._limit:
            text = f"grpc: received message larger than max ({length} vs. {self._limit})"
            raise Status(RESOURCE_EXHAUSTED, text)
        if flag > 1:
            raise Status(INTERNAL, f"grpc: received unexpected payload format {flag}")
        if flag == 1 and not self._encoding:
            raise Status(INTERNAL, "grpc: compressed flag set with identity or empty encoding")
        if flag == 1:
            text = f"grpc: Decompressor is not installed for grpc-encoding {quoted(self._encoding)}"
            raise Status(UNIMPLEMENTED, text)


class CallStream:
    """A call's stream, as the connection sees it, and the `Outlet` of its answers.

    Args:
        stream_id: odd, as the client numbered it.
        reader: of its messages.
        on_output: called when there is something to send.

    Attributes:
        call: set when the member has been told.
        message_class: of the request messages, None while there is no call.
        ended: the client has half-closed.
        reading: messages still matter; a unary call has one.
        begun: response headers are out.
        status: how it ends; looked at when `ending`.
        ending: nothing more will be queued.
    """

    def __init__(
        self, stream_id: int, reader: MessageReader, on_output: Callable[[CallStream], None]
    ) -> None:
        self.stream_id = stream_id
        self.reader = reader
        self.call: ServerCall | None = None
        self.message_class: type[Message] | None = None
        self.ended = False
        self.reading = True
        self.begun = False
        self.ending = False
        self.status: Status | None = None
        self.queued = False  # in the connection's line of streams with something to send
        self._on_output = on_output
        self._waiting: deque[bytes] = deque()
        self._sent = 0  # octets of the first one waiting that are out
        self._backlog = 0

    # The member's side.

    @property
    def backlog(self) -> int:
        """Octets that wait to be sent."""
        return self._backlog

    def send(self, message: Message) -> None:
        """Queue a message."""
        data = message.SerializeToString()
        self._waiting.append(_prefix(0, len(data)) + data)
        self._backlog += PREFIX + len(data)
        self._on_output(self)

    def end(self, status: Status | None) -> None:
        """Queue the trailers."""
        self.ending = True
        self.status = status
        self._on_output(self)

    # The connection's side.

    def take(self, most: int) -> bytes:
        """Take octets of DATA, up to `most` and not beyond the end of a message."""
        data = self._waiting[0]
        whole = self._sent == 0 and len(data) <= most
        piece = data if whole else data[self._sent : self._sent + most]
        self._sent += len(piece)
        self._backlog -= len(piece)
        if self._sent == len(data):
            self._waiting.popleft()
            self._sent = 0
        return piece

    def parse(self, data: bytes, *, unary: bool) -> Message:
        """A request message. Raises `Status` for what cannot be decoded."""
        assert self.message_class is not None
        message = self.message_class()
        try:
            message.ParseFromString(data)
        except Exception as error:  # the decoders raise more than their own DecodeError
            doing = "error unmarshalling request" if unary else "failed to unmarshal the received message"
            raise Status(INTERNAL, f"grpc: {doing}: {error}") from error
        return message

    def cut_off(self, *, unary: bool) -> Status:
        """What becomes of a call whose client half-closed too early."""
        if self.reader.amid:
            return Status(UNKNOWN if unary else INTERNAL, "unexpected EOF")
        return Status(UNKNOWN, "EOF")
