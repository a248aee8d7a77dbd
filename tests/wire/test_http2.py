# SPDX-License-Identifier: Apache-2.0
"""Commands of a connection, and whole calls against the h2 package as independent server."""

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection
from purecd.wire.output import REPLY_LIMIT

from .peer import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    REQUEST_BLOCK,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    answer,
    connect,
    frame,
    message,
    parse,
    sent,
    setting,
    start,
    u32,
)


def test_first_octets():
    # RFC 9113 §3.4; ENABLE_PUSH 0 because the default is 1.
    octets = Http2Connection().data_to_send()
    assert octets[:24] == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert parse(octets[24:]) == [
        (SETTINGS, 0, 0, setting(2, 0) + setting(4, 1 << 20) + setting(6, 65_536)),
        (WINDOW_UPDATE, 0, 0, u32((1 << 24) - 65_535)),
    ]


def test_options_show_in_settings():
    conn = Http2Connection(
        stream_window=1, connection_window=1, max_header_list_size=1000, max_frame_size=1 << 20
    )
    octets = conn.data_to_send()
    # Smaller windows than the default would not hold before the server has seen our SETTINGS.
    expected = setting(2, 0) + setting(4, 65_535) + setting(6, 1000) + setting(5, 1 << 20)
    assert parse(octets[24:]) == [(SETTINGS, 0, 0, expected)]


def test_no_stream_before_settings():
    conn = Http2Connection()
    assert conn.available_streams() == 0
    assert not conn.ready
    with pytest.raises(RuntimeError):
        start(conn)


def test_unary_request():
    conn = connect()
    assert conn.available_streams() == 2**32 - 1
    stream = start(conn, b"abc")
    assert sent(conn) == [
        (HEADERS, END_HEADERS, 1, REQUEST_BLOCK),
        (DATA, END_STREAM, 1, message(b"abc")),
    ]
    assert (stream.id, conn.open_streams) == (1, 1)


def test_request_in_steps():
    conn = connect()
    stream = start(conn, b"", end_stream=False)
    conn.send_data(stream, b"one")
    conn.send_data(stream, b"two", True)
    conn.send_data(stream, b"late")
    assert sent(conn) == [
        (HEADERS, END_HEADERS, 1, REQUEST_BLOCK),
        (DATA, 0, 1, b"one"),
        (DATA, END_STREAM, 1, b"two"),
    ]


def test_request_without_data():
    conn = connect()
    start(conn, b"", end_stream=True)
    assert sent(conn) == [(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST_BLOCK)]


def test_long_header_block():
    conn = connect()
    stream = GrpcStream(None, max_receive=1)
    conn.open_stream(stream, b"x" * 20_000, b"abc", True)
    kinds = [(one.kind, one.flags, len(one.payload)) for one in sent(conn)]
    assert kinds == [(1, 0, 16_384), (9, END_HEADERS, 3_616), (DATA, END_STREAM, 3)]


def test_windows_are_never_exceeded():
    conn = connect((4, 20_000))
    for _ in range(5):
        start(conn, b"x" * 29_995)
    frames = [one for one in sent(conn) if one.kind == DATA]
    assert sum([len(one.payload) for one in frames]) <= 65_535
    by_stream: dict[int, int] = {}
    for one in frames:
        by_stream[one.stream_id] = by_stream.get(one.stream_id, 0) + len(one.payload)
    assert max(by_stream.values()) == 20_000
    assert len(by_stream) == 4


def test_small_request_waits_behind_the_line():
    conn = connect((4, 1 << 20))
    start(conn, b"x" * 100_000)
    start(conn, b"small")
    assert 3 not in [one.stream_id for one in sent(conn) if one.kind == DATA]
    conn.receive_data(frame(WINDOW_UPDATE, 0, 0, u32(1 << 20)))
    assert [one.stream_id for one in sent(conn) if one.kind == DATA][:2] == [1, 3]


def test_cancel():
    conn = connect()
    stream = start(conn)
    sent(conn)
    conn.reset_stream(stream)
    conn.reset_stream(stream)
    conn.send_data(stream, b"late")
    assert sent(conn) == [(RST_STREAM, 0, 1, u32(CANCEL))]
    assert conn.open_streams == 0
    assert stream.status is None


def test_cancel_drops_unsent_data():
    conn = connect((4, 10))
    stream = start(conn, b"x" * 100)
    sent(conn)
    conn.reset_stream(stream)
    conn.receive_data(frame(WINDOW_UPDATE, 0, 1, u32(1000)))
    assert [one.kind for one in sent(conn)] == [RST_STREAM]
    assert not stream.request_left


def test_cancel_of_the_last_stream_ends_a_draining_connection():
    conn = connect()
    stream = start(conn)
    conn.receive_data(frame(GOAWAY, 0, 0, u32(1) + u32(0)))
    assert not conn.closed
    conn.reset_stream(stream)
    assert conn.closed
    assert sent(conn)[-1].kind == RST_STREAM


