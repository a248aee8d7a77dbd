# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.leases."""

from types import SimpleNamespace

import pytest

from purecd import errors
from purecd.admin_types import (
    Done,
    LeaseGrantReply,
    LeaseKeepAliveReply,
    LeaseListReply,
    LeaseTimeToLiveReply,
)
from purecd.core import exchange, leases, methods
from purecd.core.op import Attach, Call, Detach, Next, Sleep
from purecd.core.serverstream import ServerStream
from purecd.pb import messages
from purecd.types import EMPTY_HEADER, Header
from tests.core.steps import Stepper, request_of
from tests.support.steps import used

HEADER = Header(1, 2, 3, 4)
ON_WIRE = messages.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)


def granted(ttl=10, lease_id=77):
    return messages.LeaseGrantResponse(header=ON_WIRE, ID=lease_id, TTL=ttl)


def alive(ttl=7, granted_ttl=10, lease_id=77):
    return messages.LeaseTimeToLiveResponse(header=ON_WIRE, ID=lease_id, TTL=ttl, grantedTTL=granted_ttl)


def exists(maybe_applied=True):
    error = errors.LeaseExist()
    error.maybe_applied = maybe_applied
    return error


def lost_answer():
    return errors.Unavailable("connection lost", maybe_applied=True)


# Grant.


def test_a_lease_is_granted_with_a_random_id():
    world = Stepper(granted(), clock=(100.0, 100.2), random_id=77)
    assert world.run(leases.grant(9)) == LeaseGrantReply(HEADER, 77, 10, 100.0)
    (call,) = world.calls
    assert call.method is methods.LEASE_GRANT
    assert call.request == messages.LeaseGrantRequest(TTL=9, ID=77)


