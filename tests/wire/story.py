# SPDX-License-Identifier: Apache-2.0
"""Stories recorded from real etcd and the player that acts them out again."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection
from purecd.wire.status import message_frame

STORIES = pathlib.Path(__file__).parent / "stories"


def load(path: pathlib.Path) -> dict[str, Any]:
    story: dict[str, Any] = json.loads(path.read_text())
    return story


def joined(message: Sequence[tuple[str, int]]) -> bytes:
    return b"".join(bytes.fromhex(octets) * times for octets, times in message)


class Player:
    """One connection to which the steps of a story happen.

    Args:
        use_tls: the scheme is https.
        cut: octets per piece in which received chunks are fed, 0 for whole chunks.
    """

    def __init__(self, use_tls: bool, cut: int = 0) -> None:
        self.conn = Http2Connection()
        self.headers = RequestHeaders("https" if use_tls else "http", "etcd.example:2379", "purecd/0")
        self.calls: list[GrpcStream] = []
        self.sent = b""
        self.cut = cut

    def take_output(self) -> bytes:
        data = self.conn.data_to_send()
        self.conn.data_written(len(data))
        self.sent += data
        return data

    def play(self, step: Sequence[Any]) -> None:
        kind, *rest = step
        if kind == "open":
            path, message, end_stream = rest
            stream = GrpcStream(None, max_receive=1 << 20, unary=end_stream)
            data = message_frame(joined(message)) if end_stream else b""
            self.conn.open_stream(stream, self.headers.block(path.encode()), data, end_stream)
            self.calls.append(stream)
        elif kind == "send":
            number, message, end_stream = rest
            self.conn.send_data(self.calls[number], message_frame(joined(message)), end_stream)
        elif kind == "reset":
            self.conn.reset_stream(self.calls[rest[0]])
        elif kind == "eof":
            self.conn.receive_eof("end of file")
        else:
            self.feed(bytes.fromhex(rest[0]))

    def feed(self, data: bytes) -> None:
        size = self.cut or len(data)
        for start in range(0, len(data), size):
            self.conn.receive_data(data[start : start + size])

    def outcome(self) -> list[dict[str, Any]]:
        """What became of each call, in the form that a story stores."""
        return [
            {
                "messages": [message.hex() for message in stream.messages],
                "status": None if stream.status is None else [int(stream.status.code), *stream.status[1:]],
            }
            for stream in self.calls
        ]
