# SPDX-License-Identifier: Apache-2.0
"""The network: connections that delay bytes, cut them anywhere, hold them back, and break.

1. A connection is two pipes. What is put into a pipe comes out in the same order, later, in pieces that
   have nothing to do with those that were put in.
2. Loss shows as delay, as it does in TCP: a *blocked* path delivers nothing until it is open again, then
   everything, unless the connection broke meanwhile.
3. A pipe holds so many octets; the sender learns how many were taken, as from `send` of a socket.
4. Who does not read (a stopped process, a throttled one) fills the pipe, and then the sender waits.
5. FIN comes after the bytes, RST before them. Bytes to a closed socket are answered with RST.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Protocol

from tests.sim.world import Timer, World

RETRANSMIT = 0.2  # seconds until TCP tries again after an outage, at least


class Owner(Protocol):
    """Who has one end of a connection."""

    def received(self, data: bytes) -> None:
        """Bytes arrived."""

    def ended(self) -> None:
        """FIN arrived: nothing more will."""

    def reset(self) -> None:
        """RST arrived: the connection is gone."""

    def writable(self) -> None:
        """There is room for more after `send` took less than all."""


class Path:
    """One direction between a client and a member.

    Attributes:
        latency: seconds at least; up to `jitter` more are added to each piece.
        cut: with this probability a piece is cut in two, somewhere.
        blocked: nothing comes through at the moment.
    """

    def __init__(self, world: World, latency: float, jitter: float, cut: float, capacity: int) -> None:
        self.world = world
        self.latency = latency
        self.jitter = jitter
        self.cut = cut
        self.capacity = capacity
        self.blocked = False
        self.pipes: dict[Pipe, None] = {}

    def delay(self) -> float:
        """For one piece."""
        return self.latency + self.jitter * self.world.rng.random()

    def block(self, blocked: bool) -> None:
        """Begin or end an outage."""
        self.blocked = blocked
        if not blocked:
            for pipe in list(self.pipes):
                pipe.stall(RETRANSMIT * (1 + self.world.rng.random()))


class Pipe:
    """The bytes on their way to one socket."""

    def __init__(self, path: Path, receiver: Socket) -> None:
        self._path = path
        self._world = path.world
        self._receiver = receiver
        self._queue: deque[tuple[float, bytes]] = deque()  # when it may arrive, and what; b"" is FIN
        self._timer: Timer | None = None
        self._size = 0
        self._full = False
        path.pipes[self] = None

    def put(self, data: bytes) -> int:
        """Send bytes; how many of them there was room for."""
        room = self._path.capacity - self._size
        if len(data) > room:
            self._full = True
            data = data[:room]
        if data:
            self._append(data)
        return len(data)

    def finish(self) -> None:
        """Nothing more will be put in."""
        self._append(b"")

    def _append(self, data: bytes) -> None:
        when = self._world.now + self._path.delay()
        if self._queue:
            when = max(when, self._queue[-1][0])
        self._queue.append((when, data))
        self._size += len(data)
        self.arm()

    def stall(self, seconds: float) -> None:
        """A piece was lost: nothing comes out before it was sent again."""
        until = self._world.now + seconds
        self._queue = deque((max(when, until), data) for when, data in self._queue)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.arm()

    def arm(self) -> None:
        """See to it that the next piece comes out, if anything may."""
        if self._timer is None and self._queue and not self._path.blocked and self._receiver.reading:
            self._timer = self._world.at(self._queue[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        if self._path.blocked or not self._receiver.reading or not self._queue:
            return  # whoever changes that arms the pipe again
        when, data = self._queue.popleft()
        rng = self._world.rng
        if len(data) > 1 and rng.chance(self._path.cut):
            size = 1 + rng.below(len(data) - 1)
            self._queue.appendleft((self._world.now + (0.001 if size & 1 else 0.0), data[size:]))
            data = data[:size]
        elif data:
            while self._queue and self._queue[0][0] <= when and self._queue[0][1]:
                data += self._queue.popleft()[1]  # read together
        self._size -= len(data)
        if self._full:
            self._full = False
            self._world.after(self._path.latency, self._receiver.peer.room)
        if data:
            self._receiver.arrive(data)
        else:
            self._receiver.arrive_end()
        self.arm()

    def close(self) -> None:
        """Drop what is inside."""
        self._queue.clear()
        self._size = 0
        self._path.pipes.pop(self, None)


class Socket:
    """One end of a connection.

    Attributes:
        reading: what arrives is read; set by `read`.
        closed: by this side, or broken.
        orphaned: broken by the other side, of which this one will not hear.
    """

    peer: Socket

    def __init__(self, world: World, incoming: Path) -> None:
        self.reading = False  # until somebody has it
        self.closed = False
        self.orphaned = False
        self._world = world
        self._owner: Owner | None = None
        self._ended = False
        self._incoming = Pipe(incoming, self)

    def attach(self, owner: Owner) -> None:
        """Tell who has it, and reads it."""
        self._owner = owner
        self.read(True)

    def send(self, data: bytes) -> int:
        """Send bytes; how many were taken."""
        assert not self.closed, "whoever has it knows that"
        if self._ended:
            return len(data)  # somebody in between said FIN, and takes no more
        return self.peer._incoming.put(data)

    def read(self, reading: bool) -> None:
        """Read what arrives from now on, or not."""
        self.reading = reading
        if reading:
            self._incoming.arm()

    def finish(self) -> None:
        """Send FIN behind everything; what arrives is still read."""
        if not self._ended and not self.closed:
            self._ended = True
            self.peer._incoming.finish()

    def close(self) -> None:
        """Close it; what was sent still arrives, unless something more comes in."""
        self.finish()
        self._close()

    def _close(self) -> None:
        """From now on the kernel has it and takes what arrives, whether its process stood still or not."""
        self.closed = True
        self.read(True)

    def abort(self) -> None:
        """Break the connection with RST: what is on its way is lost, in both directions."""
        if not self.closed:
            self._incoming.close()
            self._close()
            self.peer.break_off(self.peer._incoming._path)

    def cut(self) -> None:
        """Something in between breaks the connection: RST comes to both ends."""
        for end in (self, self.peer):
            end.break_off(end._incoming._path)

    def break_off(self, path: Path) -> None:
        """RST is on its way here, by `path`."""
        if path.blocked:
            self.orphaned = True
            return  # it is lost, and nobody sends it again
        self._incoming.close()
        self._world.after(path.delay(), self._broken)

    def _broken(self) -> None:
        if not self.closed:
            self._close()
            if self._owner is not None:
                self._owner.reset()

    def arrive(self, data: bytes) -> None:
        """Called by the pipe."""
        if self.closed:
            self.peer.break_off(self.peer._incoming._path)
        elif self._owner is not None:
            self._owner.received(data)

    def arrive_end(self) -> None:
        """Called by the pipe."""
        if not self.closed and self._owner is not None:
            self._owner.ended()

    def room(self) -> None:
        """Called by the pipe: it takes more."""
        if not self.closed and self._owner is not None:
            self._owner.writable()


class Host:
    """Where a member listens.

    Attributes:
        up: a process listens; without one connections are refused.
        accept: is given the member's end of each connection.
    """

    def __init__(self, name: str, accept: Callable[[Socket, str], None]) -> None:
        self.name = name
        self.accept = accept
        self.up = True


class Network:
    """All hosts, and the paths between them and clients.

    Attributes:
        dialled: told the names of client and host of each attempt to connect.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._hosts: dict[str, Host] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self.dialled: Callable[[str, str], None] = lambda client, host: None
        rng = world.rng
        self._latency = rng.pick((0.0002, 0.001, 0.02))
        self._cut = rng.pick((0.0, 0.1, 0.5))
        narrow = rng.pick((65536, 65536, 2000, 300))
        # Both together would be a line on which large values take many seconds.
        self._capacity = narrow if self._latency < 0.01 else 65536

    def add(self, host: Host) -> None:
        """A host appears."""
        self._hosts[host.name] = host

    def path(self, source: str, target: str) -> Path:
        """The way from one to another, by name."""
        key = (source, target)
        path = self._paths.get(key)
        if path is None:
            latency = self._latency * self._world.rng.between(0.5, 2)
            path = Path(self._world, latency, latency * self._world.rng.random(), self._cut, self._capacity)
            self._paths[key] = path
        return path

    def dial(self, client: str, name: str, dialled: Callable[[Socket | None], None]) -> None:
        """Connect a client to a host; `dialled` is given its end, None when it was refused."""
        out, back = self.path(client, name), self.path(name, client)
        host = self._hosts[name]
        self.dialled(client, name)

        def arrive() -> None:
            if out.blocked or back.blocked:
                self._world.after(1.0, arrive)  # SYN is sent again, 1 s later at first
            elif not host.up:
                self._world.after(back.delay(), lambda: dialled(None))
            else:
                here, there = Socket(self._world, back), Socket(self._world, out)
                here.peer, there.peer = there, here
                host.accept(there, client)
                self._world.after(back.delay(), lambda: dialled(here))

        self._world.after(out.delay(), arrive)
