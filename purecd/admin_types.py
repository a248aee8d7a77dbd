# SPDX-License-Identifier: Apache-2.0
"""Values that leases and administration return: immutable named tuples.

Sizes are bytes, times to live seconds. Ids of the cluster and its members are unsigned 64-bit numbers, those
of leases signed ones. What a server does not send, an older one say, is 0, ``""``, empty or None.

Source: etcd api/etcdserverpb/rpc.proto, api/authpb/auth.proto.
"""

from __future__ import annotations

from enum import IntEnum

from purecd.records import NamedTuple
from purecd.types import EMPTY_HEADER, Header, brief


class Done(NamedTuple):
    """Outcome of a command that only succeeds or fails."""

    header: Header = EMPTY_HEADER


# Leases.


class LeaseGrantReply(NamedTuple):
    """A new lease.

    Attributes:
        id: the lease's.
        ttl: seconds that the server granted; it raises what is under its minimum.
        sent_at: the lease is certainly alive until `ttl` seconds after this moment, monotonic seconds.
    """

    header: Header = EMPTY_HEADER
    id: int = 0
    ttl: int = 0
    sent_at: float = 0.0


class LeaseKeepAliveReply(NamedTuple):
    """A renewal.

    Attributes:
        ttl: seconds that the lease lives on, from when the server got the request.
        sent_at: when the request was sent, monotonic seconds.
    """

    header: Header = EMPTY_HEADER
    id: int = 0
    ttl: int = 0
    sent_at: float = 0.0


