# SPDX-License-Identifier: Apache-2.0
"""gRPC responses through a real connection; row names are those of the gRPC interop documents."""

import pytest

from purecd.errors import StatusCode
from purecd.wire.grpc import GrpcStream

from .peer import (
    CANCEL,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    HEADERS,
    NO_ERROR,
    OK,
    PADDED,
    PROTOCOL_ERROR,
    REQUEST_BLOCK,
    RESPONSE,
    RST_STREAM,
    answer,
    block,
    connect,
    data,
    frame,
    headers,
    message,
    sent,
    start,
    trailers,
    u32,
)

UNARY, STREAMING = True, False


def respond(*octets, unary=UNARY, max_receive=1 << 20, cut=0):
    """One call that gets these frames as answer; returns the stream and what we sent after."""
    conn = connect()
    stream = start(conn, unary=unary, max_receive=max_receive)
    sent(conn)
    whole = b"".join(octets)
    for start_at in range(0, len(whole), cut or len(whole)):
        conn.receive_data(whole[start_at : start_at + (cut or len(whole))])
    assert conn.error is None
    return stream, sent(conn)


def reset_code(frames):
    codes = [int.from_bytes(one.payload, "big") for one in frames if one.kind == RST_STREAM]
    assert len(codes) <= 1
    return codes[0] if codes else None


def test_good_answer():
    stream, frames = respond(answer(1, b"reply"))
    assert list(stream.messages) == [b"reply"]
    assert stream.status == (0, "", "trailers")
    assert frames == []


def test_metadata_and_trailers():
    head = block((":status", "200"), ("content-type", "application/grpc"), ("a", "1"), ("a", "2"))
    tail = block(("grpc-status", "0"), ("x-bin", "AAE,Ag"), ("x-bin", "Aw=="))
    stream, _ = respond(headers(1, head), data(1, message(b"")), trailers(1, tail))
    assert stream.metadata["a"] == ("1", "2")
    assert ":status" not in stream.metadata
    assert stream.trailers["x-bin"] == (b"\0\1", b"\2", b"\3")


def test_nothing_seen_yet():
    stream = start(connect())
    assert not stream.headers_seen
    assert stream.metadata == {}
    assert stream.trailers == {}
    assert stream.status is None


def test_trailers_only():
    both = block(
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "3"),
        ("grpc-message", "etcdserver: key is not provided"),
    )
    stream, frames = respond(trailers(1, both))
    assert stream.status == (3, "etcdserver: key is not provided", "trailers")
    assert stream.metadata == {}
    assert stream.trailers["grpc-status"] == ("3",)
    assert frames == []


def test_answer_before_our_end_of_stream():
    # G36: RST_STREAM(NO_ERROR) frees the stream.
    conn = connect()
    stream = start(conn, end_stream=False, unary=False)
    sent(conn)
    conn.receive_data(answer(1))
    assert stream.status == (0, "", "trailers")
    assert sent(conn) == [(RST_STREAM, 0, 1, u32(NO_ERROR))]
    assert conn.open_streams == 0


TEXT = block((":status", "404"), ("content-type", "text/html"))


@pytest.mark.parametrize(
    "head, code",
    [
        ([(":status", "200"), ("content-type", "application/grpc")], 0),
        ([(":status", "200"), ("content-type", "application/grpc+proto")], 0),
        ([(":status", "200"), ("content-type", "application/grpc;charset=utf-8")], 0),
        ([(":status", "415"), ("content-type", "application/grpc")], 0),
        ([(":status", "200"), ("content-type", "application/grpcfoo")], 2),
        ([(":status", "200"), ("content-type", "application/json")], 2),
        ([(":status", "200"), ("content-type", "Application/grpc")], 2),
        ([(":status", "200")], 2),
        ([(":status", "400"), ("content-type", "text/html")], 13),
        ([(":status", "401")], 16),
        ([(":status", "403")], 7),
        ([(":status", "404")], 12),
        ([(":status", "429")], 14),
        ([(":status", "431")], 13),
        ([(":status", "502")], 14),
        ([(":status", "503")], 14),
        ([(":status", "504")], 14),
        ([(":status", "500")], 2),
    ],
)
def test_content_types_and_http_statuses(head, code):
    # G30..G32.
    stream, _ = respond(headers(1, block(*head)), data(1, message(b"x")), trailers(1))
    assert stream.status.code == code
    assert stream.status.source == ("http" if code else "trailers")


