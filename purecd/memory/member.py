# SPDX-License-Identifier: Apache-2.0
"""One member of a cluster, as the calls on its connections meet it.

1. A call comes in by `start`, its messages by the handler that this returns. What changes something
   goes through the log, whose other end is `apply`.
2. `next_timer` and `handle_timer` drive what happens by itself: leases expire, watchers catch up,
   progress is told.
3. What all members agree on is in `state`; tokens, watchers and deadlines of leases are this member's.
4. A request that needs a leader is refused while there is none; a stream that does so ends when
   `lose_leader` is called.

Source: etcd server/etcdserver/{server,v3_server}.go, server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from purecd.memory import statuses
from purecd.memory.auth import Identity
from purecd.memory.calls import Status
from purecd.memory.log import Command, NotApplied, Solo
from purecd.memory.rpcs import RPCS, Rpc
from purecd.memory.state import NOSPACE, State
from purecd.memory.tokens import Tokens, index_of
from purecd.memory.watches import BATCH_REVISIONS, Watchers
from purecd.memory.watchstream import WatchRules, WatchStream
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from purecd.memory.calls import Handler, ServerCall
    from purecd.memory.log import Log, Outcome
    from purecd.memory.store import Record

REQUEST_OVERHEAD = 16  # octets that the log adds to a request


class MemberOptions(NamedTuple):
    """What a member is started with.

    Attributes:
        version: of etcd, whose faults in watches it then has.
        quota: octets of the database, 0 for no limit.
        auth_token_ttl: seconds.
        max_request_bytes: longest request that is proposed.
        progress_interval: seconds between progress notifications.
        resync_interval: seconds between two rounds for watchers that start in the past.
        resync_batch: revisions told to each of them in a round.
        min_lease_ttl: seconds.
        election_timeout: seconds.
        request_timeout: seconds after which a call ends that got no outcome.
        strict_reconfig: refuse membership changes that would endanger the quorum.
    """

    version: str = "3.5.30"
    quota: int = 2 << 30
    auth_token_ttl: float = 300.0
    max_txn_ops: int = 128
    max_request_bytes: int = 1_572_864
    progress_interval: float = 600.0
    resync_interval: float = 0.1
    resync_batch: int = BATCH_REVISIONS
    min_lease_ttl: int = 2
    election_timeout: float = 1.0
    request_timeout: float = 7.0
    strict_reconfig: bool = True


class Unary:
    """One unary call: performs the request when it comes, and ends the call with the outcome."""

    def __init__(self, member: Member, call: ServerCall, rpc: Rpc) -> None:
        self.call = call
        self._member = member
        self._rpc = rpc

    def receive(self, message: Any, now: float) -> None:
        """The request."""

        def perform() -> Any:
            self._member.refuse_learner(self._rpc, message)
            self._rpc.perform(self._member, self, message, self._member.now)

        self._member.now = now
        self.attempt(perform)

    def half_close(self, now: float) -> None:
        """There is nothing more to come anyway."""

    def cancel(self, now: float) -> None:
        """Nobody waits any more; what was proposed goes on."""

    def attempt(self, answer: Callable[[], Any]) -> None:
        """End the call with what a function returns or raises; None is no answer yet."""
        if self.call.finished:
            return
        try:
            outcome = answer()
        except NotApplied as early:
            self._member.when_applied(early.index, lambda: self.attempt(answer))
            return
        except Status as refused:
            outcome = refused
        if outcome is not None:
            self.done(outcome)

    def done(self, outcome: Outcome) -> None:
        """End the call with a reply, or with a Status."""
        if self.call.finished:
            return
        if isinstance(outcome, Status):
            self.call.finish(outcome)
        else:
            self.call.reply(outcome)
            self.call.finish(None)


class Member:
    """A member: state, watchers, tokens, and the calls in progress.

    Args:
        log: consensus; a member of its own by default.
        rng: for ids, tokens and jitter.
        peer_urls: its own, as the list of members shows them.
        members: of the cluster, this one included; by default it is alone.
    """

    def __init__(
        self,
        *,
        rng: Random,
        log: Log | None = None,
        member_id: int = 0x8E9E05C52164694D,
        cluster_id: int = 0xCDF818194E3A8C32,
        name: str = "default",
        peer_urls: Sequence[str] = ("http://localhost:2380",),
        client_urls: Sequence[str] = ("http://localhost:2379",),
        members: Sequence[pb.Member] = (),
        options: MemberOptions = MemberOptions(),  # noqa: B008 — a named tuple does not change
    ) -> None:
        self.rng = rng
        self.log: Log = log or Solo()
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.options = options
        self.now = 0.0  # of the last input
        self.tokens = Tokens(options.auth_token_ttl)
        self.state = State(options.quota, options.min_lease_ttl, self._committed, self.tokens)
        self.watchers = Watchers(self.state.store, options.resync_interval, options.resync_batch)
        mine = pb.Member(ID=member_id, name=name, peerURLs=peer_urls, clientURLs=client_urls)
        self.state.cluster.members = {each.ID: each for each in members or [mine]}
        self._rules = _watch_rules(options)
        # Up to 3.5.9 a token that is not known is refused even while auth is off.
        self._always_checks_tokens = _is_before(options.version, (3, 4, 28), (3, 5, 10))
        self._watches: dict[WatchStream, None] = {}
        self._need_leader: dict[ServerCall, None] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []  # heap
        self._serial = count()
        self._waiting: list[tuple[int, Callable[[], None]]] = []  # for an index to be applied

    @property
    def index(self) -> int:
        """How many commands were applied."""
        return self.state.index

    def request_class(self, path: str) -> Any:
        """Class of the requests of an RPC.

        Raises:
            Status: there is no such RPC.
        """
        return self._rpc(path).request

    def _rpc(self, path: str) -> Rpc:
        rpc = RPCS.get(path)
        if rpc is None:
            service, _, method = path.lstrip("/").rpartition("/")
            known = any(each.startswith(f"/{service}/") for each in RPCS)
            text = f"unknown method {method} for service {service}" if known else f"unknown service {service}"
            raise Status(12, text)
        return rpc

    def start(self, call: ServerCall, now: float) -> Handler:
        """Begin a call.

        Raises:
            Status: it is refused.
        """
        self.now = now
        rpc = self._rpc(call.path)
        needs_leader = call.metadata.get("hasleader") == "true"
        if needs_leader and not self.log.leader_id(self):
            raise Status(*statuses.NO_LEADER)
        if rpc.open is None:
            call.handler = Unary(self, call, rpc)
            return call.handler
        if self.is_learner and not rpc.for_learners:
            raise Status(*statuses.NOT_SUPPORTED_FOR_LEARNER)
        if needs_leader:
            self._need_leader[call] = None
        call.handler = rpc.open(self, call, now)
        return call.handler

    def lose_leader(self, now: float) -> None:
        """There has been no leader for three election timeouts: end the streams that need one."""
        calls, self._need_leader = self._need_leader, {}
        for call in calls:
            if not call.finished and call.handler is not None:
                call.finish(Status(*statuses.NO_LEADER))
                call.handler.cancel(now)

    def open_watch(self, call: ServerCall, now: float) -> WatchStream:
        """Begin a stream of the Watch RPC."""

        def permit(key: bytes, range_end: bytes) -> None:
            self.state.auth.check_read(self.identity(call, self.now), key, range_end)

        stream = WatchStream(
            call,
            self.state.store,
            self.watchers,
            self._rules,
            self.fill,
            permit,
            self.rng,
            now,
            self._closed,
            self.when_applied,
        )
        self._watches[stream] = None
        return stream

    def _closed(self, stream: WatchStream) -> None:
        self._watches.pop(stream, None)

    @property
    def is_learner(self) -> bool:
        """Whether this member has no vote yet."""
        me = self.state.cluster.members.get(self.member_id)
        return me is not None and me.isLearner

    def refuse_learner(self, rpc: Rpc, request: Any) -> None:
        """Refuse what a learner does not answer: all but a few RPCs and serializable ranges.

        Raises:
            Status: refused.
        """
        if self.is_learner and not (rpc.for_learners or getattr(request, "serializable", False)):
            raise Status(*statuses.NOT_SUPPORTED_FOR_LEARNER)

    def fill(self, header: pb.ResponseHeader, revision: int) -> None:
        """Fill a header for a revision of the store."""
        header.cluster_id = self.cluster_id
        header.member_id = self.member_id
        header.raft_term = self.log.term(self)
        header.revision = revision

    def headed(self, outcome: Outcome) -> Outcome:
        """Complete the header of a reply that has one; a Status stays as it is."""
        if not isinstance(outcome, Status) and outcome.HasField("header"):
            header = outcome.header
            self.fill(header, header.revision or self.state.store.revision)
        return outcome

    def identity(self, call: ServerCall, now: float) -> Identity | None:
        """Who makes a call; None for nobody in particular.

        Raises:
            Status: its token is not valid here.
            NotApplied: its token was assigned by a command that this member has not applied yet.
        """
        auth = self.state.auth
        if not auth.enabled and not self._always_checks_tokens:
            return None
        token = call.metadata.get("token", call.metadata.get("authorization"))
        if token is not None:
            index = index_of(token)
            if index is not None and index > self.index:
                raise NotApplied(index)
            username = None if index is None else self.tokens.use(token, now)
            if username is None:
                raise Status(*statuses.INVALID_AUTH_TOKEN)
            return Identity(username, auth.revision)
        if auth.enabled and call.common_name and "grpcgateway-accept" not in call.metadata:
            return Identity(call.common_name, auth.revision)
        return None

    def require_identity(self, call: ServerCall, now: float) -> None:
        """Refuse a call of nobody in particular while auth is on.

        Raises:
            Status: refused.
        """
        if self.state.auth.enabled and self.identity(call, now) is None:
            raise Status(*statuses.USER_EMPTY)

    def require_admin(self, call: ServerCall, now: float) -> None:
        """Refuse a call that is not an administrator's while auth is on.

        Raises:
            Status: refused.
        """
        self.state.auth.check_admin(self.identity(call, now))

    def check_lease(self, call: ServerCall, lease_id: int, now: float, *, to_write: bool) -> None:
        """Refuse who may not write, or read, all keys of a lease.

        Raises:
            Status: refused.
        """
        if not self.state.auth.enabled:
            return
        lease = self.state.leases.get(lease_id)
        self._check_keys(call, list(lease.keys) if lease else [], now, to_write=to_write)

    def check_leases(self, call: ServerCall, keys: list[bytes], now: float) -> None:
        """Refuse who may not read some keys of leases.

        Raises:
            Status: refused.
        """
        if self.state.auth.enabled:
            self._check_keys(call, keys, now, to_write=False)

    def _check_keys(self, call: ServerCall, keys: list[bytes], now: float, *, to_write: bool) -> None:
        auth = self.state.auth
        identity = self.identity(call, now)
        if identity is None:
            raise Status(*statuses.USER_EMPTY)
        if auth.is_admin(identity):
            return
        for key in keys:
            if to_write:
                auth.check_write(identity, key)
            else:
                auth.check_read(identity, key, b"")

    def refuse_over_quota(self, request: Any, now: float) -> None:
        """Refuse what the quota has no room for, and raise the alarm.

        Raises:
            Status: refused.
        """
        if self.state.fits(request):
            return
        alarm = pb.AlarmRequest(action=1, memberID=self.member_id, alarm=NOSPACE)
        self.log.propose(self, Command(alarm), lambda outcome: None, now)
        raise Status(*statuses.NO_SPACE)

    def propose(self, call: Unary, request: Any, now: float, *, token: str = "", member_id: int = 0) -> None:
        """Put a request through the log, and end its call with the outcome.

        Raises:
            Status: the caller is unknown, or the request too long.
        """
        identity = self.identity(call.call, now) if not token else None
        if request.ByteSize() + REQUEST_OVERHEAD > self.options.max_request_bytes:
            raise Status(*statuses.REQUEST_TOO_LARGE)
        command = Command(request, *(identity or ("", 0)), token=token, member_id=member_id)
        self.log.propose(self, command, lambda outcome: call.done(self.headed(outcome)), now)

    def apply(self, command: Command, now: float) -> Outcome:
        """Carry out the next command of the log; the same on every member.

        Returns:
            The reply, or the Status it is refused with.
        """
        self.now = now
        self.state.index += 1
        try:
            return self.state.apply(command, now)
        except Status as refused:
            return refused
        finally:
            if self._waiting:
                self._resume()

    def when_applied(self, index: int, resume: Callable[[], None]) -> None:
        """Call a function when so many commands are applied."""
        self._waiting.append((index, resume))

    def _resume(self) -> None:
        ready = [resume for index, resume in self._waiting if index <= self.index]
        self._waiting = [each for each in self._waiting if each[0] > self.index]
        # Not before the outcome of this command is out: it came first.
        for resume in ready:
            self.call_at(self.now, resume)

    def call_at(self, at: float, later: Callable[[], None]) -> None:
        """Call a function when it is time."""
        heappush(self._later, (at, next(self._serial), later))

    def _committed(self, revision: int, changes: list[Record]) -> None:
        self.watchers.committed(revision, changes, self.now)

    def promote(self, now: float) -> None:
        """This member leads from now on: leases get their whole time."""
        self.state.leases.promote(now, self.options.election_timeout)

    def demote(self, now: float) -> None:
        """This member leads no more."""
        self.state.leases.demote()

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called; None when nothing is planned."""
        due = self._later[0][0] if self._later else None
        leases = (self.state.leases,) if self.state.leases.primary else ()
        for machine in (self.watchers, *leases, *self._watches):
            moment = machine.next_timer()
            if moment is not None and (due is None or moment < due):
                due = moment
        return due

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        self.now = now
        while self._later and self._later[0][0] <= now:
            heappop(self._later)[2]()
        if self.state.leases.primary:
            self._expire(now)
        self.watchers.handle_timer(now)
        for stream in list(self._watches):
            stream.handle_timer(now)

    def _expire(self, now: float) -> None:
        leases = self.state.leases
        for lease_id in leases.take_expired(now):
            self._propose_own(pb.LeaseRevokeRequest(ID=lease_id), now)
        due = leases.take_checkpoints(now)
        if due:
            checkpoints = [pb.LeaseCheckpoint(ID=each, remaining_TTL=left) for each, left in due]
            self._propose_own(pb.LeaseCheckpointRequest(checkpoints=checkpoints), now)

    def _propose_own(self, request: Any, now: float) -> None:
        """Propose for the member itself, which is its own administrator."""
        command = Command(request, "root", self.state.auth.revision)
        self.log.propose(self, command, lambda outcome: None, now)

    def copy_state(self) -> State:
        """A copy of what all members agree on, as another member can `load_state`."""
        options = self.options
        copy = State(options.quota, options.min_lease_ttl, lambda revision, changes: None, Tokens())
        copy.copy_from(self.state)
        return copy

    def load_state(self, state: State, now: float) -> None:
        """Take over a state that is newer, or that was saved before a restart.

        The member is no leader then, its tokens are lost, and its watchers catch up.
        """
        self.state.copy_from(state)
        self.state.leases.demote()
        self.tokens.clear()
        self.watchers.restored(now)


def _watch_rules(options: MemberOptions) -> WatchRules:
    return WatchRules(
        progress_interval=options.progress_interval,
        max_response=options.max_request_bytes + 512 * 1024,
        denial_names_id=_is_before(options.version, (3, 4, 22), (3, 5, 6)),
        eager_progress=_is_before(options.version, (3, 4, 25), (3, 5, 8)),
    )


def _is_before(version: str, *fixed: tuple[int, int, int]) -> bool:
    """Whether a release has a fault that was mended in some lines of releases, old to new."""
    mine = tuple(int(part) for part in version.split(".")[:3])
    return mine < next((each for each in fixed if each[:2] == mine[:2]), fixed[-1])
