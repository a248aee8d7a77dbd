# SPDX-License-Identifier: Apache-2.0
"""The table of RPCs that a member answers.

Source: etcd api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from purecd.memory import authservice, clusterservice, kvservice, leaseservice, maintenance
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from purecd.memory.calls import Handler, ServerCall
    from purecd.memory.member import Member, Unary

Perform = Callable[["Member", "Unary", Any, float], None]
Open = Callable[["Member", "ServerCall", float], "Handler"]


class Rpc(NamedTuple):
    """One RPC.

    Attributes:
        request: class of its requests.
        perform: answers a unary call, by ending it or by raising Status.
        open: begins a stream; None for unary calls.
        for_learners: a member without a vote answers it.
    """

    request: Any
    perform: Perform
    open: Open | None = None
    for_learners: bool = False


def _no_unary(member: Member, call: Unary, request: Any, now: float) -> None:
    raise AssertionError("a stream is not performed")


def _stream(request: Any, open_it: Open, *, for_learners: bool = False) -> Rpc:
    return Rpc(request, _no_unary, open_it, for_learners)


RPCS: dict[str, Rpc] = {
    "/etcdserverpb.KV/Range": Rpc(pb.RangeRequest, kvservice.read),
    "/etcdserverpb.KV/Put": Rpc(pb.PutRequest, kvservice.put),
    "/etcdserverpb.KV/DeleteRange": Rpc(pb.DeleteRangeRequest, kvservice.delete),
    "/etcdserverpb.KV/Txn": Rpc(pb.TxnRequest, kvservice.transact),
    "/etcdserverpb.KV/Compact": Rpc(pb.CompactionRequest, kvservice.compact),
    "/etcdserverpb.Watch/Watch": _stream(
        pb.WatchRequest, lambda member, call, now: member.open_watch(call, now)
    ),
    "/etcdserverpb.Lease/LeaseGrant": Rpc(pb.LeaseGrantRequest, leaseservice.grant),
    "/etcdserverpb.Lease/LeaseRevoke": Rpc(pb.LeaseRevokeRequest, leaseservice.revoke),
    "/etcdserverpb.Lease/LeaseTimeToLive": Rpc(pb.LeaseTimeToLiveRequest, leaseservice.time_to_live),
    "/etcdserverpb.Lease/LeaseLeases": Rpc(pb.LeaseLeasesRequest, leaseservice.leases),
    "/etcdserverpb.Lease/LeaseKeepAlive": _stream(
        pb.LeaseKeepAliveRequest, lambda member, call, now: leaseservice.KeepAliveStream(member, call)
    ),
    "/etcdserverpb.Cluster/MemberAdd": Rpc(pb.MemberAddRequest, clusterservice.add),
    "/etcdserverpb.Cluster/MemberRemove": Rpc(pb.MemberRemoveRequest, clusterservice.remove),
    "/etcdserverpb.Cluster/MemberUpdate": Rpc(pb.MemberUpdateRequest, clusterservice.update),
    "/etcdserverpb.Cluster/MemberList": Rpc(pb.MemberListRequest, clusterservice.listed),
    "/etcdserverpb.Cluster/MemberPromote": Rpc(pb.MemberPromoteRequest, clusterservice.promote),
    "/etcdserverpb.Maintenance/Alarm": Rpc(pb.AlarmRequest, maintenance.alarm),
    "/etcdserverpb.Maintenance/Status": Rpc(pb.StatusRequest, maintenance.status, for_learners=True),
    "/etcdserverpb.Maintenance/Defragment": Rpc(pb.DefragmentRequest, maintenance.defragment),
    "/etcdserverpb.Maintenance/Hash": Rpc(pb.HashRequest, maintenance.hash_all),
    "/etcdserverpb.Maintenance/HashKV": Rpc(pb.HashKVRequest, maintenance.hash_keys),
    "/etcdserverpb.Maintenance/Snapshot": _stream(
        pb.SnapshotRequest,
        lambda member, call, now: maintenance.SnapshotStream(member, call),
        for_learners=True,
    ),
    "/etcdserverpb.Maintenance/MoveLeader": Rpc(pb.MoveLeaderRequest, maintenance.move_leader),
    "/etcdserverpb.Maintenance/Downgrade": Rpc(pb.DowngradeRequest, maintenance.downgrade),
    "/etcdserverpb.Auth/Authenticate": Rpc(pb.AuthenticateRequest, authservice.authenticate),
    "/etcdserverpb.Auth/UserAdd": Rpc(pb.AuthUserAddRequest, authservice.add_user),
    "/etcdserverpb.Auth/UserChangePassword": Rpc(
        pb.AuthUserChangePasswordRequest, authservice.change_password
    ),
    "/grpc.health.v1.Health/Check": Rpc(pb.HealthCheckRequest, maintenance.check_health),
    "/grpc.health.v1.Health/Watch": _stream(
        pb.HealthCheckRequest, lambda member, call, now: maintenance.HealthStream(call)
    ),
}
RPCS.update(
    (f"/etcdserverpb.Auth/{name}", Rpc(request, authservice.through_the_log))
    for name, request in {
        "AuthEnable": pb.AuthEnableRequest,
        "AuthDisable": pb.AuthDisableRequest,
        "AuthStatus": pb.AuthStatusRequest,
        "UserGet": pb.AuthUserGetRequest,
        "UserList": pb.AuthUserListRequest,
        "UserDelete": pb.AuthUserDeleteRequest,
        "UserGrantRole": pb.AuthUserGrantRoleRequest,
        "UserRevokeRole": pb.AuthUserRevokeRoleRequest,
        "RoleAdd": pb.AuthRoleAddRequest,
        "RoleGet": pb.AuthRoleGetRequest,
        "RoleList": pb.AuthRoleListRequest,
        "RoleDelete": pb.AuthRoleDeleteRequest,
        "RoleGrantPermission": pb.AuthRoleGrantPermissionRequest,
        "RoleRevokePermission": pb.AuthRoleRevokePermissionRequest,
    }.items()
)
