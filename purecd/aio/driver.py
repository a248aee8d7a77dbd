# SPDX-License-Identifier: Apache-2.0
"""The asyncio driver: carries the bytes of one channel on an event loop.

It belongs to the loop that was running when it was made, and everything in it happens there.

1. What arrives wakes the futures of those who wait for it. Their tasks run in the same turn of the
   loop, and what they and others ask for in that turn leaves in one write at its end: a write is a
   system call, which costs more than all the rest of a call.
2. All calls share one timer for their deadlines, set for the earliest.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Callable

from purecd import errors
from purecd.core import exchange
from purecd.core.channel import Channel
from purecd.core.endpoints import Address
from purecd.core.link import Link, LinkState
from purecd.core.op import Call, Refresh

EXPIRY_GRAIN = 0.002
"""Seconds at least between looks at which calls are late, however many deadlines there are."""
FRAMES_AT_ONCE = 512
"""Frames of one connection that are processed before others have their turn on the loop."""
RECEIVE_SIZE = 256 * 1024
"""Octets read at once."""


class _LinkProtocol(asyncio.BufferedProtocol):
    """One socket.

    It is read into a buffer of ours: a transport that makes one for each read takes 11 us more and up,
    whatever comes.
    """

    def __init__(self, driver: Driver, link: Link) -> None:
        self._driver = driver
        self._link = link
        self._room = driver.room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._driver.connected(self._link, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._driver.received(self._link, self._room[:nbytes].tobytes())

    def eof_received(self) -> None:
        self._driver.lost(self._link, "connection closed by the peer", None)

    def pause_writing(self) -> None:
        self._driver.blocked(self._link, True)

    def resume_writing(self) -> None:
        self._driver.blocked(self._link, False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._driver.lost(self._link, f"connection lost: {_text(exc)}" if exc else "connection closed", exc)


class Driver:
    """One channel on an event loop.

    Args:
        channel: used by nobody else.
        tell: called with each note of the channel (event, endpoint, detail).

    Attributes:
        room: what the sockets are read into, one at a time; nothing in it is needed afterwards.
    """

    def __init__(self, channel: Channel, tell: Callable[[str, str, str], None]) -> None:
        self.channel = channel
        self.loop = asyncio.get_running_loop()
        self.room = memoryview(bytearray(RECEIVE_SIZE))
        self._tell = tell
        self._dials: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._gathering = False  # what is queued leaves at the end of this turn of the loop
        self._open: dict[Call, None] = {}  # calls with a deadline
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_at = float("inf")  # the earliest deadline, or before it

    # Calls.

    def begin(self, call: Call) -> asyncio.Future[None] | None:
        """Begin one attempt: a future to wait for, and to call `end` after; None if it ended at once."""
        self.channel.start(call, time.monotonic())
        if call.done:
            return None
        future = call.waiter = self.loop.create_future()
        if not self._gathering:
            self._gather()
        deadline = call.deadline
        if deadline is not None:
            self._open[call] = None
            if deadline < self._expiry_at:
                self._set_expiry(deadline)
        return future

    def end(self, call: Call) -> None:
        """Nobody waits for an attempt any more."""
        self._open.pop(call, None)

    def abandon(self, call: Call) -> None:
        """Give up on an attempt."""
        self.channel.abandon(call, time.monotonic())
        self._settle(call.link)

    def _set_expiry(self, when: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry_at = when
        self._expiry = self.loop.call_later(max(0.0, when - time.monotonic()), self._expire)

    def _expire(self) -> None:
        """End the calls whose deadline has passed."""
        now = time.monotonic()
        self._expiry, self._expiry_at = None, float("inf")
        for call in [each for each in self._open if each.deadline is not None and each.deadline <= now]:
            self.channel.expire(call, now)
            self.end(call)
        self._settle_all()
        earliest = min([each.deadline for each in self._open if each.deadline is not None], default=None)
        if earliest is not None:
            self._set_expiry(max(earliest, now + EXPIRY_GRAIN))

    async def refresh(self, request: Refresh, deadline: float | None) -> bool:
        """Have a token replaced; whether another attempt makes sense."""
        self.channel.refresh(request, time.monotonic())
        if not request.done:
            future = request.waiter = self.loop.create_future()
            self._settle(request.call.link)
            if not await self._wait(future, deadline):
                raise exchange.out_of_time("no fresh token in time")
        else:
            self._settle(None)
        if request.error is not None:
            raise request.error
        return request.again

    def elsewhere(self, call: Call) -> None:
        """Prefer another endpoint than the one that answered a call."""
        self.channel.elsewhere(call, time.monotonic())
        self._settle_all()

    # Sources.

    def attach(self, source: Any) -> None:
        """Begin a source."""
        self.channel.attach(source, time.monotonic())
        self._settle_all()

    def detach(self, source: Any) -> None:
        """End a source."""
        self.channel.detach(source, time.monotonic())
        self._settle_all()

    async def next(self, source: Any, deadline: float | None) -> Any:
        """The next item of a source, None when it ended.

        Raises:
            TimeoutError: the deadline passed; the source lives on.
            EtcdError: why the source ended.
        """
        while True:
            item = self.channel.take(source, time.monotonic())
            if self.channel.stirred and not self._gathering:
                self._gather()
            if item is not None:
                return item
            if source.error is not None:
                raise source.error
            if source.closed:
                return None
            future = source.waiter = self.loop.create_future()
            if deadline is None:
                await future  # a coroutine less for each item
            elif not await self._wait(future, deadline):
                raise TimeoutError("nothing arrived in time")

    def request_progress(self, require_leader: bool) -> None:
        """Ask for progress on the watchers of a kind."""
        self.channel.request_progress(require_leader, time.monotonic())
        self._settle_all()

    async def _wait(self, future: asyncio.Future[None], deadline: float | None) -> bool:
        """Wait for the future; False when the deadline passes first."""
        if deadline is None:
            await future
            return True
        expired = False

        def expire() -> None:
            nonlocal expired
            if not future.done():
                expired = True
                future.set_result(None)

        timer = self.loop.call_later(max(0.0, deadline - time.monotonic()), expire)
        try:
            await future
        finally:
            timer.cancel()
        return not expired

    def replace_endpoints(self, addresses: list[Address]) -> None:
        """Use other endpoints from now on."""
        self.channel.replace_endpoints(addresses, time.monotonic())
        self._settle_all()

    # Sockets.

    def connected(self, link: Link, transport: Any) -> None:
        """A socket is connected."""
        if link.state is not LinkState.CONNECTING:
            transport.abort()
            return
        link.transport = transport
        link.conn.frames_at_once = FRAMES_AT_ONCE
        self.channel.link_opened(link, time.monotonic())
        self._settle(link)

    def received(self, link: Link, data: bytes) -> None:
        """Bytes arrived; none to go on with what has come."""
        conn = link.conn
        self.channel.link_received(link, data, time.monotonic())
        self._awaken()
        calm = self.channel.carriers.busy and not self.channel.stirred and link.tls is None
        if not (calm or self._gathering):
            self._gather()  # behind the tasks that go on now
        if link.state is LinkState.CLOSED:
            return
        if conn.blocked and conn.throttled:
            link.transport.pause_reading()  # until `blocked` says that the peer takes our replies
        elif conn.more:
            link.transport.pause_reading()
            self.loop.call_soon(self.received, link, b"")
        elif not data:
            link.transport.resume_reading()

    def blocked(self, link: Link, blocked: bool) -> None:
        """The peer does not take what we write fast enough, or it does again."""
        if link.state is LinkState.CLOSED:
            return
        self.channel.link_blocked(link, blocked, time.monotonic())
        if not blocked:
            self._settle(link)
            self.received(link, b"")

    def lost(self, link: Link, reason: str, cause: BaseException | None) -> None:
        """A socket is gone."""
        if link.state is not LinkState.CLOSED:
            error = errors.Unavailable(reason, endpoint=link.name)
            error.__cause__ = cause
            self.channel.link_lost(link, error, time.monotonic())
            self._settle_all()

    def _settle(self, link: Link | None) -> None:
        """After an input: send, wake, open and close, set the timer."""
        if link is not None:
            self._flush(link)
        channel = self.channel
        self._awaken()
        if channel.opening or channel.closing:
            self._open_and_close()
        if channel.notes:
            notes, channel.notes = channel.notes, []
            for note in notes:
                self._tell(*note)
        timer = channel.next_timer()
        if timer is not None and timer < self._timer_at:
            self._set_timer(timer)

    def _awaken(self) -> None:
        channel = self.channel
        if channel.ready:
            ready, channel.ready = channel.ready, []
            for item in ready:
                waiter = item.waiter
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)

    def _gather(self) -> None:
        """Settle at the end of this turn of the loop, or of the next where this one is under way."""
        self._gathering = True
        self.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._gathering = False
        self._settle_all()

    def _settle_all(self) -> None:
        self.channel.stirred = False
        for link in list(self.channel.links):
            self._flush(link)
        self._settle(None)

    def _flush(self, link: Link) -> None:
        transport = link.transport
        if transport is None or link.state is LinkState.CLOSED or transport.is_closing():
            return  # what a closing transport took would be lost, and count as sent
        if link.conn.blocked:
            return  # the transport would take anything, and keep it in memory
        data = link.leaving_data()
        if data:
            transport.write(data)

    def _open_and_close(self) -> None:
        channel = self.channel
        opening, channel.opening = channel.opening, []
        closing, channel.closing = channel.closing, []
        for link in closing:
            if link.transport is not None:
                self._part(link, link.transport)
        for link in opening:
            task = self.loop.create_task(self._dial(link))
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)

    @staticmethod
    def _part(link: Link, transport: Any) -> None:
        """Close a socket; what the peer does not take at once is lost."""
        data = link.data_to_send()
        if data and not transport.is_closing() and not transport.get_write_buffer_size():
            transport.write(data)
        if transport.get_write_buffer_size():
            transport.abort()  # close() would wait for the peer, for ever if need be
        else:
            transport.close()

    async def _dial(self, link: Link) -> None:
        address = link.address
        try:
            if address.path:
                await self.loop.create_unix_connection(lambda: _LinkProtocol(self, link), address.path)
            else:
                if address.port is None:
                    raise OSError(f"endpoint {address.text} has no port")
                await self.loop.create_connection(
                    lambda: _LinkProtocol(self, link), address.host, address.port
                )
        except (OSError, UnicodeError) as error:
            self.lost(link, f"cannot connect: {_text(error)}", error)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.loop.call_later(max(0.0, when - time.monotonic()), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        now = time.monotonic()
        timer = self.channel.next_timer()
        if timer is not None and timer <= now:
            self.channel.handle_timer(now)
        self._settle_all()

    # End.

    def disown(self, error: errors.EtcdError) -> None:
        """The loop is out of reach, or this is a child process: give up the sockets without a byte to them.

        Args:
            error: what whoever reads a watch of it is told.
        """
        for link in [*self.channel.links, *self.channel.closing]:
            if link.transport is not None:
                # The transport's own methods need the loop; what it shows of its socket cannot close it.
                shown = link.transport.get_extra_info("socket")
                own = getattr(shown, "_sock", None)
                if own is not None:
                    own.close()
        self.channel.orphan(error)

    async def close(self) -> None:
        """End everything; calls that wait get `ClientClosed`."""
        self.channel.close(time.monotonic())
        self._settle_all()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        for task in list(self._dials):
            task.cancel()
        if self._dials:
            await asyncio.wait(self._dials)
        # One more turn of the loop, so that transports close their sockets.
        await asyncio.sleep(0)


def _text(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio puts a text of its own in its place
    return str(error) if error is not None else ""
