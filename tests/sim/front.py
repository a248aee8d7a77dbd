# SPDX-License-Identifier: Apache-2.0
"""A third front of the client, beside those for threads and asyncio: for simulated time.

It carries bytes between channels and simulated sockets, performs the effects of operations, and decides
nothing. Commands and watches are those of the asyncio front, whose methods only need somebody to run their
operations; the client may be stopped, and any of its tasks cancelled wherever it waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from purecd import errors
from purecd.aio.commands import AsyncCommands
from purecd.core import exchange
from purecd.core.channel import Channel
from purecd.core.endpoints import parse_endpoint
from purecd.core.link import Link, LinkState
from purecd.core.op import Attach, Call, Detach, Effect, Elsewhere, Next, Now, Op, RandomId, Refresh, Sleep
from purecd.core.watching import Watcher
from purecd.front import Front
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from tests.sim.tap import Sending, Tap
from tests.sim.tasks import Future, Task
from tests.sim.world import InvariantError, Process, Timer, World

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.sim.network import Network, Socket

T = TypeVar("T")

CLEAN_UP = 2.0
"""Seconds for the clean-up of an operation, as in the real fronts."""


class Wire:
    """A link's socket: the owner of one end of a connection.

    Attributes:
        served: the link got through its greeting.
        rest: octets that the link handed over and the socket has not taken.
    """

    def __init__(self, driver: SimDriver, link: Link, socket: Socket) -> None:
        self.socket = socket
        self.rest = b""
        self.served = False
        client = driver.client
        place = f"{client.name} to {link.name}"
        self.tap = Tap(place, socket, client.whole, client.create, lambda: link.conn._next_id)
        self._driver = driver
        self._link = link
        self._within = driver.client.within
        socket.attach(self)

    def received(self, data: bytes) -> None:
        self._within(lambda: self._received(data))

    def _received(self, data: bytes) -> None:
        self.tap.received(data)  # first: what the client does about it comes after
        self._driver.received(self._link, data)
        self.served = self.served or self._link.state is LinkState.READY
        conn = self._link.conn
        if not conn.closed and not self.rest and not conn.output.chunks:
            left = conn._receive_window.left
            if left != self.tap.credit:
                raise InvariantError(f"S21 window {left} here, {self.tap.credit} there: {self._link}")

    def check_farewell(self, now: float) -> None:
        """S21: a connection that drains is not left while calls on it are being answered.

        Not so one of watches and leases, which go on elsewhere after a second.
        """
        link = self._link
        silent = now - link.last_received >= 2.0
        # What does not get out may be followed by resets.
        if self.served and self.tap.going_away and self.tap.unanswered and not silent and not self.rest:
            raise InvariantError(f"S21 left {link.name} with {self.tap.unanswered} calls unanswered")

    def ended(self) -> None:
        self.tap.going_away = False  # it does not answer any more
        self._within(lambda: self._driver.lost(self._link, "connection closed by the peer"))

    def reset(self) -> None:
        self._within(lambda: self._driver.lost(self._link, "connection reset by peer"))

    def writable(self) -> None:
        self._within(lambda: self._driver.settle())

    def flush(self) -> None:
        """Hand the socket as much as it takes."""
        link = self._link
        while not self.socket.closed and (self.rest or link.conn.output.chunks):
            data = self.rest or link.data_to_send()
            taken = self.socket.send(data)
            self.tap.sent(data[:taken])
            link.data_written(taken)
            self.rest = data[taken:]
            if self.rest:
                return  # until it is writable again


class SimDriver:
    """One channel on simulated time."""

    def __init__(self, client: SimClient, channel: Channel) -> None:
        self.client = client
        self.channel = channel
        self._world = client.world
        self._timer: Timer | None = None

    # Calls.

    async def call(self, call: Call) -> bytes:
        """Perform one attempt; its reply message."""
        self.channel.start(call, self._world.now)
        if not call.done:
            try:
                if not await self._wait(call, call.deadline):
                    self.channel.expire(call, self._world.now)
            except BaseException:
                self.channel.abandon(call, self._world.now)
                raise
            finally:
                self.settle()
        if call.error is not None:
            raise call.error
        return call.message

    async def refresh(self, request: Refresh, deadline: float | None) -> bool:
        """Have a token replaced; whether another attempt makes sense."""
        self.channel.refresh(request, self._world.now)
        if not request.done and not await self._wait(request, deadline):
            raise exchange.out_of_time("no fresh token in time")
        if request.error is not None:
            raise request.error
        return request.again

    def elsewhere(self, call: Call) -> None:
        """Prefer another endpoint than the one that answered a call."""
        self.channel.elsewhere(call, self._world.now)
        self.settle()

    # Sources.

    def attach(self, source: Any) -> None:
        """Begin a source."""
        self.channel.attach(source, self._world.now)
        self.settle()

    def detach(self, source: Any) -> None:
        """End a source."""
        self.channel.detach(source, self._world.now)
        self.settle()

    async def next(self, source: Any, deadline: float | None) -> Any:
        """The next item of a source, None when it ended."""
        while True:
            item = self.channel.take(source, self._world.now)
            if item is not None:
                self.settle()
                return item
            if source.error is not None:
                raise source.error
            if source.closed:
                return None
            if not await self._wait(source, deadline):
                raise TimeoutError("nothing arrived in time")

    def request_progress(self, require_leader: bool) -> None:
        """Ask for progress on the watchers of a kind."""
        self.channel.request_progress(require_leader, self._world.now)
        self.settle()

    async def _wait(self, what: Any, deadline: float | None) -> bool:
        """Wait for what the channel will put into `ready`; False when the deadline passes first."""
        future = what.waiter = Future()
        self.settle()
        timer = None
        if deadline is not None:
            timer = self.client.later(deadline, future.expire)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
        return not future.late

    # Sockets.

    def received(self, link: Link, data: bytes) -> None:
        """Bytes arrived."""
        self.channel.link_received(link, data, self._world.now)
        self.settle()

    def lost(self, link: Link, reason: str) -> None:
        """A socket is gone, or never came to be."""
        if link.state is not LinkState.CLOSED:
            error = errors.Unavailable(reason, endpoint=link.name)
            self.channel.link_lost(link, error, self._world.now)
            self.settle()

    def _dialled(self, link: Link, socket: Socket | None) -> None:
        if socket is None:
            self.lost(link, "cannot connect: Connection refused")
        elif link.state is not LinkState.CONNECTING:
            socket.abort()
        else:
            link.transport = Wire(self, link, socket)
            socket.read(not self.client.stopped)
            self.channel.link_opened(link, self._world.now)
            self.settle()

    def settle(self) -> None:
        """After an input: send, wake, open and close, set the timer."""
        if self._world.over:
            return
        channel = self.channel
        for link in channel.links:
            if link.transport is not None:
                link.transport.flush()
        ready, channel.ready = channel.ready, []
        for item in ready:
            if isinstance(item, Watcher):
                self._check_buffer(item)
            if item.waiter is not None:
                item.waiter.set_result(None)
        opening, channel.opening = channel.opening, []
        closing, channel.closing = channel.closing, []
        for link in closing:
            if link.transport is not None and not link.transport.socket.closed:
                if not link.transport.rest:  # else it ends within a frame: what has not left must not leave
                    link.transport.flush()
                if link.conn.error is None and not channel.closed and not channel.carriers._machines:
                    link.transport.check_farewell(self._world.now)
                link.transport.socket.close()
        for link in opening:
            self._dial(link)
        notes, channel.notes = channel.notes, []
        for note in notes:
            self.client._tell(*note)
        self._set_timer()

    def _check_buffer(self, watcher: Watcher) -> None:
        """S19: a watch holds no more unread than it may; one response may be as large as it is."""
        options = self.channel.options
        if len(watcher.inbox) > 1 and watcher.buffered_events > options.watch_buffer_events:
            raise InvariantError(f"S19 {watcher.buffered_events} events held unread: {watcher.request}")

    def _dial(self, link: Link) -> None:
        def dialled(socket: Socket | None) -> None:
            self.client.soon(lambda: self._dialled(link, socket))

        self.client.network.dial(self.client.name, link.address.host, dialled)

    def _set_timer(self) -> None:
        when = self.channel.next_timer()
        if self._timer is not None and self._timer.action is not None:
            if self._timer.when == when:
                return
            self._timer.cancel()
        self._timer = None
        if when is not None:
            self._timer = self.client.later(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        timer = self.channel.next_timer()
        if timer is not None and timer <= self._world.now:
            self.channel.handle_timer(self._world.now)
        self.settle()

    def sockets(self) -> list[Socket]:
        """Of all links."""
        return [each.transport.socket for each in self.channel.links if each.transport is not None]

    def close(self) -> None:
        """End everything; calls that wait get `ClientClosed`."""
        self.channel.close(self._world.now)
        self.settle()
        if self._timer is not None:
            self._timer.cancel()


class SimClient(Process, Front, AsyncCommands):
    """A client in the simulated world.

    Args:
        name: of the process, for the network and the notes.
        options: as for the real clients.

    Attributes:
        drivers: by kind of traffic, or by endpoint.
    """

    def __init__(
        self, world: World, network: Network, name: str, endpoints: Sequence[str], **options: Any
    ) -> None:
        Process.__init__(self, world)
        self.network = network
        self.name = name
        self.drivers: dict[str, SimDriver] = {}
        self.whole: Callable[[Sending], None] = lambda sending: None
        self.create: Callable[[bytes], None] = lambda message: None
        self._closed = False
        Front.__init__(self, endpoints, **options)

    # The process.

    def listen(self, whole: Callable[[Sending], None], create: Callable[[bytes], None]) -> None:
        """Have somebody told of each request whose last octet leaves, and of each request for a watcher."""
        self.whole, self.create = whole, create

    def stop(self, stopped: bool) -> None:
        """Let the process stand still, or go on."""
        super().stop(stopped)
        for driver in self.drivers.values():
            for socket in driver.sockets():
                socket.read(not stopped)

    def spawn(self, coroutine: Coroutine[Any, None, Any]) -> Task:
        """Begin a task."""
        return Task(coroutine, self.soon)

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        future = Future()
        timer = self.later(self.world.now + seconds, lambda: future.set_result(None))
        try:
            await future
        finally:
            timer.cancel()

    # What commands are run on.

    async def _run(self, op: Op[T], timeout: Timeout) -> T:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._options.timeout
        return await run(op, self, deadline_after(timeout, self.world.now))

    def _streams(self) -> SimDriver:  # type: ignore[override]  # has what is used of one
        return self._driver("streams")

    def _driver(self, kind: str, endpoint: str | None = None) -> SimDriver:
        name = kind if endpoint is None else endpoint
        driver = self.drivers.get(name)
        if driver is None:
            if self._closed:
                raise errors.ClientClosed("the client is closed")
            driver = self.drivers[name] = SimDriver(self, self._new_channel(endpoint))
        return driver

    def _new_channel(self, endpoint: str | None) -> Channel:
        options = self._options if endpoint is None else self._options.at(endpoint)
        addresses = self._addresses if endpoint is None else [parse_endpoint(endpoint)]
        return Channel(options, list(addresses), self.world.rng, "purecd/sim")

    def _tell(self, event: str, endpoint: str, detail: str) -> None:
        self.world.note(self.name, event, endpoint, detail)

    def _tell_watch(self, event: str, detail: str) -> None:
        self.world.note(self.name, "watch", event, detail)

    def close(self) -> None:
        """End everything the client has open."""
        self._closed = True
        for driver in self.drivers.values():
            driver.close()


async def run(op: Op[T], client: SimClient, deadline: float | None) -> T:
    """Run an operation to its end, its clean-up included; as the real fronts do it."""
    try:
        effect = op.send(None)
        while True:
            try:
                result = await _perform(effect, client, deadline)
            except BaseException as error:
                if exchange.ends_operation(effect, error):
                    deadline = client.world.now + CLEAN_UP  # a little time of its own
                effect = op.throw(error)
            else:
                effect = op.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def _perform(effect: Effect, client: SimClient, deadline: float | None) -> Any:
    if isinstance(effect, Call):
        exchange.encode(effect, client.max_send_size, deadline)
        effect.fail_fast = client.fail_fast
        effect.retry = client.retry
        message = await client._driver("calls", effect.endpoint).call(effect)
        return exchange.decode(effect, message)
    if isinstance(effect, Sleep):
        seconds = effect.seconds * (1 + effect.jitter * (2 * client.world.rng.random() - 1))
        if deadline is not None and seconds >= deadline - client.world.now:
            raise exchange.out_of_time("the time was over before the next attempt")
        return await client.sleep(seconds)
    if isinstance(effect, Refresh):
        return await client._driver("calls", effect.call.endpoint).refresh(effect, deadline)
    if isinstance(effect, Elsewhere):
        return client._driver("calls", effect.call.endpoint).elsewhere(effect.call)
    if isinstance(effect, Attach):
        source = effect.source
        if isinstance(source, Call):
            exchange.encode(source, client.max_send_size, None)
        _driver_of(source, client).attach(source)
        return source
    if isinstance(effect, Next):
        return await _next(effect, client, deadline)
    if isinstance(effect, Detach):
        return _driver_of(effect.source, client).detach(effect.source)
    if isinstance(effect, Now):
        return client.world.now
    if isinstance(effect, RandomId):
        return client.world.rng.getrandbits(62) + 1
    raise TypeError(f"no effect: {effect!r}")


def _driver_of(source: Any, client: SimClient) -> SimDriver:
    return client._driver(source.channel, getattr(source, "endpoint", None))


async def _next(effect: Next, client: SimClient, deadline: float | None) -> Any:
    until = deadline
    if effect.timeout is not None:
        own = deadline_after(effect.timeout, client.world.now)
        until = own if own is None or deadline is None else min(own, deadline)
    driver = _driver_of(effect.source, client)
    try:
        return await driver.next(effect.source, until)
    except errors.EtcdError:
        raise
    except TimeoutError:
        if deadline is not None and until == deadline:
            raise exchange.nothing_in_time(driver.channel) from None
        raise
