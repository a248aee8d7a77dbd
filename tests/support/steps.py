# SPDX-License-Identifier: Apache-2.0
"""A channel and its servers in one thread, with a clock that only moves when told.

`World` does what a driver does, without sockets: it carries bytes between the links of one
`Channel` and an `H2Peer` each, runs operations, and lets a test refuse, freeze and cut
connections or stop them at an exact byte.
"""

from __future__ import annotations

from typing import Any, Callable

from purecd import errors
from purecd.core import exchange, kv
from purecd.core.channel import Channel
from purecd.core.endpoints import parse_endpoint
from purecd.core.link import Link, LinkState
from purecd.core.op import Attach, Call, Detach, Elsewhere, Next, Refresh, Sleep
from purecd.options import Options
from purecd.pb import messages
from tests.support.h2peer import H2Peer, Request

Answer = Callable[[H2Peer, Request], None]

CLUSTER_ID = 0xC1


class Steady:
    """A random source without surprises: rotations start at the first endpoint, jitter is 0."""

    def __init__(self) -> None:
        self._first = True

    def random(self) -> float:
        first, self._first = self._first, False
        return 0.0 if first else 0.5


class Member:
    """What one server answers: an empty reply with a header, unless told otherwise.

    Attributes:
        answers: by name of the RPC, what to do instead, as long as it stays.
        once: by name of the RPC, what to do instead, one after the other.
        silent: names of RPCs that are never answered.
    """

    def __init__(self, cluster_id: int = CLUSTER_ID) -> None:
        self.cluster_id = cluster_id
        self.answers: dict[str, Answer] = {}
        self.once: dict[str, list[Answer]] = {}
        self.silent: set[str] = set()

    def __call__(self, peer: H2Peer, request: Request) -> None:
        name = request.name
        if is_greeting(request):
            name = "greeting"
        if self.once.get(name):
            self.once[name].pop(0)(peer, request)
        elif name in self.answers:
            self.answers[name](peer, request)
        elif name not in self.silent:
            peer.ok(request, self.reply(request))

    def reply(self, request: Request, **fields: Any) -> bytes:
        """The bytes of a good reply."""
        name = "DeleteRange" if request.name == "DeleteRange" else request.name
        data: bytes = getattr(messages, f"{name}Response")(header=self.header(), **fields).SerializeToString()
        return data

    def header(self) -> Any:
        return messages.ResponseHeader(cluster_id=self.cluster_id, member_id=1, revision=7, raft_term=2)


def is_greeting(request: Request) -> bool:
    """Whether it is the serializable read of nothing that a link begins with."""
    if request.name != "Range" or not request.messages:
        return False
    read = messages.RangeRequest.FromString(request.messages[0])
    return read.key == b"\0" and read.serializable and read.count_only and not read.max_mod_revision


def refusal(code: int, text: str) -> Answer:
    return lambda peer, request: peer.refuse(request, code, text)


def refusing(error: type[errors.EtcdError]) -> Answer:
    """Refuse with the text and code that stand for an error class."""
    assert error.default_code is not None
    return refusal(int(error.default_code), error.text)


def hand_out_tokens(world: World, name: str = "t") -> list[str]:
    """Have the members hand out tokens t1, t2, …; the tokens so far."""
    given: list[str] = []

    def authenticate(member: Member) -> Answer:
        def give(peer: H2Peer, request: Request) -> None:
            given.append(f"{name}{len(given) + 1}")
            peer.ok(request, member.reply(request, token=given[-1]))

        return give

    for member in world.members.values():
        member.answers["Authenticate"] = authenticate(member)
    return given


