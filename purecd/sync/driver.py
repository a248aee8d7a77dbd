# SPDX-License-Identifier: Apache-2.0
"""The blocking driver: carries the bytes of one channel on its callers' threads.

1. A caller's thread writes its request itself. Then one of the waiting threads holds the
   *lead*: it waits on the sockets and hands every answer to the thread it belongs to.
2. Whoever stops waiting hands the lead over. While nobody waits nobody reads; the next caller
   first takes in what arrived in between.
3. Sockets never block; only waiting for them does, and at most until the deadline.
4. A signal's handler may raise anywhere in here (Ctrl-C does): whoever gives up waiting leaves the
   lead and wakes another, and a connection whose use was cut short is given up. With watches or
   leases on it the channel is mended: every source begins anew from where it was read to.
5. `_state` guards the channel and is held for microseconds, never across I/O. `_write` is held
   while bytes leave, so that they leave in order; it is taken before `_state`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from typing import Any, Callable

from purecd import errors, forking
from purecd.core import exchange
from purecd.core.channel import Channel
from purecd.core.endpoints import Address
from purecd.core.link import Link, LinkState
from purecd.core.op import Call, Refresh
from purecd.sync.lead import IDLE, LOOK_AGAIN, TEND_EVERY, Lead, Tell, Waiter
from purecd.sync.transport import CALM_BACKLOG, READ, WRITE, Poller, Transport, text_of


class Driver:
    """One channel on threads.

    Args:
        channel: used by nobody else.
        tell: called with each note of the channel (event, endpoint, detail), no lock held.
        tend: called about once a second by a thread that waits here, no lock held.
    """

    def __init__(self, channel: Channel, tell: Tell, tend: Callable[[], None] | None = None) -> None:
        self.channel = channel
        self._tend = tend
        self._tended_at = 0.0  # this belongs to the lead
        self._tell = tell
        self._state = threading.Lock()  # guards channel and _followers; never held across I/O
        self._write = threading.Lock()  # held while bytes leave, so they leave in order
        self._lead = Lead()  # of the thread that waits on the sockets
        self._followers: deque[Waiter] = deque()
        self._poller = Poller()  # this and the next two belong to the lead
        self._links: dict[int, Link] = {}
        self._served: dict[Link, int] = {}
        self._stale = True  # what is waited for, or sent, may have to change
        self._busy = self._hurt = False  # the lead is at work; a signal cut that short
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._poller.watch(self._wake_read.fileno(), READ)
        self._closed = False

    # Calls.

    def call(self, call: Call) -> bytes:
        """Perform one attempt; its reply message.

        Raises:
            EtcdError: why there is none.
        """
        channel = self.channel
        now = time.monotonic()
        waiter = call.waiter = Waiter()
        try:
            link = channel.current
            if link is not None and now - link.last_received > IDLE:
                self._catch_up(waiter, now)
            with self._state:
                channel.start(call, now)
                link = call.link
            if not call.done:
                if link is not None:
                    self._flush(link)
                else:
                    self._stale = True  # it may be sent at any moment by who leads, or led just now
                    if self._lead.taken():
                        self._wake()
                if not self.serve(waiter, call.deadline):
                    self._finish(call, channel.expire, time.monotonic())
        except BaseException:
            self._leave(waiter)
            self._finish(call, channel.abandon, time.monotonic())
            raise
        if call.error is not None:
            raise call.error
        return call.message

    def refresh(self, request: Refresh, deadline: float | None) -> bool:
        """Have a token replaced; whether another attempt makes sense."""
        waiter = request.waiter = Waiter()
        with self._state:
            self.channel.refresh(request, time.monotonic())
            self._changed()
        link = request.call.link
        if not request.done:
            if link is not None and link.state is not LinkState.CLOSED:
                self._flush(link)
            if not self.serve(waiter, deadline):
                raise exchange.out_of_time("no fresh token in time")
        if request.error is not None:
            raise request.error
        return request.again

    def _finish(self, call: Call, how: Callable[..., None], *when: float) -> None:
        """End a call from this side; the connection stays."""
        with self._state:
            how(call, *when)
            self._changed()
        if call.link is not None and call.link.state is not LinkState.CLOSED:
            self._flush(call.link)

    def elsewhere(self, call: Call) -> None:
        """Prefer another endpoint than the one that answered a call."""
        self._finish(call, self.channel.elsewhere, time.monotonic())

    # Sources.

    def attach(self, source: Any) -> None:
        """Begin a source."""
        self._change(self.channel.attach, source)

    def detach(self, source: Any) -> None:
        """End a source."""
        self._change(self.channel.detach, source)

    def next(self, source: Any, deadline: float | None) -> Any:
        """The next item of a source, None when it ended.

        Raises:
            TimeoutError: the deadline passed; the source lives on.
            EtcdError: why the source ended.
        """
        while True:
            waiter = Waiter()
            with self._state:
                item = self.channel.take(source, time.monotonic())
                if item is not None:
                    return item
                if source.error is not None:
                    raise source.error
                if source.closed:
                    return None
                source.waiter = waiter
            self._push()
            if not self.serve(waiter, deadline):
                raise TimeoutError("nothing arrived in time")

    def put_back(self, source: Any) -> None:
        """Undo the last taking from a source; the item did not reach its reader."""
        with self._state:
            source.put_back()

    def request_progress(self, require_leader: bool) -> None:
        """Ask for progress on the watchers of a kind."""
        self._change(self.channel.request_progress, require_leader)

    def _change(self, how: Callable[[Any, float], None], what: Any) -> None:
        """Have the channel do something, and send what follows from it."""
        with self._state:
            how(what, time.monotonic())
            self._changed()
        self._push()

    def _push(self) -> None:
        """Send what sources caused to be sent, or have the lead do it."""
        for link in list(self.channel.links):
            if link.transport is not None and link.transport.connected:
                self._flush(link)
        if self.channel.opening and self._lead.taken():
            self._wake()

    def nudge(self, waiter: Waiter) -> None:
        """Have a thread look again at what it waits for."""
        with self._state:
            waiter.fire()
            self._changed()

    def replace_endpoints(self, addresses: list[Address]) -> None:
        """Use other endpoints from now on."""
        self._change(self.channel.replace_endpoints, addresses)
        closer = Waiter()
        if self._lead.take(closer):
            try:
                self._open_and_close()  # a link to a removed endpoint is not kept until the next call
            finally:
                self._leave(closer)

    # Waiting and leading.

    def serve(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait, and serve all others meanwhile, until `waiter` is fired; False at the deadline."""
        try:
            try:
                while not waiter.fired:
                    if self._lead.take(waiter):
                        self._serve(waiter, deadline)
                    else:
                        self._follow(waiter, deadline)
                    if not waiter.fired and deadline is not None and time.monotonic() >= deadline:
                        return False
                return True
            except BaseException:
                self._stale = True  # what a signal interrupted is done again
                if self._busy and self._lead.take(waiter):
                    self._hurt = True
                raise
            finally:
                self._leave(waiter)
        finally:
            self._leave(waiter)  # again: a signal may have ended the first one halfway

    def _follow(self, waiter: Waiter, deadline: float | None) -> None:
        """Wait while another thread has the lead."""
        lock = threading.Lock()
        lock.acquire()
        with self._state:
            if waiter.fired:
                return
            waiter.lock = lock
            self._followers.append(waiter)
        if self._lead.taken():
            left = LOOK_AGAIN if deadline is None else min(LOOK_AGAIN, deadline - time.monotonic())
            lock.acquire(timeout=max(0.0, left))
        self._unfollow(waiter)

    def _unfollow(self, waiter: Waiter) -> None:
        with self._state:
            waiter.lock = None
            if waiter in self._followers:
                self._followers.remove(waiter)

    def _leave(self, waiter: Waiter) -> None:
        """Neither lead nor follow any more, and see to it that another leads."""
        self._lead.leave(waiter)
        if self._followers:
            self._unfollow(waiter)
            self._hand_over()

    def _hand_over(self) -> None:
        """Wake one that may lead, unless somebody does."""
        if self._lead.taken():
            return
        with self._state:
            if self._followers:
                self._followers.popleft().wake()

    def _serve(self, waiter: Waiter, deadline: float | None) -> None:
        """Lead: wait on the sockets until `waiter` is fired or the deadline passes."""
        channel, links, clock = self.channel, self._links, time.monotonic
        while not waiter.fired:
            self._busy = True
            if self._hurt:
                self._mend()
            while self._stale or channel.opening or channel.closing:
                self._prepare()
            with self._state:
                timer = channel.next_timer()
            until = deadline if timer is None or (deadline is not None and deadline < timer) else timer
            if self._tend is not None:
                until = self._tend_until(until)
            self._busy = False
            ready = self._poller.wait(None if until is None else until - clock())
            self._busy = True
            for fd in ready:
                link = links.get(fd)
                if link is None:
                    self._drain_wakes()
                else:
                    self._ready(link)
                    if not waiter.fired:
                        # Else what is queued, an answer to a PING say, leaves with the next request.
                        self._flush(link)
                    elif channel.unsent:
                        channel.unsent = False
                        self._stale = True  # requests of others: whoever leads next sends them
            now = clock()
            if timer is not None and now >= timer:
                self._stale = True
                with self._state:
                    channel.handle_timer(now)
                    self._announce()
            if channel.notes:
                self._tell_notes()
            if deadline is not None and now >= deadline:
                break
        if channel.closing:  # perhaps nobody leads for long after this
            self._open_and_close()

    def _mend(self) -> None:
        """A signal cut the work on the channel short, nobody knows where: begin anew."""
        with self._state:
            if self.channel.carriers.busy:  # calls are given up with their connection, and raised
                self.channel.mend(time.monotonic())
                self._announce()
        self._hurt = False  # last: it may be cut short, too

    def _tend_until(self, until: float | None) -> float:
        """Look after the neighbour if it is time; until when to wait at most."""
        assert self._tend is not None
        now = time.monotonic()
        if now >= self._tended_at + TEND_EVERY:
            self._tended_at = now
            self._tend()
        due = self._tended_at + TEND_EVERY
        return due if until is None or due < until else until

    def _prepare(self) -> None:
        """Open and close what the channel wants, send what is queued, wait for the right things."""
        channel = self.channel
        self._stale = False
        if channel.opening or channel.closing:
            self._open_and_close()
        for link in list(channel.links):
            if link.transport is None:
                self._dial(link)  # a signal kept it from being listed in `opening`
            transport = link.transport
            if transport is None or transport.resolving or transport.closed:
                continue
            if transport.connected:
                self._flush(link, preparing=True)
                transport = link.transport
                if transport is None or transport.closed:
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

    def _watch(self, link: Link, wanted: int) -> None:
        fd = link.transport.fileno()
        for old in [each for each, owner in self._links.items() if owner is link and each != fd]:
            self._forget(old)
        self._links[fd] = link
        self._poller.watch(fd, wanted)
        self._served[link] = wanted

    def _forget(self, fd: int) -> None:
        self._poller.forget(fd)
        link = self._links.pop(fd, None)
        if link is not None:
            self._served.pop(link, None)

    def _open_and_close(self) -> None:
        # One by one, so that what a signal interrupts is done when the next thread comes here.
        channel = self.channel
        while channel.closing:
            link = channel.closing[0]
            self._close_link(link)
            with self._state:
                channel.closing.remove(link)
        while channel.opening:
            self._dial(channel.opening[0])

    def _dial(self, link: Link) -> None:
        if link.transport is not None:
            link.transport.close()  # an interrupted attempt
        transport = link.transport = Transport(link.address, link.keepalive_timeout)
        try:
            transport.dial(self._wake)
        except OSError as error:
            self._lost(link, f"cannot connect: {text_of(error)}", error)
        with self._state:
            if link in self.channel.opening:
                self.channel.opening.remove(link)
        self._stale = True  # it is to be waited for

    def _close_link(self, link: Link) -> None:
        transport = link.transport
        if transport is None:
            return
        if transport.connected and not transport.backlog:
            try:
                transport.send(link.data_to_send())
            except OSError:
                pass  # it is being closed anyway
        for fd in [each for each, owner in self._links.items() if owner is link]:
            self._forget(fd)
        transport.close()

    # Sockets.

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
            if data:
                with self._state:
                    self.channel.link_received(link, data, time.monotonic())
                    self._announce()
            elif data is not None:
                self._lost(link, "connection closed by the peer", None)
        except OSError as error:
            self._lost(link, f"connection lost: {text_of(error)}", error)
        except BaseException:
            self._interrupted(link)
            raise

    def _connected(self, link: Link) -> None:
        try:
            connected = link.transport.finish_dial()
        except OSError as error:
            self._lost(link, f"cannot connect: {text_of(error)}", error)
            return
        self._served.pop(link, None)
        self._stale = True
        if connected:
            with self._state:
                self.channel.link_opened(link, time.monotonic())
                self._announce()

    def _flush(self, link: Link, *, preparing: bool = False) -> None:
        """Send what the link has queued.

        Args:
            preparing: whoever calls looks afterwards what to wait for. Another look would be asked
                for as long as the peer takes nothing, and nobody would wait at all.
        """
        transport = link.transport
        try:
            with self._write:
                if transport is None or transport.closed or not transport.connected:
                    return
                with self._state:
                    if link.state is LinkState.CLOSED:
                        return  # what has not left by now must not leave any more
                    data = link.data_to_send()
                    waiting = len(transport.backlog)
                    # Counted before it is sent: another thread that sees the connection break
                    # meanwhile must not take the request for unsent.
                    offered = waiting + len(data)
                    link.data_written(offered)
                if not offered:
                    return
                try:
                    sent = transport.send(data)
                except OSError:
                    link.data_written(-offered)
                    raise
                if sent != offered:
                    link.data_written(sent - offered)
                if (transport.backlog or waiting) and not preparing:
                    self._stale = True
                    if not waiting and self._lead.taken():
                        self._wake()
        except OSError as error:
            self._lost(link, f"connection lost: {text_of(error)}", error)
        except BaseException:
            self._interrupted(link)
            raise

    def _interrupted(self, link: Link) -> None:
        """A signal came while bytes were taken in or sent, so nobody knows how far that got."""
        self._lost(link, "connection given up: a signal interrupted its use", None)
        with self._state:  # the endpoint is not to blame
            self.channel.endpoints.succeeded(link.endpoint, time.monotonic())

    def _lost(self, link: Link, reason: str, cause: OSError | None) -> None:
        error = errors.Unavailable(reason, endpoint=link.name)
        error.__cause__ = cause
        with self._state:
            self.channel.link_lost(link, error, time.monotonic())
            self._changed()

    def _catch_up(self, waiter: Waiter, now: float) -> None:
        """Take in what arrived while nobody read, so that a closed connection is noticed first."""
        if not self._lead.take(waiter):
            return
        for link in list(self.channel.links):
            if link.transport is not None and link.transport.connected:
                self._ready(link)
        with self._state:
            timer = self.channel.next_timer()
            if timer is not None and now >= timer:
                self.channel.handle_timer(now)
                self._announce()
        self._leave(waiter)

    def tend(self) -> None:
        """Answer what arrived while nobody waits here; another driver's lead does it now and then."""
        if self._closed or not self.channel.links or self._lead.taken():
            return
        waiter = Waiter()
        try:
            self._catch_up(waiter, time.monotonic())
            if self._lead.take(waiter):
                self._prepare()
        finally:
            self._leave(waiter)

    def _announce(self) -> None:
        """Wake those whose call ended or whose source got something; `_state` is held."""
        ready = self.channel.ready
        if ready:
            for item in ready:
                waiter = item.waiter
                if waiter is not None and not waiter.fired:
                    waiter.fire()
            ready.clear()

    def _changed(self) -> None:
        """Somebody else than the lead changed something: the lead must look again too; `_state` is held."""
        self._stale = True
        self._announce()
        if self._lead.taken():
            self._wake()

    def _tell_notes(self) -> None:
        with self._state:
            notes, self.channel.notes = self.channel.notes, []
        for note in notes:
            self._tell(*note)

    def _wake(self) -> None:
        """Make the lead look again."""
        try:
            self._wake_write.send(b"\0")
        except (BlockingIOError, InterruptedError):
            pass  # it is going to look anyway
        except OSError:
            if not self._closed:
                raise

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

    # End.

    def disown(self) -> None:
        """In a child process: give up the sockets without a byte to them; they are the parent's.

        The locks may be held by threads that do not exist here, so none is touched.
        """
        self._closed = True
        self._state, self._write, self._lead = threading.Lock(), threading.Lock(), Lead()
        for link in {*self.channel.links, *self.channel.closing, *self._links.values()}:
            if link.transport is not None:
                link.transport.close()
        self.channel.orphan(forking.not_ours())
        self._wake_read.close()
        self._wake_write.close()

    def close(self) -> None:
        """End everything; callers that wait get `ClientClosed`."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            self.channel.close(time.monotonic())
            self._announce()
        closer = Waiter()
        until = time.monotonic() + 1.0
        while not self._lead.take(closer):
            self._wake()
            if time.monotonic() >= until:
                return  # the lead is in user code of a hook; it closes nothing that is in use
            time.sleep(0.001)
        try:
            self._open_and_close()
            for link in list(self._links.values()):
                self._close_link(link)
            self._poller.forget(self._wake_read.fileno())
            self._wake_read.close()
            self._wake_write.close()
        finally:
            self._leave(closer)
        self._tell_notes()
