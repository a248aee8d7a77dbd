# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.keepalive."""

import random

import pytest

from purecd import errors
from purecd.core.actions import CloseStream, OpenStream, Refresh, Send, Suspect
from purecd.core.keepalive import KeepAlives, KeptLease
from purecd.errors import StatusCode
from purecd.types import EMPTY_HEADER

LOST_CONNECTION = errors.Unavailable("connection lost")
LINK_1, LINK_2 = "link 1", "link 2"  # told apart by identity, as links are


class Middle:
    """A random source without surprises: every jitter is 0 %."""

    def random(self):
        return 0.5


def lease_id_of(data):
    """LeaseKeepAliveRequest: ID is field 1, a varint."""
    assert data[0] == 0x08
    number = sum((byte & 0x7F) << (7 * position) for position, byte in enumerate(data[1:]))
    return number - 2**64 if number >= 2**63 else number


class Bench:
    """The machine with its outputs sorted."""

    def __init__(self, auth_mode="none", link=LINK_1, rng=None, **options):
        self.machine = KeepAlives(auth_mode=auth_mode, rng=rng or Middle(), **options)
        self.opened, self.closed, self.refreshes, self.suspects = [], [], [], []
        if link is not None:
            self.machine.link_ready(link, 1, auth_mode != "none", 0.0)

    @property
    def stream(self):
        return self.opened[-1]

    def sends(self):
        """Lease ids sent since the last time."""
        sent = []
        for action in self.machine.take_actions():
            if type(action) is Send:
                assert action.stream is self.stream
                sent.append(lease_id_of(action.data))
            elif type(action) is OpenStream:
                self.opened.append(action.stream)
            elif type(action) is CloseStream:
                self.closed.append(action.stream)
            elif type(action) is Suspect:
                self.suspects.append((action.link, action.since))
            else:
                assert type(action) is Refresh
                self.refreshes.append((action.link, action.generation))
        return sent

    def keep(self, lease_id, now, ttl=0, sent_at=None, **options):
        lease = KeptLease(lease_id, ttl, sent_at, **options)
        self.machine.add(lease, now)
        return lease

    def answer(self, lease_id, ttl, now, stream=None):
        self.machine.stream_message(stream or self.stream, (EMPTY_HEADER, lease_id, ttl), now)

    def end(self, error, now, stream=None):
        self.machine.stream_ended(stream or self.stream, error, now)

    def fire(self):
        """Let the time pass to the next timer; return it."""
        now = self.due()
        self.machine.handle_timer(now)
        return now

    def due(self):
        now = self.machine.next_timer()
        assert now is not None
        return now


def kept(lease_id=7, ttl=10, **options):
    """One lease, renewed at 0.0."""
    bench = Bench(**options)
    lease = bench.keep(lease_id, 0.0)
    assert bench.sends() == [lease_id]
    bench.answer(lease_id, ttl, 0.0)
    return bench, lease


# Renewals.


def test_the_first_request_goes_out_at_once_and_on_a_require_leader_stream():
    bench = Bench()
    bench.keep(7, 5.0)
    assert bench.sends() == [7]
    assert bench.stream.require_leader
    assert bench.stream.link == LINK_1


def test_no_stream_is_opened_without_leases():
    bench = Bench()
    assert bench.sends() == []
    assert bench.opened == []
    assert bench.machine.idle
    assert bench.machine.next_timer() is None


def test_all_leases_share_one_stream():
    bench = Bench()
    for lease_id in (1, 2, -3, 2**63 - 1):
        bench.keep(lease_id, 0.0)
    assert bench.sends() == [1, 2, -3, 2**63 - 1]
    assert len(bench.opened) == 1


def test_a_renewal_is_sent_when_a_third_of_the_ttl_has_passed():
    bench, _ = kept(ttl=9)
    assert bench.machine.next_timer() == pytest.approx(3.0)
    assert bench.fire() == pytest.approx(3.0)
    assert bench.sends() == [7]


def test_the_third_counts_from_sending():
    bench = Bench()
    bench.keep(7, 0.0)
    bench.sends()
    bench.answer(7, 9, 1.0)
    assert bench.machine.next_timer() == pytest.approx(3.0)


def test_renewals_are_spread_by_ten_percent():
    moments = set()
    for seed in range(50):
        bench, _ = kept(ttl=9, rng=random.Random(seed))
        moments.add(bench.machine.next_timer())
    # 2.7 to 3.3, each up to 5 % earlier: on eighths of a second, where many leases meet.
    assert moments <= {number / 8 for number in range(21, 27)}
    assert len(moments) > 3


def test_a_thousand_leases_are_renewed_a_few_dozen_at_a_time():
    bench = Bench(rng=random.Random(1))
    for number in range(1000):
        bench.keep(number + 1, 0.0)
    bench.sends()
    for number in range(1000):
        bench.answer(number + 1, 60, number / 1000)
    rounds = 0
    while (bench.machine.next_timer() or 99) < 25:
        now = bench.fire()
        for lease_id in bench.sends():
            bench.answer(lease_id, 60, now)
        rounds += 1
    assert 4 <= rounds <= 7  # 18 to 22 s, in steps of a second


