# SPDX-License-Identifier: Apache-2.0
"""What does the structure cost? A blocking `get` beside a raw socket that sends the same bytes.

Both talk to the same etcd in alternating rounds; the raw side sends requests made beforehand
and only looks for the end of each answer. Prints microseconds per call and their ratios.
"""

from __future__ import annotations

import argparse
import functools
import socket
import statistics
import struct
import time
from typing import Callable

import purecd
from purecd.pb import codecs
from purecd.requests import Get
from purecd.testing import EtcdServer
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection
from purecd.wire.status import message_frame


class RawSocket:
    """Requests of `get` as bytes, sent and answered without any protocol."""

    def __init__(self, host: str, port: int, key: bytes) -> None:
        headers = RequestHeaders("http", f"{host}:{port}", "purecd/0.1.0", ((b"client-api-version", b"3.8"),))
        block = headers.block(b"/etcdserverpb.KV/Range", b"9999999u")
        data = message_frame(codecs.encode_range(Get(key)))
        self._head = struct.pack(">HBBB", 0, len(block), 1, 4)
        self._body = block + struct.pack(">HBBB", 0, len(data), 0, 1)
        self._data = data
        self._id = 1
        self._sock = socket.create_connection((host, port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(Http2Connection().data_to_send())
        self._sock.recv(65536)
        self._sock.sendall(bytes.fromhex("000000040100000000"))  # SETTINGS ACK

    def requests(self, count: int) -> list[tuple[bytes, bytes]]:
        """Bytes to send and bytes that end the answer, made before the clock runs."""
        made = []
        for _ in range(count):
            number = struct.pack(">I", self._id)
            made.append((self._head + number + self._body + number + self._data, b"\x01\x05" + number))
            self._id += 2
        return made

    def run(self, requests: list[tuple[bytes, bytes]]) -> None:
        """Send each and wait for its end; the server's PINGs are answered like the client does."""
        send, recv = self._sock.send, self._sock.recv
        late = b""
        for request, end in requests:
            send(late + request)
            late = b""
            answer = recv(65536)
            while end not in answer:
                answer += recv(65536)
            ping = answer.find(b"\0\0\x08\x06\0\0\0\0\0")
            if ping >= 0:
                late = b"\0\0\x08\x06\x01\0\0\0\0" + answer[ping + 9 : ping + 17]


def measure(work: Callable[[], None], calls: int) -> tuple[float, float]:
    """Microseconds of wall and of CPU per call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    with EtcdServer() as server:
        host, port = server.endpoint.rpartition("/")[2].split(":")
        with purecd.Client(server.endpoint) as client:
            client.put("greeting", "hello")
            raw = RawSocket(host, int(port), b"greeting")

            def gets() -> None:
                for _ in range(options.calls):
                    client.get("greeting")

            gets()
            raw.run(raw.requests(options.calls))
            rounds = []
            for _ in range(options.rounds):
                requests = raw.requests(options.calls)
                rounds.append(
                    (
                        measure(gets, options.calls),
                        measure(functools.partial(raw.run, requests), options.calls),
                    )
                )
    ours = [each[0] for each in rounds]
    theirs = [each[1] for each in rounds]
    for name, at in (("wall", 0), ("cpu", 1)):
        mine = statistics.median(each[at] for each in ours)
        bare = statistics.median(each[at] for each in theirs)
        ratio = statistics.median(a[at] / b[at] for a, b in rounds)
        print(f"{name}: purecd {mine:.1f} us, raw socket {bare:.1f} us, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
