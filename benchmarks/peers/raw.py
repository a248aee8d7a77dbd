# SPDX-License-Identifier: Apache-2.0
"""The limit: a blocking socket that sends bytes made beforehand and looks only for what ends a call.

It answers etcd's PINGs, as it must for etcd to keep the connection, and opens both flow-control windows
as far as they go at the start, so that it never has to think of them again.
"""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import struct
import sys
import time
from collections import deque
from typing import TypeVar

from serving import KEY, VALUE, Watching, arguments, serve

import purecd
from purecd.core import methods
from purecd.core.retry import call
from purecd.pb import codecs, messages
from purecd.requests import Get, Put
from purecd.wire import frames
from purecd.wire.headers import RequestHeaders
from purecd.wire.status import message_frame

T = TypeVar("T", int, bytes)

READ = 1 << 18
LARGEST = 2**31 - 1
PING = b"\0\0\x08\x06\0\0\0\0\0"
PONG = b"\0\0\x08\x06\x01\0\0\0\0"
END = b"\x01\x05"  # type HEADERS, flags END_STREAM and END_HEADERS
# Of two indexed fields, as etcd sends them, on a stream whose id begins with 0. Less than that is found in
# DATA as well, on a stream whose id has these octets.
trailers_in = re.compile(rb"\0\0\x02\x01\x05\0...[\x80-\xff][\x80-\xff]", re.DOTALL).finditer


class RawConnection:
    """One connection of HTTP/2 that knows its own bytes and nothing of etcd's."""

    def __init__(self, host: str, port: int, tls: str = "", token: bytes = b"") -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context(cafile=tls)
            context.set_alpn_protocols(["h2"])
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
        scheme = "https" if tls else "http"
        self._headers = RequestHeaders(
            scheme, f"{host}:{port}", "purecd/0", ((b"client-api-version", b"3.8"),)
        )
        self._token = token
        self.room = bytearray(1 << 20)
        self._ids = itertools.count(1, 2)
        self.sock.sendall(
            frames.PREFACE
            + frames.settings([(frames.INITIAL_WINDOW_SIZE, LARGEST)])
            + frames.window_update(0, LARGEST - frames.DEFAULT_WINDOW)
        )
        self.sock.recv(65536)
        self.sock.sendall(bytes.fromhex("000000040100000000"))  # SETTINGS ACK

    def requests(
        self, path: bytes, message: bytes, count: int, flags: int = 1, timeout: bytes = b"9999999u"
    ) -> list[tuple[bytes, bytes]]:
        """For each call the bytes to send and those that end its answer.

        Args:
            flags: 1 ends the request with its message, 0 leaves the stream open.
            timeout: in the form of grpc-timeout; b"" for none.
        """
        block = self._headers.block(path, timeout, self._token)
        data = message_frame(message)
        head = struct.pack(">HBBB", 0, len(block), 1, 4)
        body = block + struct.pack(">HBBB", 0, len(data), 0, flags)
        made = []
        for _, stream_id in zip(range(count), self._ids):
            number = struct.pack(">I", stream_id)
            made.append((head + number + body + number + data, END + number))
        return made

    def one_by_one(self, requests: list[tuple[bytes, bytes]]) -> None:
        """Send each and wait for its end."""
        send, recv = self.sock.send, self.sock.recv
        late = b""
        for request, end in requests:
            send(late + request)
            late = b""
            answer = recv(65536)
            while end not in answer:
                answer += some(recv(65536))
            if PING in answer:
                late = pongs(answer)

    def pipelined(self, requests: list[tuple[bytes, bytes]], in_flight: int) -> None:
        """Keep `in_flight` calls on their way. Their ends are counted, for they may come in any order."""
        self.one_by_one(requests[:1])  # the first answer of a connection has longer trailers
        requests = requests[1:]
        send, recv = self.sock.sendall, self.sock.recv
        bytes_of = deque(request for request, _ in requests)
        left = len(requests)
        send(b"".join([bytes_of.popleft() for _ in range(min(in_flight, left))]))
        rest = b""
        while left:
            answer = rest + some(recv(262144))
            ends = [found.end() for found in trailers_in(answer)]
            ended = len(ends)
            rest = answer[max(ends[-1] if ends else 0, len(answer) - 16) :]
            left -= ended
            more = b"".join([bytes_of.popleft() for _ in range(min(ended, len(bytes_of)))])
            if PING in answer:
                more = pongs(answer) + more
            if more:
                send(more)

    def receive_all(self, request: bytes, end: bytes, keep: bool = True) -> int:
        """Send a request and receive until its end, which is looked for in the last bytes of each read.

        Args:
            keep: put all into one buffer; else each read goes over the one before.

        Returns:
            How many bytes came.
        """
        sock, room, at, total = self.sock, self.room, 0, 0
        sock.sendall(request)
        while True:
            if keep and len(room) - at < READ:
                self.room = room + bytearray(len(room))  # only the first time
                room = self.room
            got = some(sock.recv_into(memoryview(room)[at : at + READ]))
            total += got
            last = room[at : at + got] if got < 200 else room[at + got - 200 : at + got]
            if PING in last:
                sock.sendall(pongs(bytes(last)))
            if keep:
                at += got
            if end in last:
                return total

    def message(self, size: int) -> bytes:
        """The message in the DATA frames that `receive_all` kept."""
        data, at, parts = bytes(self.room[:size]), 0, []
        while at < size:
            length = int.from_bytes(data[at : at + 3], "big")
            if data[at + 3] == 0:
                parts.append(data[at + 9 : at + 9 + length])
            at += 9 + length
        return b"".join(parts)[5:]

    def stream(self, path: bytes, message: bytes) -> None:
        """Open a stream that stays open."""
        ((request, _),) = self.requests(path, message, 1, flags=0)
        self.sock.sendall(request)


