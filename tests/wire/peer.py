# SPDX-License-Identifier: Apache-2.0
"""The server's octets written by hand, and a look at what the client sent.

Nothing here uses `purecd.wire.frames`: a mistake there must not hide behind itself. Connections
and streams are returned as `Any`, so tests may look into what can be None.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from purecd.wire.grpc import GrpcStream
from purecd.wire.http2 import Http2Connection

# RFC 9113 §6 and §7.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11

REQUEST_BLOCK = b"\x83\x86\x04\x02/x\x01\x01a"  # :method POST, :scheme http, :path /x, :authority a


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame as RFC 9113 §4.1 draws it."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    return head + payload


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def setting(identifier: int, value: int) -> bytes:
    return identifier.to_bytes(2, "big") + u32(value)


def string(value: bytes) -> bytes:
    """HPACK string, not Huffman-coded (RFC 7541 §5.2)."""
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    size -= 127
    octets = bytearray((127,))
    while size >= 128:
        octets.append(size % 128 + 128)
        size //= 128
    octets.append(size)
    return bytes(octets) + value


def block(*fields: tuple[str, str | bytes]) -> bytes:
    """Header block of literals without indexing (RFC 7541 §6.2.2)."""
    octets = b""
    for name, value in fields:
        octets += (
            b"\0" + string(name.encode()) + string(value if isinstance(value, bytes) else value.encode())
        )
    return octets


RESPONSE = block((":status", "200"), ("content-type", "application/grpc"))
OK = block(("grpc-status", "0"))


def headers(stream_id: int, octets: bytes = RESPONSE, end_stream: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | end_stream, stream_id, octets)


def trailers(stream_id: int, octets: bytes = OK) -> bytes:
    return headers(stream_id, octets, True)


def data(stream_id: int, payload: bytes, end_stream: bool = False) -> bytes:
    return frame(DATA, int(end_stream), stream_id, payload)


def message(payload: bytes, flag: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return bytes((flag,)) + u32(len(payload)) + payload


def answer(stream_id: int, payload: bytes = b"reply") -> bytes:
    """A whole good response to a unary call."""
    return headers(stream_id) + data(stream_id, message(payload)) + trailers(stream_id)


def parse(octets: bytes) -> list[Frame]:
    """Cut whole frames out of what the client sent."""
    found = []
    while octets:
        size = int.from_bytes(octets[:3], "big")
        found.append(Frame(octets[3], octets[4], int.from_bytes(octets[5:9], "big"), octets[9 : 9 + size]))
        octets = octets[9 + size :]
    return found


def sent(conn: Http2Connection) -> list[Frame]:
    """Frames the client has queued; they count as written from here on."""
    octets = conn.data_to_send()
    conn.data_written(len(octets))
    return parse(octets)


def connect(*settings: tuple[int, int], **options: int) -> Any:
    """A connection that has exchanged SETTINGS; its output so far is taken."""
    conn = Http2Connection(**options)
    conn.receive_data(frame(SETTINGS, 0, 0, b"".join([setting(*pair) for pair in settings])))
    conn.data_written(len(conn.data_to_send()))
    return conn


def start(
    conn: Http2Connection,
    request: bytes = b"request",
    *,
    end_stream: bool = True,
    unary: bool = True,
    max_receive: int = 1 << 20,
    manual_window: bool = False,
) -> Any:
    """Open a stream with one gRPC message."""
    stream = GrpcStream(None, max_receive=max_receive, unary=unary, manual_window=manual_window)
    conn.open_stream(stream, REQUEST_BLOCK, message(request) if request else b"", end_stream)
    return stream
