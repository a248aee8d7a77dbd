# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.clusterservice import NOT_ENOUGH_STARTED
from purecd.pb import messages as pb
from tests.memory.asking import CLUSTER, Alone
from tests.memory.logs import SlowLog

URL = "http://127.0.0.1:1"


@pytest.fixture
def alone():
    return Alone()


def add(alone, *urls, learner=True, token=""):
    request = pb.MemberAddRequest(peerURLs=urls or [URL], isLearner=learner)
    return alone.ask(CLUSTER + "MemberAdd", request, token)


def test_list(alone):
    reply = alone.ask(CLUSTER + "MemberList", pb.MemberListRequest(linearizable=True))
    (member,) = reply.members
    assert (member.ID, member.name, list(member.peerURLs)) == (
        alone.member.member_id,
        "default",
        ["http://localhost:2380"],
    )
    assert (reply.header.revision, reply.header.member_id) == (0, alone.member.member_id)


def test_a_linearizable_list_waits_for_the_log(alone):
    log = alone.member.log = SlowLog()
    asked = alone.begin(CLUSTER + "MemberList", pb.MemberListRequest(linearizable=True))
    assert not asked.call.finished
    log.agree(alone.now)
    assert len(asked.take()[0].members) == 1
    assert len(alone.ask(CLUSTER + "MemberList", pb.MemberListRequest()).members) == 1


def test_learners_come_and_go(alone):
    reply = add(alone)
    learner = reply.member
    assert (list(learner.peerURLs), learner.isLearner, learner.name) == ([URL], True, "")
    assert {each.ID for each in reply.members} == {learner.ID, alone.member.member_id}
    other = pb.MemberAddRequest(peerURLs=["http://127.0.0.1:2"], isLearner=True)
    assert alone.refusal(CLUSTER + "MemberAdd", other) == statuses.TOO_MANY_LEARNERS
    promote = pb.MemberPromoteRequest(ID=learner.ID)
    assert alone.refusal(CLUSTER + "MemberPromote", promote) == statuses.LEARNER_NOT_READY
    alone.member.state.cluster.started(learner.ID, "learner", [URL])
    promoted = alone.ask(CLUSTER + "MemberPromote", promote).members
    assert not any(each.isLearner for each in promoted)
    assert alone.refusal(CLUSTER + "MemberPromote", promote) == statuses.MEMBER_NOT_LEARNER
    left = alone.ask(CLUSTER + "MemberRemove", pb.MemberRemoveRequest(ID=learner.ID)).members
    assert {each.ID for each in left} == {alone.member.member_id}


def test_the_quorum_is_protected(alone):
    only = pb.MemberRemoveRequest(ID=alone.member.member_id)
    assert alone.refusal(CLUSTER + "MemberRemove", only) == NOT_ENOUGH_STARTED
    add(alone, learner=False)
    another = pb.MemberAddRequest(peerURLs=["http://127.0.0.1:2"])
    assert alone.refusal(CLUSTER + "MemberAdd", another) == NOT_ENOUGH_STARTED
    another.isLearner = True
    assert alone.refusal(CLUSTER + "MemberAdd", another) == statuses.UNHEALTHY
    loose = Alone(strict_reconfig=False)
    add(loose, learner=False)
    add(loose, "http://127.0.0.1:2", learner=False)


def test_update(alone):
    request = pb.MemberUpdateRequest(ID=alone.member.member_id, peerURLs=[URL])
    (member,) = alone.ask(CLUSTER + "MemberUpdate", request).members
    assert list(member.peerURLs) == [URL]
    request.ID = 7
    assert alone.refusal(CLUSTER + "MemberUpdate", request) == statuses.MEMBER_NOT_FOUND
    promote = pb.MemberPromoteRequest(ID=7)
    assert alone.refusal(CLUSTER + "MemberPromote", promote) == statuses.MEMBER_NOT_FOUND


def test_only_administrators_change_members(alone):
    root = alone.with_auth()
    alice = alone.login("alice", "a")
    for method, request in (
        ("MemberAdd", pb.MemberAddRequest(peerURLs=[URL], isLearner=True)),
        ("MemberRemove", pb.MemberRemoveRequest(ID=1)),
        ("MemberUpdate", pb.MemberUpdateRequest(ID=1)),
        ("MemberPromote", pb.MemberPromoteRequest(ID=1)),
    ):
        assert alone.refusal(CLUSTER + method, request, token=alice) == statuses.PERMISSION_DENIED
        assert alone.refusal(CLUSTER + method, request) == statuses.USER_EMPTY
    assert alone.refusal(CLUSTER + "MemberList", pb.MemberListRequest()) == statuses.USER_EMPTY
    alone.ask(CLUSTER + "MemberList", pb.MemberListRequest(), token=alice)
    add(alone, token=root)
