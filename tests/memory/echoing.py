# SPDX-License-Identifier: Apache-2.0
"""A small service behind a `ServerConnection`, and two clients of it that know nothing of each other.

The service answers ``KV/Range`` with the key it was asked for, ``Watch/Watch`` with each request's key as
header, and keeps every call, so that a test can answer later. What keys ask for:

    b"wait"     no answer
    b"refuse"   status 7, "not you: 100%"
    b"big"      a value of `limit` octets
"""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events

from purecd.memory.calls import ServerCall, Status
from purecd.memory.connection import ServerConnection
from purecd.pb import messages as pb
from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection

RANGE, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"


class Echo:
    """The service; also each call's handler."""

    def __init__(self) -> None:
        self.calls: list[ServerCall] = []
        self.seen: list[tuple[str, Any]] = []

    def request_class(self, path):
        if path == RANGE:
            return pb.RangeRequest
        if path == WATCH:
            return pb.WatchRequest
        raise Status(12, f"unknown service {path.split('/')[1]}")

    def start(self, call, now):
        self.calls.append(call)
        return Answering(self, call)


class Answering:
    def __init__(self, echo, call):
        self.echo = echo
        self.call = call

    def receive(self, message, now):
        self.echo.seen.append(("message", message))
        if self.call.path == WATCH:
            self.call.reply(pb.WatchResponse(watch_id=message.create_request.watch_id))
            return
        if message.key == b"refuse":
            raise Status(7, "not you: 100%")
        if message.key != b"wait":
            value = b"v" * message.limit
            self.call.reply(pb.RangeResponse(kvs=[pb.KeyValue(key=message.key, value=value)]))
            self.call.finish()

    def half_close(self, now):
        self.echo.seen.append(("half-close", now))

    def cancel(self, now):
        self.echo.seen.append(("cancel", now))


def ask(key: bytes = b"k", limit: int = 0) -> bytes:
    """A framed Range request."""
    return framed(pb.RangeRequest(key=key, limit=limit).SerializeToString())


def framed(payload: bytes) -> bytes:
    return b"\0" + len(payload).to_bytes(4, "big") + payload


class OurClient:
    """`purecd.wire` on the other side of the connection; `settle` carries bytes until all is quiet."""

    def __init__(self, server: ServerConnection, **windows: int) -> None:
        self.server = server
        self.conn: Any = Http2Connection(**windows)
        self.heads = RequestHeaders("http", "memory", "test")
        self.now = 0.0
        self.settle()

    def settle(self) -> None:
        while True:
            up = self.conn.data_to_send()
            self.conn.data_written(len(up))
            self.server.receive_data(up, self.now)
            down = self.server.data_to_send()
            if down:
                self.conn.receive_data(down, self.now)
            if self.server.closed:
                self.conn.receive_eof("closed")
                return
            if not up and not down:
                return

    def start(
        self,
        path: str = RANGE,
        data: bytes = b"",
        *,
        ended: bool = True,
        timeout: bytes = b"",
        extra: Any = (),
    ) -> Any:
        """Begin a call without carrying bytes."""
        stream = GrpcStream(None, max_receive=1 << 26, unary=path == RANGE)
        self.conn.open_stream(stream, self.heads.block(path.encode(), timeout, b"", extra), data, ended)
        return stream

    def call(self, path: str = RANGE, data: bytes = b"", **options: Any) -> Any:
        stream = self.start(path, data, **options)
        self.settle()
        return stream


class H2Client:
    """The h2 package on the other side; `events` are all it reported, oldest first."""

    def __init__(self, server: ServerConnection) -> None:
        self.server = server
        self.conn: Any = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True, header_encoding="utf-8", validate_outbound_headers=False
            )
        )
        self.conn.initiate_connection()
        self.events: list[Any] = []
        self.now = 0.0
        self.settle()

    def settle(self) -> None:
        while True:
            up = self.conn.data_to_send()
            self.server.receive_data(up, self.now)
            down = self.server.data_to_send()
            self.events += self.conn.receive_data(down) if down else []
            if not up and not down:
                return

    def call(self, data: bytes = b"", *, ended: bool = True, **changes: str) -> int:
        """Begin a call with other header fields than usual, by name with _ for -."""
        head = {
            ":method": "POST",
            ":scheme": "http",
            ":path": changes.pop("path", RANGE),
            ":authority": "memory",
            "content-type": "application/grpc",
            "te": "trailers",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        stream_id: int = self.conn.get_next_available_stream_id()
        self.conn.send_headers(stream_id, list(head.items()), end_stream=ended and not data)
        if data:
            self.conn.send_data(stream_id, data, end_stream=ended)
        self.settle()
        return stream_id

    def of(self, kind: str, stream_id: int | None = None) -> list[Any]:
        """Events of a kind, such as ``ResponseReceived``."""
        found = [each for each in self.events if type(each).__name__ == kind]
        return [each for each in found if stream_id in (None, getattr(each, "stream_id", None))]

    def head(self, stream_id: int) -> dict[str, str]:
        """Fields of the response, trailers included."""
        events = self.of("ResponseReceived", stream_id) + self.of("TrailersReceived", stream_id)
        return {name: value for event in events for name, value in event.headers}
