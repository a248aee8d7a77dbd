# SPDX-License-Identifier: Apache-2.0
"""Sockets of the blocking front: dialling without blocking, and waiting for several at once.

Only what gevent patches is used: `socket`, `select`, `threading`.

To wait for one socket alone `wait_briefly` takes one system call where polling and reading take two. For
that the kernel's side of the socket blocks, for no more than 20 ms, and all else is told not to.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import sys
import threading
from typing import Any

from purecd.core.endpoints import Address

READ, WRITE = 1, 2

_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK))
RECEIVE_SIZE = 64 * 1024
"""Octets read at once. Python allocates them for each read; 256 KiB cost 20 us more by one_caller.py."""
LARGE_SIZE = 128 * 1024
"""Octets read at once where the last read brought `RECEIVE_SIZE` or more. PINGs are answered octet for
octet, so a read and a calm backlog bound what may wait for a peer that takes nothing; twice as much made a
range of 10 MiB quicker by 2 %."""
BRIEF = 0.02
"""Seconds that `wait_briefly` lasts at most: nothing but bytes of the peer and signals can end it sooner."""
# Elsewhere MSG_DONTWAIT is unknown or not obeyed, or signals are handled at other moments.
_CAN_WAIT_BRIEFLY = sys.platform == "linux" and sys.implementation.name == "cpython"
_NOW = socket.MSG_DONTWAIT if _CAN_WAIT_BRIEFLY else 0
_USUAL, _LARGE = (RECEIVE_SIZE,), (LARGE_SIZE,)
CALM_BACKLOG = 64 * 1024
"""Octets that may wait for the socket before a link is not read any more."""


class Transport:
    """One socket, dialled without blocking, with what the kernel did not take yet.

    A name is resolved by a thread of its own, since there is no other way to give up on it; an
    address literal is not. Each of a name's addresses is tried in turn.
    """

    def __init__(self, address: Address, user_timeout: float) -> None:
        self.address = address
        self.sock: socket.socket | None = None
        self.connected = False
        self.backlog: bytes | memoryview = b""
        self.closed = False
        self.error: OSError | None = None
        self.brief = False  # whether `wait_briefly` may be used
        self.inbox: list[bytes] = []  # what that read
        self._sizes = _USUAL  # of the next read
        self._failure: OSError | None = None  # how that ended
        self._user_timeout = user_timeout
        self._targets: list[tuple[int, Any]] = []
        self._resolved = threading.Event()
        self.resolving = False

    def dial(self, wake: Any) -> None:
        """Start connecting; `wake` is called from another thread when a name is resolved."""
        address = self.address
        if address.path:
            self._targets = [(socket.AF_UNIX, address.path)]
        else:
            if address.port is None:
                raise OSError(f"endpoint {address.text} has no port")
            literal = _literal(address.host, address.port)
            if literal is None:
                self.resolving = True
                threading.Thread(
                    target=self._resolve, args=(wake,), daemon=True, name="purecd-resolve"
                ).start()
                return
            self._targets = [literal]
        self._next_target()

    def _resolve(self, wake: Any) -> None:
        try:
            found = socket.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
            self._targets = [(family, target) for family, _, _, _, target in found]
        except OSError as error:
            self.error = error
        except UnicodeError as error:
            self.error = OSError(f"{self.address.host!r} is no host name: {error}")
        self._resolved.set()
        wake()

    def resolved(self) -> bool:
        """Go on after the name was resolved; whether it was by now. Raises OSError."""
        if not self._resolved.is_set():
            return False
        self.resolving = False
        if self.error is not None:
            raise self.error
        self._next_target()
        return True

    def _next_target(self) -> None:
        """Start connecting to the next address; raises the last error when there is none left."""
        while True:
            if not self._targets:
                raise self.error or OSError(f"{self.address.text} has no address")
            family, target = self._targets.pop(0)
            try:
                self.sock = sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = sock.connect_ex(target)
                if code in (0, *_PROGRESS):
                    return
                raise OSError(code, _reason(code))
            except OSError as error:
                self.error = error
                self._shut()

    def finish_dial(self) -> bool:
        """The socket became writable: whether it is connected. Raises OSError when none connects."""
        assert self.sock is not None
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.error = OSError(code, _reason(code))
            self._shut()
            self._next_target()
            return False
        try:
            self.sock.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return False
            raise
        self.connected = True
        # gevent's sockets are of its own class and never block; all of the thread would stand still.
        if _CAN_WAIT_BRIEFLY and type(self.sock).__module__ == "socket":
            self.sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, int(BRIEF * 1e6))
            )
            self.sock.setblocking(True)
            self.brief = True
        return True

    def send(self, data: bytes) -> int:
        """Hand bytes to the kernel after those that wait; how many octets it took."""
        sock = self.sock
        if sock is None:
            raise OSError(errno.ENOTCONN, "the connection was closed")
        waiting: bytes | memoryview = data
        if self.backlog:
            waiting = b"".join((self.backlog, data)) if data else self.backlog
        try:
            sent = sock.send(waiting, _NOW)
        except (BlockingIOError, InterruptedError):
            sent = 0
        # A view: what waits is not copied each time the kernel takes some of it.
        self.backlog = memoryview(waiting)[sent:] if sent < len(waiting) else b""
        return sent

    def receive(self) -> bytes | None:
        """Bytes that are there, b"" at the end, None when there are none yet. Raises OSError."""
        if self.inbox:
            data = self.inbox.pop()
        elif self._failure is not None:
            raise self._failure
        elif self.sock is None:
            return None
        else:
            try:
                data = self.sock.recv(self._sizes[0], _NOW)
            except (BlockingIOError, InterruptedError):
                return None
        self._sizes = _LARGE if len(data) >= RECEIVE_SIZE else _USUAL
        return data

    def wait_briefly(self) -> bool:
        """Wait up to `BRIEF` for bytes; whether there is something to `receive`."""
        sock = self.sock
        if sock is None:
            return False
        try:
            # Read and kept without a bytecode between, where a signal's handler could lose the bytes.
            self.inbox.extend(map(sock.recv, self._sizes))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno is None:
                raise  # a TimeoutError of a signal's handler
            self._failure = error
        return True

    def fileno(self) -> int:
        """The socket's descriptor, -1 without one."""
        return self.sock.fileno() if self.sock is not None else -1

    def _shut(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self._shut()


def _literal(host: str, port: int) -> tuple[int, Any] | None:
    """Family and target of an IP literal, None for a name."""
    # As octets: of text Python makes them with a codec, whose tables take 2 ms to load.
    octets = host.encode("ascii") if host.isascii() else host
    try:
        found = socket.getaddrinfo(octets, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return found[0][0], found[0][4]


def text_of(error: OSError) -> str:
    """What went wrong, in the system's words."""
    return error.strerror or str(error)


def _reason(code: int) -> str:
    import os

    return os.strerror(code)


class Poller:
    """Waits until one of several sockets can be read or written."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}
        self._poll = select.poll() if hasattr(select, "poll") else None

    def watch(self, fd: int, wanted: int) -> None:
        """Wait for `wanted` (READ, WRITE or both) on a descriptor."""
        if self._wanted.get(fd) == wanted:
            return
        if self._poll is not None:
            mask = (select.POLLIN if wanted & READ else 0) | (select.POLLOUT if wanted & WRITE else 0)
            self._poll.register(fd, mask)
        self._wanted[fd] = wanted

    def forget(self, fd: int) -> None:
        """Wait for nothing on a descriptor."""
        if self._poll is not None:
            try:
                self._poll.unregister(fd)
            except KeyError:
                pass  # it was not waited for
        self._wanted.pop(fd, None)

    def known(self) -> list[int]:
        """The descriptors waited for."""
        return list(self._wanted)

    def wait(self, timeout: float | None) -> list[int]:
        """Descriptors that are ready, also those with an error; empty when the time is over.

        Args:
            timeout: seconds, None for no limit.
        """
        if self._poll is not None:
            milliseconds = None if timeout is None else max(0, int(timeout * 1000 + 0.999))
            return [fd for fd, _ in self._poll.poll(milliseconds)]
        readers = [fd for fd, wanted in self._wanted.items() if wanted & READ]
        writers = [fd for fd, wanted in self._wanted.items() if wanted & WRITE]
        readable, writable, broken = select.select(readers, writers, writers, timeout)
        return list({*readable, *writable, *broken})
