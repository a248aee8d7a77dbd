# SPDX-License-Identifier: Apache-2.0
"""Frames a server may send and must not send.

Rows named by section are the client cases of h2spec (h2specd); rows H20.. are further
malformed input. `CONN code`: GOAWAY and the end of the connection; `STREAM code`: RST_STREAM
and the other calls go on; None: ignored.
"""

import time
from typing import Any

import pytest

from purecd.errors import StatusCode
from purecd.wire.blocks import MAX_CONTINUATIONS
from purecd.wire.http2 import Http2Connection
from purecd.wire.receiving import MUCH

from .peer import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    OK,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    answer,
    block,
    connect,
    data,
    frame,
    headers,
    message,
    sent,
    setting,
    start,
    trailers,
    u32,
)


def CONN(code):
    return ("conn", code)


def STREAM(code):
    return ("stream", code)


REPLY = data(1, message(b"reply"))
HALF = RESPONSE[:10]
REST = RESPONSE[10:]

# The server's frames after SETTINGS, while stream 1 waits for its response.
CASES = {
    # 4.1
    "4.1 unknown type": (frame(0xFF, 0, 0, b"x" * 8), None),
    "4.1 undefined flags": (frame(PING, 0xFE & ~ACK, 0, b"x" * 8), None),
    "4.1 reserved bit": (frame(PING, 0, 1 << 31, b"x" * 8), None),
    # 4.2
    "4.2 DATA of 2^14": (headers(1) + data(1, message(b"x" * 16_379)) + trailers(1), "ok"),
    "4.2 DATA over 2^14": (headers(1) + data(1, bytes(16_385)), CONN(FRAME_SIZE_ERROR)),
    "4.2 HEADERS over 2^14": (headers(1, bytes(16_385)), CONN(FRAME_SIZE_ERROR)),
    # 4.3
    "4.3 bad header block": (headers(1, b"\x40"), CONN(COMPRESSION_ERROR)),
    # 5.1
    "5.1 idle DATA": (data(3, b"x"), CONN(PROTOCOL_ERROR)),
    "5.1 idle RST_STREAM": (frame(RST_STREAM, 0, 3, u32(8)), CONN(PROTOCOL_ERROR)),
    "5.1 idle WINDOW_UPDATE": (frame(WINDOW_UPDATE, 0, 3, u32(1)), CONN(PROTOCOL_ERROR)),
    "5.1 idle CONTINUATION": (frame(CONTINUATION, END_HEADERS, 3, OK), CONN(PROTOCOL_ERROR)),
    "5.1 DATA after END_STREAM": (answer(1) + data(1, b"x"), STREAM(STREAM_CLOSED)),
    "5.1 HEADERS after END_STREAM": (answer(1) + headers(1), STREAM(STREAM_CLOSED)),
    "5.1 CONTINUATION after END_STREAM": (
        answer(1) + frame(CONTINUATION, END_HEADERS, 1, OK),
        CONN(PROTOCOL_ERROR),
    ),
    "5.1 DATA after RST_STREAM": (frame(RST_STREAM, 0, 1, u32(8)) + data(1, b"x"), STREAM(STREAM_CLOSED)),
    "5.1 HEADERS after RST_STREAM": (frame(RST_STREAM, 0, 1, u32(8)) + headers(1), STREAM(STREAM_CLOSED)),
    "5.1 CONTINUATION after RST_STREAM": (
        frame(RST_STREAM, 0, 1, u32(8)) + frame(CONTINUATION, END_HEADERS, 1, OK),
        CONN(PROTOCOL_ERROR),
    ),
    # 5.1.1
    "5.1.1 even id": (headers(2), CONN(PROTOCOL_ERROR)),
    "5.1.1 HEADERS on idle": (headers(101), CONN(PROTOCOL_ERROR)),
    # 5.4.1
    "5.4.1 invalid PING": (frame(PING, 0, 3, b"x" * 8), CONN(PROTOCOL_ERROR)),
    # 5.5
    "5.5 extension": (frame(0x20, 0xFF, 5, b"abc"), None),
    "5.5 extension in header block": (
        frame(HEADERS, 0, 1, HALF) + frame(0x20, 0, 1, b"abc") + frame(CONTINUATION, END_HEADERS, 1, REST),
        CONN(PROTOCOL_ERROR),
    ),
    # 6.1
    "6.1 DATA on stream 0": (data(0, b"x"), CONN(PROTOCOL_ERROR)),
    "6.1 invalid padding": (headers(1) + frame(DATA, PADDED, 1, b"\x06abcde"), CONN(PROTOCOL_ERROR)),
    "6.1 no pad length": (headers(1) + frame(DATA, PADDED, 1), CONN(PROTOCOL_ERROR)),
    # 6.2
    "6.2 PRIORITY in header block": (
        frame(HEADERS, 0, 1, HALF) + frame(PRIORITY, 0, 1, bytes(5)),
        CONN(PROTOCOL_ERROR),
    ),
    "6.2 HEADERS in header block": (frame(HEADERS, 0, 1, HALF) + headers(1), CONN(PROTOCOL_ERROR)),
    "6.2 HEADERS on stream 0": (headers(0), CONN(PROTOCOL_ERROR)),
    "6.2 invalid padding": (
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + RESPONSE),
        CONN(PROTOCOL_ERROR),
    ),
    "6.2 too short for priority": (
        frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"abcd"),
        CONN(FRAME_SIZE_ERROR),
    ),
    # 6.3
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), CONN(PROTOCOL_ERROR)),
    "6.3 PRIORITY of 4 octets": (frame(PRIORITY, 0, 1, bytes(4)), STREAM(FRAME_SIZE_ERROR)),
    "6.3 PRIORITY on idle": (frame(PRIORITY, 0, 9, bytes(5)), None),
    # 6.4
    "6.4 RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, u32(8)), CONN(PROTOCOL_ERROR)),
    "6.4 RST_STREAM on idle": (frame(RST_STREAM, 0, 5, u32(8)), CONN(PROTOCOL_ERROR)),
    "6.4 RST_STREAM of 3 octets": (frame(RST_STREAM, 0, 1, b"abc"), CONN(FRAME_SIZE_ERROR)),
    # 6.5
    "6.5 ACK with payload": (frame(SETTINGS, ACK, 0, setting(3, 1)), CONN(FRAME_SIZE_ERROR)),
    "6.5 SETTINGS on stream": (frame(SETTINGS, 0, 1, setting(3, 1)), CONN(PROTOCOL_ERROR)),
    "6.5 SETTINGS of 3 octets": (frame(SETTINGS, 0, 0, b"abc"), CONN(FRAME_SIZE_ERROR)),
    # 6.5.2
    "6.5.2 ENABLE_PUSH 2": (frame(SETTINGS, 0, 0, setting(2, 2)), CONN(PROTOCOL_ERROR)),
    "6.5.2 INITIAL_WINDOW_SIZE 2^31": (
        frame(SETTINGS, 0, 0, setting(4, 1 << 31)),
        CONN(FLOW_CONTROL_ERROR),
    ),
    "6.5.2 MAX_FRAME_SIZE small": (frame(SETTINGS, 0, 0, setting(5, 16_383)), CONN(PROTOCOL_ERROR)),
    "6.5.2 MAX_FRAME_SIZE 0": (frame(SETTINGS, 0, 0, setting(5, 0)), CONN(PROTOCOL_ERROR)),
    "6.5.2 MAX_FRAME_SIZE large": (frame(SETTINGS, 0, 0, setting(5, 1 << 24)), CONN(PROTOCOL_ERROR)),
    "6.5.2 unknown id": (frame(SETTINGS, 0, 0, setting(0xFF, 1)), None),
    # 6.7
    "6.7 PING ACK": (frame(PING, ACK, 0, b"x" * 8), None),
    "6.7 PING on stream": (frame(PING, 0, 1, b"x" * 8), CONN(PROTOCOL_ERROR)),
    "6.7 PING of 6 octets": (frame(PING, 0, 0, b"x" * 6), CONN(FRAME_SIZE_ERROR)),
    # 6.8
    "6.8 GOAWAY on stream": (frame(GOAWAY, 0, 1, u32(1) + u32(0)), CONN(PROTOCOL_ERROR)),
    "6.8 GOAWAY of 7 octets": (frame(GOAWAY, 0, 0, b"x" * 7), CONN(FRAME_SIZE_ERROR)),
    # 6.9
    "6.9 increment 0": (frame(WINDOW_UPDATE, 0, 0, u32(0)), CONN(PROTOCOL_ERROR)),
    "6.9 increment 0 on stream": (frame(WINDOW_UPDATE, 0, 1, u32(0)), STREAM(PROTOCOL_ERROR)),
    "6.9 WINDOW_UPDATE of 3 octets": (frame(WINDOW_UPDATE, 0, 0, b"abc"), CONN(FRAME_SIZE_ERROR)),
    # 6.9.1
    "6.9.1 connection window over 2^31-1": (
        frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1)),
        CONN(FLOW_CONTROL_ERROR),
    ),
    "6.9.1 stream window over 2^31-1": (
        frame(WINDOW_UPDATE, 0, 1, u32(2**31 - 1)),
        STREAM(FLOW_CONTROL_ERROR),
    ),
    # 6.10
    "6.10 several CONTINUATION": (
        frame(HEADERS, 0, 1, HALF)
        + frame(CONTINUATION, 0, 1, REST[:5])
        + frame(CONTINUATION, END_HEADERS, 1, REST[5:])
        + REPLY
        + trailers(1),
        "ok",
    ),
    "6.10 other frame in between": (
        frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, 0, 1, REST) + REPLY,
        CONN(PROTOCOL_ERROR),
    ),
    "6.10 CONTINUATION on stream 0": (
        frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, END_HEADERS, 0, REST),
        CONN(PROTOCOL_ERROR),
    ),
    "6.10 after END_HEADERS": (headers(1) + frame(CONTINUATION, END_HEADERS, 1, OK), CONN(PROTOCOL_ERROR)),
    "6.10 after CONTINUATION with END_HEADERS": (
        frame(HEADERS, 0, 1, HALF)
        + frame(CONTINUATION, END_HEADERS, 1, REST)
        + frame(CONTINUATION, END_HEADERS, 1, OK),
        CONN(PROTOCOL_ERROR),
    ),
    "6.10 after DATA": (headers(1) + REPLY + frame(CONTINUATION, END_HEADERS, 1, OK), CONN(PROTOCOL_ERROR)),
    # Further malformed input.
    "H26 undecodable on a closed stream": (answer(1) + headers(1, b"\x80"), CONN(COMPRESSION_ERROR)),
    "H28 four times the header limit": (
        frame(HEADERS, 0, 1, block(*[("a", "x" * 1000)] * 16))
        + frame(CONTINUATION, 0, 1, block(*[("a", "x" * 1000)] * 16)) * 15
        + frame(CONTINUATION, END_HEADERS, 1, block(*[("a", "x" * 1000)] * 16)),
        CONN(ENHANCE_YOUR_CALM),
    ),
    "H30 PUSH_PROMISE": (
        frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + b"\x82"),
        CONN(PROTOCOL_ERROR),
    ),
    "H31 ENABLE_PUSH 1": (frame(SETTINGS, 0, 0, setting(2, 1)), CONN(PROTOCOL_ERROR)),
    "H31 2400 settings": (frame(SETTINGS, 0, 0, setting(3, 1) * 2400), CONN(ENHANCE_YOUR_CALM)),
    "H31 windows raised over 2^31-1": (
        frame(WINDOW_UPDATE, 0, 1, u32(2**31 - 1 - 65_535)) + frame(SETTINGS, 0, 0, setting(4, 131_070)),
        CONN(FLOW_CONTROL_ERROR),
    ),
    "H32 GOAWAY raises the last stream": (
        frame(GOAWAY, 0, 0, u32(1) + u32(0)) + frame(GOAWAY, 0, 0, u32(3) + u32(0)),
        CONN(PROTOCOL_ERROR),
    ),
    "H32 GOAWAY with an even id": (frame(GOAWAY, 0, 0, u32(2) + u32(0)), CONN(PROTOCOL_ERROR)),
    "H33 RST_STREAM twice": (answer(1) + frame(RST_STREAM, 0, 1, u32(0)) * 2, "ok"),
    "H34 WINDOW_UPDATE on a closed stream": (answer(1) + frame(WINDOW_UPDATE, 0, 1, u32(5)), "ok"),
    "D7 endless CONTINUATION": (
        frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, 0, 1) * (MAX_CONTINUATIONS + 1),
        CONN(ENHANCE_YOUR_CALM),
    ),
    "D7 as many CONTINUATION as allowed": (
        frame(HEADERS, 0, 1, HALF)
        + frame(CONTINUATION, 0, 1) * (MAX_CONTINUATIONS - 1)
        + frame(CONTINUATION, END_HEADERS, 1, REST)
        + REPLY
        + trailers(1),
        "ok",
    ),
    "padded, prioritised HEADERS": (
        frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, b"\x03" + bytes(5) + RESPONSE + bytes(3))
        + REPLY
        + trailers(1),
        "ok",
    ),
}


