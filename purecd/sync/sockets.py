# SPDX-License-Identifier: Apache-2.0
"""The sockets of one channel on threads, and what guards the channel.

1. `_state` guards the channel and is held for microseconds, never across I/O. `_write` is held
   while bytes leave, so that they leave in order; it is taken before `_state`. What else is in here
   belongs to the thread that has the lead.
2. Sockets never block; only waiting for them does. Who waits for a single socket does so by reading
   from it, for up to 20 ms in which it cannot be woken, before it waits in a way that it can.
3. A signal's handler may raise anywhere (Ctrl-C does). Each of the three kinds of work sets its mark when
   it begins and takes it away when it is done: `_entered`, `_sending`, `_leading`. Who finds a mark where
   nobody can be at work knows that a signal cut that work short, nobody knows where. Then the channel is
   *mended*: all its connections are given up, and what runs on them begins anew. A mark that a signal
   leaves behind is found by whoever comes next, in the same thread or in another one.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Callable, TypeVar

from purecd import errors
from purecd.core.channel import Channel
from purecd.core.link import Link, LinkState
from purecd.core.op import Call
from purecd.sync.lead import Lead, Tell, Waiter
from purecd.sync.transport import CALM_BACKLOG, READ, WRITE, Poller, Transport, text_of

T = TypeVar("T")


class Sockets:
    """Carries the bytes of a channel; `Driver` says who waits for what.

    Args:
        channel: used by nobody else.
        tell: called with each note of the channel (event, endpoint, detail), no lock held.

    Attributes:
        mends: how often the channel was mended. A waiter of before has to look for itself.
    """

    def __init__(self, channel: Channel, tell: Tell) -> None:
        self.channel = channel
        self.mends = 0
        self._tell = tell
        self._state = threading.Lock()  # guards channel and _followers; never held across I/O
        self._write = threading.Lock()  # held while bytes leave, so they leave in order
        self._lead = Lead()  # of the thread that waits on the sockets
        self._entered = self._sending = self._leading = False  # the marks of rule 3
        self._followers: dict[Waiter, None] = {}  # who waits for whoever leads, longest first
        self._stale = True  # what is waited for, or sent, may have to change
        # When the channel wants to be called, or before that, unless `_timer_moved`: what moves the time
        # only back, as every reply does, is not looked at; the lead then wakes up once for nothing.
        self._timer: float | None = None
        self._timer_moved = True
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._closed = False
        self._wait_for_nothing()

    def _wait_for_nothing(self) -> None:
        self._poller = Poller()  # this and the next two belong to the lead
        self._links: dict[int, Link] = {}
        self._served: dict[Link, int] = {}
        self._sole: Link | None = None  # when it is the only one, and is only read from
        self._reading = False  # the sole one is; if a signal cuts that short, it may have been read
        if not self._closed:
            self._poller.watch(self._wake_read.fileno(), READ)

    # The channel.

    def _do(self, how: Callable[..., T], *args: Any) -> T:
        """Have the channel do something, and wake those whom it concerns."""
        with self._state:
            if self._entered:
                self._mend()
            self._entered = True
            try:
                result = how(*args)
            except errors.EtcdError:
                self._entered = False  # it refused
                raise
            self._entered = False
            self._announce()
        return result

    def _mend(self) -> None:
        """Work was cut short, nobody knows where: begin anew. `_state` is held."""
        self.channel.mend(time.monotonic())
        self.mends += 1
        for follower in self._followers:
            follower.wake()
        self._followers.clear()
        self._changed()

    def _announce(self) -> None:
        """Wake those whose call ended or whose source got something; `_state` is held."""
        ready = self.channel.ready
        if ready:
            for item in ready:
                waiter = item.waiter
                if waiter is not None and not waiter.fired:
                    waiter.fire()
                    if self._followers:
                        self._followers.pop(waiter, None)
            ready.clear()

    def _changed(self) -> None:
        """Somebody else than the lead changed something: the lead must look again too."""
        self._stale = True
        if self._lead.taken():
            self._wake()

    def _lost(self, link: Link, reason: str, cause: OSError | None) -> None:
        error = errors.Unavailable(reason, endpoint=link.name)
        error.__cause__ = cause
        self._do(self.channel.link_lost, link, error, time.monotonic())
        self._changed()

    # The work of the lead.

    def _begin_leading(self) -> None:
        """The lead goes to work; whoever had it before may have been cut short."""
        if self._leading:
            for fd in self._poller.known():
                self._poller.forget(fd)
            self._wait_for_nothing()
            self._do(self._mend)
            self._stale = True
        self._leading = True

    def _prepare(self) -> None:
        """Open and close what the channel wants, send what is queued, wait for the right things."""
        channel = self.channel
        self._stale = False
        if channel.opening or channel.closing:
            self._open_and_close()
        for link in list(channel.links):
            transport = link.transport
            if transport is None or transport.resolving or transport.closed:
                continue
            if transport.connected:
                self._flush(link, preparing=True)
                if transport.closed:
                    continue
                wanted = READ if not transport.backlog else READ | WRITE
                if len(transport.backlog) > CALM_BACKLOG and link.conn.throttled:
                    wanted = WRITE
            else:
                wanted = WRITE
            if self._served.get(link) != wanted:
                self._watch(link, wanted)
        if channel.opening or channel.closing:
            self._open_and_close()
        self._find_sole()

    def _find_sole(self) -> None:
        self._sole = None
        if len(self._links) == len(self.channel.links) == 1:
            ((fd, link),) = self._links.items()
            transport = link.transport
            if self._served.get(link) == READ and transport.brief and fd == transport.fileno():
                self._sole = link

    def _watch(self, link: Link, wanted: int) -> None:
        fd = link.transport.fileno()
        for old in [each for each, owner in self._links.items() if owner is link and each != fd]:
            self._forget(old)
        self._links[fd] = link
        self._poller.watch(fd, wanted)
        self._served[link] = wanted

    def _forget(self, fd: int) -> None:
        self._poller.forget(fd)
        self._sole = None
        link = self._links.pop(fd, None)
        if link is not None:
            self._served.pop(link, None)

    def _open_and_close(self) -> None:
        channel = self.channel
        while channel.closing:
            link = channel.closing[0]
            self._close_link(link)
            self._do(channel.closing.remove, link)
        while channel.opening:
            for link in list(channel.opening):
                self._dial(link)

    def _dial(self, link: Link) -> None:
        transport = link.transport = Transport(link.address, link.keepalive_timeout)
        try:
            transport.dial(self._wake)
        except OSError as error:
            self._lost(link, f"cannot connect: {text_of(error)}", error)
        self._do(self._dialled, link)
        self._stale = True  # it is to be waited for

    def _dialled(self, link: Link) -> None:
        if link in self.channel.opening:
            self.channel.opening.remove(link)

    def _close_link(self, link: Link) -> None:
        transport = link.transport
        if transport is None:
            return
        if transport.connected and not transport.backlog and not link.torn:
            try:
                transport.send(link.data_to_send())
            except OSError:
                pass  # it is being closed anyway
        for fd in [each for each, owner in self._links.items() if owner is link]:
            self._forget(fd)
        transport.close()

    def _ready(self, link: Link) -> None:
        """A socket can be read, or written, or failed."""
        transport = link.transport
        if transport.closed:
            return
        try:
            if not transport.connected:
                self._connected(link)
                return
            if transport.backlog:
                self._flush(link)
            data = transport.receive()
        except OSError as error:
            if error.errno is None:
                raise  # a TimeoutError of a signal's handler
            self._lost(link, f"connection lost: {text_of(error)}", error)
            return
        if data:
            channel = self.channel
            with self._state:  # as `_do` does it; a frame less for each call
                if self._entered:
                    self._mend()
                self._entered = True
                greeted = link.login is None
                channel.link_received(link, data, time.monotonic())
                if not greeted or link.state is not LinkState.READY or channel.stirred:
                    self._timer_moved = True
                    channel.stirred = False
                self._entered = False
                if channel.ready:
                    self._announce()
        elif data is not None:
            self._lost(link, "connection closed by the peer", None)

    def _look_at_timers(self) -> None:
        self._timer_moved = False
        self._timer = self.channel.next_timer()

    def _connected(self, link: Link) -> None:
        try:
            connected = link.transport.finish_dial()
        except OSError as error:
            self._lost(link, f"cannot connect: {text_of(error)}", error)
            return
        self._served.pop(link, None)
        self._stale = True
        if connected:
            self._do(self.channel.link_opened, link, time.monotonic())

    def _drain_wakes(self) -> None:
        try:
            self._wake_read.recv(4096)
        except (BlockingIOError, InterruptedError):
            pass  # another wake was taken with it
        self._stale = True
        for link in list(self.channel.links):
            transport = link.transport
            if transport is not None and transport.resolving:
                try:
                    transport.resolved()
                except OSError as error:
                    self._lost(link, f"cannot connect: {text_of(error)}", error)

    # What anybody may do.

    def _launch(self, call: Call, now: float) -> None:
        """Start a call and send its request: both in one, for that is less work."""
        if self._write.locked():
            # Others send at this moment: whoever is next sends in one piece what has been queued by then.
            self._do(self._queue, call, now)
            if call.link is not None:
                self._flush(call.link)
            return
        with self._write:
            if self._sending:
                self._do(self._mend)
            self._sending = True
            with self._state:  # as `_do` does it; a frame less for each call
                if self._entered:
                    self._mend()
                self._entered = True
                self._queue(call, now)
                link: Link | None = call.link
                data = self._take_out(link) if link is not None else None
                self._entered = False
                if self.channel.ready:
                    self._announce()
            if link is not None and data is not None:
                self._hand_out(link, data, preparing=False)
            self._sending = False

    def _queue(self, call: Call, now: float) -> None:
        self.channel.start(call, now)
        if self._timer is None:
            self._timer_moved = True  # a connection in use is tested when it is silent

    def _flush_queued(self, link: Link) -> None:
        """`_flush`, unless nothing is queued, and nobody was cut short who had taken something out."""
        if link.conn.unwritten or link.tls is not None or self._sending:
            self._flush(link)

    def _flush(self, link: Link, *, preparing: bool = False) -> None:
        """Send what the link has queued.

        Args:
            preparing: whoever calls looks afterwards what to wait for. Another look would be asked
                for as long as the peer takes nothing, and nobody would wait at all.
        """
        transport = link.transport
        with self._write:
            if self._sending:
                self._do(self._mend)
            self._sending = True
            if transport is not None and transport.connected and not transport.closed:
                data = self._do(self._take_out, link)
                if data is not None:
                    self._hand_out(link, data, preparing)
            self._sending = False

    def _hand_out(self, link: Link, data: bytes, preparing: bool) -> None:
        transport = link.transport
        waiting = len(transport.backlog)
        offered = waiting + len(data)
        try:
            sent = transport.send(data)
        except OSError as error:
            if error.errno is None:
                raise  # a TimeoutError of a signal's handler
            link.data_written(-offered)
            self._lost(link, f"connection lost: {text_of(error)}", error)
            return
        if sent == offered:
            if not waiting and not link.conn.blocked:
                return  # the usual case
        else:
            link.data_written(sent - offered)
        if (len(transport.backlog) > CALM_BACKLOG) if not link.conn.blocked else not transport.backlog:
            self._do(self.channel.link_blocked, link, not link.conn.blocked, time.monotonic())
            self._changed()  # others may send now, or none may
        if (waiting or transport.backlog) and not preparing:
            self._stale = True
            if not waiting and self._lead.taken():
                self._wake()

    @staticmethod
    def _take_out(link: Link) -> bytes | None:
        """The bytes that a link sends after those that wait, None when there are none at all."""
        if link.state is LinkState.CLOSED:
            return None  # what has not left by now must not leave any more
        # Counted as written before it is sent: another thread that sees the connection break
        # meanwhile must not take the request for unsent.
        waiting = len(link.transport.backlog)
        data = link.leaving_data(waiting)
        return data if data or waiting else None

    def _wake(self) -> None:
        """Make the lead look again."""
        try:
            self._wake_write.send(b"\0")
        except (BlockingIOError, InterruptedError):
            pass  # it is going to look anyway
        except OSError:
            if not self._closed:
                raise
