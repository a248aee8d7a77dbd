# SPDX-License-Identifier: Apache-2.0
"""The table of RPCs that a member answers.

Source: etcd api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from purecd.memory import kvservice, leaseservice
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
}
