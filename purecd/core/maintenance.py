# SPDX-License-Identifier: Apache-2.0
"""Looking after members: status, alarms, defragmenting, hashes, leadership, downgrades, health.

`status`, `defragment`, `hash`, `hash_kv` and `health` are about one member: the one at `endpoint`, or
whichever serves the client.

Source: etcd client/v3/maintenance.go; server/etcdserver/api/v3rpc/maintenance.go.
"""

from __future__ import annotations

import re
from typing import Union

from purecd import errors
from purecd.admin_types import (
    Alarm,
    AlarmsReply,
    AlarmType,
    Done,
    DowngradeInfo,
    DowngradeReply,
    HashKvReply,
    HashReply,
    HealthStatus,
    StatusReply,
)
from purecd.core import methods
from purecd.core.op import Op
from purecd.core.replies import as_member_id, command, header_of
from purecd.core.retry import call
from purecd.errors import EtcdError
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages
from purecd.requests import as_int
from purecd.types import EMPTY_HEADER

AlarmName = Union[str, AlarmType]
"""``"nospace"`` or ``"corrupt"``, or an `AlarmType`."""

_ACTIONS = {"validate": 0, "enable": 1, "cancel": 2}
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})(?:\.\d{1,9})?", re.ASCII)


# One member.


