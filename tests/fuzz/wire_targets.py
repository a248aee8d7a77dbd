# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of `purecd.wire`: connection, header blocks, deframer, statuses.

Each takes octets and raises `AssertionError` when a promise is broken; every other exception out of
the code under test is a finding, too.
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote_from_bytes

import hyperframe.frame
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError
from hpack.hpack import decode_integer

from purecd.wire import frames as ours
from purecd.wire.blocks import BlockDecoder
from purecd.wire.faults import ConnectionFault
from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders, encode_integer, encode_literal, encode_string
from purecd.wire.status import (
    LONGEST_MESSAGE,
    check_metadata,
    decode_binary,
    encode_timeout,
    from_http,
    from_reset,
    from_trailers,
    percent_decode,
)
from tests.wire.peer import GOAWAY, RST_STREAM, connect, headers, message, parse, start, trailers
from tests.wire.peer import data as data_of

from .frames import story
from .taste import Taste

LEGAL_GOAWAY_CODES = range(14)


def frame_writer(data: bytes) -> None:
    """Z1: hyperframe reads what we write as it was meant."""
    taste = Taste(data)
    stream_id = 1 + 2 * taste.below(2**30)
    number = taste.below(2**31 - 1) + 1
    payload = taste.octets(8).ljust(8, b"\0")
    end = taste.chance(50)
    body = taste.rest()
    wanted: list[tuple[bytes, str, dict[str, Any]]] = [
        (ours.data_frame(stream_id, body, end), "DataFrame", {"data": body}),
        (ours.rst_stream(stream_id, number), "RstStreamFrame", {"error_code": number}),
        (ours.window_update(stream_id, number), "WindowUpdateFrame", {"window_increment": number}),
        (ours.ping(payload), "PingFrame", {"opaque_data": payload}),
        (
            ours.goaway(stream_id, number, body[:100]),
            "GoAwayFrame",
            {"last_stream_id": stream_id, "error_code": number, "additional_data": body[:100]},
        ),
        (ours.settings([(4, number), (3, 7)]), "SettingsFrame", {"settings": {4: number, 3: 7}}),
    ]
    for octets, kind, fields in wanted:
        frame, length = hyperframe.frame.Frame.parse_frame_header(memoryview(octets[:9]))
        assert length == len(octets) - 9
        frame.parse_body(memoryview(octets[9:]))
        assert type(frame).__name__ == kind
        for name, value in fields.items():
            found = getattr(frame, name)
            assert (bytes(found) if isinstance(found, memoryview) else found) == value, name
        if kind == "DataFrame":
            assert ("END_STREAM" in frame.flags) == end
    size = 1 + number % 50
    pieces = parse(ours.headers_frames(stream_id, body, end, size))
    assert b"".join(piece.payload for piece in pieces) == body
    assert all(len(piece.payload) <= size for piece in pieces)
    assert [piece.kind for piece in pieces] == [1] + [9] * (len(pieces) - 1)
    assert [bool(piece.flags & 4) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def connection(data: bytes) -> None:
    """Z2: any frames: no exception, one end per stream, a legal GOAWAY, and cuts change nothing."""
    taste = Taste(data)
    shapes = [(taste.below(3), taste.below(64)) for _ in range(3)]
    cuts = [taste.below(2**16) for _ in range(4)]
    octets = b"".join([frame.octets for frame in story(taste)])
    whole = _outcome(octets, [len(octets)], shapes)
    places = sorted({cut % len(octets) for cut in cuts} - {0}) if octets else []
    assert _outcome(octets, [*places, len(octets)], shapes) == whole
    if len(octets) < 600:
        assert _outcome(octets, range(1, len(octets) + 1), shapes) == whole


def raw_connection(data: bytes) -> None:
    """Z2 with octets as they come."""
    shapes = [(0, 0)] * 3
    assert _outcome(data, [len(data)], shapes) == _outcome(data, range(1, len(data) + 1), shapes)


def _outcome(octets: bytes, cuts: Any, shapes: list[tuple[int, int]]) -> Any:
    """All that the user of a connection can tell after these octets and the end of file."""
    conn = connect(stream_window=65_535, connection_window=65_535)
    streams = [
        start(
            conn,
            bytes((1, 1000, 70_000)[size]),
            unary=not shape & 1,
            end_stream=not shape & 2,
            max_receive=9_000,
            manual_window=bool(shape & 4),
        )
        for size, shape in shapes
    ]
    sent = conn.data_to_send()
    position = 0
    for cut in cuts:
        conn.receive_data(octets[position:cut])
        position = cut
        assert len(conn.streams) == conn.open_streams <= len(streams)
        assert conn.unwritten >= 0
    sent += conn.data_to_send()
    conn.receive_eof("end of file")
    frames = parse(sent)
    _check_ending(conn, streams, frames)
    state = [(list(one.messages), one.status, one.unprocessed, one.refused_connection) for one in streams]
    return frames, state, conn.reason, conn.peer.initial_window_size


def _check_ending(conn: Any, streams: list[Any], frames: list[Any]) -> None:
    assert conn.closed
    assert conn.open_streams == 0
    if conn.error is not None:
        assert frames[-1].kind == GOAWAY
        assert int.from_bytes(frames[-1].payload[4:8], "big") in LEGAL_GOAWAY_CODES
    for stream in streams:
        of_stream = [frame for frame in frames if frame.stream_id == stream.id]
        resets = [at for at, frame in enumerate(of_stream) if frame.kind == RST_STREAM]
        assert len(resets) <= 1
        assert not resets or resets[0] == len(of_stream) - 1, "nothing follows RST_STREAM"
        assert stream.status is not None
        if stream.status.code == 0:
            assert stream.status.source == "trailers"
            assert not stream.unary or len(stream.messages) == 1


def header_blocks(data: bytes) -> None:
    """Z4: several blocks in a row mean what hpack says, and what it refuses is refused."""
    taste = Taste(data)
    mine = BlockDecoder(16_384)
    theirs = Decoder(4 * 16_384)
    for _ in range(1 + taste.below(4)):
        octets = taste.some(120) if taste.chance(50) else _fields(taste)
        try:
            block = mine.memo.get(octets) or mine.decode(octets)
        except ConnectionFault as fault:
            _check_refusal(octets, fault, theirs)
            return
        fields = [(bytes(name), bytes(value)) for name, value in theirs.decode(octets, raw=True)]
        assert block.fields == fields
        if not block.problem and not block.too_large:
            for name, value in block.fields:
                assert not set(name) & set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ \r\n\0")
                assert not set(value) & set(b"\r\n\0")


def _check_refusal(octets: bytes, fault: ConnectionFault, theirs: Any) -> None:
    """What we refuse hpack refuses too, unless it is an integer that it takes at any length."""
    try:
        theirs.decode(octets, raw=True)
    except (HPACKError, IndexError, ValueError):
        return
    assert "integer too long" in str(fault) or "fields in a header block" in str(fault), fault


def _fields(taste: Taste) -> bytes:
    octets = b""
    for _ in range(taste.below(6)):
        kind = taste.below(5)
        if kind == 0:
            octets += encode_integer(1 + taste.below(70), 7, 0x80)
        elif kind == 1:
            octets += encode_integer(taste.below(5000), 5, 0x20)
        else:
            name: int | bytes = taste.some(9) if taste.chance(60) else 1 + taste.below(65)
            first, bits = ((0x40, 6), (0x00, 4), (0x10, 4))[kind - 2]
            if isinstance(name, int):
                octets += encode_integer(name, bits, first)
            else:
                octets += bytes((first,)) + encode_string(name)
            octets += encode_string(taste.some(30))
    return octets


def primitives(data: bytes) -> None:
    """Z6: integers and strings of RFC 7541 as hpack reads them."""
    taste = Taste(data)
    bits = 4 + taste.below(4)
    number = taste.below(2**32)
    decoder = Decoder()
    octets = encode_integer(number, bits, 0)
    assert decode_integer(octets, bits) == (number, len(octets))
    name, value = taste.some(60) or b"n", taste.rest()
    (field,) = decoder.decode(encode_literal(name, value), raw=True)
    assert (bytes(field[0]), bytes(field[1])) == (name, value)


def request_headers(data: bytes) -> None:
    """Z5: hpack reads our blocks back; what is secret is never indexed and enters no table."""
    taste = Taste(data)
    token = bytes(33 + octet % 94 for octet in taste.some(40))
    extra = []
    for _ in range(taste.below(4)):
        name = bytes(b"abcdefghijklmnopqrstuvwxyz0123456789_.-"[octet % 39] for octet in taste.some(12))
        value = taste.some(20)
        try:
            check_metadata(name, value)
        except ValueError:
            continue
        extra.append((name, value))
    writer = RequestHeaders("http", "a:1", "agent", extra[:1])
    decoder = Decoder()
    for path in (b"/a/B", b"/c/D", b"/a/B"):
        block = writer.block(path, b"%dm" % (1 + taste.below(9999)), token, extra[1:])
        fields = decoder.decode(block, raw=True)
        assert not decoder.header_table.dynamic_entries, "nothing enters the dynamic table"
        found: dict[bytes, list[bytes]] = {}
        for field in fields:
            found.setdefault(bytes(field[0]), []).append(bytes(field[1]))
            if field[0] in (b"token", b"authorization", b"cookie"):
                assert isinstance(field, NeverIndexedHeaderTuple)
        assert found[b":path"] == [path]
        if token:
            assert token in found[b"token"]
        for name, value in extra:
            if name.endswith(b"-bin"):
                assert any(decode_binary(one) == [value] for one in found[name])
            else:
                assert value in found[name]
    assert token.decode() not in repr(writer) or len(token) < 8


def deframer(data: bytes) -> None:
    """Z7: messages cut anywhere come out whole, and the limit holds exactly."""
    taste = Taste(data)
    limit = taste.one_of((0, 1, 30, 1000))
    manual = taste.chance(30)
    bodies = [taste.some(taste.one_of((0, 1, 29, 30, 31, 200))) for _ in range(taste.below(6))]
    octets = b"".join([message(body) for body in bodies])
    conn = connect()
    stream = start(conn, unary=False, max_receive=limit, manual_window=manual)
    conn.data_to_send()
    conn.receive_data(headers(stream.id))
    position = 0
    for cut in taste.cuts(len(octets)):
        conn.receive_data(data_of(stream.id, octets[position:cut]))
        position = cut
    good = []
    for body in bodies:
        if len(body) > limit:
            break
        good.append(body)
    assert list(stream.messages) == good
    if len(good) < len(bodies):
        assert stream.status.code == 8, "RESOURCE_EXHAUSTED"
    else:
        assert not stream.status
        conn.receive_data(trailers(stream.id))
        assert stream.status.code == 0


def odd_messages(data: bytes) -> None:
    """Z7 with prefixes as they come: flags, lengths of up to 4 GiB, ends in the middle."""
    taste = Taste(data)
    unary = taste.chance(50)
    conn = connect()
    stream: Any = GrpcStream(None, max_receive=100, unary=unary)
    conn.open_stream(stream, b"\x83", message(b"x"), True)
    conn.receive_data(headers(stream.id))
    while taste.left:
        flag = 1 if taste.chance(20) else 0
        length = taste.one_of((0, 5, 100, 101, 2**32 - 1))
        conn.receive_data(data_of(stream.id, bytes((flag,)) + length.to_bytes(4, "big") + taste.some(20)))
    conn.receive_data(trailers(stream.id))
    status: Any = stream.status
    assert status is not None
    assert all(len(one) <= 100 for one in stream.messages)
    if unary and status.code == 0:
        assert len(stream.messages) == 1


def statuses(data: bytes) -> None:
    """Z8: any trailers, HTTP status or reset code gives a status; only up to nine zeros are OK."""
    taste = Taste(data)
    code = None if taste.chance(10) else taste.some(12)
    text = None if taste.chance(10) else taste.some(200)
    status = from_trailers(code, text)
    assert 0 <= status.code <= 16
    assert (status.code == 0) == (code is not None and 0 < len(code) <= 9 and not code.strip(b"0"))
    assert len(status.message) <= LONGEST_MESSAGE + 100
    assert 1 <= from_http(taste.below(1000), taste.some(40), taste.some(40)).code <= 16
    assert 1 <= from_reset(taste.below(2**32)).code <= 16
    octets = taste.rest()
    decoded = octets.decode("utf-8", "replace")
    assert percent_decode(quote_from_bytes(octets, safe="").encode()) == decoded[:LONGEST_MESSAGE]
    percent_decode(octets)
    parts = decode_binary(octets)
    assert parts is None or all(isinstance(part, bytes) for part in parts)


def timeouts(data: bytes) -> None:
    """Z11: `grpc-timeout` is never shorter than meant, at most eight digits, and as fine as they allow."""
    taste = Taste(data)
    nanoseconds = 1 + taste.below(2 ** (1 + taste.below(70)))
    seconds = nanoseconds / 1e9
    octets = encode_timeout(seconds)
    count, unit = int(octets[:-1]), octets[-1:]
    size = {b"n": 1e-9, b"u": 1e-6, b"m": 1e-3, b"S": 1.0, b"M": 60.0, b"H": 3600.0}[unit]
    assert 1 <= count <= 99_999_999
    if octets != b"99999999H":
        assert count * size >= seconds * (1 - 1e-12)
        assert (count - 1) * size <= seconds * (1 + 1e-12)
    assert math.isfinite(seconds)


def header_round_trip(data: bytes) -> None:
    """Z4: what hpack's encoder writes, tables and Huffman included, we read."""
    taste = Taste(data)
    encoder = Encoder()
    mine = BlockDecoder(65_536)
    for _ in range(1 + taste.below(4)):
        if taste.chance(20):
            encoder.header_table_size = taste.below(4097)
        fields = [(taste.some(10) or b"x", taste.some(30)) for _ in range(taste.below(6))]
        octets = encoder.encode(fields, huffman=taste.chance(50))
        assert mine.decode(octets).fields == fields
