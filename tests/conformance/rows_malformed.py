# SPDX-License-Identifier: Apache-2.0
"""What else a server may send wrongly, or rightly but oddly: H20 to H38.

Source: RFC 9113 and RFC 7541.
"""

from __future__ import annotations

from purecd import errors
from purecd.errors import StatusCode
from tests.conformance.frames import EIGHT, INDEXING, goaway, head, padded, reply, rst, settings
from tests.conformance.script import (
    BROKEN,
    CONN,
    ENDED,
    FIN,
    IDS,
    LOST,
    OK,
    REPLY,
    STREAM,
    TOO_LARGE,
    Expect,
    Ids,
    Outcome,
    Row,
    filled,
    given,
    status,
)
from tests.wire.peer import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    PING,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RESPONSE,
    SETTINGS,
    WINDOW_UPDATE,
    answer,
    block,
    data,
    frame,
    headers,
    message,
    trailers,
    u32,
)

NOT_HTTP2 = Outcome(LOST.kind, LOST.code, False)
FAST = {"fail_fast": True}

BEGINNINGS = [
    Row(
        "H20",
        f"begins with {name}",
        given(octets, lambda i, octets: [octets]),
        CONN(PROTOCOL_ERROR),
        NOT_HTTP2,
        hello=True,
        text=text,
        options=FAST,
    )
    for name, octets, text in [
        ("PING", frame(PING, 0, 0, EIGHT), "first frame is PING"),
        ("a SETTINGS ACK", frame(SETTINGS, ACK, 0), "first frame is SETTINGS"),
        ("an unknown frame", frame(0x99, 0, 0), "first frame is frame of type 0x99"),
        ("HTTP 1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP/1 server?"),
        ("other text", b"SSH-2.0-x\r\n", "not an HTTP/2 server"),
    ]
] + [
    Row(
        "H20",
        "begins with a TLS alert",
        lambda i: [b"\x15\x03\x01\x00\x02\x02\x46"],
        ENDED,
        NOT_HTTP2._replace(kind=errors.TlsError),
        hello=True,
        options=FAST,
        text="TLS",
    ),
    Row("H20", "ends without a word", lambda i: [FIN], ENDED, NOT_HTTP2, hello=True, options=FAST),
]

