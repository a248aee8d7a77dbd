# SPDX-License-Identifier: Apache-2.0
"""Lists of frames of a server, legal and not, written without the code under test."""

from __future__ import annotations

from typing import NamedTuple

from tests.wire.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    OK,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    message,
    setting,
    u32,
)

from .taste import Taste

STREAMS = (1, 3, 5)
BLOCKS = (
    RESPONSE,
    OK,
    b"\x88\x40\x0ccontent-type\x10application/grpc",
    b"\x88\xbe",
    b"\x40\x0bgrpc-status\x010",
    block((":status", "103")),
    block((":status", "404"), ("content-type", "text/html")),
    block(("grpc-status", "14"), ("grpc-message", "no%20leader")),
    b"\x20\x88",
    b"\x3f\xe1\x1f\x88",
)
KINDS = (DATA, HEADERS, DATA, HEADERS, PING, SETTINGS, WINDOW_UPDATE, RST_STREAM, GOAWAY)
EVERY_KIND = (
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
    0x0B,
    0xFF,
)


class Sent(NamedTuple):
    """One frame of the server.

    Attributes:
        legal: made by the rules that hold for a frame alone; the state may still forbid it.
    """

    kind: int
    flags: int
    stream_id: int
    payload: bytes
    legal: bool = True

    @property
    def octets(self) -> bytes:
        return frame(self.kind, self.flags, self.stream_id, self.payload)


def story(taste: Taste, longest: int = 24, illegal: int = 20) -> list[Sent]:
    """Frames of a server, beginning with SETTINGS most of the time.

    Args:
        illegal: percentage of frames that no server may send.
    """
    frames = []
    if not taste.chance(5):
        frames.append(Sent(SETTINGS, 0, 0, b""))
        frames += [Sent(HEADERS, END_HEADERS, one, BLOCKS[2 if one == 1 else 0]) for one in STREAMS]
    while taste.left and len(frames) < longest:
        frames += _anything(taste) if taste.chance(illegal) else _legal(taste)
    return frames


def _anything(taste: Taste) -> list[Sent]:
    kind = taste.one_of(EVERY_KIND)
    return [Sent(kind, taste.below(256), taste.one_of((0, 1, 3, 5, 2, 7, 2**31 - 1)), taste.some(40), False)]


def _legal(taste: Taste) -> list[Sent]:
    kind = taste.one_of(KINDS)
    stream_id = taste.one_of(STREAMS)
    if kind == DATA:
        return [_data(taste, stream_id)]
    if kind == HEADERS:
        return _headers(taste, stream_id)
    if kind == PING:
        return [Sent(PING, taste.one_of((0, ACK)), 0, bytes(8))]
    if kind == SETTINGS:
        pairs = ((3, 100), (3, 0), (4, 0), (4, 200), (4, 65_535), (4, 90_000), (5, 16_384), (1, 0), (99, 1))
        return [Sent(SETTINGS, 0, 0, setting(*taste.one_of(pairs)))]
    if kind == WINDOW_UPDATE:
        increment = taste.one_of((1, 900, 70_000, 2**30))
        return [Sent(WINDOW_UPDATE, 0, taste.one_of((0, stream_id)), u32(increment))]
    if kind == RST_STREAM:
        return [Sent(RST_STREAM, 0, stream_id, u32(taste.one_of((0, 7, 8, 2, 99))))]
    last = taste.one_of((2**31 - 1, 5, 3, 1, 0))
    return [Sent(GOAWAY, 0, 0, u32(last) + u32(taste.one_of((0, 11, 2))) + taste.some(20))]


def _data(taste: Taste, stream_id: int) -> Sent:
    whole = message(taste.some(30))
    payload = taste.one_of((whole, b"", whole + whole, whole[: taste.below(9)], bytes(9000)))
    flags = taste.one_of((0, 0, 0, END_STREAM, PADDED))
    if flags == PADDED:
        size = taste.below(20)
        payload = bytes((size,)) + payload + bytes(size)
    return Sent(DATA, flags, stream_id, payload)


def _headers(taste: Taste, stream_id: int) -> list[Sent]:
    octets = taste.one_of(BLOCKS)
    end = taste.one_of((0, END_STREAM))
    if not taste.chance(20):
        return [Sent(HEADERS, END_HEADERS | end, stream_id, octets)]
    cut = taste.below(len(octets))
    return [
        Sent(HEADERS, end, stream_id, octets[:cut]),
        Sent(CONTINUATION, END_HEADERS, stream_id, octets[cut:]),
    ]