def test_foreign_body_explains_the_error():
    stream, frames = respond(headers(1, TEXT), data(1, b"<p>no "), data(1, b"such page", True))
    assert stream.status.code == StatusCode.UNIMPLEMENTED
    assert "<p>no such page" in stream.status.message
    assert reset_code(frames) is None
    assert not stream.messages


def test_foreign_body_is_cut_at_1_kib():
    stream, frames = respond(headers(1, TEXT), data(1, b"x" * 1000), data(1, b"y" * 1000))
    assert "x" * 1000 + "y" * 24 + "'" in stream.status.message
    assert reset_code(frames) == PROTOCOL_ERROR


def test_foreign_answer_without_body():
    stream, frames = respond(trailers(1, block((":status", "503"))))
    assert stream.status.code == StatusCode.UNAVAILABLE
    assert reset_code(frames) is None


def test_foreign_answer_cut_off():
    for end in (frame(RST_STREAM, 0, 1, u32(2)), trailers(1, block(("x", "y")))):
        stream, _ = respond(headers(1, TEXT), data(1, b"half"), end)
        assert stream.status.source == "http"
        assert "half" in stream.status.message


@pytest.mark.parametrize(
    "tail, code",
    [
        ([], 2),
        ([("grpc-status", "")], 2),
        ([("grpc-status", "abc")], 2),
        ([("grpc-status", "17")], 2),
        ([("grpc-status", "-1")], 2),
        ([("grpc-status", "14")], 14),
        ([("grpc-message", "x")], 2),
    ],
)
def test_statuses_in_trailers(tail, code):
    # G33.
    stream, _ = respond(headers(1), data(1, message(b"x")), trailers(1, block(*tail)))
    assert stream.status.code == code


def test_message_in_trailers_is_decoded():
    # G18 special_status_message.
    text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
    encoded = "".join(
        [chr(octet) if 32 <= octet < 127 and octet != 37 else f"%{octet:02X}" for octet in text.encode()]
    )
    # A field value may not begin or end with a space; here both ends are escaped.
    stream, _ = respond(headers(1), trailers(1, block(("grpc-status", "2"), ("grpc-message", encoded))))
    assert stream.status == (2, text, "trailers")


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7, 0])
def test_many_messages_in_one_frame_and_one_over_many(cut):
    bodies = [b"", b"a", b"b" * 300, b"", b"c" * 5]
    whole = b"".join([message(body) for body in bodies])
    size = cut or len(whole)
    frames = [data(1, whole[at : at + size]) for at in range(0, len(whole), size)]
    stream, _ = respond(headers(1), *frames, trailers(1), unary=STREAMING)
    assert list(stream.messages) == bodies
    assert stream.status.code == 0


def test_frames_of_one_octet_share_one_buffer():
    # D5: grpc-go kept a buffer per frame.
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    conn = connect()
    stream = start(conn, max_receive=1 << 20)
    conn.receive_data(headers(1) + data(1, b"\0" + u32(20_000)))
    frames = data(1, b"x") * 10_000
    tracemalloc.start()
    conn.receive_data(frames)
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 100_000
    conn.receive_data(frames + trailers(1))
    assert stream.messages[0] == b"x" * 20_000


@pytest.mark.parametrize("size, limit, code", [(9, 10, 0), (10, 10, 0), (11, 10, 8), (0, 0, 0), (1, 0, 8)])
def test_receive_limit(size, limit, code):
    stream, frames = respond(answer(1, b"x" * size), max_receive=limit)
    assert stream.status.code == code
    assert reset_code(frames) == (CANCEL if code else None)
    assert len(stream.messages) == (0 if code else 1)


@pytest.mark.parametrize("cut", [0, 1])
def test_limit_applies_at_the_prefix(cut):
    # G38, D13: 4 GiB - 1 announced, then nothing.
    stream, frames = respond(headers(1), data(1, b"\0\xff\xff\xff\xff"), cut=cut)
    text = "received message larger than max (4294967295 vs. 1048576); see max_receive_size"
    assert stream.status == (8, text, "protocol")
    assert reset_code(frames) == CANCEL


