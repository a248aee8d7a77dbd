# SPDX-License-Identifier: Apache-2.0
"""The blocking driver: carries the bytes of one channel on its callers' threads.

1. A caller's thread writes its request itself. Then one of the waiting threads holds the
   *lead*: it waits on the sockets and hands every answer to the thread it belongs to.
2. Whoever stops waiting hands the lead over. While nobody waits nobody reads; the next caller
   first takes in what arrived in between.
3. Waiting ends at the deadline at the latest.
4. A signal's handler may raise anywhere in here (Ctrl-C does). While a thread waits on the sockets that
   costs nothing. At any other moment the channel is mended, see `purecd.sync.sockets`; threads that wait
   look again then, and so does whoever was interrupted, if it comes back.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from purecd import forking
from purecd.core import exchange
from purecd.core.channel import Channel
from purecd.core.endpoints import Address
from purecd.core.link import Link, LinkState
from purecd.core.op import Call, Refresh
from purecd.sync.lead import IDLE, LOOK_AGAIN, TEND_EVERY, Lead, Tell, Waiter
from purecd.sync.sockets import Sockets
from purecd.sync.transport import BRIEF


class Driver(Sockets):
    """One channel on threads.

    Args:
        channel: used by nobody else.
        tell: called with each note of the channel (event, endpoint, detail), no lock held.
        tend: called about once a second by a thread that waits here, no lock held.
    """

    def __init__(self, channel: Channel, tell: Tell, tend: Callable[[], None] | None = None) -> None:
        super().__init__(channel, tell)
        self._tend = tend
        self._tended_at = 0.0  # this belongs to the lead

    # Calls.

    def call(self, call: Call) -> bytes:
        """Perform one attempt; its reply message.

        Raises:
            EtcdError: why there is none.
        """
        channel = self.channel
        now = time.monotonic()
        waiter = call.waiter = Waiter(self.mends)
        try:
            link = channel.current
            if link is not None and now - link.last_received > IDLE:
                self._catch_up(waiter, now)
            elif self._leading and not self._lead.taken():
                self._lead_briefly(waiter, self._wake)  # mended now, that costs this call nothing
            self._launch(call, now)
            if call.link is None and not call.done:
                self._changed()  # it may be sent at any moment by who leads, or led just now
            while not call.done:
                if not self.serve(call.waiter, call.deadline):
                    self._finish(call, channel.expire, time.monotonic())
                elif not call.done:
                    self._do(self._wait_again, call)
        except BaseException:
            self._finish(call, channel.abandon, time.monotonic())
            raise
        if call.error is not None:
            raise call.error
        return call.message

    def refresh(self, request: Refresh, deadline: float | None) -> bool:
        """Have a token replaced; whether another attempt makes sense."""
        request.waiter = Waiter(self.mends)
        self._do(self.channel.refresh, request, time.monotonic())
        self._changed()
        link = request.call.link
        if not request.done and link is not None and link.state is not LinkState.CLOSED:
            self._flush(link)
        while not request.done:
            if not self.serve(request.waiter, deadline):
                raise exchange.out_of_time("no fresh token in time")
            if not request.done:
                self._do(self._wait_again, request)
        if request.error is not None:
            raise request.error
        return request.again

    def _wait_again(self, item: Call | Refresh) -> None:
        """The channel was mended; what is waited for goes on in it, unless it ended."""
        if not item.done:
            item.waiter = Waiter(self.mends)

    def _finish(self, call: Call, how: Callable[..., None], *when: float) -> None:
        """End a call from this side; the connection stays."""
        self._do(how, call, *when)
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
            waiter = Waiter(self.mends)
            item = self._do(self._take, source, waiter)
            if item is not None:
                return item
            if source.error is not None:
                raise source.error
            if source.closed:
                return None
            self._push()
            if not self.serve(waiter, deadline):
                raise TimeoutError("nothing arrived in time")

    def _take(self, source: Any, waiter: Waiter) -> Any:
        item = self.channel.take(source, time.monotonic())
        if item is None:
            source.waiter = waiter
            if self.channel.stirred:
                self.channel.stirred = False
                self._timer_moved = True
        return item

    def put_back(self, source: Any) -> None:
        """Undo the last taking from a source; the item did not reach its reader."""
        self._do(source.put_back)

    def request_progress(self, require_leader: bool) -> None:
        """Ask for progress on the watchers of a kind."""
        self._change(self.channel.request_progress, require_leader)

    def _change(self, how: Callable[[Any, float], None], what: Any) -> None:
        """Have the channel do something, and send what follows from it."""
        self._do(how, what, time.monotonic())
        self._changed()
        self._push()

    def _push(self) -> None:
        """Send what sources caused to be sent, or have the lead do it."""
        for link in list(self.channel.links):
            if link.transport is not None and link.transport.connected:
                self._flush_queued(link)
        if self.channel.opening and self._lead.taken():
            self._wake()

    def waiter(self) -> Waiter:
        """Something to wait for, with `serve`, until `nudge` or a mending of the channel."""
        return Waiter(self.mends)

    def nudge(self, waiter: Waiter) -> None:
        """Have a thread look again at what it waits for."""
        with self._state:
            waiter.fire()
        self._changed()

    def replace_endpoints(self, addresses: list[Address]) -> None:
        """Use other endpoints from now on."""
        self._change(self.channel.replace_endpoints, addresses)
        # A link to a removed endpoint is not kept until the next call.
        self._lead_briefly(Waiter(), self._open_and_close)

    # Waiting and leading.

    def serve(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait, and serve all others meanwhile, until `waiter` is fired; False at the deadline.

        Returns True, too, when the channel was mended since the waiter was made: whoever waits has to look.
        """
        try:
            with waiter.here:
                while not waiter.fired and waiter.mends == self.mends:
                    if self._lead.take(waiter):
                        self._serve(waiter, deadline)
                        self._lead.leave(waiter)
                    else:
                        self._follow(waiter, deadline)
                    if not waiter.fired and deadline is not None and time.monotonic() >= deadline:
                        return False
                return True
        finally:
            if waiter in self._followers:
                self._unfollow(waiter)
            if self._followers:
                self._hand_over()

    def _follow(self, waiter: Waiter, deadline: float | None) -> None:
        """Wait while another thread has the lead."""
        lock = threading.Lock()
        lock.acquire()
        with self._state:
            if waiter.fired or waiter.mends != self.mends:
                return
            waiter.lock = lock
            self._followers[waiter] = None
        if self._lead.taken():
            left = LOOK_AGAIN if deadline is None else min(LOOK_AGAIN, deadline - time.monotonic())
            lock.acquire(timeout=max(0.0, left))
        if waiter in self._followers:
            self._unfollow(waiter)

    def _unfollow(self, waiter: Waiter) -> None:
        with self._state:
            waiter.lock = None
            self._followers.pop(waiter, None)

    def _hand_over(self) -> None:
        """Wake one that may lead, unless somebody does."""
        if self._lead.taken():
            return
        with self._state:
            follower = next(iter(self._followers), None)
            if follower is not None:
                del self._followers[follower]
                follower.wake()

    def _serve(self, waiter: Waiter, deadline: float | None) -> None:
        """Lead: wait on the sockets until `waiter` is fired or the deadline passes."""
        channel, clock = self.channel, time.monotonic
        self._begin_leading()
        briefly = self._tend is None  # streams are waited for longer, and changed by others meanwhile
        if self._reading:
            self._take_read()
        while not waiter.fired and waiter.mends == self.mends:
            while self._stale or channel.opening or channel.closing:
                self._timer_moved = True
                self._prepare()
            if self._timer_moved:
                self._do(self._look_at_timers)
            timer = self._timer
            until = deadline if timer is None or (deadline is not None and deadline < timer) else timer
            if self._tend is not None:
                until = self._tend_until(until)
            sole = self._sole if briefly else None
            if sole is not None and (until is None or until - clock() > BRIEF):
                self._reading = True
                self._leading = False
                briefly = sole.transport.wait_briefly()
                self._leading = True
                self._reading = False
                if briefly:
                    self._ready_link(sole, waiter)
                    if waiter.fired and not channel.notes:
                        break  # the usual end; what is due besides is looked at by whoever leads next
            else:
                self._leading = False
                ready = self._poller.wait(None if until is None else until - clock())
                self._leading = True
                for fd in ready:
                    self._ready_at(fd, waiter)
                    briefly = self._tend is None
            now = clock()
            if timer is not None and now >= timer:
                self._stale = True
                self._do(channel.handle_timer, now)
            if channel.notes:
                self._leading = False
                self._tell_notes()
                self._leading = True
            if deadline is not None and now >= deadline:
                break
        if channel.closing:  # perhaps nobody leads for long after this
            self._open_and_close()
        self._leading = False

    def _ready_at(self, fd: int, waiter: Waiter) -> None:
        """A socket is ready."""
        link = self._links.get(fd)
        if link is None:
            self._drain_wakes()
        else:
            self._ready_link(link, waiter)

    def _ready_link(self, link: Link, waiter: Waiter) -> None:
        self._ready(link)
        if not waiter.fired:
            # Else what is queued, an answer to a PING say, leaves with the next request.
            self._flush_queued(link)
        elif self.channel.unsent:
            self.channel.unsent = False
            self._stale = True  # requests of others: whoever leads next sends them

    def _take_read(self) -> None:
        """A signal cut a `wait_briefly` short: take what it read."""
        self._reading = False
        for link in list(self._links.values()):
            if link.transport.inbox:
                self._ready(link)

    def _lead_briefly(self, waiter: Waiter, work: Callable[..., None], *args: Any) -> bool:
        """Do something that belongs to the lead, unless somebody has it."""
        with waiter.here:
            if not self._lead.take(waiter):
                return False
            self._begin_leading()
            work(*args)
            self._leading = False
            self._lead.leave(waiter)
        if self._followers:
            self._hand_over()
        return True

    def _tend_until(self, until: float | None) -> float:
        """Look after the neighbour if it is time; until when to wait at most."""
        assert self._tend is not None
        now = time.monotonic()
        if now >= self._tended_at + TEND_EVERY:
            self._tended_at = now
            self._tend()
        due = self._tended_at + TEND_EVERY
        return due if until is None or due < until else until

    def _catch_up(self, waiter: Waiter, now: float) -> None:
        """Take in what arrived while nobody read, so that a closed connection is noticed first."""
        self._lead_briefly(waiter, self._take_in, now)

    def _take_in(self, now: float) -> None:
        for link in list(self.channel.links):
            if link.transport is not None and link.transport.connected:
                self._ready(link)
        timer = self._do(self.channel.next_timer)
        if timer is not None and now >= timer:
            self._do(self.channel.handle_timer, now)

    def tend(self) -> None:
        """Answer what arrived while nobody waits here; another driver's lead does it now and then."""
        if self._closed or not self.channel.links or self._lead.taken():
            return
        waiter = Waiter()
        self._catch_up(waiter, time.monotonic())
        self._lead_briefly(waiter, self._prepare)

    def _tell_notes(self) -> None:
        for note in self._do(self._take_notes):
            self._tell(*note)

    def _take_notes(self) -> list[tuple[str, str, str]]:
        notes, self.channel.notes = self.channel.notes, []
        return notes

    # End.

    def disown(self) -> None:
        """In a child process: give up the sockets without a byte to them; they are the parent's.

        The locks may be held by threads that do not exist here, so none is touched.
        """
        self._closed = True
        self._state, self._write, self._lead = threading.Lock(), threading.Lock(), Lead()
        self._entered = self._sending = self._leading = False
        for link in {*self.channel.links, *self.channel.closing, *self._links.values()}:
            if link.transport is not None:
                link.transport.close()
        self.channel.orphan(forking.not_ours())
        self._wake_read.close()
        self._wake_write.close()

    def close(self) -> None:
        """End everything; callers that wait get `ClientClosed`."""
        self._closed = True
        self._do(self.channel.close, time.monotonic())
        closer = Waiter()
        until = time.monotonic() + 1.0
        while not self._lead_briefly(closer, self._close_sockets):
            self._wake()
            if time.monotonic() >= until:
                return  # the lead is in user code of a hook; it closes nothing that is in use
            time.sleep(0.001)
        self._tell_notes()

    def _close_sockets(self) -> None:
        self._open_and_close()
        for link in list(self._links.values()):
            self._close_link(link)
        if self._wake_read.fileno() >= 0:
            self._poller.forget(self._wake_read.fileno())
        self._wake_read.close()
        self._wake_write.close()