def run(octets, cut):
    conn = connect()
    stream = start(conn)
    sent(conn)
    for at in range(0, len(octets), cut):
        conn.receive_data(octets[at : at + cut])
    return conn, stream


@pytest.mark.parametrize("cut", [1 << 20, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("name", CASES)
def test_client_cases(name, cut):
    octets, expected = CASES[name]
    conn, stream = run(octets, cut)
    if expected is None or expected == "ok":
        check_goes_on(conn, stream, finished=expected == "ok")
    elif expected[0] == "conn":
        check_connection_ended(conn, stream, expected[1])
    else:
        check_stream_reset(conn, stream, expected[1])


def check_goes_on(conn, stream, finished):
    frames = sent(conn)
    assert not [one for one in frames if one.kind in (RST_STREAM, GOAWAY)]
    if not finished:
        conn.receive_data(answer(1))
    assert stream.status == (0, "", "trailers")
    assert not conn.closed


def check_connection_ended(conn, stream, code):
    assert conn.closed
    assert conn.error is not None
    assert conn.reason == conn.error.message
    goaway = sent(conn)[-1]
    assert goaway == (GOAWAY, 0, 0, u32(0) + u32(code))
    if stream.status.source == "lost":
        assert stream.status == (StatusCode.UNAVAILABLE, conn.reason, "lost")
    assert conn.available_streams() == 0
    conn.receive_data(frame(PING, 0, 0, b"x" * 8))
    assert conn.data_to_send() == b""


def check_stream_reset(conn, stream, code):
    resets = [one for one in sent(conn) if one.kind == RST_STREAM]
    assert resets == [(RST_STREAM, 0, 1, u32(code))]
    assert stream.status is not None
    if code != STREAM_CLOSED:
        assert stream.status.code == StatusCode.INTERNAL
        assert stream.status.source == "protocol"
    # The connection and its header table are still good.
    other = start(conn)
    conn.receive_data(answer(3))
    assert other.status == (0, "", "trailers")
    assert conn.error is None


# 3.4: how a connection begins.


@pytest.mark.parametrize("cut", [1 << 20, 1], ids=["whole", "octets"])
@pytest.mark.parametrize(
    "octets, hint",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP/1 server?"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "a TLS port?"),
        (b"\x16\x03\x03\x00\x10", "a TLS port?"),
        (b"SSH-2.0-x\r\n", "not an HTTP/2 server"),
        (frame(PING, 0, 0, b"x" * 8), "first frame is PING"),
        (frame(SETTINGS, ACK, 0), "first frame is SETTINGS"),
        (frame(0x99, 0, 0), "first frame is frame of type 0x99"),
    ],
)
def test_what_is_not_http2(octets, hint, cut):
    # H20.
    conn: Any = Http2Connection()
    conn.data_to_send()
    for at in range(0, len(octets), cut):
        conn.receive_data(octets[at : at + cut])
    assert hint in conn.error.message
    assert "3.4" in conn.error.message
    assert sent(conn)[-1] == (GOAWAY, 0, 0, u32(0) + u32(PROTOCOL_ERROR))


def test_silence_before_settings():
    conn: Any = Http2Connection()
    conn.receive_data(b"")
    assert not conn.ready
    assert conn.available_streams() == 0
    conn.receive_eof("connection closed by the server")
    assert conn.closed
    assert conn.reason == "connection closed by the server before the server's SETTINGS"


def test_frame_length_is_checked_at_the_header():
    # D12: 16 MiB - 1 announced; not one octet of it is waited for.
    conn = connect()
    conn.receive_data(b"\xff\xff\xff\0\0\0\0\0\1")
    assert conn.closed
    assert "DATA of 16777215 octets" in conn.error.message


# Replies.


def test_settings_are_acknowledged():
    # 6.5.3.
    conn = connect()
    conn.receive_data(frame(SETTINGS, 0, 0, setting(3, 5)))
    assert sent(conn) == [(SETTINGS, ACK, 0, b"")]
    conn.receive_data(frame(SETTINGS, ACK, 0))
    assert sent(conn) == []


def test_ping_is_answered_with_its_payload():
    conn = connect()
    conn.receive_data(frame(PING, 0, 0, b"12345678"))
    assert sent(conn) == [(PING, ACK, 0, b"12345678")]
    conn.receive_data(frame(PING, ACK, 0, b"12345678"))
    assert sent(conn) == []
    assert conn.pings == 0


def test_pings_around_a_whole_call():
    # G5.
    conn = connect()
    stream = start(conn)
    sent(conn)
    one = frame(PING, 0, 0, b"12345678")
    conn.receive_data(one + headers(1) + one + REPLY + one + trailers(1) + one)
    assert [reply.kind for reply in sent(conn)] == [PING] * 4
    assert stream.status.code == 0


# Flow control of what is received.


def test_data_over_the_stream_window():
    # H23, RFC 9113 §6.9.1.
    conn = connect(stream_window=65_535)
    stream = start(conn, manual_window=True, unary=False)
    sent(conn)
    conn.receive_data(headers(1) + data(1, message(b"x" * 16_000)) * 4)
    assert not stream.status
    conn.receive_data(data(1, b"x" * 1_516))
    assert stream.status.source == "protocol"
    assert sent(conn)[-1] == (RST_STREAM, 0, 1, u32(FLOW_CONTROL_ERROR))
    assert conn.error is None


def test_padding_counts_for_the_window():
    conn = connect(stream_window=65_535)
    stream = start(conn, manual_window=True, unary=False)
    sent(conn)
    padded = frame(DATA, PADDED, 1, b"\xff" + bytes(255))
    conn.receive_data(headers(1) + padded * 255)
    assert stream.receive_window == 65_535 - 255 * 256
    # It comes back with the next message consumed.
    conn.consume(stream, 0)
    assert sent(conn)[-1] == (WINDOW_UPDATE, 0, 1, u32(255 * 256))


def test_windows_are_returned_at_half():
    conn = connect(stream_window=100_000, connection_window=200_000)
    stream = start(conn, unary=False)
    sent(conn)
    conn.receive_data(headers(1) + data(1, message(b"x" * 9_995)) * 5)
    assert sent(conn) == []
    conn.receive_data(data(1, message(b"x" * 9_995)))
    assert sent(conn) == [(WINDOW_UPDATE, 0, 1, u32(60_000))]
    conn.receive_data(data(1, message(b"x" * 9_995)) * 5)
    assert (WINDOW_UPDATE, 0, 0, u32(110_000)) in sent(conn)
    assert len(stream.messages) == 11


def test_ended_stream_gets_no_window_update():
    conn = connect(stream_window=65_535)
    stream = start(conn, end_stream=False, unary=False)
    sent(conn)
    conn.receive_data(headers(1) + data(1, bytes(16_384)) * 2 + data(1, bytes(100), True))
    assert [one.kind for one in sent(conn)] == [RST_STREAM]
    assert stream.status.code == StatusCode.INTERNAL


def test_data_on_closed_streams_still_counts_for_the_connection():
    # H5: or the window would leak away.
    conn = connect(connection_window=65_535)
    stream = start(conn)
    conn.reset_stream(stream)
    sent(conn)
    conn.receive_data(data(1, bytes(16_000)) * 3)
    assert sent(conn) == [(WINDOW_UPDATE, 0, 0, u32(48_000))]


def test_data_over_the_connection_window():
    # The client acknowledges on receipt, so only an error in the account can show this.
    conn = connect(connection_window=65_535)
    conn._receive_window.left = 10
    stream = start(conn)
    conn.receive_data(headers(1) + data(1, bytes(11)))
    assert conn.error is not None
    assert sent(conn)[-1].payload == u32(0) + u32(FLOW_CONTROL_ERROR)
    assert stream.status.code == StatusCode.UNAVAILABLE


def test_empty_data_is_harmless():
    conn = connect()
    stream = start(conn)
    conn.receive_data(headers(1) + data(1, b"") * 10 + REPLY + data(1, b"") + trailers(1))
    assert stream.status.code == 0


# SETTINGS in force.


def test_header_table_limit_is_obeyed():
    # RFC 7541 §4.2: the next block begins with a size update; ours goes to 0 once for all.
    conn = connect((1, 4096))
    start(conn)
    assert sent(conn)[0].payload[:1] == b"\x83"
    conn.receive_data(frame(SETTINGS, 0, 0, setting(1, 100)))
    start(conn)
    start(conn)
    blocks = [one.payload[:2] for one in sent(conn) if one.kind == HEADERS]
    assert blocks == [b"\x20\x83", b"\x83\x86"]
    conn.receive_data(frame(SETTINGS, 0, 0, setting(1, 0) + setting(1, 4096)))
    start(conn)
    assert [one.payload[:2] for one in sent(conn) if one.kind == HEADERS] == [b"\x83\x86"]


def test_concurrency_limit_changes_in_flight():
    # H31.
    conn = connect((3, 3))
    assert conn.available_streams() == 3
    start(conn)
    start(conn)
    assert conn.available_streams() == 1
    conn.receive_data(frame(SETTINGS, 0, 0, setting(3, 1)))
    assert conn.available_streams() == 0
    conn.receive_data(answer(1))
    assert conn.available_streams() == 0
    conn.receive_data(answer(3))
    assert conn.available_streams() == 1
    conn.receive_data(frame(SETTINGS, 0, 0, setting(3, 0)))
    assert conn.available_streams() == 0


def test_initial_window_change_mid_body():
    # H31, RFC 9113 §6.9.2.
    conn = connect()
    stream = start(conn, b"x" * 99_995)
    sent(conn)
    conn.receive_data(frame(WINDOW_UPDATE, 0, 0, u32(100_000)))
    conn.receive_data(frame(SETTINGS, 0, 0, setting(4, 0)))
    assert stream.send_window == -65_535
    conn.receive_data(frame(WINDOW_UPDATE, 0, 1, u32(65_535)))
    assert [one for one in sent(conn) if one.kind == DATA] == []
    conn.receive_data(frame(SETTINGS, 0, 0, setting(4, 34_465)))
    assert sum([len(one.payload) for one in sent(conn) if one.kind == DATA]) == 34_465
    assert stream.request_left


def test_acknowledgement_precedes_data_that_the_new_settings_allow():
    # RFC 9113 §6.5.3.
    conn = connect((4, 0))
    start(conn, b"abc")
    sent(conn)
    conn.receive_data(frame(SETTINGS, 0, 0, setting(4, 100)))
    assert [one.kind for one in sent(conn)] == [SETTINGS, DATA]


def test_larger_frames_are_used():
    conn = connect((5, 1 << 20), (4, 1 << 20))
    conn.receive_data(frame(WINDOW_UPDATE, 0, 0, u32(1 << 20)))
    start(conn, b"x" * 500_000)
    frames = sent(conn)
    assert [len(one.payload) for one in frames if one.kind == DATA] == [500_005]


# GOAWAY.


def goaway(last, code=0, debug=b""):
    return frame(GOAWAY, 0, 0, u32(last) + u32(code) + debug)


def test_graceful_stop_of_etcd():
    # K1: GOAWAY(2^31-1), PING, then GOAWAY(last).
    conn = connect()
    first, second = start(conn), start(conn)
    sent(conn)
    conn.receive_data(goaway(2**31 - 1, 0, b"graceful_stop") + frame(PING, 0, 0, b"12345678"))
    assert sent(conn) == [(PING, ACK, 0, b"12345678")]
    assert conn.available_streams() == 0
    assert conn.goaway == (2**31 - 1, 0, b"graceful_stop")
    conn.receive_data(goaway(1))
    assert second.unprocessed
    assert second.status.source == "unprocessed"
    assert not second.refused_connection
    assert not first.status
    assert not conn.closed
    conn.receive_data(answer(1))
    assert first.status.code == 0
    assert conn.closed
    assert conn.error is None


def test_goaway_without_streams_closes():
    conn = connect()
    conn.receive_data(goaway(0))
    assert conn.closed
    assert conn.error is None


def test_goaway_lowers_twice():
    conn = connect()
    streams = [start(conn) for _ in range(3)]
    conn.receive_data(goaway(5) + goaway(3) + goaway(3) + goaway(1))
    assert [stream.unprocessed for stream in streams] == [False, True, True]


def test_settings_after_goaway_open_nothing():
    conn = connect()
    start(conn)
    conn.receive_data(goaway(1) + frame(SETTINGS, 0, 0, setting(3, 100)))
    assert conn.available_streams() == 0
    with pytest.raises(RuntimeError):
        start(conn)


@pytest.mark.parametrize("code, refused", [(0, False), (ENHANCE_YOUR_CALM, True)])
def test_first_stream_refused(code, refused):
    # E5.
    conn = connect()
    first, second = start(conn), start(conn)
    conn.receive_data(goaway(0, code, b"too_many_pings"))
    assert first.unprocessed
    assert second.unprocessed
    assert first.refused_connection is refused
    assert not second.refused_connection
    assert conn.closed


def test_goaway_then_end_of_file():
    conn = connect()
    stream = start(conn)
    conn.receive_data(goaway(1, ENHANCE_YOUR_CALM, b"too_many_pings"))
    conn.receive_eof("end of file")
    assert not stream.unprocessed
    assert stream.status.source == "lost"
    expected = "end of file, received prior goaway: code: ENHANCE_YOUR_CALM, debug data: 'too_many_pings'"
    assert stream.status.message == expected


def test_debug_data_is_cut():
    conn = connect()
    start(conn)
    conn.receive_data(goaway(1, 0, b"x" * 10_000))
    assert len(conn.goaway.debug) == 1024


# Ends.


def test_every_cut_of_an_exchange_is_lost_unless_complete():
    # H35: never OK before the last octet of the trailers.
    whole = headers(1) + data(1, message(b"reply")) + trailers(1)
    for size in range(len(whole) + 1):
        conn = connect()
        stream = start(conn)
        sent(conn)
        conn.receive_data(whole[:size])
        conn.receive_eof("end of file")
        assert stream.status.source == ("lost" if size < len(whole) else "trailers")
        assert (stream.status.code == 0) is (size == len(whole))
        assert not stream.unprocessed


def test_frames_on_a_stream_we_reset_are_discarded():
    # RFC 9113 §5.1; the header table stays in step (D10).
    conn = connect()
    stream, other = start(conn), start(conn)
    conn.reset_stream(stream)
    assert sent(conn)[-1] == (RST_STREAM, 0, 1, u32(CANCEL))
    entry = b"\x88\x40\x0ccontent-type\x10application/grpc"
    conn.receive_data(headers(1, entry) + REPLY + trailers(1))
    assert sent(conn) == []
    assert stream.status is None
    conn.receive_data(headers(3, b"\x88\xbe") + data(3, message(b"x")) + trailers(3))
    assert other.status.code == 0


def test_closed_streams_meet_one_reset_each():
    # D2.
    conn = connect()
    start(conn)
    conn.receive_data(answer(1))
    sent(conn)
    conn.receive_data(REPLY * 50 + headers(1) * 50)
    assert sent(conn) == [(RST_STREAM, 0, 1, u32(STREAM_CLOSED))]


# Budget of frames that advance nothing.


@pytest.mark.parametrize(
    "useless",
    [
        frame(PING, 0, 0, b"x" * 8),
        frame(SETTINGS, 0, 0),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0x77, 0, 0, b"x"),
        frame(WINDOW_UPDATE, 0, 0, u32(1)),
        data(1, b""),
    ],
    ids=["PING", "SETTINGS", "PRIORITY", "unknown", "WINDOW_UPDATE", "empty DATA"],
)
def test_floods_end_the_connection(useless):
    # D1, D4.
    conn = connect()
    start(conn)
    conn.receive_data(headers(1))
    sent(conn)
    for _ in range(11):
        conn.receive_data(useless * 1000, now=5.0)
        conn.data_written(len(conn.data_to_send()))
    # Five seconds since the start of the clock and a stream with HEADERS earn a little.
    for _ in range(6):
        conn.receive_data(useless * 1000, now=5.0)
    assert conn.error is not None
    assert "advance no stream" in conn.error.message


