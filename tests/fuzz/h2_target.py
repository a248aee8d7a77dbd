# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: our client connection beside that of the h2 package, octet for octet.

Where both have no quarrel with what came they must agree on all of it: data, ends and resets of each
stream. Whether there is a quarrel must be agreed on as well, but for these (h2 4.4, measured):

| what comes | h2 | we, and why |
| --- | --- | --- |
| GOAWAY | every later frame is an error | streams below it go on (RFC 9113 §6.8) |
| a frame before SETTINGS | taken | refused (§3.4) |
| RST_STREAM on an idle stream | ignored | refused (§5.1) |
| malformed headers, WINDOW_UPDATE of 0, wrong PRIORITY | ends the connection | ends the stream (§5.4.2) |
| DATA or HEADERS on a stream that has ended | ends the stream | ends the connection or is skipped (§5.1) |
| DATA before HEADERS, HEADERS in the middle | depends | ends the stream (§8.1) |
| WINDOW_UPDATE with the reserved bit | refused | the bit is ignored (§6.9) |
| a stream's window over 2^31-1 | ends the connection | ends the stream (§6.9.1) |
| limits: CONTINUATION, header list, flow control of windows we did not announce | differ | ours |
| gRPC in what HTTP/2 carries | not looked at | ends the stream |

So a story is compared up to the first frame that any of these may concern.
"""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from hpack.exceptions import HPACKError

from purecd.wire import frames as ours
from purecd.wire.http2 import Http2Connection
from purecd.wire.streams import Stream
from tests.wire.peer import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST_BLOCK,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

from .frames import Sent, story
from .taste import Taste

REQUEST = [(":method", "POST"), (":path", "/x"), (":scheme", "http"), (":authority", "a")]


class Plain(Stream):
    """A stream that keeps what comes and knows no gRPC."""

    def __init__(self) -> None:
        super().__init__()
        self.body = b""
        self.ended = False
        self.reset: int | None = None
        self.heads = 0

    def receive_headers(self, block: Any, end_stream: bool) -> bool:
        self.heads += 1
        self.ended = self.ended or end_stream
        return True

    def receive_data(self, data: bytes, end_stream: bool) -> bool:
        self.body += data
        self.ended = self.ended or end_stream
        return True

    def receive_reset(self, code: int) -> None:
        self.reset = code

    def receive_lost(self, reason: str) -> None:
        pass

    def receive_unprocessed(self, reason: str, refused_connection: bool) -> None:
        pass

    def receive_violation(self, code: int, text: str) -> None:
        pass


def like_h2(data: bytes) -> None:
    """Z3: h2 and we see the same in what a server sends."""
    mine = Http2Connection(stream_window=65_535, connection_window=65_535)
    theirs = H2Connection(
        H2Configuration(client_side=True, header_encoding=None, validate_inbound_headers=False)
    )
    theirs.initiate_connection()
    streams = {}
    taste = Taste(data)
    frames = story(taste, illegal=15)
    if not frames or frames[0].kind != SETTINGS or frames[0].payload or frames[0].flags:
        return
    mine.receive_data(frames[0].octets)
    theirs.receive_data(frames[0].octets)
    for stream_id in (1, 3, 5):
        stream = streams[stream_id] = Plain()
        mine.open_stream(stream, REQUEST_BLOCK, b"", True)
        theirs.send_headers(stream_id, REQUEST, end_stream=True)
    seen = {stream_id: [b"", False, None] for stream_id in streams}
    dead: set[int] = set()
    open_block = 0
    window = ours.DEFAULT_WINDOW
    for frame in frames[1:]:
        window -= len(frame.payload) if frame.kind == DATA else 0
        if window < 0:
            return  # we open it as data comes, h2 when it is told
        if _not_comparable(frame, streams, dead, open_block):
            return
        refused = False
        try:
            events = theirs.receive_data(frame.octets)
        except (H2Error, HPACKError, ValueError, IndexError, KeyError):
            refused, events = True, []
        mine.receive_data(frame.octets)
        assert refused == (mine.error is not None), (frame, mine.error)
        if refused:
            return
        if frame.kind == HEADERS and not frame.flags & 4:
            open_block = frame.stream_id
        elif open_block:
            open_block = 0
        _note(events, seen)
        for stream_id, stream in streams.items():
            assert [stream.body, stream.ended, stream.reset] == seen[stream_id], (frame, stream_id)
            if stream.ended or stream.reset is not None:
                dead.add(stream_id)


def _note(events: list[Any], seen: dict[int, list[Any]]) -> None:
    for event in events:
        if isinstance(event, DataReceived):
            seen[event.stream_id][0] += event.data
        elif isinstance(event, StreamEnded):
            seen[event.stream_id][1] = True
        elif isinstance(event, StreamReset) and event.remote_reset:
            seen[event.stream_id][2] = int(event.error_code)


def _not_comparable(frame: Sent, streams: dict[int, Plain], dead: set[int], open_block: int) -> bool:
    """Whether the table above has an opinion on this frame."""
    kind, stream_id = frame.kind, frame.stream_id
    if open_block:
        return kind != ours.CONTINUATION or stream_id != open_block
    if kind in (GOAWAY, PUSH_PROMISE) or stream_id > ours.MAX_STREAM_ID:
        return True
    stream = streams.get(stream_id)
    if kind == RST_STREAM:
        return stream is None or stream_id in dead or len(frame.payload) != 4
    if kind == PRIORITY:
        return True
    if kind == WINDOW_UPDATE:
        return _odd_update(frame) or stream_id in dead or (stream_id != 0 and stream is None)
    if kind in (DATA, HEADERS):
        if stream is None or stream_id in dead:
            return True
        if kind == DATA:
            return not stream.heads or not frame.legal
        # A second block without the end, or one that is not ours, may be malformed in one book alone.
        return not frame.legal or frame.payload[:1] not in (b"\x88", b"\x00") or bool(stream.heads)
    if kind == SETTINGS:
        return not frame.legal
    return kind == PING and not frame.legal and bool(frame.flags & 1)


def _odd_update(frame: Sent) -> bool:
    """An increment of 0, one with the reserved bit (hyperframe counts it in), or of a stream."""
    increment = int.from_bytes(frame.payload, "big")
    return len(frame.payload) == 4 and (not 0 < increment <= ours.MAX_WINDOW or frame.stream_id != 0)