def test_resets_hold_their_place_until_confirmed():
    # D6, rule 5: a limited server may not have seen the reset when the next stream comes.
    conn = connect((3, 2))
    first, second = start(conn), start(conn)
    sent(conn)
    conn.reset_stream(first)
    assert conn.available_streams() == 0
    frames = sent(conn)
    assert [one.kind for one in frames] == [RST_STREAM, PING]
    conn.reset_stream(second)
    assert conn.available_streams() == 0
    assert [one.kind for one in sent(conn)] == [RST_STREAM]
    conn.receive_data(frame(PING, ACK, 0, frames[1].payload))
    assert conn.available_streams() == 2


def test_confirming_pings_are_not_strikes():
    # K7: etcd counts PINGs unless it has sent HEADERS or DATA since the last one.
    conn = connect((3, 2))
    conn.reset_stream(start(conn))
    ping = sent(conn)[-1]
    conn.receive_data(frame(PING, ACK, 0, ping.payload))
    conn.reset_stream(start(conn))
    assert [one.kind for one in sent(conn) if one.kind == PING] == []
    assert conn.available_streams() == 2
    start(conn)
    conn.receive_data(answer(5))
    conn.reset_stream(start(conn))
    assert [one.kind for one in sent(conn)][-1] == PING


def test_unlimited_server_needs_no_confirmation():
    conn = connect()
    conn.reset_stream(start(conn))
    assert [one.kind for one in sent(conn)][-1] == RST_STREAM


def test_ten_calls_one_at_a_time():
    # G6 max_streams.
    conn = connect((3, 1))
    for number in range(10):
        assert conn.available_streams() == 1
        stream = start(conn)
        assert conn.available_streams() == 0
        with pytest.raises(RuntimeError):
            start(conn)
        conn.receive_data(answer(number * 2 + 1))
        assert stream.status.code == 0


def test_stream_ids_run_out():
    # H37.
    conn = connect()
    conn._next_id = 2**31 - 3
    first, last = start(conn), start(conn)
    assert (first.id, last.id) == (2**31 - 3, 2**31 - 1)
    assert conn.available_streams() == 0
    conn.receive_data(frame(SETTINGS, 0, 0, setting(3, 100)))
    assert conn.available_streams() == 0
    conn.receive_data(answer(2**31 - 3) + answer(2**31 - 1))
    assert last.status.code == 0


def test_ping():
    conn = connect()
    conn.ping(b"abcdefgh")
    assert sent(conn) == [(PING, 0, 0, b"abcdefgh")]
    conn.receive_data(frame(PING, ACK, 0, b"abcdefgX"))
    assert conn.pings == 0
    conn.receive_data(frame(PING, ACK, 0, b"abcdefgh"))
    assert conn.pings == 1


def test_any_octet_is_a_sign_of_life():
    conn = connect()
    before = conn.received_frames
    conn.receive_data(b"\0")
    assert conn.received_frames > before


def test_close():
    conn = connect()
    stream = start(conn)
    sent(conn)
    conn.close()
    conn.close()
    assert sent(conn) == [(GOAWAY, 0, 0, u32(0) + u32(0))]
    assert conn.closed
    assert conn.error is None
    assert stream.status == (14, "connection closed by this client", "lost")


def test_unwritten():
    conn = connect()
    assert conn.unwritten == 0
    start(conn)
    octets = conn.data_to_send()
    assert conn.unwritten == len(octets)
    conn.data_written(len(octets) - 3)
    assert conn.unwritten == 3


def test_unread_replies_throttle():
    # D1: a peer that provokes replies and does not read them.
    conn = connect()
    conn.receive_data(frame(PING, 0, 0, b"x" * 8) * REPLY_LIMIT)
    assert not conn.throttled
    conn.receive_data(frame(PING, 0, 0, b"x" * 8))
    assert conn.throttled
    octets = conn.data_to_send()
    assert conn.throttled
    conn.data_written(len(octets))
    assert not conn.throttled


def test_no_stream_is_opened_while_the_socket_takes_nothing():
    # H36.
    conn = connect()
    assert conn.available_streams() > 0
    conn.blocked = True
    assert conn.available_streams() == 0
    conn.blocked = False
    assert conn.available_streams() > 0


def test_frames_are_processed_so_many_at_once():
    conn = connect()
    stream = start(conn)
    sent(conn)
    conn.frames_at_once = 2
    conn.receive_data(frame(PING, 0, 0, b"x" * 8) * 3 + answer(1))
    for left in (4, 2, 0):
        assert conn.more is (left > 0)
        assert (stream.status is not None) is (left == 0)
        conn.receive_data(b"")
    assert [each.kind for each in sent(conn)] == [PING] * 3
    assert stream.status.code == 0


def test_what_waits_is_followed_by_what_comes():
    conn = connect()
    stream = start(conn)
    conn.frames_at_once = 1
    octets = frame(PING, 0, 0, b"x" * 8) + answer(1)
    for at in range(len(octets)):
        conn.receive_data(octets[at : at + 1])
    assert stream.status.code == 0
    assert not conn.more


# h2 as the server.


