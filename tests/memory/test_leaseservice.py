# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.leases import FOREVER
from purecd.memory.log import Command
from purecd.pb import messages as pb
from tests.memory.asking import KV, LEASE, Alone
from tests.memory.logs import SlowLog


@pytest.fixture
def alone():
    return Alone()


def grant(alone, ttl=10, lease_id=7, token=""):
    return alone.ask(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=ttl, ID=lease_id), token)


def time_to_live(alone, lease_id=7, keys=True, token=""):
    return alone.ask(LEASE + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=lease_id, keys=keys), token)


def keep_alive(stream, lease_id=7, now=100.0):
    stream.handler.receive(pb.LeaseKeepAliveRequest(ID=lease_id), now)


def test_grant_chooses_a_positive_id_when_asked_to(alone):
    granted = [grant(alone, lease_id=0).ID for _ in range(20)]
    assert len(set(granted)) == 20
    assert all(0 < each < 2**63 for each in granted)
    request = pb.LeaseGrantRequest(TTL=10, ID=granted[0])
    assert alone.refusal(LEASE + "LeaseGrant", request) == statuses.LEASE_EXIST


def test_time_to_live(alone):
    grant(alone)
    alone.put(b"k", lease=7)
    alone.pass_time(2.5)
    reply = time_to_live(alone)
    assert (reply.ID, reply.TTL, reply.grantedTTL, list(reply.keys)) == (7, 7, 10, [b"k"])
    assert reply.header.revision == 2
    assert list(time_to_live(alone, keys=False).keys) == []
    reply = time_to_live(alone, lease_id=8)
    assert (reply.ID, reply.TTL, reply.grantedTTL) == (8, -1, 0)


def test_leases_end_with_their_keys_in_one_revision(alone):
    grant(alone)
    alone.put(b"b", lease=7)
    alone.put(b"a", lease=7)
    alone.put(b"c")
    assert alone.member.next_timer() == 110.0
    alone.pass_time(10.0)
    assert alone.keys() == {b"c": b""}
    (changes,) = alone.member.state.store.changes_since(5)
    assert [record.kv.key for record in changes] == [b"a", b"b"]
    assert time_to_live(alone).TTL == -1


def test_revoke(alone):
    grant(alone)
    alone.put(b"k", lease=7)
    assert alone.ask(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=7)).header.revision == 3
    assert alone.keys() == {}
    assert alone.refusal(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=7)) == statuses.LEASE_NOT_FOUND


def test_list(alone):
    grant(alone, 20, 7)
    grant(alone, 10, 8)
    reply = alone.ask(LEASE + "LeaseLeases", pb.LeaseLeasesRequest())
    assert [each.ID for each in reply.leases] == [8, 7]


def test_keep_alive(alone):
    grant(alone)
    alone.pass_time(6.0)
    stream = alone.begin(LEASE + "LeaseKeepAlive")
    keep_alive(stream, 7, alone.now)
    keep_alive(stream, 8, alone.now)
    assert [(each.ID, each.TTL, each.header.revision) for each in stream.take()] == [(7, 10, 1), (8, 0, 1)]
    alone.pass_time(9.0)
    assert time_to_live(alone).TTL == 1
    assert not stream.call.finished
    stream.handler.half_close(alone.now)
    assert (stream.call.finished, stream.status) == (True, None)


def test_the_end_waits_for_the_last_answer(alone):
    grant(alone)
    log = alone.member.log = SlowLog()
    stream = alone.begin(LEASE + "LeaseKeepAlive")
    keep_alive(stream)
    keep_alive(stream, 8)
    stream.handler.half_close(alone.now)
    log.agree(alone.now)
    assert [each.ID for each in stream.take()] == [7], "one at a time"
    log.agree(alone.now)
    assert ([each.ID for each in stream.take()], stream.call.finished) == ([8], True)


def begin_with_a_token_to_come(alone):
    """A stream whose token is of a login that this member has not applied yet, and its log."""
    alone.with_auth()
    log = alone.member.log = SlowLog()
    token = f"t.{alone.member.index + 1}"
    log.propose(
        alone.member, Command(pb.AuthenticateRequest(name="root"), token="t"), lambda outcome: None, alone.now
    )
    return alone.begin(LEASE + "LeaseKeepAlive", token=token), log


