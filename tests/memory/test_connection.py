# SPDX-License-Identifier: Apache-2.0
"""The server's side of a connection, with purecd's client and with h2's as peers."""

from __future__ import annotations

import pytest

from purecd.memory.bandwidth import PROBE
from purecd.memory.connection import DRAIN_PROBE, ServerConnection
from purecd.memory.frames import PREFACE
from purecd.pb import messages as pb
from tests.memory.echoing import RANGE, WATCH, Echo, H2Client, OurClient, ask, framed
from tests.wire import peer

SETTINGS = peer.frame(peer.SETTINGS, 0, 0)


@pytest.fixture
def echo():
    return Echo()


def served(client_class, echo, **options):
    server = ServerConnection(echo, **options)
    return client_class(server)


def raw(echo, octets=b"", **options):
    """A greeted connection and the frames it sent, after `octets`."""
    server = ServerConnection(echo, **options)
    server.receive_data(PREFACE + SETTINGS + octets, 0.0)
    return server, peer.parse(server.data_to_send())


def request(stream_id, data=b"", *, ended=True, path=RANGE, extra=()):
    """HEADERS and DATA written by hand."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a")]
    block = peer.block(*fields, ("content-type", "application/grpc"), ("te", "trailers"), *extra)
    octets = peer.headers(stream_id, block, ended and not data)
    return octets + (peer.data(stream_id, data, ended) if data else b"")


def keys(stream):
    return [kv.key for message in stream.messages for kv in pb.RangeResponse.FromString(message).kvs]


# Calls.


def test_a_call_of_our_client(echo):
    client = served(OurClient, echo)
    stream = client.call(data=ask(b"k"))
    assert (stream.status.code, stream.status.source, keys(stream)) == (0, "trailers", [b"k"])
    assert [kind for kind, _ in echo.seen] == ["message"], "answered before the half-close was looked at"


def test_a_call_of_h2(echo):
    client = served(H2Client, echo)
    stream_id = client.call(ask(b"k"))
    assert client.head(stream_id) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "0",
        "grpc-message": "",
    }
    assert (
        client.of("DataReceived")[0].data[5:]
        == pb.RangeResponse(kvs=[pb.KeyValue(key=b"k")]).SerializeToString()
    )
    assert not client.of("StreamReset")


def test_data_that_crosses_an_early_end_is_taken_without_a_word(echo):
    server, _ = raw(echo, request(1, ended=False, path="/x.Y/Z"), bdp_pings=False)
    for _ in range(20):
        server.receive_data(peer.data(1, b"x" * 10_000), 0.0)
    found = peer.parse(server.data_to_send())
    assert {(each.kind, each.stream_id) for each in found} == {(peer.WINDOW_UPDATE, 0)}
    assert not server.closed


def test_an_error_is_trailers_only_and_percent_encoded(echo):
    _, found = raw(echo, request(1, ask(b"refuse")))
    answers = [each for each in found if each.stream_id == 1]
    assert [(each.kind, each.flags) for each in answers] == [
        (peer.HEADERS, peer.END_HEADERS | peer.END_STREAM)
    ]
    client = served(OurClient, echo)
    stream = client.call(data=ask(b"refuse"))
    assert (stream.status.code, stream.status.message) == (7, "not you: 100%")
    assert not stream.metadata


def test_a_message_byte_by_byte(echo):
    server = ServerConnection(echo)
    for octet in PREFACE + SETTINGS + request(1, ask(b"k")):
        server.receive_data(bytes((octet,)), 0.0)
    kinds = [each.kind for each in peer.parse(server.data_to_send()) if each.stream_id == 1]
    assert kinds == [peer.HEADERS, peer.DATA, peer.HEADERS]


def test_a_unary_call_runs_without_end_stream_and_is_reset_then(echo):
    _, found = raw(echo, request(1, ask(b"k"), ended=False))
    answers = [(each.kind, each.payload) for each in found if each.stream_id == 1]
    assert [kind for kind, _ in answers] == [peer.HEADERS, peer.DATA, peer.HEADERS, peer.RST_STREAM]
    assert answers[-1][1] == peer.u32(peer.NO_ERROR)


def test_a_message_that_lacks_its_last_octet_does_not_run(echo):
    server, _ = raw(echo, request(1, ask(b"k")[:-1], ended=False))
    assert not echo.seen
    server.receive_data(peer.data(1, b"", True), 1.0)
    assert echo.calls[0].finished
    client = served(OurClient, echo)
    assert client.call(data=ask(b"k")[:-1]).status[:2] == (2, "unexpected EOF")
    assert client.call().status[:2] == (2, "EOF")


def test_a_second_message_of_a_unary_call_is_ignored(echo):
    client = served(OurClient, echo)
    stream = client.call(data=ask(b"wait") + ask(b"k"), ended=False)
    assert [kind for kind, _ in echo.seen] == ["message"]
    assert not echo.calls[0].finished
    echo.calls[0].reply(pb.RangeResponse(count=1))
    echo.calls[0].finish()
    client.settle()
    assert stream.status.code == 0


def test_a_stream_of_messages_both_ways(echo):
    client = served(OurClient, echo)
    create = [pb.WatchRequest(create_request=pb.WatchCreateRequest(watch_id=each)) for each in (1, 2)]
    stream = client.call(WATCH, framed(create[0].SerializeToString()), ended=False)
    client.conn.send_data(stream, framed(create[1].SerializeToString()), True)
    client.settle()
    assert [pb.WatchResponse.FromString(each).watch_id for each in stream.messages] == [1, 2]
    assert [kind for kind, _ in echo.seen] == ["message", "message", "half-close"]
    assert stream.status is None, "the half-close does not end it"


def test_metadata_deadline_and_name_reach_the_member(echo):
    client = served(OurClient, echo, common_name="alice")
    client.now = 10.0
    client.call(data=ask(), timeout=b"1500m", extra=((b"token", b"abc"),))
    call = echo.calls[0]
    assert (call.path, call.metadata["token"], call.deadline, call.common_name) == (
        RANGE,
        "abc",
        11.5,
        "alice",
    )


def test_answers_given_later_say_that_there_is_output(echo):
    told = []
    client = served(OurClient, echo, on_output=lambda: told.append(1))
    streams = [client.call(data=ask(b"wait")) for _ in range(3)]
    told.clear()
    for call in reversed(echo.calls):
        call.reply(pb.RangeResponse(count=call.backlog))
        call.finish()
    assert len(told) == 6
    client.settle()
    assert [stream.status.code for stream in streams] == [0, 0, 0]


# Refusals.


def test_unknown_and_malformed_methods(echo):
    client = served(OurClient, echo)
    assert client.call("/x.Y/Z", ask()).status[:2] == (12, "unknown service x.Y")
    assert client.call("/nothing", ask()).status[:2] == (12, 'malformed method name: "/nothing"')


@pytest.mark.parametrize(
    ("changes", "http", "code"),
    [
        ({"content_type": "application/json"}, "415", "3"),
        ({"grpc_timeout": "nonsense"}, "400", "13"),
        ({":method": "PUT"}, "405", "13"),
    ],
)
def test_requests_that_are_no_calls(echo, changes, http, code):
    client = served(H2Client, echo)
    stream_id = client.call(ask(), **changes)
    head = client.head(stream_id)
    assert (head[":status"], head["grpc-status"]) == (http, code)
    assert head["content-type"] == "application/grpc"
    assert not echo.calls
    assert client.head(client.call(ask()))["grpc-status"] == "0", "the connection goes on"


def test_a_connection_field_resets_the_stream(echo):
    _, found = raw(echo, request(1, extra=[("connection", "close")]) + request(3, ask()))
    assert [each.payload for each in found if each.stream_id == 1] == [peer.u32(peer.PROTOCOL_ERROR)]
    assert [each.kind for each in found if each.stream_id == 3] == [peer.HEADERS, peer.DATA, peer.HEADERS]


def test_a_long_header_list_resets_the_stream(echo):
    _, found = raw(echo, request(1, extra=[("x", "y" * 1000)]) + request(3, ask()), max_header_list=1000)
    assert [each.payload for each in found if each.stream_id == 1] == [peer.u32(peer.FRAME_SIZE_ERROR)]
    assert len([each for each in found if each.stream_id == 3]) == 3


def test_calls_above_the_limit_are_refused_one_by_one(echo):
    server, greeting = raw(echo, max_concurrent_streams=2)
    assert peer.setting(3, 2) in greeting[0].payload
    server.receive_data(b"".join(request(each, ask(b"wait")) for each in (1, 3, 5)), 0.0)
    found = peer.parse(server.data_to_send())
    resets = [(each.stream_id, each.payload) for each in found if each.kind == peer.RST_STREAM]
    assert resets == [(5, peer.u32(peer.REFUSED_STREAM))]
    echo.calls[0].finish()
    server.data_to_send()
    server.receive_data(request(7, ask(b"k")), 0.0)
    assert [each.stream_id for each in peer.parse(server.data_to_send())] == [7, 7, 7]


def test_the_limit_as_our_client_sees_it(echo):
    client = served(OurClient, echo, max_concurrent_streams=2)
    assert client.conn.available_streams() == 2


def test_a_request_over_the_size_limit(echo):
    client = served(OurClient, echo, max_receive_size=100)
    stream = client.call(data=ask(b"k" * 200))
    assert stream.status.code == 8
    assert (
        stream.status.message
        == f"grpc: received message larger than max ({len(ask(b'k' * 200)) - 5} vs. 100)"
    )
    assert client.call(data=ask(b"k" * 50)).status.code == 0
    assert [kind for kind, _ in echo.seen].count("message") == 1, "the large one never arrived"


def test_what_is_no_protobuf(echo):
    client = served(OurClient, echo)
    stream = client.call(data=framed(b"\xff\xff"))
    assert stream.status.code == 13
    assert stream.status.message.startswith("grpc: error unmarshalling request: ")
    stream = client.call(WATCH, framed(b"\xff\xff"), ended=False)
    assert stream.status.message.startswith("grpc: failed to unmarshal the received message: ")


# Ends.


def test_a_reset_cancels_the_call(echo):
    client = served(OurClient, echo)
    stream = client.call(data=ask(b"wait"))
    client.conn.reset_stream(stream)
    client.now = 4.0
    client.settle()
    assert ("cancel", 4.0) in echo.seen
    assert echo.calls[0].finished
    echo.calls[0].reply(pb.RangeResponse())
    echo.calls[0].finish()
    assert client.server.data_to_send() == b""


def test_a_deadline_ends_the_call_with_trailers(echo):
    client = served(OurClient, echo)
    stream = client.call(data=ask(b"wait"), timeout=b"2S")
    quick = client.call(data=ask(b"k"), timeout=b"1S")
    assert quick.status.code == 0
    assert client.server.next_timer() == 2.0, "that of the call which has ended is forgotten"
    client.server.handle_timer(1.9)
    assert not echo.calls[0].finished
    client.server.handle_timer(2.0)
    client.settle()
    assert stream.status[:2] == (4, "context deadline exceeded")
    assert ("cancel", 2.0) in echo.seen
    assert client.server.next_timer() is None


@pytest.mark.parametrize("end", ["eof", "abort"])
def test_calls_are_cancelled_with_their_connection(echo, end):
    client = served(OurClient, echo)
    client.call(data=ask(b"wait"))
    assert len(client.server.calls) == 1
    if end == "eof":
        client.server.receive_eof(5.0)
    else:
        client.server.abort(5.0)
    assert ("cancel", 5.0) in echo.seen
    assert client.server.closed
    assert client.server.calls == []
    echo.calls[0].finish()
    client.server.receive_data(request(9, ask()), 6.0)
    client.server.shutdown(6.0)
    assert client.server.data_to_send() == b""


# Flow control.


def test_big_replies_wait_for_the_clients_windows(echo):
    server, _ = raw(echo)
    server.receive_data(request(1, ask(b"big", 100_000)), 0.0)
    found = peer.parse(server.data_to_send())
    assert sum(len(each.payload) for each in found if each.kind == peer.DATA) == 65_535
    assert max(len(each.payload) for each in found) == 16_384
    assert echo.calls[0].finished
    server.receive_data(peer.frame(peer.WINDOW_UPDATE, 0, 0, peer.u32(50_000)), 0.0)
    assert server.data_to_send() == b"", "the stream has no window yet"
    server.receive_data(peer.frame(peer.WINDOW_UPDATE, 0, 1, peer.u32(50_000)), 0.0)
    found = peer.parse(server.data_to_send())
    assert [each.kind for each in found] == [peer.DATA, peer.DATA, peer.DATA, peer.HEADERS]


def test_the_backlog_is_what_waits(echo):
    server, _ = raw(echo, request(1, ask(b"wait")))
    call = echo.calls[0]
    reply = pb.RangeResponse(kvs=[pb.KeyValue(value=b"v" * 100_000)])
    call.reply(reply)
    assert call.backlog == reply.ByteSize() + 5
    server.data_to_send()
    assert call.backlog == reply.ByteSize() + 5 - 65_535
    call.finish()
    assert call.backlog == 0


def test_a_larger_initial_window_frees_what_waits(echo):
    server, _ = raw(echo, request(1, ask(b"big", 70_000)))
    more = peer.frame(peer.WINDOW_UPDATE, 0, 0, peer.u32(50_000))
    server.receive_data(more + peer.frame(peer.SETTINGS, 0, 0, peer.setting(4, 80_000)), 0.0)
    assert [each.kind for each in peer.parse(server.data_to_send())][-2:] == [peer.DATA, peer.HEADERS]


def test_replies_of_several_calls_take_turns(echo):
    server, _ = raw(echo)
    room = peer.frame(peer.WINDOW_UPDATE, 0, 0, peer.u32(1 << 20))
    server.receive_data(room + request(1, ask(b"wait")) + request(3, ask(b"wait")), 0.0)
    for call in echo.calls:
        call.reply(pb.RangeResponse(kvs=[pb.KeyValue(value=b"v" * 40_000)]))
        call.finish()
    found = [each.stream_id for each in peer.parse(server.data_to_send()) if each.kind == peer.DATA]
    assert found == [1, 3, 1, 3, 1, 3]


def test_output_comes_in_bounded_portions(echo):
    server, _ = raw(echo)
    room = peer.frame(peer.WINDOW_UPDATE, 0, 0, peer.u32(1 << 20))
    server.receive_data(room + request(1, ask(b"big", 60_000)) + request(3, ask(b"big", 60_000)), 0.0)
    first = server.data_to_send(20_000)
    assert 20_000 <= len(first) < 20_000 + 16_384 + 100
    rest = b""
    while data := server.data_to_send(20_000):
        rest += data
    assert sum(len(each.payload) for each in peer.parse(first + rest) if each.kind == peer.DATA) > 120_000


@pytest.mark.parametrize("client_class", [OurClient, H2Client])
def test_big_requests_and_replies_get_through(echo, client_class):
    client = served(client_class, echo)
    if client_class is OurClient:
        stream = client.call(data=ask(b"k" * 1_000_000, 3_000_000))
        assert stream.status.code == 0
        assert len(stream.messages[0]) > 4_000_000
        return
    key = ask(b"k" * 1_000_000, 100)
    stream_id = client.call(ended=False)
    while key:
        room = min(client.conn.local_flow_control_window(stream_id), 16_384)
        assert room, "the server gives credit"
        client.conn.send_data(stream_id, key[:room], end_stream=len(key) <= room)
        key = key[room:]
        client.settle()
        for event in client.of("DataReceived"):
            client.conn.acknowledge_received_data(event.flow_controlled_length, stream_id)
            event.flow_controlled_length = 0
    client.settle()
    assert client.of("DataReceived")


def test_windows_grow_with_what_arrives(echo):
    client = served(OurClient, echo)
    client.call(data=ask(b"k" * 1_000_000))
    assert client.conn.peer.initial_window_size > 65_535


# PINGs.


def test_a_ping_goes_out_with_the_first_data(echo):
    _, found = raw(echo, request(1, ask()))
    assert [each.payload for each in found if each.kind == peer.PING] == [PROBE]
    _, found = raw(echo, request(1, ask()), bdp_pings=False)
    assert not [each for each in found if each.kind == peer.PING]


def test_pings_are_answered_and_too_many_end_the_connection(echo):
    server, _ = raw(echo, request(1, ask(b"wait")))
    four = b"".join(peer.frame(peer.PING, 0, 0, bytes((each,)) * 8) for each in range(4))
    server.receive_data(four + request(3, ask()), 1.0)
    found = peer.parse(server.data_to_send())
    assert [each.kind for each in found] == [peer.PING] * 4 + [peer.GOAWAY]
    assert found[-1].payload == peer.u32(1) + peer.u32(peer.ENHANCE_YOUR_CALM) + b"too_many_pings"
    assert server.closed
    assert ("cancel", 1.0) in echo.seen


@pytest.mark.parametrize(
    "octets",
    [
        peer.frame(peer.PING, peer.ACK, 1, PROBE),
        peer.frame(peer.PING, peer.ACK, 0, PROBE[:7]),
        peer.frame(peer.HEADERS, 0, 1, b"\x83") + peer.frame(peer.PING, peer.ACK, 0, PROBE),
    ],
    ids=["on a stream", "too short", "amid headers"],
)
def test_an_answer_to_a_ping_where_none_is_allowed_ends_the_connection(echo, octets):
    server, found = raw(echo, octets)
    assert found[-1].kind == peer.GOAWAY
    assert server.closed


def test_answers_to_pings_say_nothing(echo):
    server, _ = raw(echo, peer.frame(peer.HEADERS, 0, 1, b"\x83") + peer.frame(peer.CONTINUATION, 4, 1, b""))
    server.receive_data(peer.frame(peer.PING, peer.ACK, 0, PROBE) * 200, 0.0)
    assert server.data_to_send() == b""
    assert not server.closed


def test_pings_after_answers_do_not_count(echo):
    server, _ = raw(echo)
    for stream_id in range(1, 21, 2):
        server.receive_data(peer.frame(peer.PING, 0, 0, b"12345678") + request(stream_id, ask()), 1.0)
        server.data_to_send()
    assert not server.closed


# Shutting down.


def test_a_graceful_stop_lets_calls_end(echo):
    client = served(OurClient, echo)
    waiting = client.call(data=ask(b"wait"))
    client.now = 1.0
    client.server.shutdown(1.0)
    client.server.shutdown(1.5)
    first = client.server.data_to_send()
    assert [(each.kind, each.payload[:8]) for each in peer.parse(first)] == [
        (peer.GOAWAY, peer.u32(2**31 - 1) + peer.u32(0)),
        (peer.PING, DRAIN_PROBE),
    ]
    crossing = client.start(data=ask(b"k"))
    client.conn.receive_data(first)
    client.settle()
    assert crossing.status.code == 0, "sent before the GOAWAY arrived"
    assert (client.conn.goaway.last_stream_id, client.conn.goaway.debug) == (3, b"graceful_stop")
    assert not client.server.closed
    echo.calls[0].finish()
    client.settle()
    assert waiting.status is not None
    assert client.server.closed


def test_a_client_that_does_not_answer_is_drained_after_a_while(echo):
    server, _ = raw(echo, request(1, ask(b"wait")))
    server.shutdown(1.0)
    server.data_to_send()
    assert server.next_timer() == 6.0
    server.handle_timer(6.0)
    found = peer.parse(server.data_to_send())
    assert [(each.kind, each.payload[:4]) for each in found] == [(peer.GOAWAY, peer.u32(1))]
    assert server.next_timer() is None
    server.receive_data(request(3, ask()), 7.0)
    assert len(echo.calls) == 1, "streams after the last are not served"
    echo.calls[0].finish()
    server.data_to_send()
    assert server.closed


def test_an_idle_connection_closes_at_the_second_goaway(echo):
    server, _ = raw(echo)
    server.shutdown(1.0)
    assert not server.closed
    server.data_to_send()
    server.receive_data(peer.frame(peer.PING, peer.ACK, 0, DRAIN_PROBE), 1.1)
    assert [each.kind for each in peer.parse(server.data_to_send())] == [peer.GOAWAY]
    assert server.closed


def test_our_idle_client_leaves_at_the_first_goaway(echo):
    client = served(OurClient, echo)
    client.server.shutdown(1.0)
    client.settle()
    assert client.conn.closed


def test_the_clients_goaway_does_not_end_its_calls(echo):
    server, _ = raw(echo, request(1, ask(b"wait")))
    server.receive_data(peer.frame(peer.GOAWAY, 0, 0, peer.u32(0) + peer.u32(0)), 1.0)
    echo.calls[0].finish()
    assert [each.kind for each in peer.parse(server.data_to_send())] == [peer.HEADERS]


# Broken clients.


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (peer.data(1, b"x"), peer.PROTOCOL_ERROR),  # idle stream
        (peer.frame(peer.SETTINGS, 0, 0, b"123"), peer.FRAME_SIZE_ERROR),
        (peer.frame(peer.DATA, 0, 1, b"x" * 16_385), peer.FRAME_SIZE_ERROR),
        (peer.frame(peer.WINDOW_UPDATE, 0, 0, peer.u32(2**31 - 1)), peer.FLOW_CONTROL_ERROR),
    ],
)
def test_a_client_that_breaks_http2_is_told_and_dropped(echo, octets, code):
    server, _ = raw(echo, request(1, ask(b"wait")) if octets[3] == peer.WINDOW_UPDATE else b"")
    server.receive_data(octets, 1.0)
    last = peer.parse(server.data_to_send())[-1]
    assert (last.kind, last.payload[4:8]) == (peer.GOAWAY, peer.u32(code))
    assert server.closed


def test_what_came_before_the_mistake_is_taken(echo):
    server = ServerConnection(echo)
    server.receive_data(PREFACE + SETTINGS + request(1, ask(b"wait")) + peer.data(5, b"x"), 1.0)
    assert [kind for kind, _ in echo.seen] == ["message", "half-close", "cancel"]


def test_no_http2_no_answer(echo):
    server = ServerConnection(echo)
    server.data_to_send()
    server.receive_data(b"GET / HTTP/1.1\r\n\r\n", 0.0)
    assert server.data_to_send() == b""
    assert server.closed