def test_a_request_without_an_answer_is_repeated_once():
    # B.7: one outstanding request per lease and a bounded resend, no burst against a slow server.
    bench, _ = kept(ttl=12)
    assert bench.fire() == pytest.approx(4.0)
    assert bench.fire() == pytest.approx(6.0)  # a sixth of the TTL later
    assert bench.sends() == [7, 7]
    bench.machine.handle_timer(7.9)
    assert bench.sends() == []
    assert len(bench.opened) == 1


def test_a_silent_connection_is_suspected_when_a_request_is_repeated():
    bench, _ = kept(ttl=12)
    bench.fire()  # 4.0
    bench.sends()
    assert bench.suspects == []
    bench.fire()  # 6.0
    bench.sends()
    assert bench.suspects == [(LINK_1, pytest.approx(4.0))]
    bench.machine.link_ready(LINK_2, 1, False, 6.1)
    bench.machine.link_draining(LINK_1, 6.1)
    bench.machine.link_ready(LINK_2, 1, False, 6.1)
    assert bench.sends() == [7], "sent again on the other one at once"
    bench.fire()
    bench.sends()
    assert bench.suspects[1:] == [(LINK_2, pytest.approx(6.1))], "each stream is told of by itself"


def test_a_stream_that_stays_silent_is_replaced_in_time_for_another_try():
    # A follower may wait 7 s for a leader that hangs, while there is a new one after 2 s.
    bench, lease = kept(ttl=12)
    bench.fire()  # 4.0
    bench.fire()  # 6.0
    bench.sends()
    assert bench.fire() == pytest.approx(8.0)
    silent = bench.stream
    assert bench.sends() == [7]
    assert bench.stream is not silent
    assert bench.stream.link == LINK_1
    assert bench.closed == [], "what it still answers counts"
    bench.answer(7, 12, 8.1, silent)
    assert lease.alive_until == pytest.approx(4 + 12 * 0.99)
    assert bench.due() == pytest.approx(10.0), "the new one is not hurried by it"
    bench.answer(7, 12, 8.2)
    assert lease.alive_until == pytest.approx(8 + 12 * 0.99)
    assert len(bench.opened) == 2
    assert bench.sends() == []
    bench.answer(7, 12, 8.3, silent)
    assert bench.sends() == []
    assert bench.closed == [silent], "it has nothing more to answer"


def test_no_more_than_two_streams_are_open():
    bench, lease = kept(ttl=60)
    for _ in range(3):
        bench.fire()  # 20, 30, 40
        bench.sends()
    bench.answer(7, 60, 45.0, bench.opened[0])
    bench.fire()  # 50
    assert bench.sends() == [7]
    assert bench.fire() == pytest.approx(60.0)
    assert bench.sends() == [7]
    assert len(bench.opened) == 3
    assert bench.closed == bench.opened[:1]
    bench.machine.remove(lease, 61.0)
    bench.sends()
    assert set(bench.closed) == set(bench.opened)


@pytest.mark.parametrize("how", ["ended", "lost"])
def test_the_end_of_a_replaced_stream_means_nothing(how):
    bench, lease = kept(ttl=12)
    for _ in range(3):
        bench.fire()
        bench.sends()
    old, _ = bench.opened
    if how == "ended":
        bench.end(errors.PermissionDenied(), 8.1, old)
        assert not lease.lost
        bench.answer(7, 12, 8.2)
    else:
        bench.machine.link_lost(LINK_1, LOST_CONNECTION, 8.1)
        bench.machine.link_ready(LINK_2, 1, False, 8.2)
        bench.machine.handle_timer(8.3)
        assert bench.sends() == [7]
        bench.answer(7, 12, 8.4)
    bench.answer(7, 12, 8.5, old)
    assert len(bench.opened) == (2 if how == "ended" else 3)
    assert not bench.closed
    assert not lease.lost


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4, 0.5, 0.6, 0.64])
def test_a_lease_is_kept_by_a_server_that_is_slow_to_answer(share):
    # It answers the requests of a stream one after the other, each after `share` of the TTL.
    ttl = 30
    bench = Bench()
    lease = bench.keep(7, 0.0, ttl=ttl, sent_at=0.0)
    now, answers, free_at = 0.0, [], {}
    while now < 20 * ttl:
        for _ in bench.sends():
            due = max(now, free_at.get(bench.stream, now)) + share * ttl
            free_at[bench.stream] = due
            answers.append((due, bench.stream))
        answers.sort(key=lambda answer: answer[0])
        timer = bench.machine.next_timer()
        now = min([answers[0][0], timer] if answers else [timer])
        if answers and answers[0][0] <= now:
            _, stream = answers.pop(0)
            if stream not in bench.closed:
                bench.answer(7, ttl, now, stream)
        else:
            bench.machine.handle_timer(now)
        assert not lease.lost, f"lost at {now / ttl:.2f} TTL"


def test_a_stream_that_answers_about_others_is_not_replaced():
    bench, _ = kept(1, ttl=12)
    bench.keep(2, 3.9, ttl=60, sent_at=3.9)
    bench.machine.handle_timer(4.0)
    assert bench.sends() == [2, 1]
    bench.answer(2, 60, 5.0)
    bench.machine.handle_timer(6.0)
    bench.machine.handle_timer(8.0)
    bench.machine.handle_timer(10.0)
    assert bench.sends() == [1]
    assert len(bench.opened) == 1
    assert bench.machine.next_timer() == pytest.approx(12 * 0.99)  # nothing but the deadline