def test_progress_refills_the_budget():
    # K6: etcd sends a PING and a WINDOW_UPDATE with every reply.
    conn = connect()
    stream = start(conn)
    conn.receive_data(
        headers(1, b"\x88\x40\x0ccontent-type\x10application/grpc")
        + REPLY
        + trailers(1, b"\x40\x0bgrpc-status\x010")
    )
    noise = frame(WINDOW_UPDATE, 0, 0, u32(12)) * 2 + frame(PING, 0, 0, b"x" * 8)
    for stream_id in range(3, 7_003, 2):
        stream = start(conn)
        body = data(stream_id, message(b"reply"))
        conn.receive_data(noise + headers(stream_id, b"\x88\xbf") + body + trailers(stream_id, b"\xbe"))
        conn.data_written(len(conn.data_to_send()))
        conn.active.clear()
        assert stream.status.code == 0
    assert conn.error is None


def test_time_refills_the_budget():
    # A watch that sees no event for a day, pinged every ten seconds, frequent pings included.
    conn = connect()
    start(conn)
    for second in range(0, 60_000, 2):
        conn.receive_data(frame(PING, 0, 0, b"x" * 8), now=float(second))
        conn.data_written(len(conn.data_to_send()))
    assert conn.error is None


def test_end_stream_bit_is_not_confused_with_ack():
    assert END_STREAM == ACK == 1
    conn = connect()
    conn.receive_data(frame(PING, END_STREAM, 0, b"x" * 8))
    assert sent(conn) == []


