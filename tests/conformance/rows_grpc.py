# SPDX-License-Identifier: Apache-2.0
"""gRPC over HTTP/2: how responses may end, and what their messages and statuses may be.

G1 to G7 are gRPC's test cases with a bad HTTP/2 server, G30 and up what its documents say of responses.
Source: gRPC doc/PROTOCOL-HTTP2.md, doc/http-grpc-status-mapping.md, doc/statuscodes.md,
doc/compression.md, doc/http2-interop-test-descriptions.md.
"""

from __future__ import annotations

from purecd import errors
from purecd.errors import StatusCode
from tests.conformance.frames import EIGHT, goaway, padded, rst
from tests.conformance.script import (
    BROKEN,
    ENDED,
    NOTHING,
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
    CANCEL,
    NO_ERROR,
    PING,
    PROTOCOL_ERROR,
    RESPONSE,
    answer,
    block,
    data,
    frame,
    headers,
    message,
    trailers,
    u32,
)

S = StatusCode
BEGUN = message(REPLY)


def response(i: Ids, *rest: bytes) -> list[bytes]:
    """Good response headers, and what follows."""
    return [headers(i.call), *rest]


def ended(i: Ids, *fields: tuple[str, str | bytes]) -> list[bytes]:
    """A whole response with these trailers."""
    return response(i, data(i.call, BEGUN), trailers(i.call, block(*fields)))


def foreign(i: Ids, http: str, *fields: tuple[str, str | bytes], body: bytes = b"") -> list[bytes]:
    """A response that is not gRPC."""
    first = headers(i.call, block((":status", http), *fields), not body)
    return [first, data(i.call, body, True)] if body else [first]


ping = frame(PING, 0, 0, EIGHT)
LARGE = message(filled(314_159))
LARGE_FRAMES = [LARGE[at : at + 16_384] for at in range(0, len(LARGE), 16_384)]

INTEROP = [
    Row(
        "G1",
        "goaway after a call",
        lambda i: [answer(i.other, REPLY), answer(i.call, REPLY), goaway(i.call)],
        ENDED,
        answered=True,
    ),
    Row("G2", "rst_after_header", lambda i: response(i, rst(i.call, NO_ERROR)), outcome=status(S.INTERNAL)),
    Row(
        "G3",
        "rst_during_data",
        lambda i: response(i, data(i.call, LARGE[:16_384]), rst(i.call, NO_ERROR)),
        outcome=status(S.INTERNAL),
    ),
    Row(
        "G4",
        "rst_after_data",
        lambda i: response(i, data(i.call, BEGUN), rst(i.call, NO_ERROR)),
        outcome=status(S.INTERNAL),
    ),
    Row(
        "G5",
        "ping around everything",
        lambda i: (
            [ping, headers(i.call), ping, data(i.call, BEGUN), ping, trailers(i.call), ping]
            + [Expect(PING, ACK)] * 4
        ),
        answered=True,
    ),
    Row(
        "G7",
        "data_frame_padding",
        lambda i: response(
            i,
            *[padded(i.call, LARGE[at : at + 5_000], 255) for at in range(0, len(LARGE), 5_000)],
            trailers(i.call),
        ),
        answered=True,
        big=True,
    ),
    Row(
        "G7",
        "no_df_padding_sanity_test",
        lambda i: response(i, *[data(i.call, each) for each in LARGE_FRAMES], trailers(i.call)),
        answered=True,
        big=True,
    ),
]

HTTP_STATUS = [
    Row(
        "G30",
        f"HTTP {http}",
        given(http, lambda i, http: foreign(i, http, ("content-type", "text/plain"))),
        outcome=status(code),
    )
    for http, code in [
        ("400", S.INTERNAL),
        ("401", S.UNAUTHENTICATED),
        ("403", S.PERMISSION_DENIED),
        ("404", S.UNIMPLEMENTED),
        ("429", S.UNAVAILABLE),
        ("431", S.INTERNAL),
        ("502", S.UNAVAILABLE),
        ("503", S.UNAVAILABLE),
        ("504", S.UNAVAILABLE),
        ("200", S.UNKNOWN),
        ("500", S.UNKNOWN),
        ("301", S.UNKNOWN),
        ("999", S.UNKNOWN),
    ]
] + [
    Row(
        "G30",
        "body in the message",
        lambda i: foreign(i, "502", ("content-type", "text/html"), body=b"<p>bad gateway"),
        outcome=status(S.UNAVAILABLE),
        text="<p>bad gateway",
    ),
    Row(
        "G30",
        "more body than is shown",
        lambda i: [headers(i.call, block((":status", "502"))), data(i.call, b"x" * 2000)],
        STREAM(PROTOCOL_ERROR),
        status(S.UNAVAILABLE),
        text="x" * 1024 + "'",
    ),
]

