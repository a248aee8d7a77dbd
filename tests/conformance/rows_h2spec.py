# SPDX-License-Identifier: Apache-2.0
"""h2spec's cases for clients (h2specd), folded: H1 to H13.

Source: RFC 9113; summerwind/h2spec, package client.
"""

from __future__ import annotations

from purecd.errors import StatusCode
from tests.conformance.frames import EIGHT, HALF, INDEXING, REST, head, reply, rst, settings
from tests.conformance.script import (
    BROKEN,
    CONN,
    LOST,
    REPLY,
    STREAM,
    Expect,
    Row,
    filled,
    status,
)
from tests.wire.peer import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    data,
    frame,
    headers,
    message,
    setting,
    trailers,
    u32,
)
from tests.wire.peer import OK as GOOD_TRAILERS

H2SPEC = [
    Row("H1", "server preface", lambda i: [], settings=((3, 100), (5, 32_768))),
    # 4.1
    Row("H2", "unknown type", lambda i: [frame(0xFF, 0, 0, EIGHT), frame(0x16, 0xFF, i.call, b"")]),
    Row("H2", "undefined flags", lambda i: [frame(PING, 0xFE, 0, EIGHT)]),
    Row("H2", "reserved bit", lambda i: [frame(PING, 0, 1 << 31, EIGHT)]),
    # 4.2
    Row(
        "H3",
        "DATA of 2^14",
        lambda i: [headers(i.call), data(i.call, message(filled(16_379))), trailers(i.call)],
        answered=True,
    ),
    Row(
        "H3",
        "DATA over 2^14",
        lambda i: [headers(i.call), data(i.call, bytes(16_385))],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
    Row("H3", "HEADERS over 2^14", lambda i: [headers(i.call, bytes(16_385))], CONN(FRAME_SIZE_ERROR), LOST),
    # 4.3
    Row("H4", "bad header block", lambda i: [head(i, b"\x40")], CONN(COMPRESSION_ERROR), LOST),
    # 5.1: idle, half closed, closed
    Row("H5", "DATA on idle", lambda i: [data(i.idle, b"x")], CONN(PROTOCOL_ERROR), LOST),
    Row("H5", "RST_STREAM on idle", lambda i: [rst(i.idle, CANCEL)], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H5",
        "WINDOW_UPDATE on idle",
        lambda i: [frame(WINDOW_UPDATE, 0, i.idle, u32(1))],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H5",
        "CONTINUATION on idle",
        lambda i: [frame(CONTINUATION, END_HEADERS, i.idle, GOOD_TRAILERS)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H5",
        "DATA after END_STREAM",
        lambda i: [reply(i), data(i.call, b"x")],
        STREAM(STREAM_CLOSED),
        answered=True,
    ),
    Row(
        "H5",
        "HEADERS after END_STREAM",
        lambda i: [reply(i), headers(i.call)],
        STREAM(STREAM_CLOSED),
        answered=True,
    ),
    Row(
        "H5",
        "CONTINUATION after END_STREAM",
        lambda i: [reply(i) + frame(CONTINUATION, END_HEADERS, i.call, GOOD_TRAILERS)],
        CONN(PROTOCOL_ERROR),
        answered=True,
    ),
    Row(
        "H5",
        "DATA after RST_STREAM",
        lambda i: [rst(i.call, 2), data(i.call, b"x")],
        STREAM(STREAM_CLOSED),
        status(StatusCode.INTERNAL),
    ),
    Row(
        "H5",
        "HEADERS after RST_STREAM",
        lambda i: [rst(i.call, 2), headers(i.call)],
        STREAM(STREAM_CLOSED),
        status(StatusCode.INTERNAL),
    ),
    Row(
        "H5",
        "CONTINUATION after RST_STREAM",
        lambda i: [rst(i.call, 2) + frame(CONTINUATION, END_HEADERS, i.call, GOOD_TRAILERS)],
        CONN(PROTOCOL_ERROR),
        status(StatusCode.INTERNAL),
    ),
    Row(
        "H5",
        "header table in step over a closed stream",
        # The first block, on a stream that is over, puts a field into the table; the next two use it.
        lambda i: [reply(i), headers(i.call, INDEXING)],
        STREAM(STREAM_CLOSED),
        answered=True,
        other=lambda i: headers(i.other, b"\x88\xbe") + data(i.other, message(REPLY)) + trailers(i.other),
    ),
    # 5.1.1
    Row("H6", "HEADERS on an even stream", lambda i: [headers(2)], CONN(PROTOCOL_ERROR), LOST),
    Row("H6", "HEADERS on idle", lambda i: [headers(i.idle)], CONN(PROTOCOL_ERROR), LOST),
    # 5.4.1
    Row(
        "H7",
        "invalid PING ends the connection",
        lambda i: [frame(PING, 0, 3, EIGHT)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    # 5.5
    Row("H8", "unknown extension", lambda i: [frame(0x20, 0xFF, i.call, b"abc")]),
    Row(
        "H8",
        "extension within a header block",
        lambda i: [frame(HEADERS, 0, i.call, HALF) + frame(0x20, 0, i.call, b"abc")],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    # 6.1
    Row("H9", "DATA on stream 0", lambda i: [data(0, b"x")], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H9",
        "DATA with too much padding",
        lambda i: [headers(i.call), frame(DATA, PADDED, i.call, b"\6abcde")],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H9",
        "DATA without its pad length",
        lambda i: [headers(i.call), frame(DATA, PADDED, i.call)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    # 6.2
    Row(
        "H9",
        "PRIORITY within a header block",
        lambda i: [frame(HEADERS, 0, i.call, HALF) + frame(PRIORITY, 0, i.call, bytes(5))],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H9",
        "HEADERS within a header block",
        lambda i: [frame(HEADERS, 0, i.call, HALF) + headers(i.other)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row("H9", "HEADERS on stream 0", lambda i: [headers(0)], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H9",
        "HEADERS with too much padding",
        lambda i: [frame(HEADERS, END_HEADERS | PADDED, i.call, b"\xff" + RESPONSE)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H9",
        "HEADERS too short for a priority",
        lambda i: [frame(HEADERS, END_HEADERS | PRIORITIZED, i.call, b"abcd")],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
    Row(
        "H9",
        "HEADERS padded and prioritised",
        lambda i: [
            frame(
                HEADERS, END_HEADERS | PADDED | PRIORITIZED, i.call, b"\3" + bytes(5) + RESPONSE + bytes(3)
            ),
            data(i.call, message(REPLY)) + trailers(i.call),
        ],
        answered=True,
    ),
    # 6.3
    Row(
        "H9", "PRIORITY on stream 0", lambda i: [frame(PRIORITY, 0, 0, bytes(5))], CONN(PROTOCOL_ERROR), LOST
    ),
    Row(
        "H9",
        "PRIORITY of 4 octets",
        lambda i: [frame(PRIORITY, 0, i.call, bytes(4))],
        STREAM(FRAME_SIZE_ERROR),
        BROKEN,
    ),
    Row("H9", "PRIORITY on idle", lambda i: [frame(PRIORITY, 0, i.idle, bytes(5))]),
    # 6.4
    Row("H9", "RST_STREAM on stream 0", lambda i: [rst(0, CANCEL)], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H9",
        "RST_STREAM of 3 octets",
        lambda i: [frame(RST_STREAM, 0, i.call, b"abc")],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
    # 6.5
    Row(
        "H10",
        "ACK with payload",
        lambda i: [frame(SETTINGS, ACK, 0, setting(3, 1))],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
    Row(
        "H10",
        "SETTINGS on a stream",
        lambda i: [frame(SETTINGS, 0, i.call, setting(3, 9))],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H10", "SETTINGS of 3 octets", lambda i: [frame(SETTINGS, 0, 0, b"abc")], CONN(FRAME_SIZE_ERROR), LOST
    ),
    # 6.5.2
    Row("H10", "ENABLE_PUSH 2", lambda i: [settings((2, 2))], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H10", "INITIAL_WINDOW_SIZE 2^31", lambda i: [settings((4, 1 << 31))], CONN(FLOW_CONTROL_ERROR), LOST
    ),
    Row("H10", "MAX_FRAME_SIZE 2^14-1", lambda i: [settings((5, 16_383))], CONN(PROTOCOL_ERROR), LOST),
    Row("H10", "MAX_FRAME_SIZE 0", lambda i: [settings((5, 0))], CONN(PROTOCOL_ERROR), LOST),
    Row("H10", "MAX_FRAME_SIZE 2^24", lambda i: [settings((5, 1 << 24))], CONN(PROTOCOL_ERROR), LOST),
    Row("H10", "unknown setting", lambda i: [settings((0xFF, 1), (0, 7))]),
    # 6.5.3
    Row("H10", "SETTINGS acknowledged", lambda i: [settings((3, 50)), Expect(SETTINGS, ACK)]),
    # 6.7, 6.8
    Row("H11", "PING answered", lambda i: [frame(PING, 0, 0, EIGHT), Expect(PING, ACK)]),
    Row("H11", "PING ACK not answered", lambda i: [frame(PING, ACK, 0, EIGHT)]),
    Row("H11", "PING on a stream", lambda i: [frame(PING, 0, i.call, EIGHT)], CONN(PROTOCOL_ERROR), LOST),
    Row("H11", "PING of 6 octets", lambda i: [frame(PING, 0, 0, EIGHT[:6])], CONN(FRAME_SIZE_ERROR), LOST),
    Row(
        "H11",
        "GOAWAY on a stream",
        lambda i: [frame(GOAWAY, 0, i.call, u32(1) + u32(0))],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row("H11", "GOAWAY of 7 octets", lambda i: [frame(GOAWAY, 0, 0, bytes(7))], CONN(FRAME_SIZE_ERROR), LOST),
    # 6.9, 6.9.1
    Row("H12", "increment 0", lambda i: [frame(WINDOW_UPDATE, 0, 0, u32(0))], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H12",
        "increment 0 on a stream",
        lambda i: [frame(WINDOW_UPDATE, 0, i.call, u32(0))],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
    Row(
        "H12",
        "WINDOW_UPDATE of 3 octets",
        lambda i: [frame(WINDOW_UPDATE, 0, 0, b"abc")],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
    Row(
        "H12",
        "window of the connection over 2^31-1",
        lambda i: [frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1))],
        CONN(FLOW_CONTROL_ERROR),
        LOST,
    ),
    Row(
        "H12",
        "window of a stream over 2^31-1",
        lambda i: [frame(WINDOW_UPDATE, 0, i.call, u32(2**31 - 1))],
        STREAM(FLOW_CONTROL_ERROR),
        BROKEN,
    ),
    # 6.10
    Row(
        "H13",
        "several CONTINUATION",
        lambda i: [
            frame(HEADERS, 0, i.call, HALF),
            frame(CONTINUATION, 0, i.call, REST[:5]),
            frame(CONTINUATION, END_HEADERS, i.call, REST[5:]),
            data(i.call, message(REPLY)) + trailers(i.call),
        ],
        answered=True,
    ),
    Row(
        "H13",
        "DATA within a header block",
        lambda i: [
            frame(HEADERS, 0, i.call, HALF) + frame(CONTINUATION, 0, i.call, REST) + data(i.call, b"x")
        ],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H13",
        "CONTINUATION on stream 0",
        lambda i: [frame(HEADERS, 0, i.call, HALF) + frame(CONTINUATION, END_HEADERS, 0, REST)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H13",
        "CONTINUATION after END_HEADERS",
        lambda i: [headers(i.call) + frame(CONTINUATION, END_HEADERS, i.call, GOOD_TRAILERS)],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H13",
        "CONTINUATION after the last CONTINUATION",
        lambda i: [
            frame(HEADERS, 0, i.call, HALF)
            + frame(CONTINUATION, END_HEADERS, i.call, REST)
            + frame(CONTINUATION, END_HEADERS, i.call, GOOD_TRAILERS)
        ],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
    Row(
        "H13",
        "CONTINUATION after DATA",
        lambda i: [
            headers(i.call)
            + data(i.call, message(REPLY))
            + frame(CONTINUATION, END_HEADERS, i.call, GOOD_TRAILERS)
        ],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
]
