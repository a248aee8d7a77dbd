# SPDX-License-Identifier: Apache-2.0
"""The Cluster service: the list of members, and changes of it that do not endanger the quorum.

In the headers of its replies the revision is 0.

Source: etcd server/etcdserver/server.go, server/etcdserver/api/v3rpc/member.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.cluster import new_member_id, parsed_urls
from purecd.memory.log import Command
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from purecd.memory.log import Outcome
    from purecd.memory.member import Member, Unary

# etcd maps this one error to a value of its client, so that its code gets lost.
NOT_ENOUGH_STARTED = (2, statuses.MEMBER_NOT_ENOUGH_STARTED[1])


def listed(member: Member, call: Unary, request: pb.MemberListRequest, now: float) -> None:
    """MemberList."""

    def answer() -> Any:
        member.require_identity(call.call, now)
        return _headed(member, pb.MemberListResponse(members=member.state.cluster.listed()))

    def ready(refused: Status | None) -> None:
        call.attempt(answer) if refused is None else call.done(refused)

    if request.linearizable:
        member.log.read_index(member, ready, now)
    else:
        call.attempt(answer)


def _headed(member: Member, outcome: Outcome) -> Outcome:
    if not isinstance(outcome, Status):
        member.fill(outcome.header, 0)
    return outcome


def add(member: Member, call: Unary, request: pb.MemberAddRequest, now: float) -> None:
    """MemberAdd: the id comes from the URLs and the time, counted from this member's start."""
    urls = parsed_urls(request.peerURLs)
    member.require_admin(call.call, now)
    started, voters = member.state.cluster.started_voters()
    alone = started == voters == 1  # may grow, as after a restore
    if member.options.strict_reconfig and started < (voters + 1) // 2 + 1 and not alone:
        # Who has started is taken for connected.
        raise Status(*(statuses.UNHEALTHY if request.isLearner else NOT_ENOUGH_STARTED))
    changed = pb.MemberAddRequest(peerURLs=urls, isLearner=request.isLearner)
    _propose(member, call, Command(changed, member_id=new_member_id(urls, int(now))), now)


def remove(member: Member, call: Unary, request: pb.MemberRemoveRequest, now: float) -> None:
    """MemberRemove."""
    member.require_admin(call.call, now)
    cluster = member.state.cluster
    removed = cluster.members.get(request.ID)
    if member.options.strict_reconfig and not (removed is not None and removed.isLearner):
        started, voters = cluster.started_voters()
        if removed is not None:
            voters -= 1
            started -= bool(removed.name)
        if started < voters // 2 + 1:
            raise Status(*NOT_ENOUGH_STARTED)
    _propose(member, call, Command(request), now)


def update(member: Member, call: Unary, request: pb.MemberUpdateRequest, now: float) -> None:
    """MemberUpdate."""
    member.require_admin(call.call, now)
    _propose(member, call, Command(request), now)


def promote(member: Member, call: Unary, request: pb.MemberPromoteRequest, now: float) -> None:
    """MemberPromote: a learner that has not started is never ready."""
    member.require_admin(call.call, now)
    learner = member.state.cluster.members.get(request.ID)
    if learner is None:
        raise Status(*statuses.MEMBER_NOT_FOUND)
    if not learner.name:
        raise Status(*statuses.LEARNER_NOT_READY)
    _propose(member, call, Command(request), now)


def _propose(member: Member, call: Unary, command: Command, now: float) -> None:
    member.log.propose(member, command, lambda outcome: call.done(_headed(member, outcome)), now)
