# SPDX-License-Identifier: Apache-2.0
"""gRPC's interoperability cases of many requests in one call (G12, G14, G15), on the wire alone.

No call of etcd's ends its requests and then waits for the answer, so neither front has a way to do it;
their watches and keep-alives end by being reset. The wire below them can, over a socket of 127.0.0.1.

Source: grpc/grpc doc/interop-test-descriptions.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

import pytest

from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection
from purecd.wire.status import message_frame
from tests.conformance.interop import (
    SERVICE,
    Interop,
    aggregated_size,
    body_of,
    encode,
    input_request,
    streaming_request,
)

ELSEWHERE = os.environ.get("INTEROP_SERVER")  # as in test_interop.py
PATIENCE = 20.0
REQUESTS = (27_182, 8, 1_828, 45_904)
REPLIES = (31_415, 9, 2_653, 58_979)
OK = (0, "", "trailers")


class Conversation:
    """One call of many requests.

    Args:
        at_once: octets read from the socket at a time.
    """

    def __init__(self, sock: socket.socket, method: str, at_once: int, unary: bool) -> None:
        self._socket = sock
        self._at_once = at_once
        self.conn = Http2Connection()
        self._exchange(lambda: self.conn.ready)
        self.stream = GrpcStream(None, max_receive=1 << 20, unary=unary)
        block = RequestHeaders("http", "127.0.0.1", "test").block((SERVICE + method).encode(), b"20S")
        self.conn.open_stream(self.stream, block, b"", False)

    def send(self, message: bytes) -> None:
        self.conn.send_data(self.stream, message_frame(message))
        self._flush()

    def end(self) -> None:
        """Say that no request will follow."""
        self.conn.send_data(self.stream, b"", True)
        self._flush()

    def read(self) -> bytes | None:
        """The next reply, None when there is none after it; the one of a unary call when that has ended."""
        stream = self.stream
        self._exchange(lambda: stream.status is not None or bool(stream.messages and not stream.unary))
        if not stream.messages:
            return None
        message = stream.messages[0]
        del stream.messages[0]
        return bytes(message)

    def _exchange(self, done: Callable[[], bool]) -> None:
        self._flush()
        while not done():
            octets = self._socket.recv(self._at_once)
            assert octets, "the server ended the connection"
            self.conn.receive_data(octets)
            self._flush()

    def _flush(self) -> None:
        octets = self.conn.data_to_send()
        self._socket.sendall(octets)
        self.conn.data_written(len(octets))


@pytest.fixture
def endpoint() -> Iterator[str]:
    with Interop() as server:
        yield ELSEWHERE or server.endpoint


@contextmanager
def talking(endpoint: str, method: str, at_once: int, *, unary: bool = False) -> Iterator[Conversation]:
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as sock:
        yield Conversation(sock, method, at_once, unary)


pieces = pytest.mark.parametrize("at_once", [1 << 16, 61])


@pieces
def test_g12_client_streaming(endpoint: str, at_once: int) -> None:
    with talking(endpoint, "StreamingInputCall", at_once, unary=True) as call:
        for size in REQUESTS:
            call.send(input_request(size))
        call.end()
        reply = call.read()
        assert reply is not None
        assert aggregated_size(reply) == sum(REQUESTS) == 74_922
        assert call.read() is None
        assert call.stream.status == OK


@pieces
def test_g14_ping_pong(endpoint: str, at_once: int) -> None:
    with talking(endpoint, "FullDuplexCall", at_once) as call:
        for size, wanted in zip(REQUESTS, REPLIES):
            call.send(streaming_request(wanted) + encode((3, encode((2, bytes(size))))))
            reply = call.read()
            assert reply is not None
            assert len(body_of(reply)) == wanted
            assert call.stream.status is None, "it goes on"
        call.end()
        assert call.read() is None
        assert call.stream.status == OK


def test_g15_empty_stream(endpoint: str) -> None:
    with talking(endpoint, "FullDuplexCall", 1 << 16) as call:
        call.end()
        assert call.read() is None
        assert call.stream.status == OK
