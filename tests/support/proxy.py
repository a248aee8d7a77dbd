# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that does to connections what bad networks do.

One thread per proxy, in front of one endpoint. Directions are the client's: ``tx`` is what the
client sends, ``rx`` what it receives. A command has been carried out when it returns; faults stay
until `heal`. What userspace cannot do: drop a SYN, so a new connection is always accepted unless
`refuse` closed the port.

    with FaultProxy(server.endpoint) as proxy:
        client = purecd.Client(proxy.endpoint)
        proxy.blackhole()
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Callable, Literal
from urllib.parse import urlsplit

Direction = Literal["tx", "rx"]
Ending = Literal["fin", "rst"]

Ready = AbstractSet[object]  # sockets that can be read or written, as asked for

READ_SIZE = 65_536
ROOM = 1 << 20  # bytes that a direction holds before the proxy reads no more, like a full window


class Faults:
    """What is done to one direction of every connection."""

    def __init__(self) -> None:
        self.blackhole = False
        self.stop_reading = False
        self.delay = 0.0  # seconds
        self.jitter = 0.0  # seconds, each way around delay
        self.bandwidth: float | None = None  # bytes per second
        self.slice: int | None = None  # bytes per send
        self.slice_gap = 0.0  # seconds between two sends
        self.cut: tuple[int, Ending] | None = None  # bytes of a new connection, then how it ends


