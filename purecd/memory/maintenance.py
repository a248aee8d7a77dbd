# SPDX-License-Identifier: Apache-2.0
"""The Maintenance service, and that of health.

1. Status, hashes and snapshots are this member's own, alarms the cluster's.
2. A downgrade that is begun or cancelled takes effect, and yet the call only ends after 7 s, timed out:
   so do all etcd 3.5.

Source: etcd server/etcdserver/v3_server.go, server/etcdserver/api/v3rpc/{maintenance,health}.go.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.hashing import crc32c, hash_kv, snapshot
from purecd.memory.log import Command, NotApplied
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from purecd.memory.calls import ServerCall
    from purecd.memory.member import Member, Unary

SNAPSHOT_PIECE = 32 * 1024  # octets
ALARM_NAMES = ("NONE", "NOSPACE", "CORRUPT")
VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+(-[0-9A-Za-z.-]*)?(\+[0-9A-Za-z.-]*)?)?", re.ASCII)
SERVING, SERVICE_UNKNOWN = 1, 3


def alarm(member: Member, call: Unary, request: pb.AlarmRequest, now: float) -> None:
    """Alarm: whoever is known may ask, only administrators may change."""
    if request.action == 0:
        member.require_identity(call.call, now)
    else:
        member.require_admin(call.call, now)
    member.propose(call, request, now)


def status(member: Member, call: Unary, request: pb.StatusRequest, now: float) -> None:
    """Status."""
    if member.state.auth.enabled:
        member.require_admin(call.call, now)
    reply = pb.StatusResponse(
        header=pb.ResponseHeader(),
        version=member.options.version,
        dbSize=member.state.size,
        dbSizeInUse=member.state.size,
        leader=member.log.leader_id(member),
        raftIndex=member.log.committed(member),
        raftAppliedIndex=member.index,
        raftTerm=member.log.term(member),
        isLearner=member.is_learner,
    )
    if not reply.leader:
        reply.errors.append(statuses.NO_LEADER[1])
    for kind, member_id in sorted(member.state.alarms):
        reply.errors.append(f"memberID:{member_id} alarm:{ALARM_NAMES[kind]} ")
    call.done(member.headed(reply))


def _require_admin(member: Member, call: ServerCall, now: float) -> None:
    """As `Member.require_admin`; some RPCs let an internal text out, with no code of its own."""
    try:
        member.require_admin(call, now)
    except Status as refused:
        raise Status(2, refused.text.replace("etcdserver:", "auth:", 1)) from refused


def defragment(member: Member, call: Unary, request: pb.DefragmentRequest, now: float) -> None:
    """Defragment: there is nothing to do."""
    _require_admin(member, call.call, now)
    call.done(pb.DefragmentResponse())


def hash_all(member: Member, call: Unary, request: pb.HashRequest, now: float) -> None:
    """Hash: of this member's snapshot; etcd's is of its database file."""
    _require_admin(member, call.call, now)
    reply = pb.HashResponse(hash=crc32c(snapshot(member.state.store)), header=pb.ResponseHeader())
    call.done(member.headed(reply))


def hash_keys(member: Member, call: Unary, request: pb.HashKVRequest, now: float) -> None:
    """HashKV."""
    _require_admin(member, call.call, now)
    store = member.state.store
    reply = pb.HashKVResponse(hash=hash_kv(store, request.revision), compact_revision=store.compacted)
    reply.header.revision = store.revision
    call.done(member.headed(reply))


def move_leader(member: Member, call: Unary, request: pb.MoveLeaderRequest, now: float) -> None:
    """MoveLeader."""
    member.require_admin(call.call, now)
    if member.log.leader_id(member) != member.member_id:
        raise Status(*statuses.NOT_LEADER)
    target = member.state.cluster.members.get(request.targetID)
    if target is None or target.isLearner:
        raise Status(*statuses.BAD_LEADER_TRANSFEREE)

    def done(outcome: Any) -> None:
        call.done(outcome if isinstance(outcome, Status) else pb.MoveLeaderResponse())

    if member.member_id == target.ID:
        done(None)
    else:
        member.log.move_leader(member, target.ID, done, now)


def downgrade(member: Member, call: Unary, request: pb.DowngradeRequest, now: float) -> None:
    """Downgrade."""
    member.require_admin(call.call, now)
    if request.action not in (0, 1, 2):
        raise Status(2, "etcdserver: unknown method")
    target = _major_minor(request.version) if request.action != 2 else ""

    def ready(refused: Status | None) -> Any:
        if refused is not None:
            raise refused
        if request.action == 2 and not member.state.downgrade_target:
            raise Status(*statuses.NO_INFLIGHT_DOWNGRADE)
        if request.action != 2:
            _check_target(member, target)
        if request.action == 0:
            reply = pb.DowngradeResponse(version=_cluster_version(member), header=pb.ResponseHeader())
            return member.headed(reply)
        command = Command(pb.DowngradeRequest(action=request.action, version=target))
        member.log.propose(member, command, lambda outcome: None, now)
        member.call_at(now + member.options.request_timeout, lambda: call.done(Status(*statuses.TIMEOUT)))
        return None

    def attempt(refused: Status | None) -> None:
        try:
            reply = ready(refused)
        except Status as status:
            reply = status
        if reply is not None:
            call.done(reply)

    member.log.read_index(member, attempt, now)


def _cluster_version(member: Member) -> str:
    return ".".join(member.options.version.split(".")[:2]) + ".0"


def _major_minor(version: str) -> str:
    found = VERSION.fullmatch(version)
    if found is None:
        raise Status(*statuses.WRONG_DOWNGRADE_VERSION_FORMAT)
    return f"{int(found[1])}.{int(found[2])}.0"


def _check_target(member: Member, target: str) -> None:
    major, minor = member.options.version.split(".")[:2]
    if target != f"{major}.{int(minor) - 1}.0":
        raise Status(*statuses.INVALID_DOWNGRADE_TARGET_VERSION)
    if member.state.downgrade_target:
        raise Status(*statuses.DOWNGRADE_IN_PROCESS)


class SnapshotStream:
    """One stream of Snapshot: all pieces of it, then its digest."""

    def __init__(self, member: Member, call: ServerCall) -> None:
        self._member = member
        self._call = call

    def receive(self, message: Any, now: float) -> None:
        """The `SnapshotRequest`."""
        try:
            _require_admin(self._member, self._call, now)
        except NotApplied as early:
            self._member.when_applied(early.index, lambda: self._again(message))
            return
        except Status as refused:
            self._call.finish(refused)
            return
        self._send()

    def _again(self, message: Any) -> None:
        """The member has applied what the caller's token needs."""
        if not self._call.finished:
            self.receive(message, self._member.now)

    def _send(self) -> None:
        content = snapshot(self._member.state.store)
        reply: Any = self._call.reply
        for start in range(0, len(content), SNAPSHOT_PIECE):
            piece = content[start : start + SNAPSHOT_PIECE]
            reply(pb.SnapshotResponse(remaining_bytes=len(content) - start - len(piece), blob=piece))
        reply(pb.SnapshotResponse(blob=hashlib.sha256(content).digest()))
        self._call.finish(None)

    def half_close(self, now: float) -> None:
        """There is nothing more to ask."""

    def cancel(self, now: float) -> None:
        """The stream is gone."""


def check_health(member: Member, call: Unary, request: pb.HealthCheckRequest, now: float) -> None:
    """Check: the server as a whole is serving, single services are not known."""
    if request.service:
        raise Status(5, "unknown service")
    call.done(pb.HealthCheckResponse(status=SERVING))


class HealthStream:
    """One stream of the health service's Watch: the state, which does not change."""

    def __init__(self, call: ServerCall) -> None:
        self._reply: Any = call.reply

    def receive(self, message: Any, now: float) -> None:
        """The `HealthCheckRequest`."""
        self._reply(pb.HealthCheckResponse(status=SERVICE_UNKNOWN if message.service else SERVING))

    def half_close(self, now: float) -> None:
        """There is nothing more to ask."""

    def cancel(self, now: float) -> None:
        """The stream is gone."""