@pytest.mark.parametrize(
    "flag, encoding, text",
    [
        (1, None, "identity or empty"),
        (1, "identity", "identity or empty"),
        (1, "gzip", "gzip"),
        (2, None, "payload format 2"),
        (255, "gzip", "payload format 255"),
    ],
)
def test_compression_is_refused(flag, encoding, text):
    # G37.
    head = [(":status", "200"), ("content-type", "application/grpc")]
    head += [("grpc-encoding", encoding)] if encoding else []
    stream, frames = respond(headers(1, block(*head)), data(1, message(b"x", flag)))
    assert stream.status.code == StatusCode.INTERNAL
    assert text in stream.status.message
    assert reset_code(frames) == CANCEL
    assert not stream.messages


def test_cut_message_before_good_trailers():
    # G39.
    for cut in (1, 5, 6, 9):
        stream, _ = respond(headers(1), data(1, message(b"reply")[:cut]), trailers(1))
        assert stream.status == (13, "response ends within a message", "protocol")
        assert not stream.messages


def test_cut_message_before_an_error_keeps_the_error():
    tail = block(("grpc-status", "14"), ("grpc-message", "etcdserver: no leader"))
    stream, _ = respond(headers(1), data(1, b"\0"), trailers(1, tail))
    assert stream.status == (14, "etcdserver: no leader", "trailers")


def test_no_message_for_a_unary_call():
    # G40.
    stream, _ = respond(headers(1), trailers(1))
    assert stream.status.code == StatusCode.INTERNAL
    assert "cardinality" in stream.status.message


@pytest.mark.parametrize("frames", [2, 1])
def test_two_messages_for_a_unary_call(frames):
    two = [message(b"a"), message(b"b")]
    body = [data(1, one) for one in two] if frames == 2 else [data(1, b"".join(two))]
    stream, sent_frames = respond(headers(1), *body)
    assert stream.status.code == StatusCode.INTERNAL
    assert "cardinality" in stream.status.message
    assert reset_code(sent_frames) == CANCEL


def test_no_message_for_a_streaming_call_is_fine():
    stream, _ = respond(headers(1), trailers(1), unary=STREAMING)
    assert stream.status.code == 0


def test_end_of_stream_without_trailers():
    # G35, and what a TLS etcd does to watches when it stops.
    for end in (data(1, message(b"x"), True), data(1, b"", True)):
        stream, _ = respond(headers(1), end, unary=STREAMING)
        assert stream.status == (13, "server closed the stream without sending trailers", "protocol")


@pytest.mark.parametrize(
    "frames, text",
    [
        ([data(1, message(b"x"))], "DATA before HEADERS"),
        ([headers(1), headers(1)], "middle of a stream"),
        ([headers(1), headers(1, OK)], "middle of a stream"),
        ([headers(1, OK)], ":status"),
        ([headers(1), data(1, message(b"x")), trailers(1, RESPONSE)], ":status in trailers"),
        ([headers(1, block((":status", "100")), True)], "final"),
        ([headers(1, block((":status", "101")))], "final"),
        ([headers(1, block((":status", "200"), ("X", "y")))], "8.2.1"),
        ([headers(1, block((":status", "200"), (":status", "200")))], "twice"),
        ([headers(1), data(1, message(b"x")), headers(1, block((":status", "100")))], "middle of a stream"),
    ],
)
def test_malformed_responses(frames, text):
    # H22, H25, H29: a stream error, and the connection goes on.
    stream, sent_frames = respond(*frames)
    assert stream.status.code == StatusCode.INTERNAL
    assert stream.status.source == "protocol"
    assert text in stream.status.message
    assert reset_code(sent_frames) == PROTOCOL_ERROR


def test_informational_responses_are_skipped():
    # H29.
    info = headers(1, block((":status", "103"), ("link", "x")))
    stream, _ = respond(info * 16, answer(1))
    assert stream.status.code == 0
    stream, frames = respond(info * 17)
    assert stream.status.code == StatusCode.INTERNAL
    assert reset_code(frames) == ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "length, body, good",
    [(6, b"x", True), (0, b"", True), (7, b"x", False), (5, b"x", False), (3, b"x", False)],
)
def test_content_length(length, body, good):
    # H25, RFC 9113 §8.1.1.
    head = block((":status", "200"), ("content-type", "application/grpc"), ("content-length", str(length)))
    frames = [data(1, message(body))] if body else []
    stream, sent_frames = respond(headers(1, head), *frames, trailers(1), unary=STREAMING)
    assert (stream.status.code == 0) is good
    assert reset_code(sent_frames) == (None if good else PROTOCOL_ERROR)


