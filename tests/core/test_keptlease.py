# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.keptlease."""

import pytest

from purecd.admin_types import LeaseKeepAliveReply
from purecd.core.keptlease import UNKNOWN, Entry, KeptLease, LeaseStream, alive_until, together
from purecd.errors import LeaseLost
from purecd.types import EMPTY_HEADER


def test_a_lease_is_alive_for_its_ttl_less_one_percent_from_sending():
    assert alive_until(100.0, 10) == pytest.approx(109.9)
    assert KeptLease(7, 10, 100.0).alive_until == pytest.approx(109.9)


def test_nothing_is_believed_of_a_lease_without_an_answer():
    assert KeptLease(7).alive_until == KeptLease(7, 10).alive_until == UNKNOWN


def test_a_kept_lease_is_a_source():
    lease = KeptLease(7)
    assert (lease.channel, lease.waiter, lease.error, lease.closed) == ("streams", None, None, False)
    assert lease.take() is None
    replies = [LeaseKeepAliveReply(EMPTY_HEADER, 7, ttl) for ttl in range(20)]
    lease.inbox.extend(replies)
    assert [lease.take() for _ in range(17)] == [*replies[4:], None]


def test_a_lease_is_lost_with_its_error():
    lease = KeptLease(7)
    assert not lease.lost
    lease.error = LeaseLost("gone")
    assert lease.lost


def test_answers_are_matched_to_requests_in_their_order():
    stream = LeaseStream("link", 1, False)
    stream.asked(7, 1.0)
    stream.asked(8, 2.0)
    stream.asked(7, 3.0)
    assert list(stream.unanswered) == [7, 8]
    assert stream.answered(7) == 1.0
    assert list(stream.unanswered) == [8, 7]  # 8 waits longer now
    assert stream.answered(7) == 3.0
    assert stream.answered(7) is None
    assert stream.answered(9) is None
    assert stream.unanswered == {8: [2.0]}


def test_an_entry_gives_up_at_its_first_deadline_until_something_is_known():
    entry = Entry(7, 50.0)
    first, second = KeptLease(7), KeptLease(7, 10, 45.0)
    entry.add(first)
    assert entry.deadline == 50.0
    entry.add(second)
    assert entry.deadline == first.alive_until == second.alive_until == pytest.approx(54.9)
    assert entry.ttl == 10


def test_what_is_known_only_grows():
    entry = Entry(7, 50.0)
    lease = KeptLease(7)
    entry.add(lease)
    entry.extend(60.0)
    entry.extend(55.0)
    assert entry.deadline == lease.alive_until == 60.0


@pytest.mark.parametrize("ttl", [1, 2, 5, 9, 10, 30, 60, 600, 86_400, 2**62])
def test_renewals_go_together_at_most_a_twentieth_of_a_third_early(ttl):
    third = min(ttl, 600) / 3
    for number in range(200):
        when = 1000.0 + number * third / 77
        moment = together(when, ttl)
        assert when - third * 0.05 <= moment <= when
        assert together(moment, ttl) == moment


def test_leases_of_different_ttls_meet():
    assert together(1000.9, 60) == together(1000.9, 70) == together(1000.02, 9) == 1000.0