class LeaseTimeToLiveReply(NamedTuple):
    """How long a lease still lives.

    Attributes:
        ttl: whole seconds left, rounded down; -1 when the lease does not exist (any more), 9,223,372,036 from
            a member that was asked as the leader and was none any more: in many releases it cannot know.
        granted_ttl: seconds it was granted, 0 when it does not exist.
        keys: the keys attached to it, if asked for.
    """

    header: Header = EMPTY_HEADER
    id: int = 0
    ttl: int = 0
    granted_ttl: int = 0
    keys: tuple[bytes, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether the lease exists."""
        return self.ttl >= 0


class LeaseListReply(NamedTuple):
    """All leases that the asked member knows."""

    header: Header = EMPTY_HEADER
    ids: tuple[int, ...] = ()


# The cluster.


class Member(NamedTuple):
    """One member of the cluster.

    Attributes:
        name: empty while the member has not started yet.
        peer_urls: where the other members reach it.
        client_urls: where clients reach it; empty while it has not started yet.
        is_learner: it receives the log but does not vote.
    """

    id: int = 0
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def is_started(self) -> bool:
        """Whether the member has joined."""
        return bool(self.name)


class MembersReply(NamedTuple):
    """The members after a change, or as asked for; ordered by id."""

    header: Header = EMPTY_HEADER
    members: tuple[Member, ...] = ()


class MemberAddReply(NamedTuple):
    """A new member, not started yet, and all members with it."""

    header: Header = EMPTY_HEADER
    member: Member = Member()
    members: tuple[Member, ...] = ()


# Maintenance.


class AlarmType(IntEnum):
    """Alarms as numbered on the wire."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class Alarm(NamedTuple):
    """One alarm of one member.

    Attributes:
        alarm: an `AlarmType`, or the plain number of one that is not known here.
    """

    member_id: int = 0
    alarm: int = 0


class AlarmsReply(NamedTuple):
    """Alarms that are active, or that were raised or taken back."""

    header: Header = EMPTY_HEADER
    alarms: tuple[Alarm, ...] = ()


class DowngradeInfo(NamedTuple):
    """Whether the cluster is being downgraded, and to which version, such as ``"3.5.0"``."""

    enabled: bool = False
    target_version: str = ""


class StatusReply(NamedTuple):
    """One member's account of itself.

    Attributes:
        version: of the server, such as ``"3.5.16"``.
        db_size: bytes of the database file.
        leader: id of the leader as this member knows it, 0 for none.
        raft_index: last entry of its log.
        raft_term: its election term.
        raft_applied_index: last entry it has applied.
        errors: ``"etcdserver: no leader"``, and a text for each alarm.
        db_size_in_use: bytes of the database file that hold data.
        is_learner: it does not vote.
        storage_version: version of the database format; etcd 3.6 and later.
        db_size_quota: bytes the database may grow to; etcd 3.6 and later, 0 for the default until 3.6.5.
        downgrade: None before etcd 3.6.
    """

    header: Header = EMPTY_HEADER
    version: str = ""
    db_size: int = 0
    leader: int = 0
    raft_index: int = 0
    raft_term: int = 0
    raft_applied_index: int = 0
    errors: tuple[str, ...] = ()
    db_size_in_use: int = 0
    is_learner: bool = False
    storage_version: str = ""
    db_size_quota: int = 0
    downgrade: DowngradeInfo | None = None

    @property
    def is_leader(self) -> bool:
        """Whether the answering member is the leader."""
        return self.leader != 0 and self.leader == self.header.member_id


class HashReply(NamedTuple):
    """Checksum of one member's whole database; for tests."""

    header: Header = EMPTY_HEADER
    hash: int = 0


class HashKvReply(NamedTuple):
    """Checksum of one member's keys; equal on all members for equal revisions.

    Attributes:
        hash: CRC-32C over the revisions up to `hash_revision`.
        compact_revision: compare only hashes with the same one; -1 when nothing was ever compacted.
        hash_revision: revision that was hashed; 0 before etcd 3.6.
    """

    header: Header = EMPTY_HEADER
    hash: int = 0
    compact_revision: int = 0
    hash_revision: int = 0


class DowngradeReply(NamedTuple):
    """Outcome of a downgrade command.

    Attributes:
        version: of the cluster: ``"3.5.0"`` from etcd 3.5, ``"3.6"`` from later ones.
    """

    header: Header = EMPTY_HEADER
    version: str = ""


class HealthStatus(IntEnum):
    """Whether a member serves, as numbered on the wire.

    Source: grpc doc/health-checking.md.
    """

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class SnapshotInfo(NamedTuple):
    """A snapshot that was received whole.

    Attributes:
        version: of the database format, such as ``"3.6.0"``; empty before etcd 3.6.
        size: bytes of the snapshot, its checksum of 32 bytes included.
        sha256: the checksum, 32 bytes; the snapshot's last ones.
    """

    version: str = ""
    size: int = 0
    sha256: bytes = b""


# Users and roles.


class AuthStatusReply(NamedTuple):
    """Whether authentication is on.

    Attributes:
        auth_revision: counts changes of users, roles and permissions.
    """

    header: Header = EMPTY_HEADER
    enabled: bool = False
    auth_revision: int = 0


class UserReply(NamedTuple):
    """One user: the roles it has."""

    header: Header = EMPTY_HEADER
    roles: tuple[str, ...] = ()


class UsersReply(NamedTuple):
    """The names of all users."""

    header: Header = EMPTY_HEADER
    users: tuple[str, ...] = ()


class PermissionType(IntEnum):
    """What a permission allows, as numbered on the wire."""

    READ = 0
    WRITE = 1
    READWRITE = 2


class Permission(NamedTuple):
    """A permission on ``[key, range_end)``.

    Attributes:
        type: a `PermissionType`, or the plain number of one that is not known here.
        range_end: empty for the single key, ``b"\\0"`` for all keys from `key` on.
    """

    type: int = PermissionType.READ
    key: bytes = b""
    range_end: bytes = b""

    def __repr__(self) -> str:
        return f"Permission(type={self.type!r}, key={brief(self.key)}, range_end={brief(self.range_end)})"


class RoleReply(NamedTuple):
    """One role: what it permits."""

    header: Header = EMPTY_HEADER
    permissions: tuple[Permission, ...] = ()


class RolesReply(NamedTuple):
    """The names of all roles."""

    header: Header = EMPTY_HEADER
    roles: tuple[str, ...] = ()