class Run:
    """One operation under way."""

    def __init__(self, world: World, op: Any, deadline: float | None) -> None:
        self._world = world
        self._op = op
        self.deadline = deadline
        self.effect: Any = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.sleeps: list[float] = []
        self.calls: list[Any] = []  # of type Call
        self.wake_at: float | None = None

    def value(self) -> Any:
        """The result, or the error raised."""
        assert self.done, f"still waiting for {self.effect!r}"
        if self.error is not None:
            raise self.error
        return self.result

    def next_moment(self) -> float | None:
        """When time alone takes it further, monotonic seconds."""
        if self.done:
            return None
        return self.wake_at if isinstance(self.effect, Sleep) else self.deadline

    def step(self, value: Any = None, error: BaseException | None = None) -> None:
        """Go on until the operation waits for something, or ends."""
        while True:
            try:
                effect = self._op.throw(error) if error is not None else self._op.send(value)
            except StopIteration as end:
                self.done, self.result = True, end.value
                return
            except Exception as raised:
                self.done, self.error = True, raised
                return
            self.effect, value, error = effect, None, None
            try:
                if not self._begin(effect):
                    return
                value = self._finished(effect)
            except errors.EtcdError as raised:
                error = raised

    def _begin(self, effect: Any) -> bool:
        """Start an effect; whether it is over already."""
        world, channel = self._world, self._world.channel
        if type(effect) is Call:
            exchange.encode(effect, world.options.max_send_size, self.deadline)
            effect.fail_fast = world.options.fail_fast
            self.calls.append(effect)
            channel.start(effect, world.now)
            return effect.done
        if isinstance(effect, Refresh):
            channel.refresh(effect, world.now)
            return effect.done
        if isinstance(effect, Sleep):
            self.sleeps.append(round(effect.seconds, 6))
            if self.deadline is not None and world.now + effect.seconds >= self.deadline:
                raise exchange.out_of_time("the time was over before the next attempt")
            self.wake_at = world.now + effect.seconds
            return False
        if isinstance(effect, Attach):
            if isinstance(effect.source, Call):
                exchange.encode(effect.source, world.options.max_send_size, self.deadline)
            channel.attach(effect.source, world.now)
            return True
        if isinstance(effect, Detach):
            channel.detach(effect.source, world.now)
            return True
        if isinstance(effect, Elsewhere):
            channel.elsewhere(effect.call, world.now)
            return True
        assert isinstance(effect, Next), effect
        source = effect.source
        self._item = channel.take(source, world.now)
        return self._item is not None or source.error is not None or source.closed

    def _finished(self, effect: Any) -> Any:
        if type(effect) is Call:
            if effect.error is not None:
                raise effect.error
            return exchange.decode(effect, effect.message)
        if isinstance(effect, Refresh):
            if effect.error is not None:
                raise effect.error
            return effect.again
        if isinstance(effect, Next):
            if self._item is None and effect.source.error is not None:
                raise effect.source.error
            return self._item
        return getattr(effect, "source", None)

    def look(self) -> bool:
        """Go on if what is waited for has happened."""
        effect = self.effect
        if self.done or effect is None:
            return False
        if isinstance(effect, Sleep):
            if self.wake_at is None or self._world.now < self.wake_at:
                return False
            self.wake_at = None
        elif isinstance(effect, Next):
            if not self._begin(effect):
                return False
        elif not effect.done:
            return False
        self.effect = None
        try:
            value = self._finished(effect)
        except errors.EtcdError as error:
            self.step(error=error)
        else:
            self.step(value)
        return True