def some(received: T) -> T:
    """What came; an error at the end of the connection, where a loop would go on for ever."""
    if not received:
        raise ConnectionError("etcd closed the connection")
    return received


def pongs(answer: bytes) -> bytes:
    """Answers to all whole PINGs in `answer`."""
    parts = answer.split(PING)[1:]
    return b"".join([PONG + part[:8] for part in parts if len(part) >= 8])


def watched(connection: RawConnection, prefix: bytes):
    """Watch a prefix; yields each value, found by its length prefix and nothing else."""
    create = messages.WatchCreateRequest(key=prefix, range_end=prefix[:-1] + bytes((prefix[-1] + 1,)))
    request = messages.WatchRequest(create_request=create)
    connection.stream(b"/etcdserverpb.Watch/Watch", request.SerializeToString())
    sock = connection.sock
    sock.recv(65536)  # headers and `created` come in one go
    marks = {20: b"\x2a\x140", 100: b"\x2a\x64v"}  # by size: field 5, its length, how values begin

    def values():
        rest = b""
        while True:
            data = rest + some(sock.recv(262144))
            if PING in data:
                sock.sendall(pongs(data))
            size = 20 if marks[20] in data else 100
            before, *found = data.split(marks[size])
            if not found:
                rest = before
                continue
            last = found[-1]
            rest = marks[size] + found.pop() if len(last) < size - 1 else last[size - 1 :]
            for value in found:
                yield marks[size][2:] + value

    return values()


def login(endpoint: str, options: dict[str, str]) -> bytes:
    """A token, by way of a real client."""
    with purecd.Client(endpoint, tls=purecd.Tls(ca_cert=options["ca"])) as client:
        request = messages.AuthenticateRequest(name=options["user"], password=options["password"])
        reply = client._run(call(methods.AUTHENTICATE, request), 5.0)
        return str(reply.token).encode()


def main() -> None:
    host, port, options = arguments()
    token = b""
    if options:
        token = login(sys.argv[1], options)
    connection = RawConnection(host, port, options.get("ca", ""), token)
    made: dict[str, list[tuple[bytes, bytes]]] = {}
    bodies = {
        "get": (b"/etcdserverpb.KV/Range", codecs.encode_range(Get(KEY))),
        "put": (b"/etcdserverpb.KV/Put", codecs.encode_put(Put(KEY, VALUE))),
    }

    def prepare(work: str, count: int) -> None:
        made[work] = connection.requests(*bodies[work], count)

    def run(work: str):
        def calls(count: int, tasks: int = 1) -> None:
            requests = made.pop(work)
            assert len(requests) == count
            if tasks == 1:
                connection.one_by_one(requests)
            else:
                connection.pipelined(requests, tasks)

        return calls

    def fetch(count: int, keys: int, prefix: str = "range/") -> dict[str, float]:
        path, message = b"/etcdserverpb.KV/Range", codecs.encode_range(Get(prefix, prefix=True))
        requests = connection.requests(path, message, count)
        parse = messages.RangeResponse.FromString
        wall, cpu = time.perf_counter(), time.process_time()
        for request, end in requests:
            size = connection.receive_all(request, end)
            if not whole:
                whole.append(connection.message(size))
            assert len(parse(whole[0]).kvs) == keys
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def read_snapshot(count: int = 1, path: str = "") -> dict[str, float]:
        ((request, end),) = connection.requests(b"/etcdserverpb.Maintenance/Snapshot", b"", 1, timeout=b"")
        size = connection.receive_all(request, end, keep=False)
        # A round uses up to half of the connection's window; the octets of frame headers do not count there.
        connection.sock.sendall(frames.window_update(0, size * 99 // 100))
        return {"bytes": size, "grown": 0}

    whole: list[bytes] = []
    watching = Watching(lambda prefix: watched(RawConnection(host, port), prefix))
    serve(
        {
            "prepare": prepare,
            "range": fetch,
            "snapshot": read_snapshot,
            "get": run("get"),
            "put": run("put"),
            **watching.works(),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