def test_without_a_connection_the_silent_stream_is_left_all_the_same():
    bench, _ = kept(ttl=12)
    bench.fire()
    bench.fire()
    bench.sends()
    bench.machine.link_draining(LINK_1, 7.0)
    bench.fire()  # 8.0
    assert bench.sends() == []
    bench.machine.link_ready(LINK_2, 1, False, 8.5)
    assert bench.sends() == [7]
    assert bench.stream.link == LINK_2


def test_one_silence_is_reported_once_for_any_number_of_leases():
    bench = Bench()
    for lease_id in range(1, 101):
        bench.keep(lease_id, 0.0, ttl=12, sent_at=0.0)
    bench.sends()
    bench.machine.handle_timer(2.0)
    assert len(bench.sends()) == 100
    assert bench.suspects == [(LINK_1, 0.0)]


def test_a_connection_that_answers_about_others_is_not_suspected():
    bench, _ = kept(1, ttl=12)
    other = bench.keep(2, 3.9, ttl=12, sent_at=3.9)
    assert bench.sends() == [2]
    bench.machine.handle_timer(4.0)
    assert bench.sends() == [1]
    bench.answer(2, 12, 5.0)
    bench.machine.handle_timer(6.0)
    assert bench.sends() == [1], "repeated"
    assert bench.suspects == []
    assert not other.lost


def test_a_request_is_not_repeated_before_half_a_second():
    bench, _ = kept(ttl=2)
    first = bench.fire()
    assert bench.machine.next_timer() == pytest.approx(first + 0.5)


def test_two_answers_to_a_repeated_request_count_each_from_its_own_sending():
    bench, lease = kept(ttl=12)
    bench.fire()  # 4.0
    bench.fire()  # 6.0
    bench.answer(7, 12, 7.0)
    assert lease.alive_until == pytest.approx(4 + 12 * 0.99)
    bench.answer(7, 12, 7.0)
    assert lease.alive_until == pytest.approx(6 + 12 * 0.99)


def test_renewals_are_items_of_the_source():
    bench, lease = kept(ttl=10)
    assert bench.machine.take_ready() == [lease]
    item = lease.take()
    assert (item.id, item.ttl, item.sent_at) == (7, 10, 0.0)
    assert lease.take() is None
    assert lease.ttl == 10


def test_a_consumer_that_does_not_read_costs_bounded_memory_and_no_renewal():
    # R-L4: renewals stay at TTL/3.
    bench, lease = kept(ttl=9)
    moments = []
    for _ in range(100):
        moments.append(bench.fire())
        assert bench.sends() == [7]
        bench.answer(7, 9, moments[-1])
    assert [round(b - a, 6) for a, b in zip(moments, moments[1:])] == [3.0] * 99
    assert len(lease.inbox) == 16
    assert not lease.lost


def test_callers_of_one_lease_share_its_requests():
    bench = Bench()
    first = bench.keep(7, 0.0)
    second = bench.keep(7, 0.0)
    assert bench.sends() == [7]
    bench.answer(7, 10, 0.1)
    assert set(bench.machine.take_ready()) == {first, second}
    assert first.alive_until == second.alive_until == pytest.approx(9.9)


def test_a_caller_who_joins_learns_what_is_known():
    bench, first = kept(ttl=10)
    second = bench.keep(7, 1.0)
    assert bench.sends() == []
    assert second.alive_until == first.alive_until


def test_a_caller_who_knows_more_tells_the_others():
    bench, first = kept(ttl=10)
    bench.keep(7, 5.0, ttl=10, sent_at=5.0)
    assert first.alive_until == pytest.approx(5 + 9.9)


def test_an_answer_about_an_unknown_lease_is_ignored():
    bench, lease = kept()
    bench.answer(8, 10, 1.0)
    assert bench.machine.take_ready() == [lease]


def test_an_answer_to_nothing_extends_nothing():
    bench, lease = kept(ttl=10)
    bench.answer(7, 10, 5.0)
    assert lease.alive_until == pytest.approx(9.9)


# The deadline.


def test_the_deadline_counts_from_sending_less_one_percent_for_drift():
    # K16: a late answer must not extend the lease beyond what the server granted.
    bench = Bench()
    lease = bench.keep(7, 100.0)
    bench.sends()
    bench.answer(7, 10, 102.0)
    assert lease.alive_until == pytest.approx(109.9)


def test_a_lease_is_lost_at_its_deadline():
    # F16, R-L5: lost no later than one TTL after the last answered request was sent.
    bench, lease = kept(ttl=3)
    bench.machine.link_lost(LINK_1, LOST_CONNECTION, 0.5)
    assert bench.fire() == pytest.approx(2.97)
    assert lease.lost
    assert lease.reason == "timeout"
    assert isinstance(lease.error, errors.LeaseLost)
    assert lease.error.reason == lease.reason == "timeout"
    assert str(lease.error) == "lease 7 was not renewed in time"
    assert lease.error.__cause__ is LOST_CONNECTION
    assert lease in bench.machine.take_ready()
    assert bench.machine.idle


