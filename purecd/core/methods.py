# SPDX-License-Identifier: Apache-2.0
"""The table of RPCs: path, codecs, and what may be sent again.

Source: etcd api/etcdserverpb/rpc.proto; the policies follow client/v3/retry.go except where
that client re-sends what may already have been applied (see docs/failures.md).
"""

from __future__ import annotations

import enum
from typing import Any, Callable

from purecd.pb import codecs
from purecd.wire.grpc import Arriving, GrpcStream


class Policy(enum.Enum):
    """What may be sent again when the outcome of an attempt is unknown."""

    READ = "read"
    """Changes nothing: repeated until the deadline."""
    WRITE = "write"
    """At most once: repeated only when the first attempt was certainly not applied."""
    IDEMPOTENT = "idempotent"
    """Changes something, but twice is the same as once."""


class RangeStream(GrpcStream):
    """The response to a range; a large one is decoded while it comes."""

    __slots__ = ()

    def gather(self, length: int) -> Arriving:
        from purecd.pb.pieces import LARGE, RangePieces

        return RangePieces(length) if length >= LARGE else super().gather(length)


class Method:
    """One RPC.

    Attributes:
        path: as sent in ``:path``.
        encode: request value to message bytes.
        decode: message bytes to reply value; `ValueError` for bytes that are none.
        policy: what may be sent again.
        authenticated: whether the token goes along.
        stream: what a call of it is on a connection.
    """

    __slots__ = ("authenticated", "decode", "encode", "name", "path", "policy", "raw_path", "stream")

    def __init__(
        self,
        path: str,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
        policy: Policy,
        authenticated: bool = True,
        stream: type[GrpcStream] = GrpcStream,
    ) -> None:
        self.path = path
        self.raw_path = path.encode("ascii")
        self.name = path.rpartition("/")[2]
        self.encode = encode
        self.decode = decode
        self.policy = policy
        self.authenticated = authenticated
        self.stream = stream

    def __repr__(self) -> str:
        return f"<Method {self.path}>"


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


class _Parser:
    """Parses one message type; finds its class when first used, so importing is cheap."""

    __slots__ = ("_name", "_parse")

    def __init__(self, name: str) -> None:
        self._name = name
        self._parse: Callable[[bytes], Any] | None = None

    def __call__(self, data: bytes) -> Any:
        if self._parse is None:
            from purecd.pb import message_class

            self._parse = message_class(self._name).FromString
        try:
            return self._parse(data)
        except Exception as error:  # DecodeError or, in pure Python, whatever bad bytes lead to
            raise ValueError(f"undecodable {self._name}") from error


def _message(path: str, reply: str, policy: Policy, authenticated: bool = True) -> Method:
    """An RPC whose request and reply are protobuf messages."""
    return Method(path, _serialize, _Parser(reply), policy, authenticated)


def _etcd(service: str, name: str, policy: Policy, reply: str = "", authenticated: bool = True) -> Method:
    path = f"/etcdserverpb.{service}/{name}"
    return _message(path, f"etcdserverpb.{reply or name + 'Response'}", policy, authenticated)


_READ, _WRITE, _IDEMPOTENT = Policy.READ, Policy.WRITE, Policy.IDEMPOTENT

RANGE = Method("/etcdserverpb.KV/Range", codecs.encode_range, codecs.decode_range, _READ, stream=RangeStream)
RANGE_STREAM = _etcd("KV", "RangeStream", _READ)
PUT = Method("/etcdserverpb.KV/Put", codecs.encode_put, codecs.decode_put, _WRITE)
DELETE_RANGE = Method("/etcdserverpb.KV/DeleteRange", codecs.encode_delete, codecs.decode_delete, _WRITE)
TXN = Method("/etcdserverpb.KV/Txn", codecs.encode_txn, codecs.decode_txn, _WRITE)
TXN_READ = Method("/etcdserverpb.KV/Txn", codecs.encode_txn, codecs.decode_txn, _READ)
COMPACT = Method(
    "/etcdserverpb.KV/Compact",
    lambda request: codecs.encode_compact(*request),
    codecs.decode_compact,
    _WRITE,
)