class World:
    """One channel, its clock and its servers.

    Args:
        endpoints: as the user would write them; each has a `Member` of its own.
        options: of the client.

    Attributes:
        now: the clock, monotonic seconds.
        members: by endpoint.
        refused: endpoints where nobody listens.
        unreachable: endpoints where dialling takes for ever.
        frozen: endpoints whose connections carry nothing in either direction.
        capacity: by endpoint, how many more bytes the kernel takes; no entry for any number.
        settings: by endpoint, HTTP/2 settings of its server.
        dialled: time and endpoint of each attempt to connect.
    """

    def __init__(self, *endpoints: str, **options: Any) -> None:
        names = endpoints or ("a:1",)
        self.options = Options(names, **options)
        addresses = [parse_endpoint(each) for each in names]
        self.channel = Channel(self.options, addresses, Steady(), "purecd/test")
        self.now = 1000.0
        self.members = {each: Member() for each in names}
        self.refused: set[str] = set()
        self.unreachable: set[str] = set()
        self.frozen: set[str] = set()
        self.capacity: dict[str, int] = {}
        self.settings: dict[str, dict[int, int]] = {}
        self.dialled: list[tuple[float, str]] = []
        self.notes: list[tuple[str, str, str]] = []
        self.peers: dict[Link, H2Peer] = {}
        self.runs: list[Run] = []
        self._backlog: dict[Link, bytes] = {}
        self._gone: set[Link] = set()

    # Operations.

    def run(self, op: Any, timeout: float | None = 10.0) -> Run:
        """Start an operation and carry bytes until all is quiet."""
        run = Run(self, op, None if timeout is None else self.now + timeout)
        self.runs.append(run)
        run.step()
        self.settle()
        return run

    def do(self, op: Any, timeout: float | None = 10.0) -> Any:
        """Run an operation to its end, letting time pass as needed; its result."""
        run = self.run(op, timeout)
        for _ in range(1000):
            if run.done:
                return run.value()
            moment = self._next_moment()
            assert moment is not None, f"nothing will ever happen; waiting for {run.effect!r}"
            self.advance(max(0.0, moment - self.now))
        raise AssertionError(f"no end of {run.effect!r}")

    # Bytes.

    def settle(self) -> None:
        """Carry bytes and run operations on until nothing moves any more."""
        for _ in range(10_000):
            if not self._round():
                return
        raise AssertionError("no end of traffic")

    def _round(self) -> bool:
        channel = self.channel
        moved = self._open_and_close()
        for link, peer in list(self.peers.items()):
            if link.name in self.frozen or link in self._gone:
                continue
            moved = self._carry(link, peer) or moved
        channel.ready.clear()
        self.notes.extend(channel.notes)
        channel.notes.clear()
        for run in list(self.runs):
            moved = run.look() or moved
        return moved

    def _open_and_close(self) -> bool:
        channel = self.channel
        opening, channel.opening = channel.opening, []
        closing, channel.closing = channel.closing, []
        for link in closing:
            peer = self.peers.get(link)
            reachable = peer is not None and link not in self._gone and link.name not in self.frozen
            if peer is not None and reachable and link not in self._backlog:
                peer.receive(link.data_to_send())
            self._gone.add(link)
        for link in opening:
            self.dialled.append((round(self.now, 6), link.name))
            if link.name in self.refused:
                error = errors.Unavailable("cannot connect: Connection refused", endpoint=link.name)
                channel.link_lost(link, error, self.now)
            elif link.name not in self.unreachable:
                self.peers[link] = H2Peer(self.members[link.name], self.settings.get(link.name))
                channel.link_opened(link, self.now)
        return bool(opening or closing)

    def _carry(self, link: Link, peer: H2Peer) -> bool:
        moved = self._write(link, peer)
        back = peer.data_to_send()
        if back:
            self.channel.link_received(link, back, self.now)
        return moved or bool(back)

    def _write(self, link: Link, peer: H2Peer) -> bool:
        data = self._backlog.pop(link, b"") + link.data_to_send()
        room = self.capacity.get(link.name, len(data))
        taken = data[:room]
        if link.name in self.capacity:
            self.capacity[link.name] -= len(taken)
        if len(taken) < len(data):
            self._backlog[link] = data[room:]
        if taken:
            link.data_written(len(taken))
            peer.receive(taken)
        return bool(taken)

    # What happens to connections.

    def link(self, endpoint: str = "a:1") -> Link:
        """The newest open connection to an endpoint."""
        return [each for each in self.peers if each.name == endpoint and each not in self._gone][-1]

    def is_connected(self, endpoint: str) -> bool:
        """Whether there is an open connection to an endpoint."""
        return any(each.name == endpoint and each not in self._gone for each in self.peers)

    def current(self) -> Link:
        """The connection that takes new calls."""
        link = self.channel.current
        assert link is not None
        return link

    def peer(self, endpoint: str = "a:1") -> H2Peer:
        """The server's side of it."""
        return self.peers[self.link(endpoint)]

    def cut(self, endpoint: str = "a:1", reason: str = "connection closed by the peer") -> None:
        """The newest connection to an endpoint ends, and what it has not carried is gone."""
        link = self.link(endpoint)
        self._gone.add(link)
        self._backlog.pop(link, None)
        self.channel.link_lost(link, errors.Unavailable(reason, endpoint=endpoint), self.now)
        self.settle()

    def requests(self, name: str, endpoint: str | None = None) -> list[Request]:
        """All requests for an RPC whose message reached a server whole, greetings left out."""
        return [
            request
            for link, peer in self.peers.items()
            for request in peer.requests
            if endpoint in (None, link.name)
            and request.name == name
            and request.messages
            and not is_greeting(request)
        ]

    def open_links(self) -> list[str]:
        """Endpoints of the connections that the channel holds, oldest first."""
        return [each.name for each in self.channel.links if each.state is not LinkState.CLOSED]

    # Time.

    def _next_moment(self) -> float | None:
        moments = [run.next_moment() for run in self.runs]
        moments.append(self.channel.next_timer())
        return min((each for each in moments if each is not None), default=None)

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every timer on the way."""
        until = self.now + seconds
        self.settle()
        for _ in range(10_000):
            moment = self._next_moment()
            if moment is None or moment > until:
                self.now = until
                return
            self.now = max(self.now, moment)
            self._due()
            self.settle()
        raise AssertionError("no end of timers")

    def _due(self) -> None:
        timer = self.channel.next_timer()
        if timer is not None and timer <= self.now:
            self.channel.handle_timer(self.now)
        for run in self.runs:
            effect = run.effect
            if run.done or run.deadline is None or self.now < run.deadline or isinstance(effect, Sleep):
                continue
            if type(effect) is Call:
                self.channel.expire(effect, self.now)
            elif effect is not None:
                run.effect = None
                run.step(error=exchange.out_of_time("nothing arrived before the deadline"))


def used(*endpoints: str, **options: Any) -> World:
    """A world whose channel has been of use for a while."""
    world = World(*endpoints, **options)
    world.do(kv.get("k"))
    world.advance(5.0)
    return world


def answer(world: World, request: Request, endpoint: str = "a:1") -> None:
    """Answer a request that its member was silent about."""
    world.peer(endpoint).ok(request, world.members[endpoint].reply(request))
    world.settle()