def test_a_lost_lease_is_not_preceded_by_stale_renewals():
    bench, lease = kept(ttl=3)
    assert lease.inbox
    bench.machine.link_lost(LINK_1, LOST_CONNECTION, 0.5)
    bench.machine.handle_timer(3.0)
    assert lease.take() is None


def test_each_waiter_gets_an_error_of_its_own():
    bench = Bench()
    first, second = bench.keep(7, 0.0), bench.keep(7, 0.0)
    bench.machine.handle_timer(10.0)
    assert first.error is not second.error
    assert str(first.error) == str(second.error)


def test_without_knowledge_nothing_is_believed_and_the_first_answer_is_waited_for():
    # 8.4: the first deadline is the longest of the TTL, the dial timeout and 1 s, and 5 s.
    bench = Bench(link=None, dial_timeout=2.0)
    lease = bench.keep(7, 10.0)
    assert lease.alive_until == float("-inf")
    assert bench.machine.next_timer() == 15.0
    assert Bench(link=None, dial_timeout=8.0).keep(7, 0.0).alive_until == float("-inf")
    for options, ttl, expected in (({"dial_timeout": 8.0}, 0, 9.0), ({}, 60, 60.0)):
        bench = Bench(link=None, **options)
        bench.keep(7, 0.0, ttl=ttl)
        assert bench.machine.next_timer() == expected


def test_a_grant_counts_as_an_answered_request():
    bench = Bench(link=None)
    lease = bench.keep(7, 101.0, ttl=2, sent_at=100.0)
    assert lease.alive_until == pytest.approx(101.98)
    assert bench.fire() == pytest.approx(101.98)
    assert lease.lost


def test_a_renewal_read_late_still_counts():
    # F30: the driver was blocked for 5 s; the answer that lay in the socket is read before the timer fires.
    bench, lease = kept(ttl=6)
    bench.fire()  # 2.0: sent
    bench.answer(7, 6, 7.0)
    bench.machine.handle_timer(7.0)
    assert not lease.lost
    assert lease.alive_until == pytest.approx(2 + 6 * 0.99)


def test_a_renewal_that_is_worth_nothing_any_more_does_not_revive():
    # F17: the process slept through three TTLs; the answer in the socket is to an old request.
    bench, lease = kept(ttl=3)
    bench.fire()  # 1.0: sent
    bench.answer(7, 3, 10.0)
    assert lease.lost
    assert lease.reason == "timeout"


def test_a_lease_removed_and_added_again_does_not_count_the_old_answer_from_the_new_request():
    bench, lease = kept(ttl=30)
    bench.keep(8, 0.0)  # keeps the stream open
    bench.sends()
    bench.answer(8, 300, 0.0)
    assert bench.fire() == pytest.approx(10.0)
    bench.machine.remove(lease, 12.0)
    again = bench.keep(7, 12.5)
    assert bench.sends() == [7, 7]
    bench.answer(7, 30, 13.0)
    assert again.alive_until == pytest.approx(10 + 30 * 0.99)
    bench.answer(7, 30, 13.0)
    assert again.alive_until == pytest.approx(12.5 + 30 * 0.99)


def test_thousands_of_leases_are_served_without_looking_at_all_of_them():
    bench = Bench()
    leases = [bench.keep(number, 0.0) for number in range(1, 5001)]
    assert len(bench.sends()) == 5000
    for number in range(1, 5001):
        bench.answer(number, 30 + number % 7, 0.001 * number)
    rounds = 0
    while (now := bench.due()) < 60.0:
        bench.machine.handle_timer(now)
        for lease_id in bench.sends():
            bench.answer(lease_id, 30, now + 0.001)
        rounds += 1
    assert not any(lease.lost for lease in leases)
    assert rounds < 20_000
    assert len(bench.machine._renewals._heap) <= 2 * 5000 + 64


# What the server says.


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_lease_that_the_server_does_not_know_is_gone(ttl):
    # R-L3; a grpc-proxy answers -1.
    bench, lease = kept(1)
    gone = bench.keep(2, 0.0)
    bench.keep(3, 0.0)
    bench.sends()
    bench.answer(2, ttl, 0.1)
    bench.answer(3, 10, 0.1)
    assert gone.reason == "expired"
    assert str(gone.error) == "lease 2 has expired or was revoked"
    assert isinstance(gone.error.__cause__, errors.LeaseNotFound)
    bench.machine.handle_timer(4.0)
    assert bench.sends() == [1, 3]
    assert not lease.lost


def test_a_negative_lease_id_is_named_as_etcd_writes_it():
    bench = Bench()
    lease = bench.keep(-1, 0.0)
    bench.machine.handle_timer(10.0)
    assert "lease ffffffffffffffff " in str(lease.error)


def test_a_stream_that_ends_is_opened_again_and_unanswered_requests_repeated():
    bench, _ = kept(1, ttl=30)
    bench.keep(2, 1.0)
    assert bench.sends() == [2]
    bench.end(errors.Unavailable("reset"), 1.2)
    assert bench.fire() == pytest.approx(1.25)  # 50 ms
    assert bench.sends() == [2]
    assert len(bench.opened) == 2


