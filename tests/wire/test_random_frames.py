# SPDX-License-Identifier: Apache-2.0
"""Random frames, mostly legal: nothing raises, and how the octets are cut changes nothing."""

import random

import pytest

from .peer import (
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
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    connect,
    frame,
    headers,
    message,
    parse,
    setting,
    start,
    u32,
)

BLOCKS = [
    RESPONSE,
    RESPONSE,
    OK,
    b"\x88\x40\x0ccontent-type\x10application/grpc",
    b"\x88\xbe",
    b"\x40\x0bgrpc-status\x010",
    block((":status", "103")),
    block((":status", "404"), ("content-type", "text/html")),
    block(("grpc-status", "14"), ("grpc-message", "no%20leader")),
]


def random_frame(rng):
    stream_id = rng.choice([1, 1, 3, 5])
    kind = rng.choice(
        [DATA] * 5 + [HEADERS] * 5 + [PING, SETTINGS, WINDOW_UPDATE, RST_STREAM, GOAWAY, 0x33, 99]
    )
    if kind == DATA:
        whole = message(bytes(rng.randrange(30)))
        payload = rng.choice([b"", whole, whole, whole + whole, whole[: rng.randrange(9)], bytes(9000)])
        flags = rng.choice([0, 0, 0, END_STREAM, PADDED])
        if flags & PADDED:
            size = rng.randrange(9)
            payload = bytes((size,)) + payload + bytes(size)
        return frame(DATA, flags, stream_id, payload)
    if kind == HEADERS:
        octets, end = rng.choice(BLOCKS), rng.choice([0, 0, END_STREAM])
        if rng.random() < 0.8:
            return frame(HEADERS, END_HEADERS | end, stream_id, octets)
        cut = rng.randrange(len(octets))
        return frame(HEADERS, end, stream_id, octets[:cut]) + frame(
            CONTINUATION, END_HEADERS, stream_id, octets[cut:]
        )
    if kind == PING:
        return frame(PING, rng.choice([0, ACK]), 0, bytes(8))
    if kind == SETTINGS:
        pair = rng.choice([(3, 0), (3, 9), (4, 0), (4, 200), (4, 65_535), (4, 90_000), (5, 16_384), (1, 0)])
        return frame(SETTINGS, 0, 0, setting(*pair))
    if kind == WINDOW_UPDATE:
        return frame(WINDOW_UPDATE, 0, rng.choice([0, stream_id]), u32(rng.choice([1, 900, 70_000])))
    if kind == RST_STREAM:
        return frame(RST_STREAM, 0, stream_id, u32(rng.choice([0, 7, 8])))
    if kind == GOAWAY:
        return frame(GOAWAY, 0, 0, u32(rng.choice([1, 3, 2**31 - 1])) + u32(rng.choice([0, 11])))
    if kind == 0x33:
        return frame(0x33, 0xFF, stream_id, b"extension")
    # What no server may send.
    wrong = rng.choice(
        [DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION]
    )
    return frame(wrong, rng.randrange(256), rng.choice([0, 1, 2, 99]), rng.randbytes(rng.randrange(12)))


def outcome(octets, cuts, seed):
    """Everything a user of the connection can tell, after the frames and the end."""
    rng = random.Random(seed)
    conn = connect(stream_window=65_535, connection_window=65_535)
    streams = [
        start(
            conn,
            bytes(rng.choice([1, 1000, 70_000])),
            unary=rng.random() < 0.5,
            end_stream=rng.random() < 0.8,
            max_receive=9_000,
            manual_window=rng.random() < 0.3,
        )
        for _ in range(3)
    ]
    sent = conn.data_to_send()
    position = 0
    for cut in cuts:
        conn.receive_data(octets[position:cut])
        position = cut
    sent += conn.data_to_send()
    conn.receive_eof("end of file")
    frames = parse(sent)
    check_output(conn, streams, frames)
    state = [(list(one.messages), one.status, one.unprocessed, one.refused_connection) for one in streams]
    return frames, state, conn.reason, conn.peer.initial_window_size


def check_output(conn, streams, frames):
    assert conn.closed
    assert conn.open_streams == 0
    if conn.error is not None:
        assert frames[-1].kind == GOAWAY
    for stream in streams:
        resets = [
            at for at, one in enumerate(frames) if one.kind == RST_STREAM and one.stream_id == stream.id
        ]
        assert len(resets) <= 1
        assert stream.status is not None
        if resets:
            later = [one for one in frames[resets[0] + 1 :] if one.stream_id == stream.id]
            assert later == []
        if stream.status.code == 0:
            assert stream.status.source == "trailers"


@pytest.mark.parametrize("seed", range(400))
def test_cuts_change_nothing(seed):
    rng = random.Random(seed)
    octets = b"".join([random_frame(rng) for _ in range(rng.randrange(1, 20))])
    if rng.random() < 0.7:  # most stories begin well
        octets = b"".join([headers(stream_id, BLOCKS[3]) for stream_id in (1, 3, 5)]) + octets
    whole = outcome(octets, [len(octets)], seed)
    cuts = [*sorted(rng.sample(range(len(octets)), min(len(octets), 40))), len(octets)]
    assert outcome(octets, cuts, seed) == whole
    if len(octets) < 1000:
        assert outcome(octets, range(1, len(octets) + 1), seed) == whole


def test_random_octets_never_raise():
    rng = random.Random(7)
    for _ in range(200):
        conn = connect()
        stream = start(conn)
        conn.receive_data(rng.randbytes(200))
        conn.receive_eof("end of file")
        assert stream.status is not None
