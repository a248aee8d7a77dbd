# SPDX-License-Identifier: Apache-2.0
from .peer import connect, sent, start


def test_request_has_left_when_its_last_octet_is_written():
    # K3: the message counts, not END_STREAM; one octet less and the server cannot execute it.
    conn = connect()
    stream = start(conn, end_stream=False)
    octets = conn.data_to_send()
    assert not stream.request_left
    conn.data_written(len(octets) - 1)
    assert not stream.request_left
    conn.data_written(1)
    assert stream.request_left


def test_request_held_back_by_a_window_has_not_left():
    conn = connect((4, 10))
    stream = start(conn, b"x" * 10)  # 15 octets with the prefix
    sent(conn)
    assert not stream.request_left
    conn.receive_data(bytes.fromhex("000004 08 00 00000001 00000005"))
    assert not stream.request_left
    sent(conn)
    assert stream.request_left


def test_later_messages_do_not_count():
    conn = connect()
    stream = start(conn, end_stream=False)
    sent(conn)
    conn.send_data(stream, b"more")
    assert stream.request_left


def test_empty_request_has_left_with_its_headers():
    conn = connect()
    stream = start(conn, b"", end_stream=False)
    assert not stream.request_left
    sent(conn)
    assert stream.request_left


def test_request_of_a_lost_connection_stays_unsent():
    conn = connect()
    stream = start(conn)
    conn.data_to_send()
    conn.receive_eof("reset by peer")
    assert not stream.request_left