def test_the_pause_before_reopening_grows_to_half_a_second_and_resets_with_an_answer():
    bench, _ = kept(ttl=60)
    now, pauses = 1.0, []
    for _ in range(6):
        bench.end(errors.Unavailable("reset"), now)
        before, now = now, bench.due()
        pauses.append(round(now - before, 6))
        bench.machine.handle_timer(now)
        bench.sends()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    bench.keep(8, now)
    assert bench.sends() == [8]
    bench.answer(8, 60, now)
    bench.end(errors.Unavailable("reset"), now)
    assert bench.machine.next_timer() == pytest.approx(now + 0.05)


@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable("the server ended the stream"),
        errors.Canceled("the client connection is closing"),  # a stopping grpc-proxy (12.6)
        errors.RpcError("not a primary lessor", code=StatusCode.UNKNOWN),
        errors.Timeout(),
        errors.NoLeader(),
        errors.ProtocolError("undecodable message"),
        errors.UserEmpty(),  # without credentials: until the deadline
    ],
)
def test_nothing_but_the_deadline_gives_a_lease_up(error):
    bench, lease = kept(ttl=5)
    bench.end(error, 0.5)
    assert not lease.lost
    bench.fire()
    assert len(bench.opened) == 1 and not bench.sends() and len(bench.opened) == 2
    bench.machine.link_lost(LINK_1, LOST_CONNECTION, 0.9)
    bench.machine.handle_timer(4.95)
    assert lease.reason == "timeout"


def test_a_connection_back_before_the_deadline_loses_nothing():
    # R-L2, R-L6: 10 s lease, member down for 4 s; renewed at once through the next connection.
    bench, lease = kept(ttl=10)
    bench.machine.link_lost(LINK_1, LOST_CONNECTION, 3.0)
    bench.machine.handle_timer(3.4)
    assert bench.sends() == []
    bench.machine.link_ready(LINK_2, 1, False, 7.0)
    assert bench.sends() == [7]
    assert bench.stream.link == LINK_2
    bench.answer(7, 10, 7.1)
    assert lease.alive_until == pytest.approx(16.9)


def test_leases_that_are_not_due_are_not_sent_again_on_a_new_stream():
    bench, _ = kept(1, ttl=60)
    bench.keep(2, 1.0)
    bench.sends()
    bench.machine.link_lost(LINK_1, LOST_CONNECTION, 1.1)
    bench.machine.link_ready(LINK_2, 1, False, 2.0)
    assert bench.sends() == [2]


def test_a_draining_connection_is_left_at_once_when_another_is_ready():
    # K8: etcd keeps the stream of a draining connection silent for 7 s.
    bench, lease = kept(ttl=9)
    old = bench.stream
    bench.machine.link_draining(LINK_1, 2.9)
    assert bench.fire() == pytest.approx(3.0)
    assert bench.sends() == [7]  # still on the old one
    bench.machine.link_ready(LINK_2, 1, False, 3.1)
    assert bench.sends() == [7]
    assert bench.closed == [old]
    assert bench.stream.link == LINK_2
    bench.answer(7, 9, 3.2, stream=old)
    assert lease.alive_until == pytest.approx(9 * 0.99)  # that stream counts no more


def test_a_stream_that_ends_on_a_draining_connection_waits_only_for_the_next_one():
    bench, _ = kept(ttl=9)
    bench.machine.link_draining(LINK_1, 1.0)
    bench.end(errors.Unavailable("server stopped"), 1.1)
    assert bench.machine.next_timer() == pytest.approx(9 * 0.99)
    bench.machine.link_ready(LINK_2, 1, False, 1.2)
    bench.sends()
    assert bench.stream.link == LINK_2


def test_a_stream_on_a_healthy_connection_stays_there():
    bench, _ = kept()
    bench.machine.link_ready(LINK_1, 2, True, 1.0)
    assert bench.sends() == []
    assert bench.closed == []


def test_a_silent_stream_that_let_a_lease_run_out_is_replaced():
    # B.27: a member may wait for ever, and no later request of the stream is read then.
    bench, long = kept(1, ttl=60)
    short = bench.keep(2, 0.0, ttl=3, sent_at=0.0)
    bench.keep(3, 1.0)
    assert bench.sends() == [2, 2, 3]
    bench.machine.handle_timer(2.97)
    assert short.lost and not long.lost
    bench.sends()
    assert len(bench.closed) == 1
    bench.machine.handle_timer(3.1)
    assert bench.sends() == [3]
    assert len(bench.opened) == 2


# Leaders.


def test_a_lost_leader_ends_only_who_asked_for_it():
    # R-L7
    bench = Bench()
    strict = bench.keep(7, 0.0, require_leader=True)
    patient = bench.keep(7, 0.0)
    alone = bench.keep(8, 0.0, require_leader=True)
    bench.sends()
    bench.end(errors.NoLeader(), 3.0)
    assert strict.reason == alone.reason == "no leader"
    assert isinstance(strict.error.__cause__, errors.NoLeader)
    assert not patient.lost
    bench.machine.handle_timer(3.1)
    assert bench.sends() == [7]


# Permissions.