class Server:
    """An echo server of gRPC messages on the h2 package."""

    def __init__(self, **settings):
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        values = {getattr(h2.settings.SettingCodes, name): value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.bodies = {}
        self.headers = {}
        self.unsent = {}

    def receive(self, octets):
        for event in self.h2.receive_data(octets):
            stream_id = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.RequestReceived):
                self.bodies[stream_id] = b""
                self.headers[stream_id] = event.headers
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                self.unsent[stream_id] = self.bodies[stream_id]
        self.push()

    def push(self):
        for stream_id, body in list(self.unsent.items()):
            while body:
                size = min(len(body), self.h2.local_flow_control_window(stream_id), 16_384)
                if not size:
                    break
                self.h2.send_data(stream_id, body[:size], pad_length=3 if size < 100 else None)
                body = body[size:]
            self.unsent[stream_id] = body
            if not body:
                del self.unsent[stream_id]
                self.h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)


def exchange(conn, server):
    """Carry octets both ways until nothing moves."""
    while True:
        out = conn.data_to_send()
        conn.data_written(len(out))
        server.receive(out)
        back = server.h2.data_to_send()
        conn.receive_data(back)
        if not out and not back:
            return


def meet(**settings):
    conn: Any = Http2Connection(stream_window=65_535, connection_window=65_535)
    server = Server(**settings)
    exchange(conn, server)
    assert conn.ready
    return conn, server


@pytest.mark.parametrize("size", [0, 1, 90, 16_379, 16_380, 65_530, 65_531, 300_000])
def test_h2_echoes(size):
    conn, server = meet()
    body = bytes(range(256)) * (size // 256 + 1)
    stream = start(conn, body[:size] or b"", max_receive=1 << 20, unary=bool(size))
    exchange(conn, server)
    assert stream.status == (0, "", "trailers")
    assert b"".join(stream.messages) == body[:size]
    assert conn.error is None


def test_h2_echoes_many_at_once():
    conn, server = meet(MAX_CONCURRENT_STREAMS=50, INITIAL_WINDOW_SIZE=1000)
    assert conn.available_streams() == 50
    streams = [start(conn, bytes((number,)) * 20_000) for number in range(50)]
    exchange(conn, server)
    assert [stream.messages[0][:1] for stream in streams] == [bytes((number,)) for number in range(50)]
    assert all(stream.status.code == 0 for stream in streams)


def test_h2_reads_our_headers_also_without_a_table():
    request_headers = RequestHeaders("http", "etcd:2379", "purecd/1", ((b"client-api-version", b"3.5"),))
    conn, server = meet(HEADER_TABLE_SIZE=0)
    for token in (b"", b"secret"):
        stream = GrpcStream(None, max_receive=100)
        conn.open_stream(stream, request_headers.block(b"/a/B", b"1S", token), message(b"x"), True)
    exchange(conn, server)
    assert (":path", "/a/B") in server.headers[1]
    assert ("token", "secret") not in server.headers[1]
    assert ("token", "secret") in server.headers[3]
    assert conn.open_streams == 0


def test_h2_sees_cancel_and_goodbye():
    conn, server = meet()
    stream = start(conn, end_stream=False)
    exchange(conn, server)
    conn.reset_stream(stream)
    conn.close()
    events = server.h2.receive_data(conn.data_to_send())
    assert [type(event) for event in events] == [h2.events.StreamReset, h2.events.ConnectionTerminated]
    assert events[0].error_code == CANCEL


def test_h2_answers_ping():
    conn, server = meet()
    conn.ping()
    exchange(conn, server)
    assert conn.pings == 1


def test_h2_settings_change_in_flight():
    conn, server = meet()
    stream = start(conn, b"x" * 200_000)
    server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    exchange(conn, server)
    server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
    exchange(conn, server)
    assert stream.messages[0] == b"x" * 200_000


@pytest.mark.parametrize("end", ["close", "eof", "fault"])
@pytest.mark.parametrize("fetched", [True, False])
def test_a_request_that_has_not_left_by_the_end_never_leaves(end, fetched):
    conn = connect()
    stream = start(conn)
    size = len(conn.data_to_send()) if fetched else 0
    if fetched:
        conn.data_written(size)
    late = start(conn)
    if end == "close":
        conn.close()
    elif end == "eof":
        conn.receive_eof("gone")
    else:
        conn.receive_data(frame(PING, 0, 1, bytes(8)))
    assert (stream.request_left, late.request_left) == (fetched, False)
    kinds = [each.kind for each in parse(conn.data_to_send())]
    assert kinds == ([] if end == "eof" else [GOAWAY])


def test_a_request_leaves_once_it_is_queued_whole():
    conn = connect((4, 10))  # INITIAL_WINDOW_SIZE
    stream = start(conn, bytes(100))
    assert not stream.request_leaves
    conn.receive_data(frame(WINDOW_UPDATE, 0, stream.id, u32(1000)))
    assert stream.request_leaves
    assert not stream.request_left
    conn.reset_stream(stream)
    assert stream.request_leaves, "with the reset behind it"
    cut_off = start(conn, bytes(100))
    conn.reset_stream(cut_off)
    assert not cut_off.request_leaves
