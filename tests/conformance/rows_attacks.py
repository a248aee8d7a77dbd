# SPDX-License-Identifier: Apache-2.0
"""Attacks that one frame or one header block can make; those that need many are in test_floods.

Source: the CVEs named, as far as a client can meet them.
"""

from __future__ import annotations

from tests.conformance.frames import INDEXING, head, reply, settings
from tests.conformance.script import BROKEN, CONN, LOST, REPLY, STREAM, TOO_LARGE, Ids, Row
from tests.wire.peer import (
    COMPRESSION_ERROR,
    CONTINUATION,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    HEADERS,
    PROTOCOL_ERROR,
    RESPONSE,
    STREAM_CLOSED,
    block,
    data,
    frame,
    headers,
    message,
    string,
    trailers,
)

HALF, REST = RESPONSE[:10], RESPONSE[10:]


def continued(i: Ids, count: int, piece: bytes = b"") -> bytes:
    """Response headers in so many CONTINUATION frames."""
    more = frame(CONTINUATION, 0, i.call, piece) * (count - 1)
    return frame(HEADERS, 0, i.call, HALF) + more + frame(CONTINUATION, END_HEADERS, i.call, REST)


# An entry of 4,000 octets in the table, then references of one octet each.
BOMB = b"\x88\x40\x01a" + string(b"x" * 4000)

ATTACKS = [
    # CVE-2025-8671: frames that make us send RST_STREAM.
    Row(
        "D2",
        "50 frames on a closed stream meet one reset",
        lambda i: [reply(i), data(i.call, b"x") * 25 + headers(i.call) * 25],
        STREAM(STREAM_CLOSED),
        answered=True,
    ),
    # CVE-2019-9516, CVE-2026-49975
    Row(
        "D3",
        "fields without name and value",
        lambda i: [head(i, RESPONSE + b"\0\0\0" * 200)],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
    ),
    Row("D3", "1,024 references", lambda i: [head(i, b"\x88" * 1024)], STREAM(ENHANCE_YOUR_CALM), TOO_LARGE),
    Row("D3", "1,025 references", lambda i: [head(i, b"\x88" * 1025)], CONN(ENHANCE_YOUR_CALM), LOST),
    Row("D3", "16,000 references", lambda i: [head(i, b"\x88" * 16_000)], CONN(ENHANCE_YOUR_CALM), LOST),
    # CVE-2024-27316, VU#421644
    Row(
        "D7",
        "16 CONTINUATION",
        lambda i: [continued(i, 16), data(i.call, message(REPLY)) + trailers(i.call)],
        answered=True,
    ),
    Row("D7", "17 CONTINUATION", lambda i: [continued(i, 17)], CONN(ENHANCE_YOUR_CALM), LOST),
    # CVE-2016-6581
    Row(
        "D8",
        "12,000 references to an entry of 4 kB",
        lambda i: [head(i, BOMB + b"\xbe" * 12_000)],
        CONN(ENHANCE_YOUR_CALM),
        LOST,
    ),
    Row(
        "D8",
        "60 references to an entry of 4 kB",
        lambda i: [head(i, BOMB + b"\xbe" * 60)],
        STREAM(ENHANCE_YOUR_CALM),
        TOO_LARGE,
    ),
    Row(
        "D8",
        "100 references to an entry of 4 kB",
        lambda i: [head(i, BOMB + b"\xbe" * 100)],
        CONN(ENHANCE_YOUR_CALM),
        LOST,
    ),
    # CVE-2023-33953
    Row(
        "D9",
        "literal that claims 4 GiB",
        lambda i: [head(i, b"\x00\x7f\x80\xff\xff\xff\x0f")],
        CONN(COMPRESSION_ERROR),
        LOST,
    ),
    Row(
        "D9",
        "200 kB of an integer",
        lambda i: [
            frame(HEADERS, 0, i.call, b"\x00\x7f")
            + frame(CONTINUATION, 0, i.call, b"\x80" * 16_384) * 12
            + frame(CONTINUATION, END_HEADERS, i.call, b"\x00")
        ],
        CONN(COMPRESSION_ERROR),
        LOST,
        big=True,
    ),
    # CVE-2024-7246
    Row(
        "D10",
        "table in step after a malformed block",
        lambda i: [head(i, INDEXING + block(("Upper", "x")))],
        STREAM(PROTOCOL_ERROR),
        BROKEN,
        other=lambda i: headers(i.other, b"\x88\xbe") + data(i.other, message(REPLY)) + trailers(i.other),
    ),
    # CVE-2020-11080
    Row("D11", "64 settings", lambda i: [settings(*[(0xF0, 1)] * 64)]),
    Row("D11", "65 settings", lambda i: [settings(*[(0xF0, 1)] * 65)], CONN(ENHANCE_YOUR_CALM), LOST),
    Row(
        "D12",
        "length of 16 MiB announced",
        lambda i: [b"\xff\xff\xff\0\0" + i.call.to_bytes(4, "big")],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
    Row(
        "D12",
        "length over 2^14 announced",
        lambda i: [b"\x00\x40\x01\0\0" + i.call.to_bytes(4, "big")],
        CONN(FRAME_SIZE_ERROR),
        LOST,
    ),
]
