# SPDX-License-Identifier: Apache-2.0
"""A client that sends whatever message it is given, good or bad, and shows what comes back.

It stands on `purecd.wire` alone: no policy, no retry, no check of arguments. One connection, one thread.
"""

from __future__ import annotations

import socket
import time
from typing import Any, NamedTuple

from purecd.pb import descriptor_pool, message_class
from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection

LARGEST = 1 << 30  # octets of a reply


class Answer(NamedTuple):
    """How a call ended: its replies, and the status, 0 being OK."""

    replies: list[Any]
    code: int
    text: str


class RawClient:
    """One connection to a server without TLS.

    Args:
        address: host and port.
        patience: seconds to wait for anything.
    """

    def __init__(self, address: tuple[str, int], patience: float = 20.0) -> None:
        self._socket = socket.create_connection(address, patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._patience = patience
        self._headers = RequestHeaders("http", f"{address[0]}:{address[1]}", "rawclient")
        self._connection = Http2Connection()
        self._flush()
        while not self._connection.ready:
            self._receive(time.monotonic() + patience)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def call(self, path: str, request: Any, token: str = "", **metadata: str) -> Answer:
        """Make a unary call, or one whose reply is a stream that ends."""
        stream = self.open(path, token=token, **metadata)
        stream.send(request, last=True)
        return stream.finish()

    def open(self, path: str, token: str = "", **metadata: str) -> RawStream:
        """Begin a call."""
        return RawStream(self, path, token, metadata)

    def _begin(self, path: str, token: str, metadata: dict[str, str]) -> GrpcStream:
        stream = GrpcStream(None, max_receive=LARGEST)
        extra = [(name.encode(), value.encode()) for name, value in metadata.items()]
        block = self._headers.block(path.encode(), token=token.encode(), extra=extra)
        self._connection.open_stream(stream, block, b"", False)
        return stream

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data:
            self._socket.sendall(data)
            self._connection.data_written(len(data))

    def _receive(self, until: float) -> None:
        """Wait for octets, until a moment at most."""
        self._flush()
        self._socket.settimeout(max(0.001, until - time.monotonic()))
        data = self._socket.recv(1 << 18)
        if not data:
            raise EOFError("the server closed the connection")
        self._connection.receive_data(data)
        self._flush()


class RawStream:
    """One call in progress.

    Attributes:
        replies: taken so far.
    """

    def __init__(self, client: RawClient, path: str, token: str, metadata: dict[str, str]) -> None:
        self.replies: list[Any] = []
        self._client = client
        self._stream = client._begin(path, token, metadata)
        self._reply_class = reply_class(path)

    def send(self, request: Any, last: bool = False) -> None:
        """Send one request message.

        Args:
            last: it is the last one.
        """
        data = request.SerializeToString()
        framed = b"\0" + len(data).to_bytes(4, "big") + data
        self._client._connection.send_data(self._stream, framed, last)
        self._client._flush()

    def half_close(self) -> None:
        """Send nothing more."""
        self._client._connection.send_data(self._stream, b"", True)
        self._client._flush()

    def reset(self) -> None:
        """Give the call up."""
        self._client._connection.reset_stream(self._stream)
        self._client._flush()

    def next(self, within: float | None = None) -> Any:
        """The next reply; None when the call ended, or when none came in time.

        Args:
            within: seconds.
        """
        until = time.monotonic() + (self._client._patience if within is None else within)
        while not self._stream.messages:
            if self._stream.status is not None:
                return None
            try:
                self._client._receive(until)
            except TimeoutError:
                return None
        self.replies.append(self._reply_class.FromString(self._stream.messages.popleft()))
        return self.replies[-1]

    def finish(self) -> Answer:
        """Wait for the end of the call."""
        while self.next() is not None:
            pass
        status = self._stream.status
        if status is None:
            raise TimeoutError("the call did not end")
        return Answer(self.replies, int(status.code), status.message)


def reply_class(path: str) -> Any:
    """Class of the replies of an RPC."""
    _, service, method = path.split("/")
    descriptor = descriptor_pool().FindServiceByName(service).methods_by_name[method]
    return message_class(descriptor.output_type.full_name)
