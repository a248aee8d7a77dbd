# SPDX-License-Identifier: Apache-2.0
"""An etcd in memory behind a listening socket.

1. One daemon thread owns everything: sockets, connections, the member. Other threads hand it functions to
   run there, and wait for their end.
2. A stopped or killed server keeps its data and its address, as the process of an etcd would on its disk; its
   simple tokens are lost. While it is down, connecting is refused.
3. A paused server does nothing at all, while clocks go on.
4. An error in this code ends the server, as a crash would, and is raised by whatever is called next.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from random import Random
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from purecd.memory.connection import UNLIMITED, ServerConnection
from purecd.memory.journal import Journal
from purecd.memory.log import Solo
from purecd.memory.loop import Loop
from purecd.memory.member import Member, MemberOptions
from purecd.memory.sockets import SocketPeer

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

DRAIN_TIMEOUT = 1.0  # seconds; etcd's is 7, which keeps each restart waiting where a client is connected
_BACKLOG = 128
_Self = TypeVar("_Self", bound="MemoryEtcd")


class MemoryEtcd:
    """An etcd in memory, one member, served over gRPC on 127.0.0.1 or a unix socket.

    It is for tests, examples and places without the etcd program, and no replacement for that: nothing is
    written to disk, it is alone, and it is as quick as Python is. What differs is listed in docs/memory.md.

    As a context manager it starts on entry and is closed on exit. All times are seconds.

    Args:
        name: the member's name.
        options: what an etcd is started with flags for, such as ``MemberOptions(auth_token_ttl=3)``.
        tls: serve TLS with it; HTTP/2 is added to what it offers. When it asks for client certificates, their
            common name is the user's, as with etcd's ``--client-cert-auth``.
        unix_path: listen there instead of on a free port.
        drain_timeout: how long calls and watches may go on after `stop`; with etcd it is 7 s, which every
            restart takes while a watch is open.
        max_concurrent_streams: calls at once on one connection; more are refused.
        seed: for ids and tokens, so that they are the same in every run.

    Attributes:
        version: of the etcd that it behaves like, such as ``(3, 5, 30)``.
        client_port: TCP port, the same for its whole life; 0 with a unix socket.
        member: what answers; look at it only while the server is stopped or paused.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        options: MemberOptions | None = None,
        tls: ssl.SSLContext | None = None,
        unix_path: str | os.PathLike[str] | None = None,
        drain_timeout: float = DRAIN_TIMEOUT,
        max_concurrent_streams: int = UNLIMITED,
        seed: int | None = None,
    ) -> None:
        self.name = name
        self.options = options or MemberOptions()
        major, minor, patch = (int(part) for part in self.options.version.split("."))
        self.version = (major, minor, patch)
        self.client_port = 0
        self.unix_path = os.path.abspath(unix_path) if unix_path is not None else None
        self.drain_timeout = drain_timeout
        self._max_streams = max_concurrent_streams
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._rng = Random(seed)
        self._ids = self._rng.getrandbits(63), self._rng.getrandbits(63)
        self._term = 1
        self._journal = Journal()
        self._owner = os.getpid()
        self._closed = False
        self._loop: Loop | None = None
        self._holder: socket.socket | None = self._take_address()  # bound, not listening
        self.member = self._new_member()

    # What it is.

    @property
    def endpoint(self) -> str:
        """For a client, such as ``http://127.0.0.1:12379``."""
        if self.unix_path is not None:
            return f"{'unixs' if self._tls else 'unix'}://{self.unix_path}"
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def endpoints(self) -> list[str]:
        """`endpoint` in a list."""
        return [self.endpoint]

    @property
    def running(self) -> bool:
        """Whether it serves, or is paused."""
        return self._loop is not None and self._loop.alive

    def __repr__(self) -> str:
        return f"<etcd in memory {self.name} at {self.endpoint}{'' if self.running else ', not running'}>"

    def log_tail(self, lines: int = 30) -> str:
        """The last requests and how those ended that did not end well, one a line, times in seconds."""
        return self._journal.tail(lines)

    # What it does.

    def start(self) -> None:
        """Serve; returns when clients can connect.

        Raises:
            RuntimeError: it is running, closed, or came to grief before.
            OSError: another process took its address while it was down.
        """
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        if self.running:
            raise RuntimeError(f"{self!r} is running")
        self._end(None)
        now = time.monotonic()
        if self._term > 1:
            before = self.member.copy_state()
            self.member = self._new_member()
            self.member.load_state(before, now)
        self._term += 1
        self.member.promote(now)
        self._journal.add(now, "-- started")
        listener, self._holder = self._holder or self._take_address(), None
        listener.listen(_BACKLOG)
        self._loop = Loop(listener, self.member, self._accept, self.drain_timeout)

    def stop(self, timeout: float = 15.0) -> None:
        """End in order, as etcd does at SIGTERM; nothing happens when it is not running.

        Calls and watches may go on for `drain_timeout`, or until their clients have left.

        Raises:
            TimeoutError: it was still there after `timeout` seconds, and was killed.
        """
        self.terminate()
        if not self._end(timeout):
            self.kill()
            raise TimeoutError(f"{self!r} still ran {timeout:g} s after it was told to stop")

    def terminate(self) -> None:
        """Begin to stop without waiting for the end; a paused server is resumed for it."""
        if self._loop is not None:
            self._loop.resume()
            self._loop.do(self._loop.drain)

    def kill(self) -> None:
        """End at once; connections break. Nothing happens when it is not running."""
        if self._loop is not None:
            self._loop.kill()
        self._end(None)

    def restart(self) -> None:
        """Stop in order and start again, at the same address with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers. Returns when it stands still."""
        if self._loop is None or not self._loop.alive:
            raise RuntimeError(f"{self!r} is not running")
        self._loop.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._loop is not None:
            self._loop.resume()

    def wipe(self) -> None:
        """Forget the data of a server that is not running."""
        if self.running:
            raise RuntimeError(f"{self!r} is running")
        self._end(None)
        self._term = 1
        self.member = self._new_member()

    def close(self) -> None:
        """Kill it and give its address back.

        Raises:
            RuntimeError: it had come to grief.
        """
        # A forked child has a copy of this object; the thread and the address are the parent's.
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        try:
            self.kill()
        finally:
            if self._holder is not None:
                self._holder.close()
            self._unlink()

    def __enter__(self: _Self) -> _Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Inside.

    def _new_member(self) -> Member:
        member_id, cluster_id = self._ids
        return Member(
            rng=self._rng,
            log=Solo(self._term + 1),
            member_id=member_id,
            cluster_id=cluster_id,
            name=self.name,
            client_urls=[self.endpoint],
            options=self.options,
        )

    def _accept(self, sock: socket.socket, on_output: Callable[[SocketPeer], None]) -> SocketPeer:
        def connect(common_name: str, on_output: Callable[[], None]) -> ServerConnection:
            return ServerConnection(
                self.member,
                max_concurrent_streams=self._max_streams,
                common_name=common_name,
                max_receive_size=self.options.max_request_bytes + 512 * 1024,
                journal=self._journal,
                on_output=on_output,
            )

        return SocketPeer(sock, self._tls, connect, on_output)

    def _take_address(self) -> socket.socket:
        """A socket that has the address, and refuses who connects until it listens."""
        if self.unix_path is not None:
            self._unlink()
            sock = socket.socket(socket.AF_UNIX)
            address: Any = self.unix_path
        else:
            sock = socket.socket()
            address = ("127.0.0.1", self.client_port)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections do not count
        try:
            sock.bind(address)
            self.client_port = sock.getsockname()[1] if self.unix_path is None else 0
        except BaseException:
            sock.close()
            raise
        return sock

    def _unlink(self) -> None:
        if self.unix_path is not None and os.path.exists(self.unix_path):
            if not stat.S_ISSOCK(os.stat(self.unix_path).st_mode):
                raise FileExistsError(f"{self.unix_path} is no socket")
            os.unlink(self.unix_path)

    def _end(self, timeout: float | None) -> bool:
        """Wait for the thread, hold the address, and raise what went wrong; False when it still runs."""
        loop = self._loop
        if loop is None:
            return True
        if not loop.join(timeout):
            return False
        self._loop = None
        self._journal.add(time.monotonic(), "-- stopped")
        self._holder = self._take_address()
        if loop.failure is not None:
            raise RuntimeError(
                f"{self!r} came to grief; its last requests:\n{self.log_tail()}"
            ) from loop.failure
        return True
