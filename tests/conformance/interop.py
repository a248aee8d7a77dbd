# SPDX-License-Identifier: Apache-2.0
"""A small server of gRPC's interoperability service, on the h2 package, and the messages it speaks.

It knows nothing of etcd, but that it answers the greeting. Messages are encoded by hand, after
grpc/testing/messages.proto: payloads, sizes, and the status that a request asks for.

    UnaryCall              one payload of the size asked for, or the status; echoes metadata
    StreamingOutputCall    payloads of the sizes asked for; without any, nothing but the status
    StreamingInputCall     when the client has ended: the octets of all its payloads together
    FullDuplexCall         as StreamingOutputCall, for each request at once, until the client has ended
    anything else          UNIMPLEMENTED
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Union

import h2.config
import h2.connection
import h2.events

from tests.conformance.script import REPLY
from tests.support.peers import Peer

SERVICE = "/grpc.testing.TestService/"
FULL_DUPLEX = SERVICE + "FullDuplexCall"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
Field = tuple[int, Union[int, bytes]]


def encode(*fields: Field) -> bytes:
    """A protobuf message of numbers and strings of octets."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def decode(data: bytes) -> Iterator[Field]:
    """Its fields, in order."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            octet = data[at]
            at += 1
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value

    while at < len(data):
        tag = number()
        value = number()
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            yield tag >> 3, value


def simple_request(size: int, body: bytes = b"", status: tuple[int, str] | None = None) -> bytes:
    """Fields 2, 3 and 7: how large a payload is wanted, the own one, and the status wanted instead."""
    asked: list[Field] = [(7, encode((1, status[0]), (2, status[1].encode())))] if status else []
    return encode((2, size), (3, encode((2, body))), *asked)


def streaming_request(*sizes: int) -> bytes:
    return encode(*[(2, encode((1, size))) for size in sizes])


def input_request(size: int) -> bytes:
    """Field 1: a payload of so many zeros."""
    return response(size)


def aggregated_size(message: bytes) -> int:
    """Field 1 of the answer to many messages: octets of their payloads."""
    return int(dict(decode(message)).get(1, 0))


def response(size: int) -> bytes:
    """Field 1: a payload of so many zeros."""
    return encode((1, encode((2, bytes(size)))))


def body_of(message: bytes) -> bytes:
    """The octets of a response's payload."""
    payload = dict(decode(message)).get(1, b"")
    assert isinstance(payload, bytes)
    body = dict(decode(payload)).get(2, b"")
    assert isinstance(body, bytes)
    return body


def replies_to(message: bytes) -> list[bytes]:
    """What a request for streamed output is answered."""
    sizes = [dict(decode(bytes(value))).get(1, 0) for number, value in decode(message) if number == 2]
    return [response(int(size)) for size in sizes]


def framed_messages(messages: list[bytes]) -> bytes:
    return b"".join([b"\0" + len(each).to_bytes(4, "big") + each for each in messages])


def whole_messages(framed: bytearray) -> list[bytes]:
    """Take the messages that are there in whole."""
    messages = []
    while len(framed) >= 5 and len(framed) >= 5 + int.from_bytes(framed[1:5], "big"):
        size = 5 + int.from_bytes(framed[1:5], "big")
        messages.append(bytes(framed[5:size]))
        del framed[:size]
    return messages


def status_asked(fields: dict[int, Any]) -> tuple[int, str]:
    asked = dict(decode(fields.get(7, b"")))
    return int(asked.get(1, 0)), bytes(asked.get(2, b"")).decode()


def percent_encode(text: str) -> str:
    """As gRPC's protocol wants ``grpc-message``: printable ASCII but %."""
    return "".join(
        chr(each) if 32 <= each <= 126 and each != 37 else f"%{each:02X}" for each in text.encode()
    )


