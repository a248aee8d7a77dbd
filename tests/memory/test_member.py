# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.log import Command, Solo
from purecd.memory.member import Member, MemberOptions
from purecd.pb import messages as pb
from tests.memory.asking import AUTH, KV, LEASE, MAINTENANCE, WATCH, Alone
from tests.memory.logs import SlowLog


class Leaderless(Solo):
    def leader_id(self, member):
        return 0


def commands(rng):
    """Commands that change everything there is."""
    keys = (b"a", b"b", b"c")
    yield Command(pb.LeaseGrantRequest(ID=7, TTL=60))
    for _ in range(60):
        key = rng.choice(keys)
        yield Command(pb.PutRequest(key=key, value=b"%d" % rng.randrange(9), lease=rng.choice((0, 7))))
        yield Command(pb.DeleteRangeRequest(key=rng.choice(keys), range_end=rng.choice((b"", b"c"))))
    yield Command(pb.CompactionRequest(revision=40))
    yield Command(pb.AuthUserAddRequest(name="root", hashedPassword="x"))
    yield Command(pb.AuthUserGrantRoleRequest(user="root", role="root"))
    yield Command(pb.AlarmRequest(action=1, alarm=1, memberID=9))
    yield Command(pb.LeaseRevokeRequest(ID=7))


def shown(member):
    records = [(record.main, record.sub, str(record.kv)) for record in member.state.store.records()]
    state = member.state
    return records, state.store.revision, state.store.compacted, state.auth.users, state.alarms, state.index


def test_members_that_apply_the_same_commands_are_the_same():
    members = [Member(rng=random.Random(each), member_id=each + 1) for each in range(2)]
    members[1].demote(0.0)
    outcomes = []
    for member, pace in zip(members, (1.0, 3.0)):
        outcomes.append(
            [str(member.apply(command, pace * at)) for at, command in enumerate(commands(random.Random(5)))]
        )
    assert outcomes[0] == outcomes[1]
    assert shown(members[0]) == shown(members[1])


def test_a_state_taken_over_half_way_is_as_good_as_all_commands():
    all_along, late = (Member(rng=random.Random(1)) for _ in range(2))
    done = list(commands(random.Random(5)))
    for at, command in enumerate(done):
        if at == 70:
            late.load_state(all_along.copy_state(), 0.0)
        all_along.apply(command, 0.0)
        if at >= 70:
            late.apply(command, 0.0)
    assert shown(all_along) == shown(late)


