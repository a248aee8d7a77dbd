# SPDX-License-Identifier: Apache-2.0
"""A small server for unit tests of the fronts: it answers every unary call with the same good reply.

While `holding`, calls after the greeting get no answer until `release`. It knows frames and header
blocks, by the octets of `tests.wire.peer` and the hpack package, and nothing of etcd.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Callable

from hpack import Decoder

from tests.support.peers import Peer
from tests.wire import peer as octets

PREFACE = 24
REPLY = bytes.fromhex("0a06 0801 1002 1805")  # field 1, the header: cluster 1, member 2, revision 5


class Answering(Peer):
    """Answers `Range`, `Put` and the like.

    Attributes:
        paths: of all calls but the greetings, in order.
        resets: ids of streams that the client reset.
        pings: count of PINGs, all of which are answered.
        ended: ports of the client whose connections it ended, in order.
        ports: the client's port of every connection, in order.
        holding: whether calls are left without an answer; the greeting is always answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.resets: list[int] = []
        self.pings = 0
        self.ended: list[int] = []
        self.ports: list[int] = []
        self.holding = False
        self._held: list[tuple[socket.socket, int]] = []
        self._sending = threading.Lock()  # guards _held, and keeps answers whole

    def release(self) -> None:
        """Answer what was held, and what comes from now on."""
        with self._sending:
            self.holding = False
            for client, stream_id in self._held:
                try:
                    client.sendall(octets.answer(stream_id, REPLY))
                except OSError:
                    pass  # the client ended that connection
            self._held = []

    def hang_up(self) -> None:
        """End every connection."""
        with self._lock:
            for client in self._open:
                client.shutdown(socket.SHUT_RDWR)

    def talk(self, client: socket.socket) -> None:
        decoder = Decoder()
        port = client.getpeername()[1]
        self.ports.append(port)
        received = b""
        client.sendall(octets.frame(octets.SETTINGS, 0, 0))
        while True:
            data = client.recv(65_536)
            if not data:
                self.ended.append(port)
                return
            received += data
            if not received.startswith(b"PRI"):
                raise OSError("no preface")
            whole = received[PREFACE:]
            taken = 0
            while len(whole) - taken >= 9:
                size = 9 + int.from_bytes(whole[taken : taken + 3], "big")
                if len(whole) - taken < size:
                    break
                self._frame(client, decoder, octets.parse(whole[taken : taken + size])[0])
                taken += size
            received = received[:PREFACE] + whole[taken:]

    def _frame(self, client: socket.socket, decoder: Decoder, frame: octets.Frame) -> None:
        if frame.kind == octets.SETTINGS and not frame.flags & octets.ACK:
            self._send(client, octets.frame(octets.SETTINGS, octets.ACK, 0))
        elif frame.kind == octets.PING and not frame.flags & octets.ACK:
            self.pings += 1
            self._send(client, octets.frame(octets.PING, octets.ACK, 0, frame.payload))
        elif frame.kind == octets.RST_STREAM:
            self.resets.append(frame.stream_id)
        elif frame.kind == octets.HEADERS:
            path = dict(decoder.decode(frame.payload, raw=True))[b":path"]
            if frame.stream_id > 1:
                self.paths.append(path.rpartition(b"/")[2].decode())
        if frame.kind in (octets.DATA, octets.HEADERS) and frame.flags & octets.END_STREAM:
            with self._sending:
                if self.holding and frame.stream_id > 1:
                    self._held.append((client, frame.stream_id))
                else:
                    client.sendall(octets.answer(frame.stream_id, REPLY))

    def _send(self, client: socket.socket, data: bytes) -> None:
        with self._sending:
            client.sendall(data)


class Deaf(Peer):
    """Greets, opens all windows, and then talks without ever reading.

    Attributes:
        ended: the client's connection is gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def talk(self, client: socket.socket) -> None:
        open_windows = octets.setting(4, 2**31 - 1)
        client.sendall(octets.frame(octets.SETTINGS, 0, 0, open_windows))
        client.sendall(octets.frame(octets.WINDOW_UPDATE, 0, 0, octets.u32(2**31 - 1 - 65_535)))
        while b"Range" not in client.recv(65_536):
            pass
        client.sendall(octets.answer(1, REPLY))
        try:
            while True:
                client.sendall(octets.frame(octets.PING, 0, 0, b"12345678"))
                time.sleep(0.005)
        except OSError:
            self.ended = True


class Loud(Peer):
    """Greets, and answers the first call with PINGs and a message that comes octet by octet. It never reads.

    Attributes:
        stalled: the client has stopped reading, too: for half a second it took nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stalled = False

    def talk(self, client: socket.socket) -> None:
        client.sendall(octets.frame(octets.SETTINGS, 0, 0))
        received = b""
        while b"Range" not in received:
            received += client.recv(65_536)
        client.sendall(octets.answer(1, REPLY))
        while b"\0\1\0\0\0\3" not in received:  # DATA that ends stream 3
            received += client.recv(65_536)
        client.sendall(octets.headers(3) + octets.data(3, b"\0" + octets.u32(1 << 21)))
        turn = octets.frame(octets.PING, 0, 0, b"12345678") * 9 + octets.data(3, b"x")
        client.settimeout(0.5)
        try:
            while True:
                client.sendall(turn * 400)
        except socket.timeout:
            self.stalled = True
            client.settimeout(None)
            while client.recv(65_536):
                pass


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is true, and fail when it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.005)


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/dev/fd"))