def test_sixteen_kilobytes_octet_by_octet_are_quick():
    # The rest of a frame is not copied again for every octet.
    conn = connect()
    stream = start(conn)
    conn.receive_data(headers(1))
    octets = data(1, message(b"x" * 16_379))
    started = time.process_time()
    for at in range(len(octets)):
        conn.receive_data(octets[at : at + 1])
    assert time.process_time() - started < 1.0
    assert stream.messages[0] == b"x" * 16_379


# What etcd's encoder writes first, and from then on: fields of the dynamic table.
FIRST_HEAD = b"\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64"
FIRST_TAIL = (
    b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30\x40\x89\x9a\xca\xc8\xb5\x25\x42\x07\x31\x7f\x00"
)
HEAD, TAIL = b"\x88\xc0", b"\xbf\xbe"
PREAMBLE = frame(WINDOW_UPDATE, 0, 0, u32(20)) + frame(PING, 0, 0, b"12345678")


def usual(stream_id, body=b"reply"):
    return headers(stream_id, HEAD) + data(stream_id, message(body)) + trailers(stream_id, TAIL)


def acquainted():
    """A connection that has seen two replies, and the third call's stream, 5."""
    conn = connect()
    start(conn)
    conn.receive_data(headers(1, FIRST_HEAD) + data(1, message(b"1")) + trailers(1, FIRST_TAIL))
    start(conn)
    conn.receive_data(usual(3))
    stream = start(conn, max_receive=100)
    sent(conn)
    return conn, stream


