# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.leases import FOREVER, MAX_TTL, Leases


def nobody(ttl):
    """Who does not care."""


def refusal(function, *args):
    with pytest.raises(Status) as caught:
        function(*args)
    return caught.value.code, caught.value.text


def test_grant():
    leases = Leases(min_ttl=2)
    assert leases.grant(7, 60, 0.0).ttl == 60
    assert leases.grant(8, 1, 0.0).ttl == 2
    assert leases.grant(-9, -5, 0.0).ttl == 2
    assert refusal(leases.grant, 7, 60, 0.0) == statuses.LEASE_EXIST
    assert refusal(leases.grant, 0, 60, 0.0) == statuses.LEASE_NOT_FOUND
    assert refusal(leases.grant, 9, MAX_TTL + 1, 0.0) == statuses.LEASE_TTL_TOO_LARGE
    assert leases.grant(10, MAX_TTL, 0.0).seconds_left(0.5) == MAX_TTL - 1
    assert refusal(leases.find, 99) == statuses.LEASE_NOT_FOUND
    assert [lease.lease_id for lease in leases.by_deadline()] == [-9, 8, 7, 10]


def test_expiry_is_reported_again_until_the_lease_is_gone():
    leases = Leases()
    leases.grant(7, 10, 100.0)
    leases.grant(8, 20, 100.0)
    assert leases.next_timer() == 110.0
    assert leases.take_expired(109.9) == []
    assert leases.take_expired(110.0) == [7]
    assert leases.take_expired(112.9) == []
    assert leases.take_expired(113.0) == [7]
    leases.remove(7)
    assert leases.next_timer() == 120.0


def test_renewal_gives_the_whole_time():
    leases = Leases()
    leases.grant(7, 10, 100.0)
    told = []
    assert leases.renew(7, 105.0, told.append) is False
    assert leases.renew(9, 105.0, told.append) is False
    assert told == [10, 0]
    assert leases.next_timer() == 115.0
    assert leases.take_expired(112.0) == []
    assert leases.find(7).seconds_left(107.5) == 7


def test_who_renews_an_expired_lease_waits_until_it_is_revoked():
    leases = Leases()
    leases.grant(7, 10, 100.0)
    told = []
    leases.renew(7, 110.0, told.append)
    assert told == []
    leases.remove(7)
    assert told == [0]


def test_only_the_primary_has_deadlines():
    leases = Leases()
    leases.grant(7, 10, 100.0)
    leases.demote()
    leases.grant(8, 10, 101.0)
    assert leases.next_timer() is None
    assert leases.find(8).seconds_left(200.0) == FOREVER
    leases.promote(200.0, 1.0)
    assert leases.next_timer() == 211.0
    assert leases.take_expired(211.0) == [7, 8]


def test_checkpoints():
    leases = Leases()
    leases.grant(7, 1000, 0.0)
    leases.grant(8, 300, 0.0)
    assert leases.next_timer() == 300.0
    assert leases.take_checkpoints(299.0) == []
    assert leases.take_checkpoints(300.5) == [(7, 700)]
    leases.checkpoint(7, 700, 300.5)
    leases.checkpoint(99, 1, 300.5)
    leases.demote()
    leases.promote(400.0, 1.0)
    assert leases.find(7).seconds_left(400.0) == 701
    assert leases.find(8).seconds_left(400.0) == 301
    assert leases.renew(7, 410.0, nobody) is True, "the checkpoint is to be taken back"
    assert leases.find(7).seconds_left(410.0) == 1000
    assert leases.renew(7, 411.0, nobody) is False


def test_keys():
    leases = Leases()
    leases.grant(7, 10, 0.0)
    leases.attach(7, b"k")
    leases.attach(7, b"a")
    leases.detach(7, b"k")
    leases.detach(99, b"k")
    assert list(leases.find(7).keys) == [b"a"]


def test_a_copy_has_no_deadlines_and_shares_no_keys():
    leases, copy = Leases(), Leases(primary=False)
    leases.grant(7, 1000, 0.0)
    leases.attach(7, b"k")
    leases.checkpoint(7, 600, 0.0)
    copy.copy_from(leases)
    leases.detach(7, b"k")
    assert (list(copy.find(7).keys), copy.find(7).expires_at, copy.next_timer()) == ([b"k"], None, None)
    copy.promote(50.0, 0.0)
    assert copy.find(7).seconds_left(50.0) == 600