class Flow:
    """One direction of one connection: bytes read from `source`, held, written to `target`."""

    def __init__(self, source: socket.socket, target: socket.socket, faults: Faults) -> None:
        self.source = source
        self.target = target
        self.faults = faults
        self.held: deque[tuple[float, bytes]] = deque()  # (when due, bytes)
        self.size = 0  # bytes in held
        self.passed = 0  # bytes written to target
        self.cut = faults.cut
        self.send_at = 0.0  # bandwidth and slices: not before
        self.eof = False  # source has ended
        self.finished = False  # target was told so

    def wants_input(self) -> bool:
        return not (self.eof or self.faults.stop_reading or self.size >= ROOM)

    def due_at(self) -> float | None:
        """When the next bytes may be written; ``None`` when there are none or they may not."""
        if self.faults.blackhole or not self.held:
            return None
        return max(self.held[0][0], self.send_at)

    def receive(self, now: float, rng: random.Random) -> None:
        try:
            data = self.source.recv(READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self.eof = True
            return
        due = now + self.faults.delay + rng.uniform(-1, 1) * self.faults.jitter
        if self.held:
            due = max(due, self.held[-1][0])  # TCP keeps the order
        self.held.append((due, data))
        self.size += len(data)

    def send(self, now: float) -> int:
        """Write what one send may take; bytes written."""
        due, data = self.held.popleft()
        most = len(data)
        if self.faults.slice:
            most = min(most, self.faults.slice)
        if self.faults.bandwidth:
            most = min(most, max(1, int(self.faults.bandwidth / 100)))  # a hundredth second's worth
        if self.cut:
            most = min(most, max(0, self.cut[0] - self.passed))
        try:
            count = self.target.send(data[:most]) if most else 0
        except BlockingIOError:
            count = 0
        if count < len(data):
            self.held.appendleft((due, data[count:]))
        self.size -= count
        self.passed += count
        if self.faults.bandwidth:
            self.send_at = max(now, self.send_at) + count / self.faults.bandwidth
        if self.faults.slice:
            self.send_at = max(self.send_at, now + self.faults.slice_gap)
        return count

    def must_cut(self) -> bool:
        return self.cut is not None and self.passed >= self.cut[0]


class Link:
    """One client's connection and ours to the server."""

    def __init__(self, client: socket.socket, server: socket.socket, tx: Faults, rx: Faults) -> None:
        self.client = client
        self.server = server
        self.connected = False
        self.flows: dict[Direction, Flow] = {"tx": Flow(client, server, tx), "rx": Flow(server, client, rx)}


def close_with_reset(end: socket.socket) -> None:
    """Close `end` with RST instead of FIN."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


class FaultProxy:
    """A proxy on a free port of 127.0.0.1 in front of `target`, running from entry to exit.

    Args:
        target: ``host:port``, or a URL whose scheme `endpoint` keeps.
        seed: for the jitter.

    Attributes:
        port: TCP port it listens on, known from entry on.
        connections: count of connections accepted so far.
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        scheme, _, address = target.rpartition("://")
        parts = urlsplit(f"//{address}")
        self._target = (parts.hostname or "127.0.0.1", parts.port or 2379)
        self._scheme = f"{scheme}://" if scheme else ""
        self._rng = random.Random(seed)
        self._faults: dict[Direction, Faults] = {"tx": Faults(), "rx": Faults()}
        self._links: list[Link] = []
        self._ended: list[socket.socket] = []  # FIN sent, the other side's awaited
        self._accepting = True
        self._commands: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="FaultProxy", daemon=True)
        self.connections = 0
        self._transferred: dict[Direction, int] = {"tx": 0, "rx": 0}
        self._listener: socket.socket | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Where clients connect, with the target's scheme."""
        return f"{self._scheme}127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """Count of connections open now."""
        return len(self._links)

    @property
    def transferred(self) -> dict[Direction, int]:
        """Bytes passed on so far, per direction; all that an end has received is counted."""
        if self._thread.is_alive():
            self._do(lambda: None)  # it may be between sending and counting
        return dict(self._transferred)

    def __enter__(self) -> FaultProxy:
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.setblocking(False)
        self._listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._stop)
        self._thread.join()
        self._wake_in.close()
        self._wake_out.close()

    # --- commands ---

    def drop(self) -> None:
        """End every connection in order (FIN), both ways."""
        self._do(lambda: self._close_all("fin"))

    def reset(self) -> None:
        """End every connection with RST, both ways."""
        self._do(lambda: self._close_all("rst"))

    def refuse(self) -> None:
        """Close the port: new connections are refused, open ones live on."""
        self._do(self._unlisten)

    def pause_accept(self) -> None:
        """Leave new connections in the backlog: they connect and get no answer."""
        self._do(lambda: setattr(self, "_accepting", False))

    def blackhole(self, *directions: Direction) -> None:
        """Let nothing pass, ends of connections included; kept and delivered after `heal`."""
        self._set(directions, blackhole=True)

    def stop_reading(self, *directions: Direction) -> None:
        """Read nothing, so that the sender's buffers fill."""
        self._set(directions, stop_reading=True)

    def delay(self, seconds: float, jitter: float = 0.0, *directions: Direction) -> None:
        """Deliver everything `seconds` later, give or take `jitter` seconds, in order."""
        self._set(directions, delay=seconds, jitter=jitter)

    def bandwidth(self, rate: float, *directions: Direction) -> None:
        """Pass at most `rate` bytes per second on each connection."""
        self._set(directions, bandwidth=rate)

    def slice(self, size: int, gap: float = 0.0, *directions: Direction) -> None:
        """Write at most `size` bytes at a time, `gap` seconds apart."""
        self._set(directions, slice=size, slice_gap=gap)

    def cut_after(self, count: int, direction: Direction = "rx", ending: Ending = "fin") -> None:
        """End each connection once `count` more bytes went `direction`: of an open one from now on,
        of a new one from its start. Byte `count` is delivered, the next is not."""

        def arm() -> None:
            self._faults[direction].cut = (count, ending)
            for link in self._links:
                flow = link.flows[direction]
                flow.cut = (flow.passed + count, ending)

        self._do(arm)

    def heal(self) -> None:
        """Undo every fault; held bytes go on, the port is open again."""

        def undo() -> None:
            for faults in self._faults.values():
                vars(faults).update(vars(Faults()))
            for link in self._links:
                for flow in link.flows.values():
                    flow.cut = None
                    flow.send_at = 0.0
            self._accepting = True
            self._listen()

        self._do(undo)

    def _set(self, directions: tuple[Direction, ...], **values: object) -> None:
        def change() -> None:
            for direction in directions or ("tx", "rx"):
                vars(self._faults[direction]).update(values)

        self._do(change)

    def _do(self, command: Callable[[], None]) -> None:
        """Have the proxy's thread run `command`, so that nothing here needs a lock."""
        done = threading.Event()
        self._commands.append((command, done))
        self._wake_in.send(b"x")
        if not done.wait(10):
            raise RuntimeError("the proxy's thread is gone")

    # --- the thread ---

    def _run(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            with selectors.PollSelector() as selector:
                self._register(selector, now)
                ready: Ready = {key.fileobj for key, _ in selector.select(self._timeout(now))}
            self._run_commands(ready)
            if self._listener in ready and self._accepting:
                self._accept()
            for link in list(self._links):
                self._serve(link, ready)
            for end in [end for end in self._ended if end in ready]:
                self._discard(end)

    def _register(self, selector: selectors.BaseSelector, now: float) -> None:
        interest: dict[socket.socket, int] = {self._wake_out: selectors.EVENT_READ}
        if self._listener is not None and self._accepting:
            interest[self._listener] = selectors.EVENT_READ
        interest.update((end, selectors.EVENT_READ) for end in self._ended)
        for link in self._links:
            if not link.connected:
                interest[link.server] = selectors.EVENT_WRITE
                continue
            for flow in link.flows.values():
                if flow.wants_input():
                    interest[flow.source] = interest.get(flow.source, 0) | selectors.EVENT_READ
                due = flow.due_at()
                if due is not None and due <= now:
                    interest[flow.target] = interest.get(flow.target, 0) | selectors.EVENT_WRITE
        for source, events in interest.items():
            selector.register(source, events)

    def _timeout(self, now: float) -> float | None:
        """Seconds to the next bytes that become due."""
        dues = [flow.due_at() for link in self._links if link.connected for flow in link.flows.values()]
        waits = [due - now for due in dues if due is not None and due > now]
        return min(waits) if waits else None

    def _run_commands(self, ready: Ready) -> None:
        if self._wake_out in ready:
            self._wake_out.recv(4096)
        while self._commands:
            command, done = self._commands.popleft()
            command()
            done.set()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it left the backlog again
        server = socket.socket()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connect_ex(self._target)
        self.connections += 1
        self._links.append(Link(client, server, self._faults["tx"], self._faults["rx"]))

    def _serve(self, link: Link, ready: Ready) -> None:
        if not link.connected:
            if link.server in ready:
                link.connected = True
                if link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._end(link, "rst")
            return
        now = time.monotonic()
        for direction, flow in link.flows.items():
            try:
                self._move(direction, flow, ready, now)
            except OSError:  # an end was reset: the other learns it the same way, but for a blackhole
                if not flow.faults.blackhole:
                    self._end(link, "rst")
                    return
                flow.eof = True
            if flow.must_cut():
                assert flow.cut is not None
                self._end(link, flow.cut[1])
                return
        if all(flow.finished for flow in link.flows.values()):
            self._end(link, "fin")

    def _move(self, direction: Direction, flow: Flow, ready: Ready, now: float) -> None:
        due = flow.due_at()
        if due is not None and due <= now and flow.target in ready:
            self._transferred[direction] += flow.send(now)
        if flow.source in ready and flow.wants_input():
            flow.receive(now, self._rng)
        if flow.eof and not flow.held and not flow.finished and not flow.faults.blackhole:
            flow.target.shutdown(socket.SHUT_WR)
            flow.finished = True

    def _end(self, link: Link, ending: Ending) -> None:
        self._links.remove(link)
        for flow in link.flows.values():
            if ending == "rst":
                close_with_reset(flow.source)
            elif flow.eof:
                flow.source.close()
            else:  # close() would send RST when there is something unread, now or later
                self._hang_up(flow.source)

    def _hang_up(self, end: socket.socket) -> None:
        try:
            end.shutdown(socket.SHUT_WR)
        except OSError:  # reset meanwhile
            end.close()
        else:
            self._ended.append(end)

    def _discard(self, end: socket.socket) -> None:
        try:
            while end.recv(READ_SIZE):
                pass
        except BlockingIOError:
            return
        except OSError:  # reset
            pass
        self._ended.remove(end)
        end.close()

    def _close_all(self, ending: Ending) -> None:
        for link in list(self._links):
            self._end(link, ending)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen(128)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _stop(self) -> None:
        self._stopping = True
        self._close_all("rst")
        for end in self._ended:
            end.close()
        self._unlisten()
