# SPDX-License-Identifier: Apache-2.0
"""Carriers: the streams and calls that the machines behind watches and leases live on.

The machines say what they want (`purecd.core.actions`); this module does it on the links of
one channel and brings back what happened. It holds no rule of watches or leases itself.

Machines are loaded by their first use. Whoever makes a source has loaded its machine, so no file is read
in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core import actions, methods
from purecd.core.failures import call_failed, stream_error
from purecd.core.link import Link, LinkState
from purecd.core.op import Call
from purecd.errors import EtcdError
from purecd.requests import Get
from purecd.types import GetReply
from purecd.wire.grpc import GrpcStream
from purecd.wire.status import message_frame

if TYPE_CHECKING:
    from purecd.core.channel import Channel
    from purecd.core.endpoints import Random
    from purecd.core.keepalive import KeepAlives
    from purecd.core.watching import WatchMux

MAX_REVISION = 2**63 - 1
PROBE_TIMEOUT = 5.0
LEAVE_AFTER = 1.0  # seconds that streams stay on a link that drains while no other is to be had

_REQUIRE_LEADER = ((b"hasleader", b"true"),)


class Carrier:
    """The gRPC stream that carries one stream of a machine.

    Attributes:
        wire: the stream on its link, None while the server takes no further one.
        unsent: messages that wait for that, with their prefixes.
    """

    __slots__ = ("link", "machine", "method", "stream", "token", "unsent", "wire")

    def __init__(self, machine: Any, stream: Any, link: Link, method: methods.Method) -> None:
        self.machine = machine
        self.stream = stream
        self.link = link
        self.method = method
        self.token = link.token
        self.unsent = b""
        self.wire: Any = None


class Probe(Call):
    """A small read that a machine asked for."""

    __slots__ = ("machine", "subject")

    def __init__(self, request: Get, machine: Any, subject: Any) -> None:
        super().__init__(methods.RANGE, request)
        self.machine = machine
        self.subject = subject


class Carriers:
    """All machines of one channel and their streams.

    Attributes:
        busy: whether any machine exists, so that the rest need not be asked.
    """

    def __init__(self, channel: Channel, rng: Random) -> None:
        self._channel = channel
        self._rng = rng
        self._watches: WatchMux | None = None
        self._leases: KeepAlives | None = None
        self._machines: list[Any] = []
        self._probes: list[Probe] = []
        self._leaving: dict[Link, float] = {}  # links that drain, and when to go at the latest
        self._held: list[Carrier] = []  # not open yet
        self.busy = False

    # Sources.

    def attach(self, source: Any, now: float) -> None:
        """Begin a watcher or a kept-alive lease."""
        self._machine_of(source, now).add(source, now)

    def detach(self, source: Any, now: float) -> None:
        """End it."""
        machine = self._machine_of(source, now)
        if source.machine == "watches":
            machine.cancel(source, now)
        else:
            machine.remove(source, now)
        self.busy = any(not each.idle for each in self._machines) or bool(self._probes)

    def taken(self, source: Any, now: float) -> bool:
        """A consumer took an item; whether the machine has something to do about it."""
        return self._watches is not None and source.machine == "watches" and self._watches.taken(source, now)

    def request_progress(self, require_leader: bool, now: float) -> None:
        """Ask for progress on the watchers of a kind."""
        self._watch_mux(now).request_progress(require_leader, now)

    def _machine_of(self, source: Any, now: float) -> Any:
        return self._watch_mux(now) if source.machine == "watches" else self._keep_alives(now)

    def _keep_alives(self, now: float) -> KeepAlives:
        self.busy = True
        if self._leases is None:
            from purecd.core.keepalive import KeepAlives

            options = self._channel.options
            self._leases = KeepAlives(
                auth_mode=options.auth_mode, rng=self._rng, dial_timeout=options.dial_timeout
            )
            self._begin(self._leases, now)
        return self._leases

    def _watch_mux(self, now: float) -> WatchMux:
        self.busy = True
        if self._watches is None:
            from purecd.core.watching import WatchMux

            options = self._channel.options
            self._watches = WatchMux(
                auth_mode=options.auth_mode,
                rng=self._rng,
                max_buffer_events=options.watch_buffer_events,
                max_buffer_bytes=options.watch_buffer_bytes,
            )
            self._begin(self._watches, now)
        return self._watches

    def _begin(self, machine: Any, now: float) -> None:
        self._machines.append(machine)
        link = self._channel.current
        if link is not None:
            machine.link_ready(link, link.generation, bool(link.token), now)

    # Links.

    def link_ready(self, link: Link, now: float) -> None:
        """A link takes over."""
        for machine in self._machines:
            machine.link_ready(link, link.generation, bool(link.token), now)

    def link_draining(self, link: Link, now: float) -> None:
        """A link takes no new streams."""
        if self._machines and link.conn.open_streams:
            self._leaving[link] = now + LEAVE_AFTER
        for machine in self._machines:
            machine.link_draining(link, now)

    def link_lost(self, link: Link, error: EtcdError, now: float) -> None:
        """A link is gone."""
        self._leaving.pop(link, None)
        self._held = [each for each in self._held if each.link is not link]
        for probe in [each for each in self._probes if each.link is link]:
            self._probed(probe, error, now)
        for machine in self._machines:
            machine.link_lost(link, error, now)

    def mend(self, now: float) -> None:
        """A signal cut an input short: all streams are gone, and every source goes on anew."""
        self._probes.clear()
        self._held.clear()
        self._leaving.clear()
        machines: tuple[Any, Any] = (self._watches, self._leases)
        self._machines = [each for each in machines if each is not None]
        for machine in self._machines:
            machine.mend(now)
        self.busy = any(not each.idle for each in self._machines)

    def refreshed(self, link: Link, ok: bool, error: EtcdError | None, now: float) -> None:
        """A refresh on a link ended."""
        for machine in self._machines:
            if ok:
                machine.refreshed(link, link.generation, bool(link.token), now)
            else:
                machine.refresh_failed(link, error, now)

    def auth_failed(self, error: EtcdError, now: float) -> None:
        """Nobody can log in with these credentials."""
        for machine in self._machines:
            machine.auth_failed(error, now)

    # Streams.

    def active(self, owner: Any, stream: Any, link: Link, now: float) -> bool:
        """Something arrived on a stream of ours; whether nothing follows from it but what `tell` does."""
        if type(owner) is Probe:
            if stream.status is not None and not owner.done:
                failed = not (stream.status.code == 0 and len(stream.messages) == 1)
                owner.message = b"" if failed else stream.messages[0]
                self._probed(owner, call_failed(owner, stream, link.name) if failed else None, now)
            return False
        if owner.stream.carrier is not owner:
            return False  # the machine closed it
        machine, decode = owner.machine, owner.method.decode
        messages = stream.messages
        while messages:
            try:
                response = decode(messages[0])
            except ValueError as error:
                self._broken(owner, error, now)
                return False
            if not getattr(response, "canceled", False):
                link.refreshes_in_a_row = 0  # the token is taken
            machine.stream_message(owner.stream, response, now)
            messages.popleft()  # last: what a signal cut short is done again, not left out
            if owner.stream.carrier is not owner:
                return False
        if stream.status is not None:
            owner.stream.carrier = None
            machine.stream_ended(owner.stream, self._end_of(owner, stream, link, now), now)
        calm: bool = machine.calm
        return calm

    def _end_of(self, owner: Carrier, stream: Any, link: Link, now: float) -> EtcdError:
        if stream.status.code == 0:
            error: EtcdError = errors.Unavailable("the server ended the stream")
        else:
            error = stream_error(stream)
        error.maybe_applied = False
        error.method = owner.method.path
        error.endpoint = link.name
        self._channel.judge(link, error, now)
        return error

    def _broken(self, owner: Carrier, cause: Exception, now: float) -> None:
        error = errors.ProtocolError(f"undecodable message on {owner.method.name}", endpoint=owner.link.name)
        error.__cause__ = cause
        self._close(owner.stream)
        owner.machine.stream_ended(owner.stream, error, now)

    # What the machines ask for.

    def tell(self) -> None:
        """Collect the watchers that got something, where that is all that is to be done."""
        assert self._watches is not None
        self._channel.ready.extend(self._watches.take_ready())

    def run(self, now: float) -> None:
        """Carry out what the machines want and collect who got something."""
        if self._held:
            self._open_held()
        for machine in self._machines:
            wanted = machine.take_actions()
            while wanted:
                for action in wanted:
                    self._do(machine, action, now)
                wanted = machine.take_actions()
            self._channel.ready.extend(machine.take_ready())
        if self._machines:
            self.busy = any(not each.idle for each in self._machines) or bool(self._probes)

    def _do(self, machine: Any, action: Any, now: float) -> None:
        kind = type(action)
        if kind is actions.Send:
            self._send(action.stream.carrier, message_frame(action.data))
        elif kind is actions.OpenStream:
            self._open(machine, action.stream, now)
        elif kind is actions.CloseStream:
            self._close(action.stream)
        elif kind is actions.Suspect:
            self._channel.unanswered(action.link, action.since, now)
        elif kind is actions.Refresh:
            self._refresh(machine, action, now)
        elif kind is actions.CheckPermission:
            self._check_permission(machine, action, now)
        else:
            request = Get(b"\0", count_only=True, limit=1)
            self._probe(Probe(request, machine, None), action.link, action.link.token, now)

    def _send(self, carrier: Carrier | None, data: bytes) -> None:
        if carrier is None:
            return  # it ended meanwhile, as the machine will hear
        if carrier.wire is None:
            carrier.unsent += data
        else:
            carrier.link.conn.send_data(carrier.wire, data)

    def _open(self, machine: Any, stream: Any, now: float) -> None:
        link = stream.link
        if link.state is not LinkState.READY:
            return  # the machine hears that the link is lost, or of another one to move to
        method = methods.WATCH if machine is self._watches else methods.LEASE_KEEP_ALIVE
        carrier = Carrier(machine, stream, link, method)
        stream.carrier = carrier
        self._held.append(carrier)
        self._open_held()

    def _open_held(self) -> None:
        """Open streams as far as their servers take any."""
        held, self._held = self._held, []
        for carrier in held:
            link = carrier.link
            if link.state is not LinkState.READY or not link.conn.available_streams():
                self._held.append(carrier)
                continue
            carrier.wire = GrpcStream(carrier, max_receive=self._channel.options.max_receive_size)
            extra = _REQUIRE_LEADER if carrier.stream.require_leader else ()
            block = link.headers.block(carrier.method.raw_path, b"", carrier.token, extra)
            link.conn.open_stream(carrier.wire, block, carrier.unsent, False)
            carrier.unsent = b""

    def _close(self, stream: Any) -> None:
        carrier, stream.carrier = stream.carrier, None
        if carrier is None:
            return
        if carrier.wire is None:
            self._held = [each for each in self._held if each is not carrier]
        else:
            carrier.link.conn.reset_stream(carrier.wire)

    def _refresh(self, machine: Any, action: Any, now: float) -> None:
        link = action.link
        if link.state >= LinkState.DRAINING:
            return
        if link.generation != action.generation:
            machine.refreshed(link, link.generation, bool(link.token), now)
        else:
            self._channel.start_refresh(link, now)

    def _check_permission(self, machine: Any, action: Any, now: float) -> None:
        request = action.watcher.request
        # Checked in this order by the server: token, permission, revision. So nothing is read.
        read = Get(
            request.key or b"\0",
            request.range_end or None,
            revision=MAX_REVISION,
            count_only=True,
            serializable=True,
            limit=1,
        )
        carrier = action.stream.carrier
        token = carrier.token if carrier is not None else action.stream.link.token
        self._probe(Probe(read, machine, action.watcher), action.stream.link, token, now)

    def _probe(self, probe: Probe, link: Link, token: bytes, now: float) -> None:
        probe.link = link
        probe.deadline = now + PROBE_TIMEOUT
        self._probes.append(probe)
        if link.state is not LinkState.READY or not link.conn.available_streams():
            self._probed(probe, errors.Unavailable("no stream for a probe", endpoint=link.name), now)
            return
        data = message_frame(probe.method.encode(probe.request))
        probe.stream = GrpcStream(probe, max_receive=self._channel.options.max_receive_size, unary=True)
        block = link.headers.block(probe.method.raw_path, b"5S", token, ())
        link.conn.open_stream(probe.stream, block, data, True)

    def _probed(self, probe: Probe, error: EtcdError | None, now: float) -> None:
        probe.done = True
        self._probes.remove(probe)
        if probe.subject is not None:
            probe.machine.permission_answer(probe.subject, error, now)
            return
        probe.machine.revision_answer(probe.link, None if error is not None else _revision(probe), now)

    # Time and end.

    def next_timer(self) -> float | None:
        """The earliest timer of all machines."""
        moments = [each.next_timer() for each in self._machines]
        moments.extend(each.deadline for each in self._probes)
        moments.extend(self._leaving.values())
        return min((each for each in moments if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Let the machines do what is due."""
        for probe in [each for each in self._probes if each.deadline is not None and each.deadline <= now]:
            probe.link.conn.reset_stream(probe.stream)
            self._probed(
                probe, errors.DeadlineExceeded("no answer to a probe", endpoint=probe.link.name), now
            )
        for link in [each for each, due in self._leaving.items() if due <= now]:
            # A stopping etcd waits for our streams, 7 s and more. There is nothing to lose by going.
            self._channel.leave(link, now)
        for machine in self._machines:
            machine.handle_timer(now)

    def orphan(self, error: EtcdError) -> None:
        """Nothing will move any more: end all sources with an error, and send nothing."""
        for machine in self._machines:
            machine.orphan(error)
        self.busy = False

    def close(self, now: float) -> None:
        """End all sources."""
        for machine in self._machines:
            machine.close(now)
        self.run(now)
        self.busy = False


def _revision(probe: Probe) -> int | None:
    """The revision that a read found, None if its reply is broken."""
    try:
        reply: GetReply = probe.method.decode(probe.message)
    except ValueError:
        return None
    return reply.header.revision
