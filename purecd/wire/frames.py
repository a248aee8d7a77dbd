# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frames as octets: constants, names and serialisers.

Source: RFC 9113 §4.1 (frame header), §6 (frame definitions), §7 (error codes).
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

# §6: frame types.
(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
FRAME_NAMES = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)

# §6: flags. END_STREAM and ACK share a bit; they belong to different frames.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

# §7: error codes.
ERROR_NAMES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    REFUSED_STREAM,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    ENHANCE_YOUR_CALM,
    INADEQUATE_SECURITY,
    HTTP_1_1_REQUIRED,
) = range(14)

# §6.5.2: settings.
(
    HEADER_TABLE_SIZE,
    ENABLE_PUSH,
    MAX_CONCURRENT_STREAMS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
) = range(1, 7)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_SIZE = 9
MAX_STREAM_ID = 2**31 - 1
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
LARGEST_FRAME_SIZE = 2**24 - 1

# A frame header read as three numbers: length * 256 + type, flags, stream id. Five numbers,
# as §4.1 draws it, cost 30 ns more per frame (benchmarks/wire_call.py).
HEAD = Struct(">LBL")
pack_head = HEAD.pack
_pack_u32 = Struct(">L").pack
_pack_u32_pair = Struct(">LL").pack
_pack_setting = Struct(">HL").pack

SETTINGS_ACK = pack_head(SETTINGS, ACK, 0)
PING_ACK_HEAD = pack_head(8 << 8 | PING, ACK, 0)


def data_frame(stream_id: int, data: bytes, end_stream: bool) -> bytes:
    """Serialise DATA (§6.1), without padding. data: at most the peer's MAX_FRAME_SIZE octets."""
    return pack_head(len(data) << 8 | DATA, END_STREAM if end_stream else 0, stream_id) + data


def headers_frames(stream_id: int, block: bytes, end_stream: bool, max_frame_size: int) -> bytes:
    """Serialise HEADERS (§6.2), followed by CONTINUATION (§6.10) when the block is longer than one frame."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame_size:
        return pack_head(len(block) << 8 | HEADERS, flags | END_HEADERS, stream_id) + block
    frames = [pack_head(max_frame_size << 8 | HEADERS, flags, stream_id), block[:max_frame_size]]
    for start in range(max_frame_size, len(block), max_frame_size):
        piece = block[start : start + max_frame_size]
        last = start + max_frame_size >= len(block)
        frames.append(pack_head(len(piece) << 8 | CONTINUATION, END_HEADERS if last else 0, stream_id))
        frames.append(piece)
    return b"".join(frames)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Serialise RST_STREAM (§6.4)."""
    return pack_head(4 << 8 | RST_STREAM, 0, stream_id) + _pack_u32(code)


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Serialise SETTINGS (§6.5) from pairs of identifier and value."""
    payload = b"".join([_pack_setting(identifier, value) for identifier, value in values])
    return pack_head(len(payload) << 8 | SETTINGS, 0, 0) + payload


def ping(payload: bytes) -> bytes:
    """Serialise PING (§6.7). payload: 8 octets."""
    if len(payload) != 8:
        raise ValueError(f"a PING carries 8 octets, not {len(payload)} (RFC 9113 §6.7)")
    return pack_head(8 << 8 | PING, 0, 0) + payload


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """Serialise GOAWAY (§6.8)."""
    head = pack_head(8 + len(debug) << 8 | GOAWAY, 0, 0)
    return head + _pack_u32_pair(last_stream_id, code) + debug


def window_update(stream_id: int, increment: int) -> bytes:
    """Serialise WINDOW_UPDATE (§6.9). stream_id: 0 for the connection; increment: octets, 1 to 2^31-1."""
    return pack_head(4 << 8 | WINDOW_UPDATE, 0, stream_id) + _pack_u32(increment)


def frame_name(kind: int) -> str:
    """Name of a frame type, also of one that RFC 9113 does not define."""
    return FRAME_NAMES[kind] if kind < len(FRAME_NAMES) else f"frame of type 0x{kind:02x}"


def error_name(code: int) -> str:
    """Name of an error code, also of one that RFC 9113 does not define."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"error code 0x{code:x}"