def test_a_token_that_other_members_know_already_is_waited_for(alone):
    grant(alone)
    stream, log = begin_with_a_token_to_come(alone)
    keep_alive(stream)
    keep_alive(stream, 8)
    assert (stream.take(), stream.call.finished) == ([], False)
    log.agree(alone.now)
    for _ in range(3):  # the login, then one question after the other
        alone.pass_time(0.0)
        log.agree(alone.now)
    assert [(each.ID, each.TTL) for each in stream.take()] == [(7, 10), (8, 0)]
    assert not stream.call.finished


def test_no_lease_is_renewed_for_who_left_before_the_token_was_known(alone):
    grant(alone)
    stream, log = begin_with_a_token_to_come(alone)
    keep_alive(stream)
    stream.call.cancel(alone.now)
    alone.pass_time(4.0)
    log.agree(alone.now)
    alone.pass_time(0.0)
    log.agree(alone.now)
    assert alone.member.state.leases.get(7).seconds_left(alone.now) == 6


def test_an_expired_lease_is_answered_when_it_is_revoked(alone):
    grant(alone)
    stream = alone.begin(LEASE + "LeaseKeepAlive")
    keep_alive(stream, 7, 111.0)
    assert stream.take() == []
    alone.pass_time(11.0)
    assert [each.TTL for each in stream.take()] == [0]


def test_errors_end_the_stream(alone):
    alone.member.log = SlowLog()
    stream = alone.begin(LEASE + "LeaseKeepAlive")
    keep_alive(stream)
    alone.member.log.refuse(Status(*statuses.TIMEOUT))
    assert (stream.status.code, stream.status.text) == statuses.TIMEOUT


def test_who_is_no_leader_knows_no_deadlines(alone):
    grant(alone)
    alone.member.demote(alone.now)
    assert time_to_live(alone).TTL == FOREVER
    stream = alone.begin(LEASE + "LeaseKeepAlive")
    keep_alive(stream)
    assert (stream.status.code, stream.status.text) == (2, "not a primary lessor")
    assert alone.member.next_timer() is None
    alone.member.promote(alone.now)
    assert time_to_live(alone).TTL == 11


def test_permissions(alone):
    root = alone.with_auth()
    grant(alone, token=root)
    alone.ask(KV + "Put", pb.PutRequest(key=b"x", lease=7), token=root)
    alice = alone.login("alice", "a")
    listing = pb.LeaseLeasesRequest()
    assert alone.refusal(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=5)) == statuses.USER_EMPTY
    assert alone.refusal(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=7)) == statuses.USER_EMPTY
    assert alone.refusal(LEASE + "LeaseLeases", listing) == statuses.USER_EMPTY
    assert alone.refusal(LEASE + "LeaseLeases", listing, token=alice) == statuses.PERMISSION_DENIED
    with_keys = pb.LeaseTimeToLiveRequest(ID=7, keys=True)
    assert alone.refusal(LEASE + "LeaseTimeToLive", with_keys, token=alice) == statuses.PERMISSION_DENIED
    assert time_to_live(alone, keys=False, token=alice).TTL == 10
    for token, status in (("", statuses.USER_EMPTY), (alice, statuses.PERMISSION_DENIED)):
        stream = alone.begin(LEASE + "LeaseKeepAlive", token=token)
        keep_alive(stream)
        assert (stream.status.code, stream.status.text) == status
    stream = alone.begin(LEASE + "LeaseKeepAlive", token=root)
    keep_alive(stream)
    assert len(stream.take()) == 1


def test_checkpoints_go_through_the_log(alone):
    grant(alone, 1000)
    alone.pass_time(400.0)
    assert alone.member.state.leases.find(7).remaining == 700
    stream = alone.begin(LEASE + "LeaseKeepAlive")
    keep_alive(stream, 7, alone.now)
    assert alone.member.state.leases.find(7).remaining == 0
