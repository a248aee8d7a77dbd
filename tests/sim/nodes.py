# SPDX-License-Identifier: Apache-2.0
"""One simulated member: its process, its connections, its clock, and its way through the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from purecd.memory.calls import Handler, ServerCall, Status
from purecd.memory.connection import UNLIMITED, ServerConnection
from purecd.memory.log import Command, Done
from purecd.memory.member import Member, MemberOptions
from tests.sim.headers import HeaderDecoder, HeaderEncoder
from tests.sim.network import Host, Socket
from tests.sim.world import Chance, InvariantError, Process, Timer

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

REQUEST_TIMEOUT = 7.0  # etcd: 5 s and two election timeouts
CLUSTER_ID = 0x51D
CHUNK = 65536  # octets that a connection is asked for at once


class SimMember(Member):
    """A member that looks at its quota before it proposes only sometimes, since the database lags behind."""

    node: Node

    def refuse_over_quota(self, request: Any, now: float) -> None:
        if self.rng.random() < 0.5:
            super().refuse_over_quota(request, now)


class Ear:
    """Between a member and the outlet of one call: hears how it is answered."""

    def __init__(self, session: Session, call: ServerCall) -> None:
        self._session = session
        self._outlet: Any = call._outlet
        self._path = call.path
        call._outlet = self

    @property
    def backlog(self) -> int:
        backlog: int = self._outlet.backlog
        return backlog

    def send(self, message: Any) -> None:
        self._outlet.send(message)

    def end(self, status: Status | None) -> None:
        if status is not None:
            self._session.refused(self._outlet.stream_id, self._path, status)
        self._outlet.end(status)


class Session:
    """The member's end of one connection."""

    def __init__(self, node: Node, socket: Socket, peer: str) -> None:
        self.socket = socket
        self._node = node
        self._peer = peer
        self._rest = b""
        self._timer: Timer | None = None
        options = node.cluster.options
        self.conn = ServerConnection(
            self,
            max_concurrent_streams=options.max_concurrent_streams,
            on_output=lambda: node.stirred.setdefault(self),
        )
        self.conn._h2.encoder = HeaderEncoder()  # type: ignore[assignment]  # has what is used of one
        self.conn._h2.decoder = HeaderDecoder(self.conn._h2.decoder.max_header_list_size)
        self._pad(options.padding)
        socket.attach(self)
        socket.read(not node.stopped)
        self.settle()

    def _pad(self, most: int) -> None:
        """Have DATA sent with padding, which h2 can do and etcd never does."""
        if not most:
            return
        h2, rng = self.conn._h2, self._node.world.rng
        send_data = h2.send_data

        def padded(stream_id: int, data: bytes) -> None:
            room = h2.local_flow_control_window(stream_id) - len(data) - 1
            room = min(room, h2.max_outbound_frame_size - len(data) - 1, most)
            send_data(stream_id, data, pad_length=rng.below(room + 1) if room >= 0 else None)

        h2.send_data = padded  # type: ignore[method-assign,assignment]  # h2 pads nothing by itself

    # What the connection needs.

    def start(self, call: ServerCall, now: float) -> Handler:
        """Begin a call."""
        Ear(self, call)
        self._node.cluster.identified(self._peer, self, call)
        return self._node.member.start(call, now)

    def refused(self, stream_id: int, path: str, status: Status) -> None:
        """A call was answered by an error."""
        self._node.cluster.refusals[self.socket, stream_id] = status
        self._node.world.note(self._node.name, path, status.code, status.text)

    def request_class(self, path: str) -> Any:
        """Class of the requests of an RPC."""
        return self._node.member.request_class(path)

    # What happens to it.

    def _input(self, action: Callable[[], None]) -> None:
        if self._node.stopped:
            self._node.within(lambda: self._input(action))
        elif not self.socket.closed:
            action()
            self._node.stirred[self] = None
            self._node.settle()

    def received(self, data: bytes) -> None:
        self._input(lambda: self.conn.receive_data(data, self._node.clock()))

    def ended(self) -> None:
        self._input(lambda: self.conn.receive_eof(self._node.clock()))

    def reset(self) -> None:
        self._node.within(self._lost)

    def _lost(self) -> None:
        self.conn.receive_eof(self._node.clock())
        self.drop()

    def writable(self) -> None:
        self._node.within(self.settle)

    def settle(self) -> None:
        """Send what there is, and see when something is due."""
        more = True
        while more and not self.socket.closed:
            more = bool(self._rest)
            data = self._rest or self.conn.data_to_send(CHUNK)
            if data:
                self._rest = data[self.socket.send(data) :]
                more = not self._rest and (more or len(data) >= CHUNK)
        if self.conn.closed and not self._rest:
            self.drop()
            return
        self._timer = self._node.again(self._timer, self.conn.next_timer(), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.conn.handle_timer(self._node.clock())
        self._node.stirred[self] = None
        self._node.settle()

    def drop(self) -> None:
        """The connection is over."""
        if not self.socket.closed:
            self.socket.close()
        if self._timer is not None:
            self._timer.cancel()
        self._node.sessions.pop(self, None)
        self._node.stirred.pop(self, None)


class Proposal:
    """Something on its way into the log.

    Attributes:
        done: told about the outcome; None once it was, or the member is gone.
        index: of the entry, once it is in the log.
        reached: a leader has it, so nobody knows what becomes of it.
    """

    __slots__ = ("command", "done", "incarnation", "index", "node", "reached", "timer")

    def __init__(self, node: Node, command: Command, done: Done) -> None:
        self.node = node
        self.command = command
        self.done: Done | None = done
        self.incarnation = node.incarnation
        self.index = -1
        self.reached = False
        self.timer: Timer | None = None

    def finish(self, outcome: Any) -> None:
        """Tell who proposed it, unless it was told already or is another process by now."""
        done, self.done = self.done, None
        if self.timer is not None:
            self.timer.cancel()
        if done is not None and self.incarnation == self.node.incarnation and self.node.up:
            done(outcome)
            self.node.settle()


class Node(Process):
    """One member: its process, its clock, and how far it has come in the log.

    Attributes:
        up: the process runs.
        isolated: it reaches no other member.
        slow: seconds that applying takes at the moment.
        incarnation: how often it was started.
    """

    def __init__(self, cluster: Cluster, number: int, rate: float) -> None:
        super().__init__(cluster.world)
        self.cluster = cluster
        self.name = f"m{number}"
        self.number = number
        self.up = True
        self.isolated = False
        self.incarnation = 0
        self.lag = cluster.world.rng.pick((0.0005, 0.002, 0.05))
        self.slow = 0.0
        self.applied = 0
        self.sessions: dict[Session, None] = {}
        self.stirred: dict[Session, None] = {}  # those that may have something to send
        self.quota = 0
        self._rate = rate
        self._apply_timer: Timer | None = None
        self._timer: Timer | None = None
        self._waiting: list[tuple[int, Callable[[], None]]] = []  # reads, by the index they wait for
        self.host = Host(self.name, self._accept)
        self.member = self._new_member()

    def _new_member(self) -> SimMember:
        member = SimMember(
            rng=self.world.rng,  # type: ignore[arg-type]  # has what is used of one
            log=self.cluster,
            member_id=self.number + 1,
            cluster_id=CLUSTER_ID,
            name=self.name,
            options=self.cluster.options.member,
        )
        member.node = self
        member._rules = member._rules._replace(max_response=self.cluster.options.max_response)
        member.demote(self.clock())
        return member

    # Its clock: of its own rate.

    def clock(self) -> float:
        """What its clock shows now."""
        return self.world.now * self._rate

    def moment(self, shown: float) -> float:
        """When its clock will show that, a little later lest it shows less."""
        return shown / self._rate + 1e-6

    # Its process.

    @property
    def healthy(self) -> bool:
        """Whether it takes part."""
        return self.up and not self.stopped and not self.isolated

    def stop(self, stopped: bool) -> None:
        """Let it stand still, or go on."""
        super().stop(stopped)
        for session in self.sessions:
            session.socket.read(not stopped)
        if not stopped and self.cluster.leader is not self:
            self.member.demote(self.clock())  # it hears of the new leader before anything else
        self.cluster.changed()
        self.learn()

    def isolate(self, isolated: bool) -> None:
        """Cut it off from the other members, or connect it again."""
        self.isolated = isolated
        self.cluster.changed()
        self.learn()

    def crash(self, rudely: bool) -> None:
        """End its process at once, with FIN or RST on its connections."""
        self.up = self.host.up = False
        self.incarnation += 1
        self._waiting.clear()
        self._held.clear()
        for session in list(self.sessions):
            if rudely:
                session.socket.abort()
            session.drop()
        self.cluster.changed()

    def restart(self) -> None:
        """Start it again, from an older part of the log."""
        self.up = self.host.up = True
        self.stopped = False
        self.incarnation += 1
        self.member = self._new_member()
        saved = max(0, self.applied - self.world.rng.below(30))
        self.applied = 0
        self._apply_until(saved)
        self.member.tokens.clear()
        self.cluster.changed()
        self.learn()

    def shut_down(self) -> None:
        """End it as SIGTERM does: it says GOAWAY, and waits up to 7 s for streams to end."""
        self.host.up = False
        for session in list(self.sessions):
            session.conn.shutdown(self.clock())
            self.stirred[session] = None
        self.settle()
        incarnation = self.incarnation

        def end() -> None:
            if self.incarnation == incarnation and self.up:
                self.crash(False)

        self.world.after(REQUEST_TIMEOUT, end)

    def _accept(self, socket: Socket, peer: str) -> None:
        self.within(lambda: self._accepted(socket, peer))

    def _accepted(self, socket: Socket, peer: str) -> None:
        if self.up and not socket.closed:
            session = Session(self, socket, peer)
            if not socket.closed:
                self.sessions[session] = None

    def settle(self) -> None:
        """After something happened: send it, and see what is due next."""
        while self.stirred:
            stirred, self.stirred = self.stirred, {}
            for session in stirred:
                session.settle()
        self._timer = self.again(self._timer, self.member.next_timer() if self.up else None, self._fire)

    def again(self, timer: Timer | None, when: float | None, action: Callable[[], None]) -> Timer | None:
        """Replace a timer by one for what the clock will show, unless it is the same."""
        moment = None if when is None else self.moment(when)
        if timer is not None:
            if timer.when == moment:
                return timer
            timer.cancel()
        return None if moment is None else self.later(moment, action)

    def _fire(self) -> None:
        self._timer = None
        if self.up:
            self.member.handle_timer(self.clock())
            self.settle()

    # The log.

    def learn(self) -> None:
        """There may be more in the log: apply it after a while."""
        if self._apply_timer is None and self.healthy and self.applied < len(self.cluster.entries):
            delay = self.lag * (0.5 + self.world.rng.random()) + self.slow * self.world.rng.random()
            self._apply_timer = self.world.after(delay, self._apply)

    def _apply(self) -> None:
        self._apply_timer = None
        if not self.healthy:
            return  # whoever changes that makes it learn again
        self._apply_until(len(self.cluster.entries))
        ready = [action for index, action in self._waiting if index <= self.applied]
        self._waiting = [each for each in self._waiting if each[0] > self.applied]
        for action in ready:
            action()
        self.settle()
        self.learn()

    def _apply_until(self, index: int) -> None:
        cluster = self.cluster
        while self.applied < index:
            at = self.applied
            self.applied += 1
            command, proposal = cluster.entries[at]
            outcome = self.member.apply(command, self.clock())
            if self.member.state.store.revision != cluster.revisions[at]:
                raise InvariantError(f"model: {self.name} differs from the reference at entry {at}")
            mine = proposal is not None and proposal.node is self and proposal.done is not None
            if mine and not (cluster.lossy and self.world.rng.chance(0.5)):
                proposal.finish(outcome)

    def when_applied(self, index: int, action: Callable[[], None]) -> None:
        """Do something once that much is applied."""
        if self.applied >= index:
            action()
            self.settle()
        else:
            self._waiting.append((index, action))


class ClusterOptions:
    """What the members of one run are started with.

    Attributes:
        drift: how much faster or slower than the client's some members' clocks are.
        max_concurrent_streams: that a connection is allowed.
        padding: octets that each DATA frame of a member has at most, besides the data.
        max_response: octets from which a response of a watch is split.
    """

    def __init__(self, rng: Chance) -> None:
        self.size = rng.pick((1, 3, 3))
        self.drift = rng.pick((0.0, 0.01))
        self.max_concurrent_streams = rng.pick((UNLIMITED, UNLIMITED, 10, 6))
        self.padding = rng.pick((0, 0, 1, 255))
        self.max_response = rng.pick((2_000_000, 300))
        self.member = MemberOptions(
            auth_token_ttl=rng.pick((300.0, 5.0, 1.0)),
            progress_interval=rng.pick((600.0, 3.0, 0.5)),
            max_request_bytes=rng.pick((1_572_864, 2_000)),
            resync_batch=rng.pick((1000, 2)),
        )