@pytest.mark.parametrize("lease_id", [5, -5, 2**63 - 1])
def test_a_lease_is_granted_with_the_id_of_the_caller(lease_id):
    assert request_of(leases.grant(9, lease_id=lease_id)) == messages.LeaseGrantRequest(TTL=9, ID=lease_id)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ttl": 0}, ValueError),
        ({"ttl": -1}, ValueError),
        ({"ttl": 2.5}, TypeError),
        ({"ttl": "5"}, TypeError),
        ({"ttl": True}, TypeError),
        ({"ttl": 2**63}, ValueError),
        ({"ttl": 5, "lease_id": 2**63}, ValueError),
        ({"ttl": 5, "lease_id": "7"}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(arguments, error):
    with pytest.raises(error):
        next(leases.grant(**arguments))


def test_an_id_taken_by_another_lease_is_an_error():
    with pytest.raises(errors.LeaseExist):
        Stepper(exists(maybe_applied=False)).run(leases.grant(9, lease_id=5))


def test_an_attempt_without_an_answer_leaves_no_orphan():
    # B.13: the repetition finds the lease of the first attempt.
    world = Stepper(lost_answer(), exists(), alive(ttl=7, granted_ttl=10), clock=(100.0, 104.0))
    reply = world.run(leases.grant(10))
    assert [call.request.ID for call in world.calls] == [77, 77, 77]
    assert world.calls[2].method is methods.LEASE_TIME_TO_LIVE
    # It lives 7 s from 104 on, as a lease of 10 s granted at 101 would.
    assert reply == LeaseGrantReply(HEADER, 77, 10, 101.0)


def test_a_lease_that_ended_before_it_was_found_is_granted_again():
    world = Stepper(lost_answer(), exists(), alive(ttl=-1, granted_ttl=0), granted(), clock=(100.0,))
    assert world.run(leases.grant(10)).ttl == 10


def test_an_unknown_outcome_is_told():
    world = Stepper(lost_answer(), exists(), errors.PermissionDenied())
    with pytest.raises(errors.PermissionDenied) as caught:
        world.run(leases.grant(10))
    assert caught.value.maybe_applied


def test_a_grant_that_took_long_is_dated_by_what_is_left():
    # Three failed attempts lie between the first sending and the answer.
    world = Stepper(granted(ttl=10), alive(ttl=9, granted_ttl=10), clock=(100.0, 108.0, 108.0))
    assert world.run(leases.grant(10)).sent_at == 107.0


NO_DEADLINE = alive(ttl=9_223_372_036, granted_ttl=10)  # from a member that does not lead, or no longer


@pytest.mark.parametrize(
    ("first", "sent_at"),
    [([lost_answer(), exists()], 109.0 + 7 - 10), ([granted()], 110.0 + 7 - 10)],
    ids=["found", "took long"],
)
def test_a_member_that_knows_no_deadline_is_asked_again(first, sent_at):
    world = Stepper(*first, NO_DEADLINE, NO_DEADLINE, alive(ttl=7), clock=(100.0, 108.0, 108.0, 109.0, 110.0))
    assert world.run(leases.grant(10)).sent_at == sent_at
    assert [call.method for call in world.calls[len(first) :]] == [methods.LEASE_TIME_TO_LIVE] * 3
    assert world.log.count(Sleep) == 2


def test_a_lease_of_which_no_member_knows_the_deadline_counts_from_its_sending():
    late = errors.DeadlineExceeded("no answer")
    late.final = True
    world = Stepper(granted(), NO_DEADLINE, late, clock=(100.0, 108.0))
    assert world.run(leases.grant(10)) == LeaseGrantReply(HEADER, 77, 10, 100.0)


@pytest.mark.parametrize("answer", [errors.Unavailable("lost"), alive(ttl=-1, granted_ttl=0)])
def test_a_grant_counts_from_its_sending_when_nothing_better_is_known(answer):
    if isinstance(answer, errors.EtcdError):
        answer.final = True
    world = Stepper(granted(ttl=10), answer, clock=(100.0, 108.0))
    assert world.run(leases.grant(10)) == LeaseGrantReply(HEADER, 77, 10, 100.0)


def test_an_error_text_in_the_answer_is_an_error():
    with pytest.raises(errors.RpcError, match="no luck"):
        Stepper(messages.LeaseGrantResponse(error="no luck")).run(leases.grant(10))


# Revoke, look, list.


@pytest.mark.parametrize("lease", [77, SimpleNamespace(id=77)])
def test_revoke(lease):
    world = Stepper(messages.LeaseRevokeResponse(header=ON_WIRE))
    assert world.run(leases.revoke(lease)) == Done(HEADER)
    assert world.calls[0].request == messages.LeaseRevokeRequest(ID=77)


def test_a_lease_that_an_earlier_attempt_revoked_is_revoked():
    world = Stepper(lost_answer(), errors.LeaseNotFound())
    assert world.run(leases.revoke(77)) == Done(EMPTY_HEADER)


def test_revoking_an_unknown_lease_is_an_error():
    with pytest.raises(errors.LeaseNotFound):
        Stepper(errors.LeaseNotFound()).run(leases.revoke(77))


def test_time_to_live():
    answer = messages.LeaseTimeToLiveResponse(header=ON_WIRE, ID=77, TTL=0, grantedTTL=10, keys=[b"a", b"b"])
    world = Stepper(answer)
    reply = world.run(leases.time_to_live(77, keys=True))
    assert reply == LeaseTimeToLiveReply(HEADER, 77, 0, 10, (b"a", b"b"))
    assert world.calls[0].request == messages.LeaseTimeToLiveRequest(ID=77, keys=True)
    assert request_of(leases.time_to_live(77)) == messages.LeaseTimeToLiveRequest(ID=77)


def test_list_all():
    answer = messages.LeaseLeasesResponse(
        header=ON_WIRE, leases=[messages.LeaseStatus(ID=each) for each in (3, -4)]
    )
    world = Stepper(answer)
    assert world.run(leases.list_all()) == LeaseListReply(HEADER, (3, -4))
    assert world.calls[0].method is methods.LEASE_LEASES


# Renew once.


def renewal(ttl, lease_id=77):
    return messages.LeaseKeepAliveResponse(header=ON_WIRE, ID=lease_id, TTL=ttl).SerializeToString()


def test_a_renewal_keeps_the_request_side_open_until_the_answer():
    # A grpc-proxy cancels a stream that is half-closed at once.
    world = Stepper(renewal(10), clock=(100.0,))
    assert world.run(leases.keep_alive_once(77)) == LeaseKeepAliveReply(HEADER, 77, 10, 100.0)
    (stream,) = world.calls
    assert type(stream) is ServerStream
    assert not stream.half_close
    assert stream.method.encode(stream.request) == messages.LeaseKeepAliveRequest(ID=77).SerializeToString()
    assert world.log[-3:] == [Attach, Next, Detach]
    assert world.open == []


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_lease_that_is_gone_cannot_be_renewed(ttl):
    world = Stepper(renewal(ttl))
    with pytest.raises(errors.LeaseNotFound):
        world.run(leases.keep_alive_once(77))
    assert world.open == []


def test_a_renewal_is_repeated_and_its_token_replaced():
    # B.3: typed errors of passing troubles do not end it.
    world = Stepper(
        errors.NoLeader(), errors.Timeout(), errors.InvalidAuthToken(), None, renewal(10), clock=(5.0,)
    )
    assert world.run(leases.keep_alive_once(77)).ttl == 10
    assert len(world.calls) == 5


def test_a_renewal_counts_from_its_first_sending():
    world = Stepper(errors.NoLeader(), renewal(10), clock=(100.0, 103.0))
    assert world.run(leases.keep_alive_once(77)).sent_at == 100.0


def test_a_grant_that_was_given_up_is_taken_back_unless_the_id_is_the_callers():
    world = used()
    world.members["a:1"].silent.add("LeaseGrant")
    for lease_id in (0, 5):
        op = leases.grant(9, lease_id=lease_id)
        effect = next(op)
        while not isinstance(effect, Call):
            effect = op.send(77)  # the random id, or the time
        exchange.encode(effect, 1000, None)
        world.channel.start(effect, world.now)
        world.settle()
        world.channel.abandon(effect, world.now)
        world.settle()
    (revoke,) = world.requests("LeaseRevoke")
    assert messages.LeaseRevokeRequest.FromString(revoke.messages[0]).ID == 77
