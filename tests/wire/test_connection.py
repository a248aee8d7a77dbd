# SPDX-License-Identifier: Apache-2.0
from purecd.wire.connection import DISCARDED_IDS

from .peer import RST_STREAM, STREAM_CLOSED, answer, connect, data, headers, sent, start, u32


def test_news_are_listed_once_until_taken():
    conn = connect()
    one, two = start(conn), start(conn)
    conn.receive_data(headers(1) + headers(3) + data(1, b"\0\0\0\0\0"))
    assert conn.active == [one, two]
    taken, conn.active = conn.active, []
    assert taken == [one, two]
    conn.receive_data(answer(3)[len(headers(3)) :])
    assert conn.active == [two]
    conn.active.clear()
    conn.receive_data(answer(1)[len(headers(1)) :])
    assert conn.active == [one]


def test_half_a_message_is_no_news():
    conn = connect()
    stream = start(conn)
    conn.receive_data(headers(1))
    conn.active = []
    conn.receive_data(data(1, b"\0\0\0\0\5abc"))
    assert conn.active == []
    conn.receive_data(data(1, b"de"))
    assert conn.active == [stream]


def test_streams_are_listed_when_their_data_has_left():
    conn = connect((4, 10))
    stream = start(conn, b"x" * 100)
    conn.receive_data(bytes.fromhex("000004 08 00 00000001 00000010"))
    assert conn.active == []
    conn.receive_data(bytes.fromhex("000004 08 00 00000001 00001000"))
    assert conn.active == [stream]


def test_all_streams_are_listed_when_the_connection_ends():
    conn = connect()
    streams = [start(conn) for _ in range(3)]
    conn.receive_eof("gone")
    assert conn.active == streams
    assert [stream.status.message for stream in streams] == ["gone"] * 3
    conn.receive_eof("again")
    assert conn.reason == "gone"


def test_ids_of_discarded_streams_are_bounded():
    conn = connect()
    for number in range(DISCARDED_IDS + 10):
        conn.reset_stream(start(conn))
        sent(conn)
        assert number * 2 + 1 in conn._discarded
    assert len(conn._discarded) == DISCARDED_IDS
    # The oldest is forgotten, so it meets one more answer.
    conn.receive_data(data(1, b"x"))
    assert sent(conn) == [(RST_STREAM, 0, 1, u32(STREAM_CLOSED))]