def test_a_refused_lease_ends_alone():
    # 8.5, B.26: PermissionDenied names no lease; the first unanswered one is the likeliest.
    bench = Bench()
    leases = [bench.keep(number, 0.0) for number in (1, 2, 3, 4)]
    assert bench.sends() == [1, 2, 3, 4]
    bench.answer(1, 30, 0.1)
    bench.end(errors.PermissionDenied(), 0.1)
    assert not any(lease.lost for lease in leases)
    bench.machine.handle_timer(0.2)
    assert bench.sends() == [2]  # one at a time
    bench.end(errors.PermissionDenied(), 0.3)
    assert [lease.reason for lease in leases] == ["", "refused", "", ""]
    assert isinstance(leases[1].error.__cause__, errors.PermissionDenied)
    assert bench.sends() == [3, 4]  # at once, on the third stream
    assert len(bench.opened) == 3


def test_on_probation_the_next_request_follows_the_answer():
    bench = Bench()
    leases = [bench.keep(number, 0.0) for number in (1, 2, 3)]
    bench.sends()
    bench.end(errors.PermissionDenied(), 0.1)
    bench.machine.handle_timer(0.2)
    assert bench.sends() == [1]
    bench.machine.handle_timer(1.0)
    assert bench.sends() == []
    bench.answer(1, 30, 1.1)
    assert bench.sends() == [2]
    bench.answer(2, 30, 1.2)
    assert bench.sends() == [3]
    bench.end(errors.PermissionDenied(), 1.3)
    assert [lease.reason for lease in leases] == ["", "", "refused"]


def test_nobody_else_is_sent_during_probation():
    bench, other = kept(9, ttl=3)
    for number in (1, 2):
        bench.keep(number, 0.0)
    bench.sends()
    bench.end(errors.PermissionDenied(), 0.1)
    bench.machine.handle_timer(0.2)
    assert bench.sends() == [1]
    bench.machine.handle_timer(1.1)  # 9 is due
    assert bench.sends() == []
    bench.answer(1, 30, 1.2)
    bench.answer(2, 30, 1.2)
    assert bench.sends() == [2, 9]
    assert not other.lost


def test_a_refused_lease_that_was_alone_is_known_at_once():
    bench = Bench()
    lease = bench.keep(1, 0.0)
    bench.sends()
    bench.end(errors.PermissionDenied(), 0.1)
    assert lease.reason == "refused"
    assert str(lease.error) == "lease 1 may not be renewed"
    assert bench.machine.next_timer() is None


def test_a_refusal_of_a_lease_nobody_keeps_any_more_harms_nobody():
    bench, other = kept(1, ttl=30)
    gone = bench.keep(2, 1.0)
    bench.sends()
    bench.machine.remove(gone, 1.1)
    bench.end(errors.PermissionDenied(), 1.2)
    assert not other.lost


def test_a_refusal_before_any_request_is_an_ordinary_end():
    bench, lease = kept(ttl=30)
    bench.end(errors.PermissionDenied(), 1.0)
    assert not lease.lost
    assert bench.machine.next_timer() == pytest.approx(1.05)


# Tokens.


@pytest.mark.parametrize("mode", ["password", "static"])
@pytest.mark.parametrize("error", [errors.InvalidAuthToken, errors.AuthOldRevision, errors.UserEmpty])
def test_a_rejected_token_is_replaced_before_the_stream_is_opened_again(mode, error):
    bench, lease = kept(auth_mode=mode, ttl=30)
    bench.end(error(), 1.0)
    bench.sends()
    assert bench.refreshes == [(LINK_1, 1)]
    bench.machine.handle_timer(2.0)
    assert bench.sends() == [] and len(bench.opened) == 1  # still waiting for the token
    bench.machine.refreshed(LINK_1, 2, True, 2.1)
    bench.sends()
    assert (bench.stream.generation, bench.stream.has_token) == (2, True)
    assert bench.refreshes == [(LINK_1, 1)]
    assert not lease.lost


def test_a_token_that_was_replaced_meanwhile_is_not_replaced_again():
    bench, _ = kept(auth_mode="password", ttl=30)
    bench.machine.refreshed(LINK_1, 2, True, 0.5)
    bench.end(errors.InvalidAuthToken(), 1.0)
    bench.machine.handle_timer(1.1)
    bench.sends()
    assert bench.refreshes == []
    assert bench.stream.generation == 2


@pytest.mark.parametrize("mode", ["none", "cn"])
def test_without_a_token_an_old_revision_is_only_tried_again(mode):
    bench, _ = kept(auth_mode=mode, ttl=30)
    bench.end(errors.AuthOldRevision(), 1.0)
    bench.machine.handle_timer(1.1)
    bench.sends()
    assert bench.refreshes == []
    assert len(bench.opened) == 2


def test_a_token_rejected_again_is_replaced_again_after_the_pause():
    bench, _ = kept(auth_mode="password", ttl=60)
    now = 1.0
    for generation in range(1, 6):
        bench.end(errors.InvalidAuthToken(), now)
        bench.sends()
        bench.machine.refreshed(LINK_1, generation + 1, True, now)
        now = bench.fire()
        bench.sends()
    assert bench.refreshes == [(LINK_1, generation) for generation in range(1, 6)]
    assert now == pytest.approx(1.0 + 0.05 + 0.1 + 0.2 + 0.4 + 0.5)


def test_a_refresh_that_fails_for_a_while_is_tried_again():
    bench, lease = kept(auth_mode="password", ttl=30)
    bench.end(errors.InvalidAuthToken(), 1.0)
    bench.sends()
    bench.machine.refresh_failed(LINK_1, errors.Unavailable("too slow"), 1.2)
    bench.fire()
    bench.sends()
    assert bench.refreshes == [(LINK_1, 1)] * 2
    assert not lease.lost


