# SPDX-License-Identifier: Apache-2.0
import hashlib

import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.hashing import hash_kv
from purecd.memory.log import Command
from purecd.pb import messages as pb
from tests.memory.asking import CLUSTER, HEALTH, KV, MAINTENANCE, Alone
from tests.memory.logs import SlowLog

GET, VALIDATE, ENABLE, CANCEL = 0, 0, 1, 2


@pytest.fixture
def alone():
    return Alone()


def test_status(alone):
    alone.put(b"k")
    reply = alone.ask(MAINTENANCE + "Status", pb.StatusRequest())
    assert (reply.version, reply.leader, reply.raftTerm, reply.header.revision) == (
        "3.5.30",
        alone.member.member_id,
        2,
        2,
    )
    assert reply.raftIndex == reply.raftAppliedIndex == 1
    assert reply.dbSize > 0
    alone.ask(MAINTENANCE + "Alarm", pb.AlarmRequest(action=1, alarm=1, memberID=5))
    reply = alone.ask(MAINTENANCE + "Status", pb.StatusRequest())
    assert list(reply.errors) == ["memberID:5 alarm:NOSPACE "]


def test_hashes(alone):
    alone.put(b"k", b"1")
    alone.put(b"k", b"2")
    reply = alone.ask(MAINTENANCE + "HashKV", pb.HashKVRequest(revision=2))
    assert (reply.hash, reply.compact_revision, reply.header.revision) == (
        hash_kv(alone.member.state.store, 2),
        -1,
        3,
    )
    before = alone.ask(MAINTENANCE + "Hash", pb.HashRequest()).hash
    alone.put(b"k", b"3")
    assert alone.ask(MAINTENANCE + "Hash", pb.HashRequest()).hash != before
    refused = alone.refusal(MAINTENANCE + "HashKV", pb.HashKVRequest(revision=9))
    assert refused == statuses.FUTURE_REV