def status(*, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[StatusReply]:
    """Ask a member for its version, sizes, leader and troubles; it needs no quorum to answer.

    Args:
        endpoint: which member, as given in the options.
        timeout: seconds for the whole command.

    Sends: Maintenance/Status, repeatable.
    """
    reply = yield from call(methods.STATUS, messages.StatusRequest(), endpoint=endpoint)
    downgrade = None
    if reply.HasField("downgradeInfo"):
        downgrade = DowngradeInfo(reply.downgradeInfo.enabled, reply.downgradeInfo.targetVersion)
    return StatusReply(
        header_of(reply),
        reply.version,
        reply.dbSize,
        reply.leader,
        reply.raftIndex,
        reply.raftTerm,
        reply.raftAppliedIndex,
        tuple(reply.errors),
        reply.dbSizeInUse,
        reply.isLearner,
        reply.storageVersion,
        reply.dbSizeQuota,
        downgrade,
    )


def defragment(*, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Give the free space in a member's database file back. The member does nothing else meanwhile.

    Args:
        endpoint: which member, as given in the options.
        timeout: seconds for the whole command; large databases take minutes.

    Sends: Maintenance/Defragment, again only when it was certainly not begun.
    """
    return command(methods.DEFRAGMENT, messages.DefragmentRequest(), endpoint=endpoint)


def hash(  # noqa: A001 - the RPC's name
    *, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[HashReply]:
    """Compute a checksum of a member's whole database, history and leases included; for tests.

    Args:
        endpoint: which member, as given in the options.
        timeout: seconds for the whole command.

    Sends: Maintenance/Hash, repeatable.
    """
    reply = yield from call(methods.HASH, messages.HashRequest(), endpoint=endpoint)
    return HashReply(header_of(reply), reply.hash)


def hash_kv(
    *, revision: int = 0, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[HashKvReply]:
    """Compute a checksum of a member's keys, to be compared with that of other members.

    Args:
        revision: hash what was there at this revision, 0 for the latest.
        endpoint: which member, as given in the options.
        timeout: seconds for the whole command.

    Raises:
        Compacted: `revision` was compacted.
        FutureRev: the member has not reached `revision` yet.

    Sends: Maintenance/HashKV, repeatable.
    """
    request = messages.HashKVRequest(revision=as_int("revision", revision))
    reply = yield from call(methods.HASH_KV, request, endpoint=endpoint)
    return HashKvReply(header_of(reply), reply.hash, reply.compact_revision, reply.hash_revision)


def health(
    service: str = "", *, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[HealthStatus]:
    """Ask a member whether it serves, by gRPC's own health check.

    Args:
        service: which of its services, "" for the member as a whole.
        endpoint: which member, as given in the options.
        timeout: seconds for the whole command.

    Raises:
        NotSupportedForLearner: a learner does not say.

    Sends: grpc.health.v1.Health/Check, repeatable.
    """
    request = messages.HealthCheckRequest(service=service)
    reply = yield from call(methods.HEALTH_CHECK, request, endpoint=endpoint)
    try:
        return HealthStatus(reply.status)
    except ValueError:
        return HealthStatus.UNKNOWN


# The cluster.


def move_leader(
    target_id: int, *, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[Done]:
    """Hand leadership to another member, and wait until it has it.

    Args:
        target_id: id of the member that shall lead; a started voter.
        endpoint: where the leader is; only the leader can do it.
        timeout: seconds for the whole command.

    Raises:
        NotLeader: the asked member does not lead.
        BadLeaderTransferee: `target_id` cannot lead.

    Sends: Maintenance/MoveLeader, again only when it was certainly not begun.
    """
    request = messages.MoveLeaderRequest(targetID=as_member_id(target_id))
    return command(methods.MOVE_LEADER, request, endpoint=endpoint)


def _alarm_type(alarm: AlarmName) -> AlarmType:
    if isinstance(alarm, AlarmType):
        return alarm
    try:
        return AlarmType[alarm.upper()]
    except (AttributeError, KeyError):
        names = ", ".join(each.name.lower() for each in AlarmType)
        raise ValueError(f"alarm must be one of {names}, not {alarm!r}") from None


def _alarm(action: int, member_id: int, alarm: int) -> Op[AlarmsReply]:
    request = messages.AlarmRequest(action=action, memberID=member_id, alarm=alarm)
    reply = yield from call(methods.ALARM, request)
    alarms = tuple(Alarm(each.memberID, _known(each.alarm)) for each in reply.alarms)
    return AlarmsReply(header_of(reply), alarms)


def _known(number: int) -> int:
    try:
        return AlarmType(number)
    except ValueError:
        return number


def alarms(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[AlarmsReply]:
    """List the active alarms of all members. Needs a quorum.

    Args:
        timeout: seconds for the whole command.

    Sends: Maintenance/Alarm, repeatable.
    """
    return _alarm(messages.AlarmRequest.GET, 0, AlarmType.NONE)


def raise_alarm(alarm: AlarmName, member_id: int, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[AlarmsReply]:
    """Raise an alarm on behalf of a member; the cluster refuses writes until it is disarmed.

    Args:
        alarm: ``"nospace"`` or ``"corrupt"``.
        member_id: whose alarm.
        timeout: seconds for the whole command.

    Returns:
        The alarm, if it was not active already.

    Sends: Maintenance/Alarm, repeatable.
    """
    kind = _alarm_type(alarm)
    if kind is AlarmType.NONE:
        raise ValueError("alarm must be nospace or corrupt")
    return _alarm(messages.AlarmRequest.ACTIVATE, as_member_id(member_id), kind)


def disarm(
    member_id: int = 0, alarm: AlarmName = AlarmType.NONE, *, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[AlarmsReply]:
    """Take alarms back: one of a member, or, without arguments, all that are active.

    Args:
        member_id: whose alarm.
        alarm: ``"nospace"`` or ``"corrupt"``.
        timeout: seconds for the whole command.

    Returns:
        The alarms that were active and are no longer.

    Sends: Maintenance/Alarm, repeatable; without arguments once to list them and once for each.
    """
    kind = _alarm_type(alarm)
    member = as_member_id(member_id)
    if (member == 0) is not (kind is AlarmType.NONE):
        raise ValueError("give both member_id and alarm, or neither")
    if member:
        return (yield from _alarm(messages.AlarmRequest.DEACTIVATE, member, kind))
    reply = yield from alarms()
    disarmed: list[Alarm] = []
    for each in reply.alarms:
        reply = yield from _alarm(messages.AlarmRequest.DEACTIVATE, each.member_id, each.alarm)
        disarmed.extend(reply.alarms)
    return AlarmsReply(reply.header, tuple(disarmed))


def downgrade(action: str, version: str = "", *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[DowngradeReply]:
    """Prepare the cluster for members of the previous minor version. etcd 3.5 and later.

    Args:
        action: ``"validate"`` to ask whether it could begin, ``"enable"`` to begin, ``"cancel"`` to stop.
        version: the version to go to, such as ``"3.5"``; not for ``"cancel"``.
        timeout: seconds for the whole command. etcd 3.5 does not answer a success: it takes 7 s until
            this is noticed, so leave at least 10.

    Raises:
        InvalidDowngradeTargetVersion: it is not one minor version below the cluster's.
        DowngradeInProcess: a downgrade is under way already.
        NoInflightDowngrade: there is none to cancel; etcd 3.6 and later do not tell.

    Sends: Maintenance/Downgrade, again only when it was certainly not applied, except to validate; where
        the outcome is in doubt Maintenance/Status and a validation, too.
    """
    if action not in _ACTIONS:
        raise ValueError(f"action must be one of {', '.join(_ACTIONS)}, not {action!r}")
    if action == "cancel":
        if version:
            raise ValueError("cancel takes no version")
    elif not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(f"version must be like '3.5' or '3.5.0', not {version!r}")
    try:
        return (yield from _downgrade(action, version))
    except errors.Timeout as error:
        if action == "validate":
            raise
        # Every 3.5 server leaves a success without an answer until its own patience ends.
        outcome = yield from (_is_enabled(version) if action == "enable" else _is_cancelled())
        if outcome is None:
            raise error
        return outcome


def _downgrade(action: str, version: str) -> Op[DowngradeReply]:
    request = messages.DowngradeRequest(action=_ACTIONS[action], version=version)
    reply = yield from call(methods.DOWNGRADE, request, idempotent=action == "validate")
    return DowngradeReply(header_of(reply), reply.version)


def _is_enabled(version: str) -> Op[DowngradeReply | None]:
    """The reply that a 3.5 server owes for an enable that took effect; None when that is not certain."""
    try:
        yield from _downgrade("validate", version)
    except errors.DowngradeInProcess:
        major, minor = _minor(version)
        return DowngradeReply(EMPTY_HEADER, f"{major}.{minor + 1}.0")
    except EtcdError:
        pass
    return None


def _is_cancelled() -> Op[DowngradeReply | None]:
    """The same for a cancel: validating tells, once the one version is known that can be validated."""
    try:
        member = yield from status()
        major, minor = _minor(member.version)
        return (yield from _downgrade("validate", f"{major}.{minor - 1}"))
    except (EtcdError, ValueError):
        return None


def _minor(version: str) -> tuple[int, int]:
    found = _VERSION.match(version)
    if found is None:
        raise ValueError(f"{version!r} is not a version")
    return int(found[1]), int(found[2])
