# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.maintenance."""

import pytest

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
from purecd.core import maintenance, methods
from purecd.core.methods import Policy
from purecd.pb import messages
from purecd.types import EMPTY_HEADER, Header
from tests.core.steps import Stepper

HEADER = Header(1, 2, 3, 4)
ON_WIRE = messages.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)
GET, ACTIVATE, DEACTIVATE = 0, 1, 2
VALIDATE, ENABLE, CANCEL = 0, 1, 2


# One member.


def test_status():
    world = Stepper(
        messages.StatusResponse(
            header=ON_WIRE,
            version="3.6.0",
            dbSize=100,
            leader=2**64 - 1,
            raftIndex=5,
            raftTerm=6,
            raftAppliedIndex=7,
            errors=["etcdserver: no leader"],
            dbSizeInUse=80,
            isLearner=True,
            storageVersion="3.5.0",
            dbSizeQuota=1000,
            downgradeInfo=messages.DowngradeInfo(enabled=True, targetVersion="3.5.0"),
        )
    )
    expected = StatusReply(
        header=HEADER,
        version="3.6.0",
        db_size=100,
        leader=2**64 - 1,
        raft_index=5,
        raft_term=6,
        raft_applied_index=7,
        errors=("etcdserver: no leader",),
        db_size_in_use=80,
        is_learner=True,
        storage_version="3.5.0",
        db_size_quota=1000,
        downgrade=DowngradeInfo(True, "3.5.0"),
    )
    assert world.run(maintenance.status(endpoint="a:2379")) == expected
    assert (world.calls[0].method, world.calls[0].endpoint) == (methods.STATUS, "a:2379")


def test_status_of_an_older_server():
    reply = Stepper(messages.StatusResponse(header=ON_WIRE, version="3.4.23")).run(maintenance.status())
    assert (reply.storage_version, reply.db_size_quota, reply.downgrade) == ("", 0, None)


def test_defragmenting_is_not_repeated():
    world = Stepper(messages.DefragmentResponse())
    assert world.run(maintenance.defragment(endpoint="a:2379")) == Done(EMPTY_HEADER)
    (call,) = world.calls
    assert (call.endpoint, call.method.path) == ("a:2379", "/etcdserverpb.Maintenance/Defragment")
    assert call.method.policy is Policy.WRITE


def test_hash():
    world = Stepper(messages.HashResponse(header=ON_WIRE, hash=2**32 - 1))
    assert world.run(maintenance.hash(endpoint="a:2379")) == HashReply(HEADER, 2**32 - 1)
    assert world.calls[0].endpoint == "a:2379"


def test_hash_kv():
    world = Stepper(messages.HashKVResponse(header=ON_WIRE, hash=9, compact_revision=5, hash_revision=8))
    assert world.run(maintenance.hash_kv(revision=8, endpoint="a:2379")) == HashKvReply(HEADER, 9, 5, 8)
    (call,) = world.calls
    assert call.request == messages.HashKVRequest(revision=8)
    assert call.endpoint == "a:2379"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, HealthStatus.UNKNOWN),
        (1, HealthStatus.SERVING),
        (2, HealthStatus.NOT_SERVING),
        (9, HealthStatus.UNKNOWN),
    ],
)
def test_health(number, expected):
    world = Stepper(messages.HealthCheckResponse(status=number))
    assert world.run(maintenance.health("etcd", endpoint="a:2379")) is expected
    (call,) = world.calls
    assert call.request == messages.HealthCheckRequest(service="etcd")
    assert call.endpoint == "a:2379"


# Leadership.


def test_moving_the_leader():
    world = Stepper(messages.MoveLeaderResponse())
    assert world.run(maintenance.move_leader(2**64 - 1, endpoint="a:2379")) == Done(EMPTY_HEADER)
    (call,) = world.calls
    assert call.request == messages.MoveLeaderRequest(targetID=2**64 - 1)
    assert call.endpoint == "a:2379"


# Alarms.


def alarm_reply(*alarms, header=ON_WIRE):
    members = [messages.AlarmMember(memberID=member, alarm=alarm) for member, alarm in alarms]
    return messages.AlarmResponse(header=header, alarms=members)


def asked(world):
    return [(call.request.action, call.request.memberID, call.request.alarm) for call in world.calls]


def test_listing_alarms():
    world = Stepper(alarm_reply((5, 1), (6, 2), (7, 9)))
    reply = world.run(maintenance.alarms())
    assert reply == AlarmsReply(
        HEADER, (Alarm(5, AlarmType.NOSPACE), Alarm(6, AlarmType.CORRUPT), Alarm(7, 9))
    )
    assert asked(world) == [(GET, 0, 0)]


@pytest.mark.parametrize(("alarm", "number"), [("nospace", 1), (AlarmType.CORRUPT, 2), ("CORRUPT", 2)])
def test_one_alarm(alarm, number):
    world = Stepper(alarm_reply((5, number)), alarm_reply((5, number)))
    assert world.run(maintenance.raise_alarm(alarm, 5)).alarms == (Alarm(5, number),)
    assert world.run(maintenance.disarm(5, alarm)).alarms == (Alarm(5, number),)
    assert asked(world) == [(ACTIVATE, 5, number), (DEACTIVATE, 5, number)]