def test_snapshot(alone):
    for each in range(300):
        alone.put(b"%d" % each, b"v" * 300)
    stream = alone.begin(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    *pieces, digest = stream.take()
    content = b"".join(piece.blob for piece in pieces)
    assert digest.blob == hashlib.sha256(content).digest()
    assert (len(content) + 32) % 512 == 32
    assert [piece.remaining_bytes for piece in pieces] == [
        max(0, len(content) - 32768 * (number + 1)) for number in range(len(pieces))
    ]
    assert len(pieces) > 3
    assert not pieces[0].HasField("header")
    assert (stream.call.finished, stream.status) == (True, None)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_snapshot_waits_for_a_token_that_other_members_know_already(alone, leaves):
    alone.with_auth()
    log = alone.member.log = SlowLog()
    token = f"t.{alone.member.index + 1}"
    login = Command(pb.AuthenticateRequest(name="root"), token="t")
    log.propose(alone.member, login, lambda outcome: None, alone.now)
    stream = alone.begin(MAINTENANCE + "Snapshot", pb.SnapshotRequest(), token=token)
    assert (stream.take(), stream.call.finished) == ([], False)
    if leaves:
        stream.call.cancel(alone.now)
    log.agree(alone.now)
    alone.pass_time(0.0)
    assert (bool(stream.take()), stream.call.finished) == (not leaves, True)


def test_moving_the_leader(alone):
    me = alone.member.member_id
    reply = alone.ask(MAINTENANCE + "MoveLeader", pb.MoveLeaderRequest(targetID=me))
    assert not reply.HasField("header")
    refused = alone.refusal(MAINTENANCE + "MoveLeader", pb.MoveLeaderRequest(targetID=7))
    assert refused == statuses.BAD_LEADER_TRANSFEREE
    urls = ["http://127.0.0.1:1"]
    learner = alone.ask(CLUSTER + "MemberAdd", pb.MemberAddRequest(peerURLs=urls, isLearner=True)).member
    refused = alone.refusal(MAINTENANCE + "MoveLeader", pb.MoveLeaderRequest(targetID=learner.ID))
    assert refused == statuses.BAD_LEADER_TRANSFEREE
    alone.member.state.cluster.started(learner.ID, "x", urls)
    alone.ask(CLUSTER + "MemberPromote", pb.MemberPromoteRequest(ID=learner.ID))
    alone.ask(MAINTENANCE + "MoveLeader", pb.MoveLeaderRequest(targetID=learner.ID))


@pytest.mark.parametrize(
    ("action", "version", "status"),
    [
        (VALIDATE, "3.4", None),
        (VALIDATE, "3.4.99", None),
        (VALIDATE, "3.5", statuses.INVALID_DOWNGRADE_TARGET_VERSION),
        (VALIDATE, "3", statuses.WRONG_DOWNGRADE_VERSION_FORMAT),
        (ENABLE, "", statuses.WRONG_DOWNGRADE_VERSION_FORMAT),
        (CANCEL, "", statuses.NO_INFLIGHT_DOWNGRADE),
        (9, "3.4", (2, "etcdserver: unknown method")),
    ],
)
def test_downgrades(alone, action, version, status):
    request = pb.DowngradeRequest(action=action, version=version)
    if status is None:
        assert alone.ask(MAINTENANCE + "Downgrade", request).version == "3.5.0"
    else:
        assert alone.refusal(MAINTENANCE + "Downgrade", request) == status


def test_a_downgrade_takes_effect_and_is_not_answered(alone):
    for action, left in ((ENABLE, "3.4.0"), (CANCEL, "")):
        request = pb.DowngradeRequest(action=action, version="3.4")
        asked = alone.begin(MAINTENANCE + "Downgrade", request)
        assert (alone.member.state.downgrade_target, asked.call.finished) == (left, False)
        if action == ENABLE:
            refused = alone.refusal(MAINTENANCE + "Downgrade", pb.DowngradeRequest(version="3.4"))
            assert refused == statuses.DOWNGRADE_IN_PROCESS
        alone.pass_time(7.0)
        assert (asked.status.code, asked.status.text) == statuses.TIMEOUT


def test_who_may(alone):
    root = alone.with_auth()
    alice = alone.login("alice", "a")
    for method, request in (
        ("Status", pb.StatusRequest()),
        ("MoveLeader", pb.MoveLeaderRequest(targetID=alone.member.member_id)),
        ("Downgrade", pb.DowngradeRequest(version="3.4")),
        ("Alarm", pb.AlarmRequest(action=2, alarm=1)),
    ):
        assert alone.refusal(MAINTENANCE + method, request) == statuses.USER_EMPTY
        assert alone.refusal(MAINTENANCE + method, request, token=alice) == statuses.PERMISSION_DENIED
        alone.ask(MAINTENANCE + method, request, token=root)
    for method, asking in (
        ("Defragment", pb.DefragmentRequest()),
        ("Hash", pb.HashRequest()),
        ("HashKV", pb.HashKVRequest()),
    ):
        # etcd forgets to translate these.
        assert alone.refusal(MAINTENANCE + method, asking) == (2, "auth: user name is empty")
        assert alone.refusal(MAINTENANCE + method, asking, token=alice) == (2, "auth: permission denied")
        alone.ask(MAINTENANCE + method, asking, token=root)
    snapshot = alone.begin(MAINTENANCE + "Snapshot", pb.SnapshotRequest(), token=alice)
    assert isinstance(snapshot.status, Status)
    assert (snapshot.status.code, snapshot.status.text) == (2, "auth: permission denied")
    listing = pb.AlarmRequest(action=GET)
    alone.ask(MAINTENANCE + "Alarm", listing, token=alice)
    assert alone.refusal(MAINTENANCE + "Alarm", listing) == statuses.USER_EMPTY
    alone.ask(KV + "Range", pb.RangeRequest(key=b"a"), token=alice)


def test_health(alone):
    assert alone.ask(HEALTH + "Check", pb.HealthCheckRequest()).status == 1
    other = pb.HealthCheckRequest(service="etcdserverpb.KV")
    assert alone.refusal(HEALTH + "Check", other) == (5, "unknown service")
    for request, status in ((pb.HealthCheckRequest(), 1), (other, 3)):
        stream = alone.begin(HEALTH + "Watch", request)
        assert [each.status for each in stream.take()] == [status]
        assert not stream.call.finished