USUAL_AND_NEARLY = {
    "usual": PREAMBLE + usual(5),
    "empty message": usual(5, b""),
    "the limit": usual(5, bytes(100)),
    "over the limit": usual(5, bytes(101)),
    "other stream in DATA": headers(5, HEAD) + data(7, message(b"a")) + trailers(5, TAIL),
    "other stream in trailers": headers(5, HEAD) + data(5, message(b"a")) + trailers(3, TAIL),
    "compressed": headers(5, HEAD) + data(5, b"\1\0\0\0\1a") + trailers(5, TAIL),
    "prefix too long": headers(5, HEAD) + data(5, b"\0\0\0\0\2a") + trailers(5, TAIL),
    "prefix too short": headers(5, HEAD) + data(5, b"\0\0\0\0\1ab") + trailers(5, TAIL),
    "two messages": headers(5, HEAD) + data(5, message(b"a")) + data(5, message(b"b")) + trailers(5, TAIL),
    "no message": headers(5, HEAD) + trailers(5, TAIL) + PREAMBLE,
    "trailers that go on": headers(5, HEAD) + data(5, message(b"a")) + frame(HEADERS, END_HEADERS, 5, TAIL),
    "status 0 in the head": headers(5, TAIL) + data(5, message(b"a")) + trailers(5, TAIL),
    "head for trailers": headers(5, HEAD) + data(5, message(b"a")) + trailers(5, HEAD),
    "head twice": headers(5, HEAD) + usual(5),
    "unknown block": headers(5, HEAD) + data(5, message(b"a")) + trailers(5, b"\xbe\xbf"),
    "WINDOW_UPDATE of 0": frame(WINDOW_UPDATE, 0, 0, u32(0)) + frame(PING, 0, 0, bytes(8)),
    "WINDOW_UPDATE too far": frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1)) + frame(PING, 0, 0, bytes(8)),
    "PING with ACK": frame(WINDOW_UPDATE, 0, 0, u32(9)) + frame(PING, ACK, 0, bytes(8)),
    "after GOAWAY": frame(GOAWAY, 0, 0, u32(5) + u32(0)) + PREAMBLE + usual(5),
}