def test_disarming_all():
    # The second was disarmed by somebody else meanwhile.
    world = Stepper(
        alarm_reply((5, 1), (6, 2), (7, 9)), alarm_reply((5, 1)), alarm_reply(), alarm_reply((7, 9))
    )
    assert world.run(maintenance.disarm()) == AlarmsReply(HEADER, (Alarm(5, 1), Alarm(7, 9)))
    assert asked(world) == [(GET, 0, 0), (DEACTIVATE, 5, 1), (DEACTIVATE, 6, 2), (DEACTIVATE, 7, 9)]


def test_disarming_nothing():
    world = Stepper(alarm_reply())
    assert world.run(maintenance.disarm()) == AlarmsReply(HEADER, ())


# Downgrades.


def downgrade_reply(version="3.6"):
    return messages.DowngradeResponse(header=ON_WIRE, version=version)


def downgrades(world):
    return [
        (call.request.action, call.request.version) if call.method is methods.DOWNGRADE else call.method
        for call in world.calls
    ]


@pytest.mark.parametrize(
    ("action", "version", "number"),
    [("validate", "3.5", VALIDATE), ("enable", "3.5.0", ENABLE), ("cancel", "", CANCEL)],
)
def test_downgrading(action, version, number):
    world = Stepper(downgrade_reply())
    assert world.run(maintenance.downgrade(action, version)) == DowngradeReply(HEADER, "3.6")
    assert downgrades(world) == [(number, version)]


def test_a_success_that_etcd_3_5_does_not_answer_is_found_by_validating():
    world = Stepper(errors.Timeout(), errors.DowngradeInProcess())
    reply = world.run(maintenance.downgrade("enable", "3.4"))
    assert reply == DowngradeReply(EMPTY_HEADER, "3.5.0")
    assert downgrades(world) == [(ENABLE, "3.4"), (VALIDATE, "3.4")]


@pytest.mark.parametrize(
    "answer", [downgrade_reply("3.5.0"), errors.InvalidDowngradeTargetVersion(), errors.PermissionDenied()]
)
def test_an_enable_that_timed_out_without_effect_stays_an_error(answer):
    timeout = errors.Timeout(maybe_applied=True)
    with pytest.raises(errors.Timeout) as caught:
        Stepper(timeout, answer).run(maintenance.downgrade("enable", "3.4"))
    assert caught.value is timeout
    assert timeout.maybe_applied


def test_a_cancel_that_etcd_3_5_does_not_answer_is_found_by_validating():
    status = messages.StatusResponse(version="3.5.16")
    world = Stepper(errors.Timeout(), status, downgrade_reply("3.5.0"))
    assert world.run(maintenance.downgrade("cancel")).version == "3.5.0"
    assert downgrades(world) == [(CANCEL, ""), methods.STATUS, (VALIDATE, "3.4")]


@pytest.mark.parametrize(
    "answers",
    [
        (messages.StatusResponse(version="3.5.16"), errors.DowngradeInProcess()),
        (messages.StatusResponse(version="unknown"),),
        (errors.PermissionDenied(),),
    ],
)
def test_a_cancel_that_timed_out_without_certain_effect_stays_an_error(answers):
    with pytest.raises(errors.Timeout):
        Stepper(errors.Timeout(), *answers).run(maintenance.downgrade("cancel"))


def test_a_validation_that_timed_out_is_repeated():
    world = Stepper(errors.Timeout(maybe_applied=True), downgrade_reply())
    assert world.run(maintenance.downgrade("validate", "3.5")).version == "3.6"


def test_other_errors_are_raised():
    for error in (errors.DowngradeInProcess(), errors.InvalidDowngradeTargetVersion()):
        with pytest.raises(type(error)):
            Stepper(error).run(maintenance.downgrade("enable", "3.5"))


# Arguments.


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda: maintenance.hash_kv(revision=-1), ValueError),
        (lambda: maintenance.hash_kv(revision=2**63), ValueError),
        (lambda: maintenance.move_leader(-1), ValueError),
        (lambda: maintenance.move_leader("5"), TypeError),  # type: ignore[arg-type]
        (lambda: maintenance.raise_alarm("none", 5), ValueError),
        (lambda: maintenance.raise_alarm("fire", 5), ValueError),
        (lambda: maintenance.raise_alarm(1, 5), ValueError),  # type: ignore[arg-type]
        (lambda: maintenance.raise_alarm("nospace", -1), ValueError),
        (lambda: maintenance.disarm(5), ValueError),
        (lambda: maintenance.disarm(0, "nospace"), ValueError),
        (lambda: maintenance.downgrade("revert", "3.5"), ValueError),
        (lambda: maintenance.downgrade("cancel", "3.5"), ValueError),
        (lambda: maintenance.downgrade("enable"), ValueError),
        (lambda: maintenance.downgrade("enable", "3"), ValueError),
        (lambda: maintenance.downgrade("enable", "v3.5"), ValueError),
        (lambda: maintenance.downgrade("enable", "3.5.0.1"), ValueError),
        (lambda: maintenance.downgrade("enable", "3.5\n"), ValueError),
        (lambda: maintenance.downgrade("validate", 3.5), ValueError),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(operation, error):
    with pytest.raises(error):
        next(operation())
