# SPDX-License-Identifier: Apache-2.0
"""What one unary call costs in `purecd.wire`, both directions, and how h2 compares.

Per call: encode the header block, open the stream, fetch the octets, receive one chunk of
WINDOW_UPDATE, PING, HEADERS, DATA and trailers as etcd sends them, take message and status.
Prints microseconds per call and the ratio to the h2 package doing the same.
"""

from __future__ import annotations

import sys
import time

import h2.config
import h2.connection
import h2.events

from purecd.wire import frames
from purecd.wire.frames import pack_head
from purecd.wire.grpc import GrpcStream
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection
from purecd.wire.status import encode_timeout, message_frame

REQUEST = b"\x0a\x0bjobs/000001"
REPLY = message_frame(b"\x0a\x14" + bytes(20))
# What etcd's encoder writes first, and from then on as indexed fields.
FIRST_HEADERS = b"\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64"
FIRST_TRAILERS = (
    b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30\x40\x89\x9a\xca\xc8\xb5\x25\x42\x07\x31\x7f\x00"
)
HEADERS, TRAILERS = b"\x88\xc0", b"\xbf\xbe"


def reply(stream_id: int, headers: bytes, trailers: bytes) -> bytes:
    """One chunk with the whole answer of etcd to a unary call."""
    return b"".join(
        (
            frames.window_update(0, 20),
            frames.ping(b"\2\4\x10\x10\x09\x0e\7\7"),
            pack_head(len(headers) << 8 | frames.HEADERS, frames.END_HEADERS, stream_id) + headers,
            frames.data_frame(stream_id, REPLY, False),
            pack_head(len(trailers) << 8 | frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id),
            trailers,
        )
    )


def chunks(count: int) -> list[bytes]:
    return [reply(1, FIRST_HEADERS, FIRST_TRAILERS)] + [
        reply(number * 2 + 1, HEADERS, TRAILERS) for number in range(1, count)
    ]


def measure_purecd(count: int) -> float:
    answers = chunks(count)
    conn = Http2Connection()
    conn.receive_data(frames.settings(()))
    conn.data_written(len(conn.data_to_send()))
    request_headers = RequestHeaders("http", "127.0.0.1:2379", "purecd/0", ((b"client-api-version", b"3.5"),))
    path = b"/etcdserverpb.KV/Range"
    started = time.perf_counter()
    for answer in answers:
        stream = GrpcStream(None, max_receive=1 << 28, unary=True)
        block = request_headers.block(path, encode_timeout(4.9))
        conn.open_stream(stream, block, message_frame(REQUEST), True)
        conn.data_written(len(conn.data_to_send()))
        conn.receive_data(answer)
        conn.active = []
        status = stream.status
        if status is None or status.code or len(stream.messages[0]) != 22:
            raise AssertionError(status)
    return (time.perf_counter() - started) / count * 1e6


def measure_h2(count: int) -> float:
    answers = chunks(count)
    config = h2.config.H2Configuration(client_side=True, header_encoding=None)
    conn = h2.connection.H2Connection(config)
    conn.initiate_connection()
    conn.receive_data(frames.settings(()))
    conn.data_to_send()
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/etcdserverpb.KV/Range"),
        (b":authority", b"127.0.0.1:2379"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"purecd/0"),
        (b"client-api-version", b"3.5"),
    ]
    started = time.perf_counter()
    for answer in answers:
        stream_id = conn.get_next_available_stream_id()
        conn.send_headers(stream_id, [*fields, (b"grpc-timeout", encode_timeout(4.9))])
        conn.send_data(stream_id, message_frame(REQUEST), end_stream=True)
        conn.data_to_send()
        for event in conn.receive_data(answer):
            if isinstance(event, h2.events.DataReceived):
                conn.acknowledge_received_data(event.flow_controlled_length, stream_id)
    return (time.perf_counter() - started) / count * 1e6


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    ours = min(measure_purecd(count) for _ in range(5))
    theirs = min(measure_h2(max(count // 10, 1)) for _ in range(3))
    print(f"purecd.wire {ours:.2f} us per unary call; h2 {theirs:.1f} us; ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