def test_refused_credentials_end_all_leases():
    bench, lease = kept(auth_mode="password", ttl=30)
    denial = errors.InvalidAuthToken()
    bench.end(denial, 1.0)
    refusal = errors.AuthFailed()
    bench.machine.refresh_failed(LINK_1, refusal, 1.2)
    assert lease.reason == "refused"
    assert lease.error.__cause__ is refusal
    assert refusal.__cause__ is denial
    assert bench.machine.next_timer() is None


def test_a_login_refused_on_a_new_connection_ends_all_leases():
    bench, lease = kept(auth_mode="password", ttl=30)
    bench.machine.auth_failed(errors.AuthFailed(), 1.0)
    assert lease.reason == "refused"
    bench.sends()
    assert bench.closed == [bench.stream]


def test_a_refresh_that_was_not_asked_for_concerns_nobody():
    bench, lease = kept(auth_mode="password", ttl=30)
    bench.machine.refresh_failed(LINK_1, errors.AuthFailed(), 1.0)
    bench.machine.refreshed("other link", 9, True, 1.0)
    assert not lease.lost


def test_a_lost_connection_makes_its_refresh_superfluous():
    bench, _ = kept(auth_mode="password", ttl=30)
    bench.end(errors.InvalidAuthToken(), 1.0)
    bench.machine.link_lost(LINK_1, LOST_CONNECTION, 1.1)
    bench.machine.link_ready(LINK_2, 1, True, 2.0)
    bench.sends()
    assert bench.stream.link == LINK_2
    assert len(bench.refreshes) == 1


# Ends by this side.


def test_a_removed_lease_is_not_renewed_any_more():
    # B.6
    bench, lease = kept(1, ttl=9)
    bench.keep(2, 0.0)
    bench.sends()
    bench.answer(2, 9, 0.0)
    bench.machine.remove(lease, 1.0)
    assert lease.closed and not lease.lost and lease.reason == "closed"
    assert lease.take() is None
    bench.machine.handle_timer(3.0)
    assert bench.sends() == [2]


def test_a_lease_is_renewed_while_anybody_keeps_it():
    bench = Bench()
    first, second = bench.keep(7, 0.0), bench.keep(7, 0.0)
    bench.sends()
    bench.answer(7, 9, 0.0)
    bench.machine.take_ready()
    bench.machine.remove(first, 1.0)
    bench.fire()
    assert bench.sends() == [7]
    bench.answer(7, 9, 3.0)
    assert second in bench.machine.take_ready()
    assert not first.inbox


def test_the_stream_is_closed_with_the_last_lease_and_opened_for_the_next():
    bench, lease = kept()
    bench.machine.remove(lease, 1.0)
    bench.machine.remove(lease, 1.0)
    bench.sends()
    assert bench.closed == [bench.stream]
    assert bench.machine.next_timer() is None
    bench.keep(8, 2.0)
    assert bench.sends() == [8]
    assert len(bench.opened) == 2


def test_closing_ends_all_leases_without_an_error():
    bench, lease = kept()
    bench.machine.close(1.0)
    assert lease.closed and not lease.lost
    bench.sends()
    assert bench.closed == [bench.stream]
    late = bench.keep(8, 2.0)
    assert late.closed
    assert set(bench.machine.take_ready()) == {lease, late}
    assert bench.machine.idle


def test_what_a_closed_stream_still_brings_is_ignored():
    bench, lease = kept(ttl=30)
    old = bench.stream
    bench.machine.remove(lease, 1.0)
    again = bench.keep(7, 2.0)
    bench.sends()
    bench.answer(7, 0, 2.1, stream=old)
    bench.end(errors.PermissionDenied(), 2.1, stream=old)
    assert not again.lost


# S13 and S14: a server with its own clock, an unreliable network, and one seed per history.