@pytest.mark.parametrize("octets", USUAL_AND_NEARLY.values(), ids=USUAL_AND_NEARLY)
def test_reply_in_one_chunk_means_what_its_frames_mean(octets):
    results = []
    for size in (len(octets), 1):
        conn, stream = acquainted()
        for at in range(0, len(octets), size):
            conn.receive_data(octets[at : at + size])
        answers = [(one.kind, one.flags, one.stream_id, one.payload) for one in sent(conn)]
        results.append(
            (
                list(stream.messages),
                stream.status,
                stream.trailers,
                str(conn.error),
                conn.open_streams,
                answers,
                conn._receive_window.left,
                conn._sending.connection,
                conn._spent,
                conn._data_frames,
                [one.id for one in conn.active],
            )
        )
    assert results[0] == results[1]


def test_usual_reply_is_taken_in_one_step(monkeypatch):
    conn, stream = acquainted()
    monkeypatch.setattr(Http2Connection, "_deliver_headers", None)
    monkeypatch.setattr(Http2Connection, "_on_ping", None)
    conn.receive_data(PREAMBLE + usual(5))
    assert list(stream.messages) == [b"reply"]
    assert stream.metadata == {"content-type": ("application/grpc",)}


def test_usual_frames_of_one_turn_are_limited_too():
    conn, stream = acquainted()
    conn.frames_at_once = 3
    conn.receive_data(PREAMBLE * 20 + usual(5))
    answered = len(sent(conn))
    assert 3 <= answered < 10
    assert conn.more
    turns = 0
    while conn.more:
        conn.receive_data(b"")
        turns += 1
        assert turns < 50
    assert answered + len(sent(conn)) == 20
    assert list(stream.messages) == [b"reply"]