class Interop(Peer):
    """The server.

    Attributes:
        resets: error codes of the client's RST_STREAM, in order.
        began: count of calls that have begun, greetings aside.
        metadata: of the latest call, as it came.
        sleeping: calls get no answer.
        endless: streamed replies do not end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.resets: list[int] = []
        self.began = 0
        self.metadata: list[tuple[str, str]] = []
        self.sleeping = False
        self.endless = False

    def talk(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = Conversation(self)
        client.sendall(conversation.conn.data_to_send())
        while True:
            data = client.recv(1 << 18)
            if not data:
                return
            conversation.receive(data)
            client.sendall(conversation.conn.data_to_send())


class Conversation:
    """One connection."""

    def __init__(self, server: Interop) -> None:
        self.server = server
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.conn.initiate_connection()
        self.calls: dict[int, list[tuple[str, str]]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.leaving: dict[int, tuple[memoryview, list[tuple[str, str]] | None]] = {}

    def receive(self, data: bytes) -> None:
        events = self.conn.receive_data(data)
        over = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                self.calls[event.stream_id] = [(str(name), str(value)) for name, value in event.headers]
                self.bodies[event.stream_id] = bytearray()
            elif isinstance(event, h2.events.DataReceived):
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.bodies[event.stream_id] += event.data
                if dict(self.calls[event.stream_id])[":path"] == FULL_DUPLEX:
                    for message in whole_messages(self.bodies[event.stream_id]):
                        self.begin(event.stream_id)
                        self.put(event.stream_id, replies_to(message))
            elif isinstance(event, h2.events.StreamEnded):
                self.answer(event.stream_id, bytes(self.bodies.pop(event.stream_id)), event.stream_id in over)
            elif isinstance(event, h2.events.StreamReset):
                self.leaving.pop(event.stream_id, None)
                self.server.resets.append(int(event.error_code or 0))
        self.flush()

    def answer(self, stream_id: int, framed: bytes, over: bool) -> None:
        """A whole request has come; `over`: and was given up since."""
        head = self.calls.pop(stream_id)
        path = dict(head)[":path"]
        if path in (FULL_DUPLEX, SERVICE + "StreamingInputCall"):
            self.answer_many(stream_id, path, bytearray(framed))
            return
        assert framed[0] == 0
        assert int.from_bytes(framed[1:5], "big") == len(framed) - 5
        if path.startswith("/etcdserverpb"):
            self.send(stream_id, [REPLY], (0, ""))
            return
        self.server.began += 1
        self.server.metadata = head
        if self.server.sleeping or over:
            return
        message = framed[5:]
        fields = dict(decode(message))
        if path == SERVICE + "EmptyCall":
            self.send(stream_id, [b""], (0, ""))
        elif path == SERVICE + "UnaryCall":
            code, text = status_asked(fields)
            replies = [] if code else [response(int(fields.get(2, 0)))]
            echo = [(name, value) for name, value in head if name in (INITIAL, TRAILING)]
            self.send(stream_id, replies, (code, text), echo)
        elif path == SERVICE + "StreamingOutputCall":
            self.send(stream_id, replies_to(message), (0, ""))
        else:
            self.send(stream_id, [], (12, f"unknown method {path}"))

    def answer_many(self, stream_id: int, path: str, framed: bytearray) -> None:
        """The last of many requests has come."""
        self.server.began += 1
        messages = whole_messages(framed)
        assert not framed, "cut off"
        self.begin(stream_id)
        if path != FULL_DUPLEX:
            size = sum(len(body_of(each)) for each in messages)
            self.put(stream_id, [encode((1, size))])
        data, _ = self.leaving[stream_id]
        self.leaving[stream_id] = (data, [("grpc-status", "0")])

    def begin(self, stream_id: int) -> None:
        """Send the head of an answer whose messages come one by one."""
        if stream_id not in self.leaving:
            self.conn.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
            self.leaving[stream_id] = (memoryview(b""), None)

    def put(self, stream_id: int, messages: list[bytes]) -> None:
        """Queue messages of an answer that goes on."""
        data, trailers = self.leaving[stream_id]
        self.leaving[stream_id] = (memoryview(bytes(data) + framed_messages(messages)), trailers)

    def send(
        self,
        stream_id: int,
        messages: list[bytes],
        status: tuple[int, str],
        echo: list[tuple[str, str]] | None = None,
    ) -> None:
        """Queue an answer."""
        initial = [pair for pair in echo or [] if pair[0] == INITIAL]
        trailing = [pair for pair in echo or [] if pair[0] == TRAILING]
        head = [(":status", "200"), ("content-type", "application/grpc"), *initial]
        trailers = [("grpc-status", str(status[0])), ("grpc-message", percent_encode(status[1])), *trailing]
        self.conn.send_headers(stream_id, head)
        self.leaving[stream_id] = (
            memoryview(framed_messages(messages)),
            None if self.server.endless and len(messages) > 1 else trailers,
        )

    def flush(self) -> None:
        """Send what the client's windows allow."""
        for stream_id, (data, trailers) in list(self.leaving.items()):
            while data:
                room = min(self.conn.local_flow_control_window(stream_id), self.conn.max_outbound_frame_size)
                if not room:
                    break
                self.conn.send_data(stream_id, bytes(data[:room]))
                data = data[room:]
            if data or trailers is None:
                self.leaving[stream_id] = (data, trailers)
            else:
                del self.leaving[stream_id]
                self.conn.send_headers(stream_id, trailers, end_stream=True)