REFUSED = Outcome(errors.RpcError, S.INVALID_ARGUMENT, False)

MEDIA = [
    Row(
        "G31",
        "grpc-status wins over HTTP 415",
        lambda i: foreign(
            i, "415", ("content-type", "application/grpc"), ("grpc-status", "3"), ("grpc-message", "no")
        ),
        outcome=REFUSED,
        text="no",
    ),
    *[
        Row(
            "G32",
            f"content-type {kind}",
            given(
                kind,
                lambda i, kind: [
                    headers(i.call, block((":status", "200"), ("content-type", kind))),
                    data(i.call, BEGUN),
                    trailers(i.call),
                ],
            ),
            answered=True,
        )
        for kind in ("application/grpc", "application/grpc+proto", "application/grpc;charset=x")
    ],
    *[
        Row(
            "G32",
            f"content-type {kind or 'missing'}",
            given(kind, lambda i, kind: foreign(i, "200", *[("content-type", kind)] * bool(kind))),
            outcome=status(S.UNKNOWN),
            text=kind or "missing content-type",
        )
        for kind in ("", "text/html", "application/grpcfoo", "application/json")
    ],
]

STATUSES = [
    Row("G33", "grpc-status missing", lambda i: ended(i, ("a", "b")), outcome=status(S.UNKNOWN)),
    *[
        Row(
            "G33",
            f"grpc-status {value!r}",
            given(value, lambda i, value: ended(i, ("grpc-status", value))),
            outcome=status(S.UNKNOWN),
            text=value,
        )
        for value in ("", "abc", "17", "-1", "999999999999", "1e1", "+1")
    ],
    # grpc-go and others read it as a number, too.
    Row("G33", "grpc-status '00'", lambda i: ended(i, ("grpc-status", "00")), answered=True),
    *[
        Row(
            "G34",
            f"grpc-message {sent[:12]!r} of {len(sent)}",
            given(sent, lambda i, sent: ended(i, ("grpc-status", "3"), ("grpc-message", sent))),
            outcome=REFUSED,
            text=shown,
        )
        for sent, shown in [
            (b"100%", "100%"),
            (b"%G1%2", "%G1%2"),
            (b"%ff%fe", "\ufffd\ufffd"),
            (b"a%0Ab", "a\nb"),
            (b"\xc3\x28", "\ufffd("),
            (b"%E2%82%AC", "€"),
            (b"x" * 16_000, "x" * 4095 + "…"),
        ]
    ],
    Row(
        "G34",
        "grpc-message of 1 MiB",
        lambda i: [headers(i.call), b"".join(long_trailers(i))],
        STREAM(11),
        TOO_LARGE,
        big=True,
    ),
    Row("G35", "END_STREAM on DATA", lambda i: response(i, data(i.call, BEGUN, True)), outcome=BROKEN),
]


def long_trailers(i: Ids) -> list[bytes]:
    """Trailers over the limit for header lists, within four times of it."""
    octets = block(("grpc-status", "3"), ("grpc-message", b"x" * 200_000))
    pieces = [octets[at : at + 16_384] for at in range(0, len(octets), 16_384)]
    last = len(pieces) - 1
    return [
        frame(9 if at else 1, (4 if at == last else 0) | (0 if at else 1), i.call, piece)
        for at, piece in enumerate(pieces)
    ]