class World:
    """A server with leases, and a network that breaks, stalls and delays; all from one seed."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.now = 0.0
        self.drift = 1 + self.rng.uniform(-0.01, 0.01)  # how fast the server's clock runs
        self.machine = KeepAlives(auth_mode="none", rng=self.rng)
        self.expiry = {}  # lease id -> when the server drops it, in our time
        self.granted = {}
        self.link = None
        self.links = 0
        self.open = {}
        self.mail = []  # (when, order, kind, stream, content)
        self.order = 0
        self.up = True
        self.stalled_until = 0.0
        self.down_since = None
        self.kept = []

    def post(self, delay, kind, stream, content):
        # One stream delivers in order.
        last = max((item[0] for item in self.mail if item[3] is stream and item[2] == kind), default=0.0)
        self.order += 1
        self.mail.append((max(last, self.now + delay), self.order, kind, stream, content))

    def delay(self):
        return self.rng.uniform(0.0, 0.15)

    def act(self):
        for action in self.machine.take_actions():
            if type(action) is OpenStream:
                self.open[action.stream] = True
            elif type(action) is CloseStream:
                self.open.pop(action.stream, None)
            elif type(action) is Send and action.stream in self.open:
                self.post(self.delay(), "request", action.stream, lease_id_of(action.data))
        self.machine.take_ready()

    def deliver(self, kind, stream, content):
        if stream not in self.open:
            return
        if kind == "request":
            alive = self.expiry.get(content, 0.0) > self.now
            if alive:
                self.expiry[content] = self.now + self.granted[content] / self.drift
            else:
                self.expiry.pop(content, None)
            self.post(self.delay(), "reply", stream, (content, self.granted[content] if alive else 0))
        else:
            self.machine.stream_message(stream, (EMPTY_HEADER, *content), self.now)

    def connect(self):
        self.links += 1
        self.link = f"link {self.links}"
        self.machine.link_ready(self.link, 1, False, self.now)

    def disturb(self):
        choice = self.rng.random()
        if choice < 0.35 and self.link is not None:
            self.open.clear()
            link, self.link = self.link, None
            self.machine.link_lost(link, LOST_CONNECTION, self.now)
        elif choice < 0.5 and self.open:
            stream = next(iter(self.open))
            del self.open[stream]
            self.machine.stream_ended(stream, errors.NoLeader(), self.now)
        elif choice < 0.6 and self.link is not None:
            self.machine.link_draining(self.link, self.now)
            self.link = None
        elif choice < 0.75:
            self.stalled_until = self.now + self.rng.uniform(0.0, 3.0)
        elif choice < 0.85 and self.kept:
            self.expiry.pop(self.rng.choice(self.kept).lease_id, None)  # revoked by somebody else
        else:
            self.grant()

    def grant(self):
        lease_id, ttl = len(self.granted) + 1, self.rng.choice((2, 3, 5, 10))
        sent_at = self.now - self.delay()
        self.granted[lease_id] = ttl
        self.expiry[lease_id] = self.rng.uniform(sent_at, self.now) + ttl / self.drift
        lease = KeptLease(lease_id, ttl, sent_at)
        self.kept.append(lease)
        self.machine.add(lease, self.now)

    def step(self):
        timer = self.machine.next_timer()
        due = [item for item in self.mail if item[0] <= self.now]
        if timer is not None and timer <= self.now:
            self.machine.handle_timer(self.now)
        elif due and self.now >= self.stalled_until:
            item = min(due)
            self.mail.remove(item)
            self.deliver(*item[2:])
        else:
            moments = [max(item[0], self.stalled_until) for item in self.mail]
            moments += [self.now + 0.2] + ([timer] if timer is not None else [])
            self.now = max(min(moments), self.now)
        self.act()
        for lease in self.kept:
            # S13. Revocation by somebody else is not a question of time, so it does not count here.
            if not lease.lost and self.now < lease.alive_until and lease.lease_id in self.expiry:
                assert self.now < self.expiry[lease.lease_id]
            # F16: announced by the deadline, whatever happened.
            if not lease.lost and lease.alive_until < self.now:
                timer = self.machine.next_timer()
                assert timer is not None and timer <= self.now


@pytest.mark.parametrize("block", range(10))
def test_no_lease_is_believed_alive_after_the_server_dropped_it(block):
    lost = renewed = 0
    for seed in range(block * 20, block * 20 + 20):
        world = World(seed)
        world.connect()
        for _ in range(5):
            world.grant()
        for _ in range(400):
            if world.rng.random() < 0.06:
                world.disturb()
            if world.link is None and world.rng.random() < 0.1:
                world.connect()
            try:
                world.step()
            except AssertionError as failure:
                raise AssertionError(f"seed {seed} at {world.now:.3f}") from failure
        lost += sum(lease.lost for lease in world.kept)
        renewed += sum(lease.alive_until > world.granted[lease.lease_id] + 1 for lease in world.kept)
    assert lost and renewed  # both happen, so both are checked


@pytest.mark.parametrize("seed", range(20))
def test_no_lease_is_lost_while_the_network_is_up(seed):
    # S14: connections come and go within a sixth of the TTL; nothing is lost.
    world = World(seed)
    world.connect()
    world.grant()
    while world.now < 60.0:
        if world.rng.random() < 0.05 and world.link is not None:
            world.open.clear()
            world.machine.link_lost(world.link, LOST_CONNECTION, world.now)
            world.connect()
        world.step()
    assert not any(lease.lost for lease in world.kept), seed


# After a signal.


def test_after_a_signal_every_lease_is_asked_for_anew():
    bench = Bench()
    leases = [bench.keep(number, 0.0) for number in (1, 2, 3, 4)]
    bench.sends()
    for number in (1, 2, 3, 4):
        bench.answer(number, 30, 0.0)
    # As if inputs had stopped halfway: one entry without its lease, one lease that was just told its end.
    bench.machine._entries[1].leases.clear()
    leases[1].error = errors.LeaseLost("lost")
    bench.machine._renewals.discard(bench.machine._entries[3])
    bench.machine._stream = None
    bench.machine.mend(5.0)
    bench.machine.link_ready(LINK_2, 1, False, 5.1)
    bench.machine.handle_timer(5.1)
    assert bench.sends() == [3, 4]
    assert bench.stream.link == LINK_2
    bench.answer(3, 30, 5.2)
    assert bench.due() == pytest.approx(5.1 + 5, abs=0.1), "the other is asked again after a sixth of its TTL"
    assert leases[2].alive_until == pytest.approx(5.1 + 30 * 0.99)
    assert leases[3].alive_until == pytest.approx(30 * 0.99), "still believed alive, until its old deadline"
