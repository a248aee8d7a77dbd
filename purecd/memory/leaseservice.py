# SPDX-License-Identifier: Apache-2.0
"""The Lease service: grants and revokes through the log, the rest answered by the leader.

Source: etcd server/etcdserver/{v3_server,apply}.go, server/etcdserver/api/v3rpc/lease.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd.memory.calls import Status
from purecd.memory.log import Command, NotApplied
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from purecd.memory.calls import ServerCall
    from purecd.memory.log import Done
    from purecd.memory.member import Member, Unary


def grant(member: Member, call: Unary, request: pb.LeaseGrantRequest, now: float) -> None:
    """LeaseGrant: an id of 0 lets the member choose."""
    member.refuse_over_quota(request, now)
    chosen = pb.LeaseGrantRequest(TTL=request.TTL, ID=request.ID)
    while chosen.ID == 0:
        chosen.ID = member.rng.getrandbits(63)
    member.require_identity(call.call, now)
    member.propose(call, chosen, now)


def revoke(member: Member, call: Unary, request: pb.LeaseRevokeRequest, now: float) -> None:
    """LeaseRevoke."""
    member.require_identity(call.call, now)
    member.propose(call, request, now)


def time_to_live(member: Member, call: Unary, request: pb.LeaseTimeToLiveRequest, now: float) -> None:
    """LeaseTimeToLive: of a lease that is gone the TTL is -1."""
    member.require_identity(call.call, now)
    if request.keys:
        member.check_lease(call.call, request.ID, now, to_write=False)

    def ask(leader: Member, now: float, done: Done) -> None:
        reply = pb.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        reply.header.SetInParent()
        lease = leader.state.leases.get(request.ID)
        if lease is not None:
            reply.TTL, reply.grantedTTL = lease.seconds_left(now), lease.ttl
            if request.keys:
                reply.keys.extend(lease.keys)
        done(reply)

    member.log.ask_leader(member, ask, lambda outcome: call.done(member.headed(outcome)), now)


def leases(member: Member, call: Unary, request: pb.LeaseLeasesRequest, now: float) -> None:
    """LeaseLeases: what this member knows, the one that expires next first."""
    found = member.state.leases.by_deadline()
    member.check_leases(call.call, [key for lease in found for key in lease.keys], now)
    reply = pb.LeaseLeasesResponse(leases=[pb.LeaseStatus(ID=lease.lease_id) for lease in found])
    reply.header.SetInParent()
    call.done(member.headed(reply))


class KeepAliveStream:
    """One stream of LeaseKeepAlive: each request is answered before the next one is read.

    Of a lease that is gone the TTL is 0; an error ends the stream.
    """

    def __init__(self, member: Member, call: ServerCall) -> None:
        self._member = member
        self._call = call
        self._waiting: list[pb.LeaseKeepAliveRequest] = []
        self._busy = False
        self._closed = False

    def receive(self, message: Any, now: float) -> None:
        """One `LeaseKeepAliveRequest`."""
        self._waiting.append(message)
        self._next(now)

    def half_close(self, now: float) -> None:
        """No more requests: the stream ends when all are answered."""
        self._closed = True
        self._next(now)

    def cancel(self, now: float) -> None:
        """The stream is gone."""
        self._waiting.clear()

    def _next(self, now: float) -> None:
        while self._waiting and not self._busy and not self._call.finished:
            self._busy = True
            self._renew(self._waiting.pop(0), now)
        if self._closed and not self._busy and not self._waiting and not self._call.finished:
            self._call.finish(None)

    def _renew(self, request: pb.LeaseKeepAliveRequest, now: float) -> None:
        # The revision is that before the renewal: a lease revoked at 3 was not renewed at 4.
        reply = self._member.headed(pb.LeaseKeepAliveResponse(ID=request.ID, header=pb.ResponseHeader()))

        def done(outcome: Any) -> None:
            self._busy = False
            if self._call.finished:
                return
            if isinstance(outcome, Status):
                self._call.finish(outcome)
                return
            reply.TTL = outcome
            self._call.reply(reply)
            self._next(now)

        try:
            self._member.check_lease(self._call, request.ID, now, to_write=True)
        except NotApplied as early:
            self._member.when_applied(early.index, lambda: self._again(request))
            return
        except Status as refused:
            done(refused)
            return

        def ask(leader: Member, now: float, done: Done) -> None:
            _renew(leader, request.ID, now, done)

        self._member.log.ask_leader(self._member, ask, done, now)

    def _again(self, request: pb.LeaseKeepAliveRequest) -> None:
        """The member has applied what the caller's token needs."""
        if not self._call.finished:
            self._renew(request, self._member.now)


def _renew(leader: Member, lease_id: int, now: float, done: Done) -> None:
    if not leader.state.leases.primary:
        done(Status(2, "not a primary lessor"))
        return
    if leader.state.leases.renew(lease_id, now, done):
        checkpoint = pb.LeaseCheckpointRequest(checkpoints=[pb.LeaseCheckpoint(ID=lease_id)])
        leader.log.propose(leader, Command(checkpoint), lambda outcome: None, now)
