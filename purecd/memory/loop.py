# SPDX-License-Identifier: Apache-2.0
"""The thread of a server in memory: one selector over all its sockets.

1. Everything happens in the thread. Others hand it functions with `do`, ring, and may wait for its end.
2. A turn: wait; take what arrived; do what is due; write what there is, for every socket that may have news.
3. Paused, it stands in the middle of a turn. Killed, it ends there, and whatever was not sent is not sent.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from purecd.memory.member import Member
    from purecd.memory.sockets import SocketPeer


class Loop:
    """One run of a server, from its start to its end.

    Args:
        listener: listens; closed at the end.
        accept: makes a peer of an accepted socket, and is given what the peer is to call with itself when it
            has something to send.
        drain_timeout: how long calls may go on after `drain`, seconds.

    Attributes:
        failure: what ended it, when that was an error in this code.
    """

    def __init__(
        self,
        listener: socket.socket,
        member: Member,
        accept: Callable[[socket.socket, Callable[[SocketPeer], None]], SocketPeer],
        drain_timeout: float,
    ) -> None:
        self.failure: BaseException | None = None
        self._listener: socket.socket | None = listener
        self._member = member
        self._accept = accept
        self._drain_timeout = drain_timeout
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = socket.socketpair()
        self._peers: dict[SocketPeer, int] = {}  # and what the selector waits for
        self._dirty: dict[SocketPeer, None] = {}  # those that may have something to send
        self._give_up_at: float | None = None
        self._killed = False
        self._going = threading.Event()  # cleared while paused
        self._going.set()
        self._tasks: deque[Callable[[], None]] = deque()
        listener.setblocking(False)
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="etcd in memory", daemon=True)
        self._thread.start()

    # For other threads.

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def do(self, task: Callable[[], None]) -> None:
        """Have the thread run a function."""
        self._tasks.append(task)
        self._ring()

    def pause(self) -> None:
        """Return when the thread stands still."""
        standing = threading.Event()

        def stand() -> None:
            standing.set()
            self._going.wait()

        self._going.clear()
        self.do(stand)
        while self.alive and not standing.wait(1.0):
            pass

    def resume(self) -> None:
        """Let the thread go on."""
        self._going.set()

    def kill(self) -> None:
        """Have the thread end now."""
        self._killed = True
        self._going.set()
        self._ring()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full is loud enough; closed: it has ended
            self._rope.send(b"\0")

    # In the thread.

    def drain(self) -> None:
        """Accept nobody any more, and let calls end."""
        if self._give_up_at is not None:
            return
        now = time.monotonic()
        self._give_up_at = now + self._drain_timeout
        self._stop_listening()
        for peer in list(self._peers):
            if peer.connection is None:
                peer.ended = True
            else:
                peer.connection.shutdown(now)
            self._dirty[peer] = None

    def _run(self) -> None:
        try:
            while not self._killed and not self._is_done():
                self._turn()
        except BaseException as error:
            self.failure = error
        finally:
            self._clean_up()

    def _is_done(self) -> bool:
        if self._give_up_at is None:
            return False
        return not self._peers or time.monotonic() >= self._give_up_at

    def _turn(self) -> None:
        events = self._selector.select(self._wait())
        now = time.monotonic()
        for key, mask in events:
            if self._killed:
                return
            if key.fileobj is self._listener:
                self._accept_all()
            elif key.fileobj is self._bell:
                self._answer_bell()
            elif key.data is not None:
                self._serve(key.data, mask, now)
        self._do_timers(now)
        while self._dirty:
            peer, _ = self._dirty.popitem()
            peer.flush(now)
            self._watch(peer)

    def _serve(self, peer: SocketPeer, mask: int, now: float) -> None:
        if mask & selectors.EVENT_READ or peer.connection is None:
            peer.receive(now)
        self._dirty[peer] = None

    def _do_timers(self, now: float) -> None:
        due = self._member.next_timer()
        if due is not None and due <= now:
            self._member.handle_timer(now)
        for peer in self._peers:
            connection = peer.connection
            due = connection.next_timer() if connection is not None else None
            if connection is not None and due is not None and due <= now:
                connection.handle_timer(now)
                self._dirty[peer] = None

    def _wait(self) -> float | None:
        times = [self._give_up_at, self._member.next_timer()]
        times += [peer.connection.next_timer() for peer in self._peers if peer.connection is not None]
        first = min((at for at in times if at is not None), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _accept_all(self) -> None:
        while self._listener is not None:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # nobody left, or gone already
                return
            peer = self._accept(sock, self._has_output)
            self._peers[peer] = 0
            self._has_output(peer)

    def _has_output(self, peer: SocketPeer) -> None:
        self._dirty[peer] = None

    def _watch(self, peer: SocketPeer) -> None:
        """Have the selector wait for what a peer wants."""
        if peer not in self._peers:
            return
        before = self._peers[peer]
        if peer.ended:
            if before:
                self._selector.unregister(peer.sock)
            del self._peers[peer]
            peer.close()
            return
        wants = peer.wants
        if not before:
            self._selector.register(peer.sock, wants, peer)
        elif wants != before:
            self._selector.modify(peer.sock, wants, peer)
        self._peers[peer] = wants

    def _answer_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        while self._tasks:
            self._tasks.popleft()()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _clean_up(self) -> None:
        now = time.monotonic()
        for peer in self._peers:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                if peer.connection is not None:
                    peer.connection.abort(now)
            peer.close()
        self._selector.close()
        if self._listener is not None:
            self._listener.close()
        self._bell.close()
        self._rope.close()