WATCH = Method("/etcdserverpb.Watch/Watch", bytes, codecs.decode_watch, _READ)

LEASE_GRANT = _etcd("Lease", "LeaseGrant", _IDEMPOTENT)  # with an id of our choosing
LEASE_REVOKE = _etcd("Lease", "LeaseRevoke", _IDEMPOTENT)
LEASE_TIME_TO_LIVE = _etcd("Lease", "LeaseTimeToLive", _READ)
LEASE_LEASES = _etcd("Lease", "LeaseLeases", _READ)
LEASE_KEEP_ALIVE = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", codecs.encode_keepalive, codecs.decode_keepalive, _READ
)

MEMBER_LIST = _etcd("Cluster", "MemberList", _READ)
MEMBER_ADD = _etcd("Cluster", "MemberAdd", _WRITE)
MEMBER_REMOVE = _etcd("Cluster", "MemberRemove", _WRITE)
MEMBER_UPDATE = _etcd("Cluster", "MemberUpdate", _WRITE)
MEMBER_PROMOTE = _etcd("Cluster", "MemberPromote", _WRITE)

ALARM = _etcd("Maintenance", "Alarm", _IDEMPOTENT)
STATUS = _etcd("Maintenance", "Status", _READ)
DEFRAGMENT = _etcd("Maintenance", "Defragment", _WRITE)
HASH = _etcd("Maintenance", "Hash", _READ)
HASH_KV = _etcd("Maintenance", "HashKV", _READ)
SNAPSHOT = _etcd("Maintenance", "Snapshot", _READ)
MOVE_LEADER = _etcd("Maintenance", "MoveLeader", _WRITE)
DOWNGRADE = _etcd("Maintenance", "Downgrade", _WRITE)

AUTH_STATUS = _etcd("Auth", "AuthStatus", _READ)
AUTH_ENABLE = _etcd("Auth", "AuthEnable", _WRITE)
AUTH_DISABLE = _etcd("Auth", "AuthDisable", _WRITE)
AUTHENTICATE = _etcd("Auth", "Authenticate", _READ, authenticated=False)
USER_ADD = _etcd("Auth", "UserAdd", _WRITE, "AuthUserAddResponse")
USER_GET = _etcd("Auth", "UserGet", _READ, "AuthUserGetResponse")
USER_LIST = _etcd("Auth", "UserList", _READ, "AuthUserListResponse")
USER_DELETE = _etcd("Auth", "UserDelete", _WRITE, "AuthUserDeleteResponse")
USER_CHANGE_PASSWORD = _etcd("Auth", "UserChangePassword", _WRITE, "AuthUserChangePasswordResponse")
USER_GRANT_ROLE = _etcd("Auth", "UserGrantRole", _WRITE, "AuthUserGrantRoleResponse")
USER_REVOKE_ROLE = _etcd("Auth", "UserRevokeRole", _WRITE, "AuthUserRevokeRoleResponse")
ROLE_ADD = _etcd("Auth", "RoleAdd", _WRITE, "AuthRoleAddResponse")
ROLE_GET = _etcd("Auth", "RoleGet", _READ, "AuthRoleGetResponse")
ROLE_LIST = _etcd("Auth", "RoleList", _READ, "AuthRoleListResponse")
ROLE_DELETE = _etcd("Auth", "RoleDelete", _WRITE, "AuthRoleDeleteResponse")
ROLE_GRANT_PERMISSION = _etcd("Auth", "RoleGrantPermission", _WRITE, "AuthRoleGrantPermissionResponse")
ROLE_REVOKE_PERMISSION = _etcd("Auth", "RoleRevokePermission", _WRITE, "AuthRoleRevokePermissionResponse")

HEALTH_WATCH = _message("/grpc.health.v1.Health/Watch", "grpc.health.v1.HealthCheckResponse", _READ)
HEALTH_CHECK = _message("/grpc.health.v1.Health/Check", "grpc.health.v1.HealthCheckResponse", _READ)
