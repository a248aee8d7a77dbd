# SPDX-License-Identifier: Apache-2.0
"""What all members of a cluster agree on, and how commands of the log change it.

1. A command is checked for permission when it is applied, by the identity it was proposed with: a
   permission that was lost in between counts.
2. While there is an alarm for space, puts, transactions that may put, and grants are refused. A member
   that finds its quota exceeded only when it applies one of these carries it out, and yet answers
   that there is no space.
3. While there is an alarm for corruption, all that reads or changes keys and leases is refused.

Source: etcd server/etcdserver/{apply,apply_auth,quota,corrupt}.go, server/etcdserver/api/v3alarm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from purecd.memory import admin, kv, statuses
from purecd.memory.auth import ANYBODY, AuthStore, Identity
from purecd.memory.calls import Status
from purecd.memory.cluster import Cluster
from purecd.memory.leases import Leases
from purecd.memory.store import Record, Store
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from purecd.memory.log import Command
    from purecd.memory.tokens import Tokens

NOSPACE, CORRUPT = 1, 2
PUT_OVERHEAD, LEASE_OVERHEAD = 256, 64  # octets that a key or a lease is reckoned to need besides
EMPTY_SIZE = 20480  # octets of an empty database


class State:
    """The replicated state.

    Args:
        quota: octets of the database from which on nothing more is stored; 0 for none.
        committed: told about each new revision.
        tokens: this member's own, which commands assign and take away.

    Attributes:
        index: how many commands were applied; a state that is taken over brings it along.
    """

    def __init__(
        self,
        quota: int,
        min_lease_ttl: int,
        committed: Callable[[int, list[Record]], None],
        tokens: Tokens,
    ) -> None:
        self.tokens = tokens
        self.leases = Leases(min_lease_ttl)
        self.store = Store(self.leases, committed)
        self.auth = AuthStore()
        self.cluster = Cluster()
        self.alarms: dict[tuple[int, int], None] = {}  # (type, member), in the order of raising
        self.mode = 0  # the alarm that requests are refused for
        self.downgrade_target = ""
        self.index = 0
        self._quota = quota

    @property
    def size(self) -> int:
        """Octets that the database is reckoned to have."""
        return EMPTY_SIZE + self.store.size + PUT_OVERHEAD * self.store.count_records()

    def fits(self, request: Any) -> bool:
        """Whether the quota has room for what a request stores."""
        needed = cost(request)
        return not (needed and self._quota) or self.size + needed < self._quota

    def has_alarm(self, kind: int) -> bool:
        """Whether any member raised such an alarm."""
        return any(each == kind for each, _ in self.alarms)

    def apply(self, command: Command, now: float) -> Any:
        """Carry out a command.

        Returns:
            The reply; its header has a revision at most.

        Raises:
            Status: refused; nothing changed, except by rule 2.
        """
        request = command.request
        name = type(request).DESCRIPTOR.name
        administer = admin.APPLY.get(name)
        if administer is not None:
            if name in admin.FOR_ADMINISTRATORS and not self.mode:
                self.auth.check_admin(Identity(command.username, command.auth_revision))
            return administer(self, request, command, now)
        if self.mode == CORRUPT and name != "LeaseCheckpointRequest":
            raise Status(*statuses.CORRUPT)
        # Another of etcd's: while there is an alarm, nothing is checked for permission here.
        identity = Identity(command.username, command.auth_revision) if not self.mode else ANYBODY
        return _APPLY[name](self, request, identity, now)

    def _put(self, request: pb.PutRequest, identity: Identity, now: float) -> Any:
        self.check_put(identity, request)
        if self.mode == NOSPACE:
            raise Status(*statuses.NO_SPACE)
        fits = self.fits(request)
        if request.lease:
            self.leases.find(request.lease)
        write = self.store.write()
        reply = kv.put(write, request)
        write.end()
        return _unless_full(reply, fits)

    def _delete(self, request: pb.DeleteRangeRequest, identity: Identity, now: float) -> Any:
        self.auth.check_write(identity, request.key, request.range_end)
        if request.prev_kv:
            self.auth.check_read(identity, request.key, request.range_end)
        write = self.store.write()
        reply = kv.delete(write, request)
        write.end()
        return reply

    def _transact(self, request: pb.TxnRequest, identity: Identity, now: float) -> Any:
        self.check_txn(identity, request)
        if self.mode == NOSPACE and cost(request):
            raise Status(*statuses.NO_SPACE)
        fits = self.fits(request)
        return _unless_full(kv.transact(self.store, self.leases, request), fits)

    def _compact(self, request: pb.CompactionRequest, identity: Identity, now: float) -> Any:
        self.store.compact(request.revision)
        return pb.CompactionResponse(header=pb.ResponseHeader(revision=self.store.revision))

    def check_put(self, identity: Identity | None, request: pb.PutRequest) -> None:
        """Refuse who may not put a key, or not read the value before that is asked for.

        Raises:
            Status: refused.
        """
        self.auth.check_write(identity, request.key)
        # Who attaches a key to a lease must be allowed to revoke it.
        self.check_lease_write(identity, request.lease)
        if request.prev_kv:
            self.auth.check_read(identity, request.key, b"")

    def check_lease_write(self, identity: Identity | None, lease_id: int) -> None:
        """Refuse who may not write all keys of a lease.

        Raises:
            Status: refused.
        """
        lease = self.leases.get(lease_id)
        if lease is None or self.auth.is_admin(identity):
            return
        for key in lease.keys:
            self.auth.check_write(identity, key)

    def check_txn(self, identity: Identity | None, request: pb.TxnRequest) -> None:
        """Refuse who may not do all that either branch of a transaction does.

        Raises:
            Status: refused.
        """
        if not self.auth.enabled:
            return
        for compare in request.compare:
            self.auth.check_read(identity, compare.key, compare.range_end)
        for branch in (request.success, request.failure):
            self._check_branch(identity, branch)

    def _check_branch(self, identity: Identity | None, operations: Iterable[pb.RequestOp]) -> None:
        for operation in operations:
            kind = operation.WhichOneof("request")
            if kind == "request_range":
                ranged = operation.request_range
                self.auth.check_read(identity, ranged.key, ranged.range_end)
            elif kind == "request_put":
                self.check_put(identity, operation.request_put)
            elif kind == "request_delete_range":
                deleted = operation.request_delete_range
                if deleted.prev_kv:
                    self.auth.check_read(identity, deleted.key, deleted.range_end)
                self.auth.check_write(identity, deleted.key, deleted.range_end)
            elif kind == "request_txn":
                self.check_txn(identity, operation.request_txn)

    def _grant(self, request: pb.LeaseGrantRequest, identity: Identity, now: float) -> Any:
        if self.mode == NOSPACE:
            raise Status(*statuses.NO_SPACE)
        fits = self.fits(request)
        lease = self.leases.grant(request.ID, request.TTL, now)
        reply = pb.LeaseGrantResponse(ID=lease.lease_id, TTL=lease.ttl, header=self._header())
        return _unless_full(reply, fits)

    def _revoke(self, request: pb.LeaseRevokeRequest, identity: Identity, now: float) -> Any:
        self.check_lease_write(identity, request.ID)
        lease = self.leases.find(request.ID)
        write = self.store.write()
        for key in sorted(lease.keys):
            write.delete_range(key, None)
        self.leases.remove(request.ID)
        write.end()
        return pb.LeaseRevokeResponse(header=self._header())

    def _checkpoint(self, request: pb.LeaseCheckpointRequest, identity: Identity, now: float) -> Any:
        for each in request.checkpoints:
            self.leases.checkpoint(each.ID, each.remaining_TTL, now)
        return pb.LeaseCheckpointResponse(header=self._header())

    def _header(self) -> pb.ResponseHeader:
        return pb.ResponseHeader(revision=self.store.revision)

    def copy_from(self, other: State) -> None:
        """Take over the state of another member."""
        self.leases.copy_from(other.leases)
        self.store.copy_from(other.store)
        self.auth.copy_from(other.auth)
        self.cluster.copy_from(other.cluster)
        self.alarms = dict(other.alarms)
        self.mode = max((kind for kind, _ in self.alarms), default=0)
        self.downgrade_target = other.downgrade_target
        self.index = other.index


def cost(request: Any) -> int:
    """Octets that a request is reckoned to store, 0 when it stores nothing."""
    if isinstance(request, pb.PutRequest):
        return PUT_OVERHEAD + len(request.key) + len(request.value)
    if isinstance(request, pb.LeaseGrantRequest):
        return LEASE_OVERHEAD
    if isinstance(request, pb.TxnRequest):
        return max(_cost_of(request.success), _cost_of(request.failure))
    return 0


def _cost_of(operations: Iterable[pb.RequestOp]) -> int:
    """What the puts of a branch cost; those of nested transactions are overlooked, as by etcd."""
    return sum(cost(each.request_put) for each in operations if each.WhichOneof("request") == "request_put")


def _unless_full(reply: Any, fits: bool) -> Any:
    if not fits:
        raise Status(*statuses.NO_SPACE)
    return reply


_APPLY: dict[str, Callable[[State, Any, Identity, float], Any]] = {
    "PutRequest": State._put,
    "DeleteRangeRequest": State._delete,
    "TxnRequest": State._transact,
    "CompactionRequest": State._compact,
    "LeaseGrantRequest": State._grant,
    "LeaseRevokeRequest": State._revoke,
    "LeaseCheckpointRequest": State._checkpoint,
}