def test_watchers_hear_of_what_came_with_a_state():
    alone, ahead = Alone(), Alone()
    stream = alone.begin(WATCH + "Watch")
    stream.handler.receive(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")), alone.now)
    stream.take()
    ahead.put(b"k", b"1")
    alone.member.load_state(ahead.member.copy_state(), alone.now)
    alone.pass_time(0.2)
    (response,) = stream.take()
    assert [event.kv.value for event in response.events] == [b"1"]


def test_unknown_rpcs():
    alone = Alone()
    for path, text in (
        ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
        ("/nothing.Here/Range", "unknown service nothing.Here"),
    ):
        for ask in (lambda path=path: alone.begin(path), lambda path=path: alone.member.request_class(path)):
            with pytest.raises(Status) as caught:
                ask()
            assert (caught.value.code, caught.value.text) == (12, text)
    assert alone.member.request_class(KV + "Put") is pb.PutRequest


def test_without_a_leader():
    alone = Alone()
    alone.member.log = Leaderless()
    with pytest.raises(Status) as caught:
        alone.begin(KV + "Range", pb.RangeRequest(key=b"k"), hasleader="true")
    assert (caught.value.code, caught.value.text) == statuses.NO_LEADER
    alone.ask(KV + "Range", pb.RangeRequest(key=b"k"))
    assert list(alone.ask(MAINTENANCE + "Status", pb.StatusRequest()).errors) == ["etcdserver: no leader"]


def test_losing_the_leader_ends_the_streams_that_need_one():
    alone = Alone()
    needing, other = (alone.begin(WATCH + "Watch", **each) for each in ({"hasleader": "true"}, {}))
    alone.member.lose_leader(alone.now)
    assert needing.status is not None
    assert (needing.status.code, needing.status.text) == statuses.NO_LEADER
    assert not other.call.finished


def test_a_learner_answers_little():
    alone = Alone()
    alone.member.state.cluster.members[alone.member.member_id].isLearner = True
    assert alone.ask(KV + "Range", pb.RangeRequest(key=b"k", serializable=True)).count == 0
    assert alone.ask(MAINTENANCE + "Status", pb.StatusRequest()).isLearner
    alone.begin(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    for path, request in (
        (KV + "Range", pb.RangeRequest(key=b"k")),
        (KV + "Put", pb.PutRequest(key=b"k")),
        (LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=5)),
    ):
        assert alone.refusal(path, request) == statuses.NOT_SUPPORTED_FOR_LEARNER
    with pytest.raises(Status):
        alone.begin(WATCH + "Watch")


def test_tokens():
    alone = Alone(auth_token_ttl=10.0)
    root = alone.with_auth()
    reading = pb.RangeRequest(key=b"k")
    alone.ask(KV + "Range", reading, token=root)
    alone.ask(KV + "Range", reading, authorization=root)
    assert alone.refusal(KV + "Range", reading) == statuses.USER_EMPTY
    for bad in ("nonsense", "a.b.c", f"{'x' * 16}.1"):
        assert alone.refusal(KV + "Range", reading, token=bad) == statuses.INVALID_AUTH_TOKEN
    alone.pass_time(9.0)
    alone.ask(KV + "Range", reading, token=root)
    alone.pass_time(10.0)
    assert alone.refusal(KV + "Range", reading, token=root) == statuses.INVALID_AUTH_TOKEN
    alone.ask(AUTH + "AuthDisable", pb.AuthDisableRequest(), token=alone.login("root", "r"))
    alone.ask(KV + "Range", reading, token="nonsense")


def test_old_members_refuse_bad_tokens_though_auth_is_off():
    alone = Alone(version="3.5.9")
    assert alone.refusal(KV + "Range", pb.RangeRequest(key=b"k"), token="x") == statuses.INVALID_AUTH_TOKEN
    alone.ask(MAINTENANCE + "Status", pb.StatusRequest(), token="x")
    alone.ask(KV + "Range", pb.RangeRequest(key=b"k"))


def test_common_names():
    alone = Alone()
    alone.with_auth()
    for name, metadata, status in (
        ("alice", {}, None),
        ("nobody", {}, statuses.PERMISSION_DENIED),
        ("alice", {"grpcgateway-accept": "x"}, statuses.USER_EMPTY),
    ):
        asked = alone.begin(KV + "Range", **metadata)
        asked.call.common_name = name
        asked.handler.receive(pb.RangeRequest(key=b"a"), alone.now)
        assert (asked.status and (asked.status.code, asked.status.text)) == status


def test_a_token_that_other_members_know_already_is_waited_for():
    alone = Alone()
    root = alone.with_auth()
    log = alone.member.log = SlowLog()
    index = alone.member.index + 2
    # Somebody logged in at another member; this one has not applied that yet.
    log.propose(alone.member, Command(pb.AuthUserListRequest(), "root", 99), lambda outcome: None, alone.now)
    log.propose(
        alone.member,
        Command(pb.AuthenticateRequest(name="alice"), token="t"),
        lambda outcome: None,
        alone.now,
    )
    asked = alone.begin(KV + "Range", pb.RangeRequest(key=b"a", serializable=True), token=f"t.{index}")
    assert not asked.call.finished
    log.agree(alone.now)
    alone.pass_time(0.0)
    assert asked.status is None
    assert asked.take()[0].count == 0
    assert root


def test_timers():
    alone = Alone()
    assert alone.member.next_timer() is None
    called = []
    alone.member.call_at(105.0, lambda: called.append("late"))
    alone.member.call_at(102.0, lambda: called.append("soon"))
    alone.ask(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=3, ID=7))
    assert alone.member.next_timer() == 102.0
    alone.pass_time(3.0)
    assert called == ["soon"]
    assert alone.member.state.leases.get(7) is None
    alone.pass_time(3.0)
    assert called == ["soon", "late"]


def test_options_of_versions():
    for version, eager in (
        ("3.5.7", True),
        ("3.5.8", False),
        ("3.4.24", True),
        ("3.4.25", False),
        ("3.6.0", False),
    ):
        rules = Member(rng=random.Random(1), options=MemberOptions(version=version))._rules
        assert rules.eager_progress is eager, version