# A frame in two reads, the second of which brings much behind it.


def ping_frame(number):
    return frame(PING, 0, 0, number.to_bytes(8, "big"))


@pytest.mark.parametrize("at_once", [1, 3, 1 << 62])
@pytest.mark.parametrize("read", [MUCH - 9, MUCH, MUCH + 8, MUCH + 9, MUCH + 10, MUCH + 4000, 5 * MUCH + 77])
def test_reads_that_end_within_a_frame(read, at_once):
    conn = connect()
    conn.frames_at_once = at_once
    first, second = start(conn, max_receive=1 << 22), start(conn, max_receive=1 << 22)
    sent(conn)
    bodies = [bytes((number * step) % 251 for number in range(200_000)) for step in (3, 7)]
    octets = [headers(1), headers(3)]
    for at in range(0, 200_005, 16_384):
        for stream_id, body in zip((1, 3), bodies):
            octets.append(data(stream_id, message(body)[at : at + 16_384]))
        octets.append(ping_frame(at))
    octets += [trailers(1), ping_frame(7), trailers(3)]
    whole = b"".join(octets)
    for at in range(0, len(whole), read):
        conn.receive_data(whole[at : at + read])
        while conn.more:
            conn.receive_data(b"")
    assert (first.messages, second.messages) == ([bodies[0]], [bodies[1]])
    assert (first.status, second.status) == ((0, "", "trailers"),) * 2
    pongs = [each.payload for each in sent(conn) if each.kind == PING]
    assert pongs == [at.to_bytes(8, "big") for at in [*range(0, 200_005, 16_384), 7]]


@pytest.mark.parametrize("end", [100, 9, 4])
def test_a_fault_in_a_frame_of_two_reads_ends_the_connection(end):
    conn = connect()
    stream = start(conn)
    bad = frame(PUSH_PROMISE, 4, 1, b"x" * 200)
    conn.receive_data(bad[:end])
    assert conn.error is None
    conn.receive_data(bad[end:] + answer(1, b"reply") + frame(PING, 0, 0, b"12345678") * 2000)
    assert "PUSH_PROMISE" in str(conn.error)
    assert conn.closed
    assert list(stream.messages) == []
    assert not [each for each in sent(conn) if each.kind == PING]