BAD_HEADERS = [
    Row(
        "H25",
        name,
        given(fields, lambda i, fields: [head(i, block(*fields))]),
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    )
    for name, fields in [
        ("no :status", [("content-type", "application/grpc")]),
        (":status twice", [(":status", "200"), (":status", "200"), ("content-type", "application/grpc")]),
        (":status of two digits", [(":status", "20"), ("content-type", "application/grpc")]),
        (":status of letters", [(":status", "2oo"), ("content-type", "application/grpc")]),
        ("request pseudo-header", [(":status", "200"), (":path", "/"), ("content-type", "application/grpc")]),
        ("pseudo-header after a field", [("content-type", "application/grpc"), (":status", "200")]),
        ("upper case", [(":status", "200"), ("Content-Type", "application/grpc")]),
        ("CR", [(":status", "200"), ("content-type", "application/grpc"), ("a", "b\rc")]),
        ("LF", [(":status", "200"), ("content-type", "application/grpc"), ("a", "b\nc")]),
        ("NUL", [(":status", "200"), ("content-type", "application/grpc"), ("a", "b\0c")]),
        ("space before a value", [(":status", "200"), ("content-type", "application/grpc"), ("a", " b")]),
        ("space behind a value", [(":status", "200"), ("content-type", "application/grpc"), ("a", "b ")]),
        ("connection", [(":status", "200"), ("content-type", "application/grpc"), ("connection", "close")]),
        (
            "transfer-encoding",
            [(":status", "200"), ("content-type", "application/grpc"), ("transfer-encoding", "chunked")],
        ),
    ]
] + [
    Row(
        "H25",
        "pseudo-header in trailers",
        lambda i: [
            headers(i.call) + data(i.call, message(REPLY)),
            headers(i.call, block((":status", "200"), ("grpc-status", "0"))),
        ],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
    Row(
        "H25",
        "content-length too small",
        lambda i: [headers(i.call, RESPONSE + block(("content-length", "3"))), data(i.call, message(REPLY))],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
    # The stream is over by then; there is nothing to reset.
    Row(
        "H25",
        "content-length too large",
        lambda i: [
            headers(i.call, RESPONSE + block(("content-length", "99"))),
            data(i.call, message(REPLY)),
            trailers(i.call),
        ],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
]

BAD_BLOCKS = [
    ("index 0", b"\x80"),
    ("index out of range", b"\xff\x80\x01"),
    ("size update over the limit", b"\x3f\xe2\x1f" + RESPONSE),
    ("size update behind a field", RESPONSE + b"\x20"),
    ("string cut off", b"\x00\x0aabc"),
    ("Huffman EOS", b"\x00\x01a\x84\xff\xff\xff\xff"),
    ("Huffman padding of 8 bits", b"\x00\x01a\x82\x1f\xff"),
    ("Huffman padding of zeros", b"\x00\x01a\x81\x18"),
    ("integer over 2^32", b"\x00\x7f\x80\x80\x80\x80\x10"),
    ("integer of many octets", b"\x00\x7f" + b"\x80" * 60 + b"\x00"),
]
COMPRESSION = [
    Row("H26", name, given(octets, lambda i, octets: [head(i, octets)]), CONN(COMPRESSION_ERROR), LOST)
    for name, octets in BAD_BLOCKS
] + [
    Row(
        "H27",
        f"{name} on a closed stream",
        given(octets, lambda i, octets: [reply(i) + head(i, octets)]),
        CONN(COMPRESSION_ERROR),
        OK,
        answered=True,
    )
    for name, octets in BAD_BLOCKS[:2]
]

LARGE = block(("a", "x" * 1000)) * 15
"""15,480 octets by the count of RFC 9113 §6.5.2, within one frame."""


def long_block(i: Ids, pieces: int) -> bytes:
    """Response headers of so many frames."""
    more = [frame(CONTINUATION, 0, i.call, LARGE)] * (pieces - 2)
    return b"".join(
        [frame(HEADERS, 0, i.call, RESPONSE + LARGE), *more, frame(CONTINUATION, END_HEADERS, i.call, LARGE)]
    )


SIZES = [
    Row(
        "H28",
        "header list within the limit",
        lambda i: [long_block(i, 4), data(i.call, message(REPLY)), trailers(i.call)],
        answered=True,
    ),
    Row(
        "H28",
        "header list over the limit",
        lambda i: [long_block(i, 5)],
        STREAM(ENHANCE_YOUR_CALM),
        TOO_LARGE,
    ),
    Row(
        "H28",
        "256 fields",
        lambda i: [
            head(i, RESPONSE + block(("a", "b")) * 254),
            data(i.call, message(REPLY)),
            trailers(i.call),
        ],
        answered=True,
    ),
    Row(
        "H28",
        "257 fields",
        lambda i: [head(i, RESPONSE + block(("a", "b")) * 255)],
        STREAM(ENHANCE_YOUR_CALM),
        TOO_LARGE,
    ),
    Row(
        "H28",
        "header list over four times the limit",
        lambda i: [long_block(i, 17)],
        CONN(ENHANCE_YOUR_CALM),
        LOST,
        big=True,
    ),
    Row(
        "H28",
        "table in step after a list over the limit",
        lambda i: [head(i, INDEXING + block(("a", "b")) * 255)],
        STREAM(ENHANCE_YOUR_CALM),
        TOO_LARGE,
        other=lambda i: headers(i.other, b"\x88\xbe") + data(i.other, message(REPLY)) + trailers(i.other),
    ),
]


def early(code: str) -> bytes:
    return block((":status", code))


EARLY = [
    Row("H29", "one 103", lambda i: [head(i, early("103"))]),
    Row("H29", "16 times 103", lambda i: [head(i, early("103")) * 16]),
    Row("H29", "100 times 103", lambda i: [head(i, early("103")) * 100], STREAM(ENHANCE_YOUR_CALM), BROKEN),
    Row(
        "H29",
        "103 with END_STREAM",
        lambda i: [headers(i.call, early("103"), True)],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
    Row(
        "H29",
        "103 after the response began",
        lambda i: [headers(i.call), head(i, early("103"))],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
    Row(
        "H30",
        "PUSH_PROMISE",
        lambda i: [frame(PUSH_PROMISE, END_HEADERS, i.call, u32(2) + b"\x82")],
        CONN(PROTOCOL_ERROR),
        LOST,
    ),
]

OBEYED = [
    Row("H31", "ENABLE_PUSH 1", lambda i: [settings((2, 1))], CONN(PROTOCOL_ERROR), LOST),
    Row("H31", "HEADER_TABLE_SIZE 0", lambda i: [settings((1, 0))]),
    Row("H31", "HEADER_TABLE_SIZE 2^32-1", lambda i: [settings((1, 2**32 - 1))]),
    Row("H31", "MAX_CONCURRENT_STREAMS under what is open", lambda i: [settings((3, 1))]),
    Row(
        "H31",
        "MAX_CONCURRENT_STREAMS 0 for a while",
        lambda i: [settings((3, 0)), Expect(SETTINGS, ACK), settings((3, 100))],
    ),
    Row(
        "H31",
        "INITIAL_WINDOW_SIZE 0 for a while",
        lambda i: [settings((4, 0)), Expect(SETTINGS, ACK), settings((4, 65_535))],
    ),
    Row(
        "H31",
        "INITIAL_WINDOW_SIZE raises a window over 2^31-1",
        lambda i: [frame(WINDOW_UPDATE, 0, i.call, u32(2**31 - 1 - 65_535)) + settings((4, 131_070))],
        CONN(FLOW_CONTROL_ERROR),
        LOST,
    ),
    Row("H31", "64 settings", lambda i: [settings(*[(0xF0, 1)] * 64)]),
    Row("H31", "65 settings", lambda i: [settings(*[(0xF0, 1)] * 65)], CONN(ENHANCE_YOUR_CALM), LOST),
    Row("H31", "2400 settings", lambda i: [settings(*[(0xF0, 1)] * 2400)], CONN(ENHANCE_YOUR_CALM), LOST),
]

UNPROCESSED = OK  # it is sent again, and answered on another connection


def both(i: Ids) -> bytes:
    return reply(i) + answer(i.other, REPLY)


DRAINING = [
    Row(
        "H32",
        "GOAWAY in two steps",
        lambda i: [
            goaway(2**31 - 1, 0, b"graceful_stop") + frame(PING, 0, 0, EIGHT),
            Expect(PING, ACK),
            goaway(i.call),
            both(i),
        ],
        ENDED,
        answered=True,
    ),
    Row("H32", "GOAWAY with last stream 0", lambda i: [goaway(0)], ENDED, UNPROCESSED, answered=True),
    Row(
        "H32",
        "GOAWAY with the last stream lowered",
        lambda i: [goaway(i.call), goaway(i.other), answer(i.other, REPLY)],
        ENDED,
        UNPROCESSED,
        answered=True,
    ),
    Row(
        "H32",
        "GOAWAY with the last stream lowered twice",
        lambda i: [goaway(i.call), goaway(i.other), goaway(i.over)],
        ENDED,
        UNPROCESSED,
        answered=True,
    ),
    Row(
        "H32",
        "GOAWAY with the last stream raised",
        lambda i: [goaway(i.other) + goaway(i.call)],
        CONN(PROTOCOL_ERROR),
        UNPROCESSED,
        answered=True,
    ),
    Row("H32", "GOAWAY with an even id", lambda i: [goaway(i.other + 1)], CONN(PROTOCOL_ERROR), LOST),
    Row(
        "H32",
        "GOAWAY for too many PINGs",
        lambda i: [goaway(i.call, ENHANCE_YOUR_CALM, b"too_many_pings"), both(i)],
        ENDED,
        answered=True,
    ),
    Row("H32", "GOAWAY then the end", lambda i: [goaway(i.call, 0, b"bye"), FIN], ENDED, LOST, text="bye"),
]

ENDED_STREAMS = [
    Row(
        "H33", "RST_STREAM on a closed stream, twice", lambda i: [reply(i), rst(i.call, 0) * 2], answered=True
    ),
    Row("H33", "RST_STREAM on a stream closed long ago", lambda i: [rst(i.over, 5)]),
    Row(
        "H33",
        "RST_STREAM with an unknown code",
        lambda i: [rst(i.call, 0x77)],
        outcome=status(StatusCode.UNKNOWN),
        text="0x77",
    ),
    Row(
        "H34",
        "WINDOW_UPDATE on a closed stream",
        lambda i: [reply(i), frame(WINDOW_UPDATE, 0, i.call, u32(5))],
        answered=True,
    ),
]

# 314,159 octets of reply and 5 of prefix, in pieces of 5.
BODY = message(filled(314_159))
PADDED_REPLY = [
    b"".join(
        [padded(IDS.call, BODY[at : at + 5], 255) for at in range(start, min(start + 5000, len(BODY)), 5)]
    )
    for start in range(0, len(BODY), 5000)
]

WINDOWS = [
    Row(
        "H22", "DATA before HEADERS", lambda i: [data(i.call, message(REPLY))], STREAM(PROTOCOL_ERROR), BROKEN
    ),
    Row("H22", "HEADERS twice", lambda i: [headers(i.call), headers(i.call)], STREAM(PROTOCOL_ERROR), BROKEN),
    Row(
        "H24",
        "62,000 frames of 5 octets and 255 of padding",
        lambda i: [headers(i.call), *PADDED_REPLY, trailers(i.call)],
        answered=True,
        big=True,
    ),
    Row(
        "H24",
        "padding alone",
        lambda i: [
            headers(i.call) + padded(i.call, b"", 255) * 300,
            data(i.call, message(REPLY)) + trailers(i.call),
        ],
        answered=True,
        big=True,
    ),
]


MALFORMED_ROWS = [
    *BEGINNINGS,
    *WINDOWS,
    *BAD_HEADERS,
    *COMPRESSION,
    *SIZES,
    *EARLY,
    *OBEYED,
    *DRAINING,
    *ENDED_STREAMS,
]