def test_header_list_over_the_limit():
    # H28.
    stream, frames = respond(headers(1, block((":status", "200"), *[("a", "b")] * 256)))
    assert stream.status.code == StatusCode.RESOURCE_EXHAUSTED
    assert reset_code(frames) == ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "frames",
    [
        [headers(1)],  # G2 rst_after_header
        [headers(1), data(1, message(b"reply")[:7])],  # G3 rst_during_data
        [headers(1), data(1, message(b"reply"))],  # G4 rst_after_data
    ],
    ids=["after_header", "during_data", "after_data"],
)
def test_reset_is_never_a_success(frames):
    stream, sent_frames = respond(*frames, frame(RST_STREAM, 0, 1, u32(0)))
    assert stream.status == (
        13,
        "stream terminated by RST_STREAM with error code: NO_ERROR",
        "reset",
    )
    assert not stream.unprocessed
    assert sent_frames == []


def test_refused_stream_is_unprocessed():
    # E3.
    stream, _ = respond(frame(RST_STREAM, 0, 1, u32(7)))
    assert stream.unprocessed
    assert (stream.status.code, stream.status.source) == (14, "unprocessed")


def test_refused_stream_after_a_response_is_not():
    stream, _ = respond(headers(1), frame(RST_STREAM, 0, 1, u32(7)))
    assert not stream.unprocessed
    assert (stream.status.code, stream.status.source) == (14, "reset")


def test_padding_is_invisible():
    # G7: 5 octets of DATA with 255 octets of padding.
    padded = b"".join(
        [
            frame(DATA, PADDED, 1, b"\xff" + message(b"x" * 50)[at : at + 5] + bytes(255))
            for at in range(0, 55, 5)
        ]
    )
    stream, _ = respond(headers(1), padded, trailers(1))
    assert list(stream.messages) == [b"x" * 50]
    assert stream.status.code == 0


def test_padding_alone():
    stream, _ = respond(
        headers(1), frame(DATA, PADDED, 1, b"\x03\0\0\0"), data(1, message(b"x")), trailers(1)
    )
    assert list(stream.messages) == [b"x"]


def test_status_is_set_once():
    # G43, and etcd's RST_STREAM after trailers.
    stream, _ = respond(answer(1), frame(RST_STREAM, 0, 1, u32(0)), frame(RST_STREAM, 0, 1, u32(8)))
    assert stream.status == (0, "", "trailers")


def test_failed_stream_takes_nothing_more():
    stream, frames = respond(headers(1), data(1, message(b"x", 2)), data(1, message(b"y")), trailers(1))
    assert not stream.messages
    assert stream.status.code == StatusCode.INTERNAL
    assert len(frames) == 1


def test_end_stream_on_the_failing_frame():
    stream, frames = respond(headers(1), data(1, message(b"x", 2), True))
    assert "payload format" in stream.status.message
    assert reset_code(frames) == CANCEL


def test_split_header_block():
    half = len(RESPONSE) // 2
    stream, _ = respond(
        frame(HEADERS, 0, 1, RESPONSE[:half]),
        frame(9, END_HEADERS, 1, RESPONSE[half:]),
        data(1, message(b"x")),
        trailers(1),
    )
    assert stream.status.code == 0


# Windows that the application manages.


def test_manual_window_grows_only_by_consumption():
    conn = connect(stream_window=65_535)
    stream = start(conn, unary=False, manual_window=True)
    sent(conn)
    conn.receive_data(headers(1))
    body = message(b"x" * 10_000)
    for _ in range(6):
        conn.receive_data(data(1, body))
    assert [one for one in sent(conn) if one.stream_id == 1] == []
    conn.consume(stream, 10_000)
    conn.consume(stream, 10_000)
    conn.consume(stream, 10_000)
    assert sent(conn) == []
    conn.consume(stream, 10_000)
    # Four messages and the six prefixes seen so far.
    assert sent(conn) == [(8, 0, 1, u32(40_030))]


