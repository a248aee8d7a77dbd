# SPDX-License-Identifier: Apache-2.0
"""Frames that several tables send."""

from __future__ import annotations

from tests.conformance.script import REPLY, Ids
from tests.wire.peer import (
    DATA,
    GOAWAY,
    PADDED,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    answer,
    frame,
    headers,
    setting,
    u32,
)

HALF, REST = RESPONSE[:10], RESPONSE[10:]
EIGHT = b"12345678"


def reply(i: Ids) -> bytes:
    """A whole good response to the write."""
    return answer(i.call, REPLY)


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, u32(last) + u32(code) + debug)


def rst(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, u32(code))


def padded(stream_id: int, payload: bytes, padding: int) -> bytes:
    return frame(DATA, PADDED, stream_id, bytes((padding,)) + payload + bytes(padding))


INDEXING = b"\x88\x40" + b"\x0ccontent-type" + b"\x10application/grpc"


def settings(*entries: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([setting(*each) for each in entries]))


def head(i: Ids, octets: bytes) -> bytes:
    """Response headers of the write, in whatever state."""
    return headers(i.call, octets)
