# SPDX-License-Identifier: Apache-2.0
"""One accepted socket and its `ServerConnection`: non-blocking, with TLS or without.

1. Nothing here waits. `wants` says what the selector is to wait for.
2. What could not be written yet is at most one portion; further DATA stays in its stream until the socket
   takes more. A client that provokes more replies than it reads is not read from.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from purecd.memory.connection import ServerConnection

PORTION = 65_536  # octets handed to the socket at once, and read at once
MOST_UNSENT = 65_536  # octets of replies to frames, after which nothing is read


class SocketPeer:
    """A client's socket.

    Args:
        sock: just accepted.
        tls: makes the server's side of TLS, None without it.
        connect: makes the connection, given the common name of the client's certificate and what to call
            when it has something to send.
        on_output: called with this peer then.

    Attributes:
        connection: None until the TLS handshake is done.
        ended: nothing more happens here; whoever waits for the socket is to close it.
    """

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        connect: Callable[[str, Callable[[], None]], ServerConnection],
        on_output: Callable[[SocketPeer], None],
    ) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connect = connect
        self._on_output = on_output
        self._pending = memoryview(b"")
        self._blocked = 0  # what TLS or a full socket waits for
        self.connection: ServerConnection | None = None
        self.ended = False
        self.sock: Any = sock
        if tls is None:
            self.connection = connect("", self._has_output)
        else:
            self.sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    @property
    def wants(self) -> int:
        """Events of `selectors` to wait for."""
        if self._blocked and self.connection is None:
            return self._blocked
        full = self.connection is not None and self.connection.unsent > MOST_UNSENT
        return (self._blocked & selectors.EVENT_WRITE) | (
            0 if full else selectors.EVENT_READ
        ) or self._blocked

    def receive(self, now: float) -> None:
        """Take what arrived; one portion, or the end."""
        if self.connection is None and not self._shake_hands():
            return
        connection = self.connection
        assert connection is not None
        try:
            data = self.sock.recv(PORTION)
            while data and getattr(self.sock, "pending", int)():  # decrypted: no event will tell of it
                data += self.sock.recv(PORTION)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            self._blocked |= selectors.EVENT_WRITE
            return
        except OSError:
            data = b""
        if data:
            connection.receive_data(data, now)
        else:
            connection.receive_eof(now)

    def flush(self, now: float) -> None:
        """Write as much as the socket takes, and end when the connection is done."""
        connection = self.connection
        if connection is None or self.ended:
            return
        self._blocked &= ~selectors.EVENT_WRITE
        try:
            while self._pending or self._take(connection):
                self._pending = self._pending[self.sock.send(self._pending) :]
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._blocked |= selectors.EVENT_WRITE
            return
        except OSError:
            connection.abort(now)
            self._pending = memoryview(b"")
        self.ended = connection.closed

    def close(self) -> None:
        """Close the socket."""
        self.ended = True
        with contextlib.suppress(OSError):
            self.sock.close()

    def _has_output(self) -> None:
        self._on_output(self)

    def _take(self, connection: ServerConnection) -> bool:
        self._pending = memoryview(connection.data_to_send(PORTION))
        return bool(self._pending)

    def _shake_hands(self) -> bool:
        """Go on with the TLS handshake; whether it is done."""
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._blocked = selectors.EVENT_READ
            return False
        except ssl.SSLWantWriteError:
            self._blocked = selectors.EVENT_WRITE
            return False
        except OSError:  # a client that does not trust us, or the other way round
            self.ended = True
            return False
        if self.sock.selected_alpn_protocol() != "h2":
            self.ended = True  # etcd serves nobody who does not ask for HTTP/2
            return False
        self._blocked = 0
        self.connection = self._connect(_common_name(self.sock.getpeercert()), self._has_output)
        return True


def _common_name(certificate: Any) -> str:
    for name in (certificate or {}).get("subject", ()):
        for key, value in name:
            if key == "commonName":
                return str(value)
    return ""