def only(code: str) -> bytes:
    return block((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", code))


MESSAGES = [
    Row("G36", "Trailers-Only", lambda i: [trailers(i.call, only("3"))], outcome=REFUSED),
    Row("G36", "Trailers-Only with status 0", lambda i: [trailers(i.call, only("0"))], outcome=BROKEN),
    Row(
        "G37",
        "compressed without an encoding",
        lambda i: response(i, data(i.call, message(REPLY, 1))),
        STREAM(CANCEL),
        BROKEN,
    ),
    Row(
        "G37",
        "compressed with gzip",
        lambda i: [
            headers(i.call, RESPONSE + block(("grpc-encoding", "gzip"))),
            data(i.call, message(b"\x1f\x8b" + bytes(50), 1)),
        ],
        STREAM(CANCEL),
        BROKEN,
        text="gzip",
    ),
    *[
        Row(
            "G37",
            f"flag {flag}",
            given(flag, lambda i, flag: response(i, data(i.call, message(REPLY, flag)))),
            STREAM(CANCEL),
            BROKEN,
        )
        for flag in (2, 128, 255)
    ],
    Row(
        "G37",
        "encoding named but not used",
        lambda i: [
            headers(i.call, RESPONSE + block(("grpc-encoding", "gzip"))),
            data(i.call, BEGUN),
            trailers(i.call),
        ],
        answered=True,
    ),
    Row(
        "G38",
        "length of 4 GiB, then nothing",
        lambda i: response(i, data(i.call, b"\0\xff\xff\xff\xff")),
        STREAM(CANCEL),
        TOO_LARGE,
    ),
    Row(
        "G38",
        "length over 256 MiB, the limit that clients have by default",
        lambda i: response(i, data(i.call, b"\0" + u32((256 << 20) + 1))),
        STREAM(CANCEL),
        TOO_LARGE,
    ),
    Row(
        "G38",
        "length at the limit",
        lambda i: response(i, data(i.call, message(filled(300))), trailers(i.call)),
        answered=True,
        options={"max_receive_size": 300, "max_send_size": 300},
    ),
    Row(
        "G38",
        "length over the limit",
        lambda i: response(i, data(i.call, b"\0" + u32(301))),
        STREAM(CANCEL),
        TOO_LARGE,
        options={"max_receive_size": 300, "max_send_size": 300},
    ),
    Row(
        "G39",
        "message cut, then status 0",
        lambda i: response(i, data(i.call, BEGUN[:-1]), trailers(i.call)),
        outcome=BROKEN,
    ),
    Row(
        "G39",
        "prefix cut, then status 0",
        lambda i: response(i, data(i.call, BEGUN[:3]), trailers(i.call)),
        outcome=BROKEN,
    ),
    Row(
        "G39",
        "message cut, then an error keeps the error",
        lambda i: response(
            i, data(i.call, BEGUN[:-1]), trailers(i.call, block(("grpc-status", "3"), ("grpc-message", "no")))
        ),
        outcome=REFUSED,
    ),
    Row("G40", "two messages", lambda i: response(i, data(i.call, BEGUN * 2)), STREAM(CANCEL), BROKEN),
    Row("G40", "no message", lambda i: response(i, trailers(i.call)), outcome=BROKEN),
    Row(
        "G43",
        "status after a message counts",
        lambda i: ended(i, ("grpc-status", "3"), ("grpc-message", "no")),
        outcome=REFUSED,
    ),
    Row(
        "G43",
        "DATA behind the trailers",
        lambda i: [answer(i.call, REPLY), data(i.call, BEGUN)],
        STREAM(5),
        answered=True,
    ),
]

NESTED = b""
for _ in range(120):
    NESTED = b"\x13" + NESTED + b"\x14"  # groups within groups, of number 2
PROTOBUF = [
    Row(
        "G41",
        name,
        given(body, lambda i, body: response(i, data(i.call, message(body)), trailers(i.call))),
        outcome=BROKEN,
    )
    for name, body in [
        ("field cut off", b"\x0a\x7f\x08"),
        ("varint of eleven octets", b"\x0a\x0c\x08" + b"\x80" * 10 + b"\x01"),
        ("wire type 7", b"\x0f\x00"),
        ("groups 120 deep", NESTED),
    ]
] + [
    Row(
        "G41",
        name,
        given(body, lambda i, body: response(i, data(i.call, message(body)), trailers(i.call))),
        answered=True,
    )
    for name, body in [
        ("unknown fields", REPLY + b"\x7a\x03abc" + b"\x80\x3e\x05"),
        ("a field twice", REPLY + REPLY),
    ]
]

RESETS = [
    Row(
        "G42",
        f"RST_STREAM {number}",
        given(number, lambda i, number: [rst(i.call, number)]),
        outcome=status(code),
    )
    for number, code in [
        (0, S.INTERNAL),
        (1, S.INTERNAL),
        (2, S.INTERNAL),
        (3, S.INTERNAL),
        (4, S.INTERNAL),
        (5, S.INTERNAL),
        (6, S.INTERNAL),
        (8, S.CANCELLED),
        (9, S.INTERNAL),
        (10, S.INTERNAL),
        (11, S.RESOURCE_EXHAUSTED),
        (12, S.PERMISSION_DENIED),
        (13, S.INTERNAL),
        (14, S.UNKNOWN),
        (2**32 - 1, S.UNKNOWN),
    ]
] + [
    Row("G42", "REFUSED_STREAM is sent again", lambda i: [rst(i.call, 7)], NOTHING, OK, answered=True),
    Row(
        "G42",
        "REFUSED_STREAM after the response began",
        lambda i: response(i, rst(i.call, 7)),
        outcome=status(S.UNAVAILABLE),
    ),
]

GRPC_ROWS = [*INTEROP, *HTTP_STATUS, *MEDIA, *STATUSES, *MESSAGES, *PROTOBUF, *RESETS]
