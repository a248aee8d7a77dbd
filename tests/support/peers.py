# SPDX-License-Identifier: Apache-2.0
"""Small servers that break the rules, each on a free port of 127.0.0.1.

Each runs from entry to exit of its ``with`` block, and gives every connection a thread and at most
`LIFETIME` seconds.

    with Replay(recorded, cut_after=57) as peer:
        client = purecd.Client(peer.endpoint)
"""

from __future__ import annotations

import random
import socket
import threading
from types import TracebackType
from typing import Literal, TypeVar

from tests.support.proxy import close_with_reset

LIFETIME = 30.0

_Self = TypeVar("_Self", bound="Peer")


class Peer:
    """Accepts connections and lets `talk` treat each; after that the connection is closed.

    Attributes:
        port: TCP port, known from entry on.
        connections: count of connections accepted.
        received: bytes that all clients sent, as far as they were read, in order of arrival.
    """

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.received = b""
        self._lock = threading.Lock()  # guards _open and _closing
        self._open: set[socket.socket] = set()
        self._closing = False
        self._threads: list[threading.Thread] = []

    @property
    def endpoint(self) -> str:
        """Where clients connect, ``127.0.0.1:port``."""
        return f"127.0.0.1:{self.port}"

    def talk(self, client: socket.socket) -> None:
        """What this peer does with one connection, in a thread of its own."""
        raise NotImplementedError  # each peer says how

    def __enter__(self: _Self) -> _Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=type(self).__name__, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closing = True
            for end in self._open:
                _shut(end)
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept()
        self._acceptor.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with self._lock:
                if self._closing:
                    client.close()
                    return
                self._open.add(client)
            self.connections += 1
            client.settimeout(LIFETIME)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            self.talk(client)
        except OSError:  # the client left, the time is up, or the test is over
            pass
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()

    def _read(self, client: socket.socket) -> int:
        """Read once into `received`; count of bytes, 0 when the client has ended."""
        data = client.recv(65_536)
        self.received += data
        return len(data)

    def _read_all(self, client: socket.socket) -> None:
        while self._read(client):
            pass


class Silent(Peer):
    """Reads everything and never answers."""

    def talk(self, client: socket.socket) -> None:
        self._read_all(client)


class Closing(Peer):
    """Closes each connection as soon as it is there, by FIN or by RST."""

    def __init__(self, ending: Literal["fin", "rst"] = "fin") -> None:
        super().__init__()
        self._ending = ending

    def talk(self, client: socket.socket) -> None:
        if self._ending == "rst":
            close_with_reset(client)
        else:
            client.shutdown(socket.SHUT_WR)
            self._read_all(client)  # with something unread, close() would reset


class Http1(Peer):
    """An HTTP/1.1 server: answers the first bytes with 400 and closes."""

    ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbad\n"

    def talk(self, client: socket.socket) -> None:
        if self._read(client):
            client.sendall(self.ANSWER)
            client.shutdown(socket.SHUT_WR)
            self._read_all(client)


class Garbage(Peer):
    """Answers the first bytes with `size` random ones, the same for the same seed, and stays."""

    def __init__(self, seed: int, size: int = 4096) -> None:
        super().__init__()
        self.garbage = bytes(random.Random(seed).choices(range(256), k=size))

    def talk(self, client: socket.socket) -> None:
        if self._read(client):
            client.sendall(self.garbage)
            self._read_all(client)


class Replay(Peer):
    """Sends recorded bytes once the client has sent enough, perhaps not all of them.

    Args:
        recorded: what a real server sent on one connection.
        after: count of bytes to receive before the first is sent.
        cut_after: count of bytes after which the connection ends; ``None`` for all bytes and no end.
        ending: by FIN or by RST.
    """

    def __init__(
        self,
        recorded: bytes,
        *,
        after: int = 1,
        cut_after: int | None = None,
        ending: Literal["fin", "rst"] = "fin",
    ) -> None:
        super().__init__()
        self._recorded = recorded
        self._after = after
        self._cut_after = cut_after
        self._ending = ending

    def talk(self, client: socket.socket) -> None:
        missing = self._after
        while missing > 0:
            count = self._read(client)
            if count == 0:
                return
            missing -= count
        client.sendall(self._recorded[: self._cut_after])
        if self._cut_after is not None and self._ending == "rst":
            close_with_reset(client)
            return
        if self._cut_after is not None:
            client.shutdown(socket.SHUT_WR)
        self._read_all(client)


def refused_endpoint() -> str:
    """``127.0.0.1:port`` of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)  # wakes whoever reads or accepts
    except OSError:  # it was ended already
        pass