def test_manual_window_opens_for_a_message_larger_than_itself():
    conn = connect(stream_window=65_535)
    stream = start(conn, unary=False, manual_window=True, max_receive=1 << 20)
    sent(conn)
    conn.receive_data(headers(1) + data(1, b"\0" + u32(200_000)))
    (update,) = sent(conn)
    assert update[:3] == (8, 0, 1)
    assert 65_530 + int.from_bytes(update.payload, "big") == 200_000
    for _ in range(20):
        conn.receive_data(data(1, b"x" * 10_000))
    assert len(stream.messages.popleft()) == 200_000
    assert conn.error is None
    assert stream.receive_window == 0
    sent(conn)
    conn.consume(stream, 200_000)
    (update,) = sent(conn)
    assert int.from_bytes(update.payload, "big") == 65_535


# Messages of many frames.


@pytest.mark.parametrize("piece", [1_000, 16_384, 65_536 + 5, 70_000, 1 << 20])
def test_a_large_message_comes_as_it_was_sent(piece):
    # Past the room made at first and at second, ending within a piece that holds the next message too.
    body = bytes(range(251)) * 5_000
    octets = message(body) + message(b"next")
    conn = connect(max_frame_size=1 << 20)
    stream = start(conn, unary=False, max_receive=1 << 21)
    conn.receive_data(headers(1))
    for at in range(0, len(octets), piece):
        conn.receive_data(data(1, octets[at : at + piece]))
    assert list(stream.messages) == [body, b"next"]


@pytest.mark.parametrize("cut", [1, 5, 30, 0])
def test_a_subclass_gathers_what_does_not_come_at_once(cut):
    begun = []

    class Pieces:
        def __init__(self, length):
            self.missing = length
            self.pieces = []

        def add(self, piece):
            assert 0 < len(piece) <= self.missing
            self.missing -= len(piece)
            self.pieces.append(piece)

        def whole(self):
            return tuple(self.pieces)

    class Gathering(GrpcStream):
        def gather(self, length):
            begun.append(length)
            return Pieces(length)

    conn = connect()
    stream = Gathering(None, 1 << 20)
    conn.open_stream(stream, REQUEST_BLOCK, message(b"request"), True)
    body = bytes(range(100))
    parts = message(body)
    octets = headers(1) + data(1, message(b"at once")) + data(1, parts[:40]) + data(1, parts[40:])
    for at in range(0, len(octets), cut or len(octets)):
        conn.receive_data(octets[at : at + (cut or len(octets))])
    assert begun == [100]
    assert list(stream.messages) == [b"at once", (body[:35], body[35:])]


def test_a_message_of_which_the_last_octet_is_missing():
    stream, _ = respond(headers(1), *[data(1, part) for part in (message(b"x" * 20)[:-1],)], trailers(1))
    assert stream.status == (StatusCode.INTERNAL, "response ends within a message", "protocol")
    assert list(stream.messages) == []


def test_room_for_a_message_follows_what_has_come():
    # The largest message there is, of which 70,000 octets come.
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    conn = connect()
    stream = start(conn, max_receive=2**31 - 1)
    conn.receive_data(headers(1))
    tracemalloc.start()
    try:
        conn.receive_data(data(1, b"\0" + u32(2**31 - 1)))
        conn.receive_data(data(1, b"x" * 14_000) * 5)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(stream.messages) == []
    assert kept < 17 * 70_000
    assert most < 20 * 70_000


def test_a_window_opens_for_a_message_larger_than_itself():
    conn = connect(stream_window=65_535)
    stream = start(conn, max_receive=1 << 20)
    sent(conn)
    conn.receive_data(headers(1) + data(1, b"\0" + u32(200_000)))
    (update,) = sent(conn)
    assert update[:3] == (8, 0, 1)
    assert 65_530 + int.from_bytes(update.payload, "big") == 200_000
    for _ in range(16):
        conn.receive_data(data(1, b"x" * 10_000))
    assert [one for one in sent(conn) if one.stream_id] == []  # no need to wait on the way
    for _ in range(4):
        conn.receive_data(data(1, b"x" * 10_000))
    assert len(stream.messages[0]) == 200_000
    assert stream.receive_window >= 65_535 // 2
