# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.denials: what becomes of watches whose create is refused, release by release."""

from __future__ import annotations

import random
from typing import Any

import pytest

from purecd import errors
from purecd.core.actions import CheckPermission, Refresh
from purecd.core.denials import Denials, Verdict, backoff, classify
from purecd.core.watcher import Watcher, WatchRequest
from purecd.core.watchstream import MuxStream
from purecd.errors import StatusCode
from tests.support.fakewatch import FUTURE_TOKEN, PROXY, V3_4_5, V3_4_23, V3_5_1, V3_5_30, Member, World

LINK = object()
INVALID = errors.InvalidAuthToken
RELEASES = pytest.mark.parametrize("release", [V3_5_1, V3_4_23, V3_5_30], ids=["3.5.1", "3.4.23", "3.5.30"])


def with_password(release, **options):
    """A world with auth on, one watch established on it, and the counts back at zero."""
    world = World(release, auth_mode="password", auth_on=True, **options)
    watcher = world.watch("b/1")
    world.run()
    assert watcher.created
    world.member.authenticates = world.member.creates = 0
    return world, watcher


def receives(world, *watchers):
    """Whether a put reaches each of the watchers exactly once."""
    revision = world.store.put("b/1")
    world.run()
    return all(world.revisions(each) == [revision] for each in watchers)


# The table of expected results.


@RELEASES
def test_auth_off_and_a_restart(release):
    world, watcher = with_password(release)
    world.auth.turn_off(world.member)
    world.restart()
    world.run()
    assert receives(world, watcher)
    assert world.member.authenticates == 1


@RELEASES
def test_auth_off_and_a_second_watch(release):
    world, first = with_password(release)
    world.auth.turn_off(world.member)
    second = world.watch("b/1")
    world.run()
    assert receives(world, first, second)
    assert world.member.authenticates == (0 if release is V3_5_30 else 1)
    assert world.member.reads == (1 if release is V3_5_1 else 0)


@RELEASES
def test_an_expired_token_and_a_second_watch(release):
    world, first = with_password(release)
    world.member.tokens.clear()
    second = world.watch("b/1")
    world.run()
    assert receives(world, first, second)
    assert world.member.authenticates == 1


@RELEASES
def test_a_forbidden_key(release):
    world, first = with_password(release)
    forbidden = world.watch("a")
    world.run()
    assert isinstance(forbidden.error, errors.PermissionDenied)
    assert world.member.creates == 1
    assert world.member.reads == (1 if release is V3_5_1 else 0)
    assert world.member.authenticates == 0
    assert receives(world, first)


@RELEASES
def test_a_thousand_forbidden_keys(release):
    world, first = with_password(release)
    forbidden = [world.watch("a") for _ in range(1000)]
    world.run()
    assert all(isinstance(each.error, errors.PermissionDenied) for each in forbidden)
    assert world.member.creates == 1000
    assert world.member.authenticates == 0
    assert receives(world, first)


@RELEASES
def test_a_thousand_watches_resumed_with_a_dead_token(release):
    # The second link gets a token that dies before the first create reaches the member.
    world, first = with_password(release)
    watchers = [first] + [world.watch("b/1") for _ in range(999)]
    world.run()
    world.member.creates = 0
    world.cut()
    world.connect()
    world.member.tokens.clear()
    world.hold_refresh = True
    world.run()
    world.member.authenticates = 0
    world.answer_refresh()
    world.run()
    assert world.member.authenticates == 1
    assert world.member.creates == 1001
    assert receives(world, *watchers)


@RELEASES
def test_auth_on_again_between_the_answer_and_the_re_create(release):
    world, first = with_password(release)
    world.auth.turn_off(world.member)

    def turn_on():
        world.auth.on = True

    world.after_refresh = turn_on
    second = world.watch("b/1")
    world.advance(1)
    assert receives(world, first, second)
    assert world.member.authenticates <= 3


@RELEASES
def test_the_member_restarts_between_authenticate_and_the_re_create(release):
    world, first = with_password(release)
    world.member.tokens.clear()

    def restart():
        world.after_refresh = lambda: None
        world.restart()

    world.after_refresh = restart
    second = world.watch("b/1")
    world.run()
    assert receives(world, first, second)


@RELEASES
def test_another_member_that_never_learned_the_token_takes_over(release):
    world, first = with_password(release)
    world.member.tokens.clear()
    other = Member(world.store, world.auth, release)

    def take_over():
        world.after_refresh = lambda: None
        world.connect(other)
        other.tokens.clear()

    world.after_refresh = take_over
    second = world.watch("b/1")
    world.run()
    assert receives(world, first, second)
    assert other.authenticates == 2


@RELEASES
def test_an_older_token_on_the_stream_and_a_newer_one_expired_too(release):
    world, first = with_password(release)
    assert world.link is not None
    world.link.token = "expired"
    world.link.generation += 1
    world.mux.refreshed(world.link, world.link.generation, True, world.now)
    world.member.tokens.clear()
    second = world.watch("b/1")
    world.run()
    assert receives(world, first, second)
    assert world.member.authenticates == 1


@RELEASES
def test_a_token_from_the_future_is_never_answered(release):
    world, first = with_password(release)
    assert world.link is not None
    world.link.token = FUTURE_TOKEN
    world.link.generation += 1
    world.mux.refreshed(world.link, world.link.generation, True, world.now)
    second = world.watch("b/1")
    world.advance(9.9)
    assert not second.created
    world.advance(0.2)
    assert receives(world, first, second)
    assert world.member.authenticates == 1


@RELEASES
@pytest.mark.parametrize("token", ["expired", "old revision"])
def test_a_static_token_that_auth_refuses(release, token):
    world = World(release, auth_mode="static", auth_on=True, token="good")
    world.member.tokens.add("good")
    first = world.watch("b/1")
    world.run()
    world.member.tokens.clear()
    server = world.servers[world.opened[0]]
    server.token = token
    second = world.watch("b/1")
    world.run()
    expected = errors.InvalidAuthToken if token == "expired" else errors.AuthOldRevision
    assert isinstance(second.error, expected)
    assert world.member.probes == 1
    assert world.member.reads == (1 if release is V3_5_1 else 0)
    assert receives(world, first)


@RELEASES
def test_a_static_token_while_auth_is_off_and_on_again(release):
    world = World(release, auth_mode="static", auth_on=False, token="expired")
    first = world.watch("b/1")
    world.run()
    assert receives(world, first)
    assert world.member.probes == (0 if release is V3_5_30 else 1)
    world.auth.on = True
    world.member.tokens.add("expired")  # valid by now
    second = world.watch("b/1")
    world.run()
    assert receives(world, first, second)
    assert world.link is not None and world.link.token == "expired"


@RELEASES
def test_a_revoked_permission_ends_that_watch_alone(release):
    world, first = with_password(release)
    other = world.watch("b/other")
    world.run()
    world.auth.permitted = b"b/1"
    world.restart()
    world.run()
    assert isinstance(other.error, errors.PermissionDenied)
    assert receives(world, first)


@RELEASES
def test_random_switching_of_auth_ends_with_every_watch_alive(release):
    for seed in range(10):
        rng = random.Random(seed)
        world, first = with_password(release, seed=seed)
        watchers = [first]
        puts = []
        for _ in range(50):
            chance = rng.random()
            if chance < 0.2:
                world.auth.turn_off(world.member)
            elif chance < 0.4:
                world.auth.on = True
            elif chance < 0.5:
                world.restart()
            elif chance < 0.6:
                world.member.tokens.clear()
            elif chance < 0.7:
                watchers.append(world.watch("b/1", start_revision=2))
            else:
                puts.append(world.store.put("b/1"))
            world.hold_refresh = rng.random() < 0.3
            world.advance(0.5)
            world.hold_refresh = False
            while world.refreshes:
                world.answer_refresh()
        world.auth.on = True
        world.advance(5)
        assert [each for each in watchers if each.error is not None] == [], f"seed {seed}"
        for watcher in watchers:
            assert world.revisions(watcher) == puts, f"seed {seed}"
        assert receives(world, *watchers), f"seed {seed}"


@RELEASES
def test_a_password_that_became_wrong_ends_the_watch_without_a_loop(release):
    world, watcher = with_password(release)
    world.auth.password = "another"
    world.restart()
    world.advance(60)
    assert isinstance(watcher.error, errors.AuthFailed)
    assert world.member.authenticates == 1


@RELEASES
def test_a_password_that_became_wrong_on_a_live_stream(release):
    world, first = with_password(release)
    world.auth.password = "another"
    world.member.tokens.clear()
    second = world.watch("b/1")
    world.run()
    assert isinstance(second.error, errors.AuthFailed)
    assert second.error.__cause__ is not None
    assert receives(world, first)


# Single rules.


def test_a_refusal_with_the_id_of_a_live_watch_moves_them_all():
    # A peer that ignores ids and names the refused watcher by the id 0 of the first one.
    world = World(V3_5_1._replace(is_proxy=True), auth_mode="password", auth_on=True)
    first = world.watch("b/1")
    world.run()
    server = world.servers[world.opened[0]]
    assert list(server.watchers) == [0]
    forbidden = world.watch("a")
    world.carry_out()
    server.out[-1] = server.out[-1]._replace(watch_id=0)
    server.watchers[0].muted = True
    world.run()
    assert isinstance(forbidden.error, errors.PermissionDenied)
    assert world.closed == [world.opened[0]]
    assert receives(world, first)


def test_a_server_that_goes_deaf_after_a_refusal_is_left_after_five_seconds():
    world = World(V3_4_5, auth_mode="password", auth_on=True)
    first = world.watch("b/1")
    world.run()
    forbidden = world.watch("a")
    second = world.watch("b/1")
    world.advance(4.9)
    assert isinstance(forbidden.error, errors.PermissionDenied)
    assert not second.created
    world.advance(0.2)
    assert receives(world, first, second)
    assert world.member.authenticates == 1  # the one of the connection


def test_a_proxy_names_stale_tokens_without_a_prefix():
    world = World(PROXY, auth_mode="password", auth_on=True)
    first = world.watch("b/1")
    world.run()
    world.member.tokens.clear()
    second, forbidden = world.watch("b/1"), world.watch("a")
    world.run()
    assert receives(world, first, second)
    assert isinstance(forbidden.error, errors.PermissionDenied)
    assert world.member.reads == 0


def test_without_credentials_a_refusal_is_final_but_for_an_old_revision():
    world = World(auth_mode="none", auth_on=True)
    watcher = world.watch("b/1")
    world.run()
    assert isinstance(watcher.error, errors.UserEmpty)
    world = World(auth_mode="cn")
    watcher = world.watch("b/1")
    world.run()
    server = world.servers[world.opened[0]]
    server.token = "old"
    world.auth.on = True
    second = world.watch("b/1")
    start = world.now
    world.advance(10)
    assert isinstance(second.error, errors.AuthOldRevision)
    # 100, 200 and 400 ms before the three further creates, all on the same stream.
    assert len(world.creates()) == 1 + 1 + 3
    assert len(world.opened) == 1
    assert world.now - start >= 0.7
    assert receives(world, watcher)


@pytest.mark.parametrize(
    ("error", "watch_id", "has_token", "refreshable", "verdict"),
    [
        (errors.InvalidAuthToken(), -1, True, True, Verdict.STALE),
        (errors.AuthOldRevision(), -1, True, False, Verdict.STALE),
        (errors.UserEmpty(), -1, False, True, Verdict.STALE),
        (errors.PermissionDenied(), -1, False, True, Verdict.STALE),
        (errors.PermissionDenied(), 5, False, False, Verdict.DENIED),
        (errors.PermissionDenied(), 0, True, True, Verdict.DENIED),
        (errors.PermissionDenied(), -1, True, True, Verdict.FINAL),
        (errors.from_cancel_reason("etcdserver: no leader"), -1, True, True, Verdict.PASSING),
        (
            errors.from_cancel_reason("rpc error: code = Unavailable desc = x"),
            -1,
            True,
            True,
            Verdict.PASSING,
        ),
        (errors.from_cancel_reason("rpc error: code = Canceled desc = x"), -1, True, True, Verdict.PASSING),
        (
            errors.from_cancel_reason("rpc error: code = DeadlineExceeded desc = x"),
            -1,
            True,
            True,
            Verdict.PASSING,
        ),
        (errors.from_cancel_reason("mvcc: watcher range is empty"), -1, True, True, Verdict.FINAL),
        (errors.from_cancel_reason(""), -1, True, True, Verdict.FINAL),
        (errors.Compacted(), -1, True, True, Verdict.FINAL),
    ],
)
def test_what_a_refusal_means(error, watch_id, has_token, refreshable, verdict):
    assert classify(error, watch_id, has_token, refreshable) is verdict


def test_the_first_backoff_is_none_and_the_others_grow_to_a_tenth_of_a_second():
    class Middle:
        def random(self):
            return 0.5

    assert backoff(1, Middle()) == 0
    assert backoff(2, Middle()) == pytest.approx(0.00125)
    assert backoff(3, Middle()) == pytest.approx(0.0015625)
    assert backoff(22, Middle()) == pytest.approx(0.1)
    assert backoff(100_000, Middle()) == pytest.approx(0.1)
    assert 0.08 <= backoff(50, random.Random(1)) <= 0.12


class Bench:
    """The machine alone, on one stream."""

    def __init__(self, auth_mode="password"):
        self.actions: list[Any] = []
        self.denials = Denials(auth_mode, random.Random(1), self.actions)
        self.denials.link_ready(LINK, 1)
        self.stream = MuxStream(LINK, 1, True, False, 0.0)

    def watcher(self):
        return Watcher(WatchRequest(b"k"))

    def refuse(self, watcher, error=None, watch_id=-1, now=0.0):
        self.denials.refused(watcher, self.stream, error or INVALID(), watch_id, now)

    def decisions(self):
        taken, self.denials.decisions = self.denials.decisions, []
        return taken


def test_six_counted_tries_with_growing_pauses_and_no_more():
    bench = Bench()
    watcher = bench.watcher()
    pauses = []
    for generation in range(2, 20):
        bench.refuse(watcher, now=float(generation * 10))
        refused = bench.decisions()
        if refused:
            break
        bench.denials.refreshed(generation, float(generation * 10))
        bench.stream.generation = generation
        (decision,) = bench.decisions()
        assert decision.error is None
        pauses.append(decision.pause)
    assert [type(each.error) for each in refused] == [INVALID]
    assert pauses == [0, 0, 0.1, 0.2, 0.4, 0.8]


def test_one_refresh_serves_all_who_wait():
    bench = Bench()
    watchers = [bench.watcher() for _ in range(5)]
    for each in watchers:
        bench.refuse(each)
    assert bench.actions == [Refresh(LINK, 1)]
    bench.denials.refreshed(2, 0.0)
    assert [decision.watcher for decision in bench.decisions()] == watchers
    # One more refusal of the old stream needs no refresh: the token is newer than the stream.
    late = bench.watcher()
    bench.refuse(late)
    assert bench.actions == [Refresh(LINK, 1)]
    assert bench.decisions() == [(late, None, 0.0)]
    assert late.tries == 1


def test_after_three_refreshes_without_success_the_next_ones_are_a_second_apart():
    bench = Bench()
    watcher = bench.watcher()
    for generation in (2, 3, 4):
        bench.refuse(watcher, now=1.0)
        bench.denials.refreshed(generation, 1.0)
        bench.stream.generation = generation
    bench.actions.clear()
    bench.refuse(watcher, now=1.1)
    assert bench.actions == []
    assert bench.denials.next_timer() == 2.0
    bench.denials.handle_timer(2.0)
    assert bench.actions == [Refresh(LINK, 4)]
    bench.denials.refreshed(5, 2.0)
    bench.stream.generation = 5
    bench.denials.accepted()
    bench.actions.clear()
    bench.refuse(watcher, now=2.1)
    assert bench.actions == [Refresh(LINK, 5)]


@pytest.mark.parametrize(
    "error", [errors.Unavailable(), errors.DeadlineExceeded(), errors.TooManyRequests(), errors.Timeout()]
)
def test_a_login_that_fails_for_the_moment_is_repeated_without_counting(error):
    bench = Bench()
    watcher = bench.watcher()
    bench.refuse(watcher)
    now = 0.0
    for _ in range(30):
        bench.denials.refresh_failed(error, now)
        assert bench.decisions() == []
        timer = bench.denials.next_timer()
        if timer is not None:
            assert now < timer <= now + 0.13
            now = timer
            bench.denials.handle_timer(now)
    assert len(bench.actions) == 31
    bench.denials.refreshed(2, now)
    assert bench.decisions() == [(watcher, None, 0.0)]
    assert watcher.tries == 1


def test_a_login_that_fails_for_good_ends_the_watch_with_the_refusal_as_cause():
    for failure in (errors.AuthFailed(), errors.RpcError("odd", code=StatusCode.UNKNOWN)):
        bench = Bench()
        watcher = bench.watcher()
        denial = INVALID()
        bench.refuse(watcher, denial)
        bench.denials.refresh_failed(failure, 0.0)
        ((_, error, _),) = bench.decisions()
        assert type(error) is type(failure)
        assert error is not failure
        assert error.__cause__ is denial


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (errors.PermissionDenied(), "denied"),
        (errors.InvalidAuthToken(), "refresh"),
        (errors.DeadlineExceeded(), "refresh"),
        (errors.FutureRev(), "again, counted"),
        (errors.Compacted(), "again, counted"),
        (None, "again, counted"),
        (errors.Unavailable(), "again"),
        (errors.Timeout(), "again"),
    ],
)
def test_what_the_permission_read_decides(answer, outcome):
    bench = Bench()
    watcher = bench.watcher()
    denial = errors.PermissionDenied()
    bench.refuse(watcher, denial, watch_id=7)
    assert bench.actions == [CheckPermission(bench.stream, watcher)]
    assert bench.stream.held == 1 and bench.denials.pauses(bench.stream)
    bench.denials.permission_answer(watcher, answer, 0.0)
    assert bench.stream.held == 0
    decisions = bench.decisions()
    if outcome == "refresh":
        assert decisions == []
        assert bench.actions[1:] == [Refresh(LINK, 1)]
    elif outcome == "denied":
        assert decisions == [(watcher, denial, 0.0)]
    else:
        assert decisions == [(watcher, None, 0.0)]
        assert watcher.tries == (1 if outcome == "again, counted" else 0)
    bench.denials.permission_answer(watcher, errors.PermissionDenied(), 0.0)
    assert bench.decisions() == []


def test_a_lost_link_lets_all_try_on_the_next_one_from_zero():
    bench = Bench()
    checking, refreshing = bench.watcher(), bench.watcher()
    refreshing.tries = 4
    bench.refuse(checking, errors.PermissionDenied(), watch_id=3)
    bench.refuse(refreshing)
    bench.denials.link_gone()
    assert bench.decisions() == [(checking, None, 0.0), (refreshing, None, 0.0)]
    assert (checking.tries, refreshing.tries, bench.stream.held) == (0, 0, 0)
    bench.refuse(refreshing)  # from a stream of the lost link
    assert bench.decisions() == [(refreshing, None, 0.0)]
    assert len(bench.actions) == 2


def test_a_passing_refusal_is_asked_again_after_a_pause_without_counting():
    bench = Bench()
    watcher = bench.watcher()
    pauses = []
    for _ in range(30):
        bench.refuse(watcher, errors.from_cancel_reason("etcdserver: no leader"))
        ((_, error, pause),) = bench.decisions()
        assert error is None
        pauses.append(pause)
    assert pauses[0] == 0 and 0 < pauses[1] < 0.002 and 0.08 <= pauses[-1] <= 0.12
    assert watcher.tries == 0


def test_a_watch_that_was_cancelled_gets_no_decision():
    bench = Bench()
    one, two = bench.watcher(), bench.watcher()
    bench.refuse(one, errors.PermissionDenied(), watch_id=1)
    bench.refuse(two)
    bench.denials.forget(one)
    bench.denials.forget(two)
    bench.denials.permission_answer(one, errors.FutureRev(), 0.0)
    bench.denials.refreshed(2, 0.0)
    assert bench.decisions() == []
    assert bench.stream.held == 0


def test_old_revisions_without_a_token_are_tried_three_times_with_growing_pauses():
    bench = Bench("cn")
    watcher = bench.watcher()
    outcomes = []
    for _ in range(4):
        bench.refuse(watcher, errors.AuthOldRevision())
        outcomes += [(type(each.error), each.pause) for each in bench.decisions()]
    none = type(None)
    assert outcomes == [(none, 0.1), (none, 0.2), (none, 0.4), (errors.AuthOldRevision, 0.0)]


def test_a_permission_read_that_ends_after_a_refresh_needs_no_other_one():
    bench = Bench()
    checking, refreshing = bench.watcher(), bench.watcher()
    bench.refuse(checking, errors.PermissionDenied(), watch_id=3)
    bench.refuse(refreshing)
    bench.denials.refreshed(2, 0.0)
    assert bench.decisions() == [(refreshing, None, 0.0)]
    bench.denials.permission_answer(checking, INVALID(), 0.0)
    assert bench.decisions() == [(checking, None, 0.0)]
    assert checking.tries == 1
    assert len(bench.actions) == 2


def test_watches_of_a_stream_that_was_lost_for_its_token_are_not_counted():
    bench = Bench()
    watchers = [bench.watcher(), bench.watcher()]
    bench.denials.stream_stale(watchers, bench.stream, INVALID(), 0.0)
    assert bench.actions == [Refresh(LINK, 1)]
    bench.denials.refreshed(2, 0.0)
    assert bench.decisions() == [(each, None, 0.0) for each in watchers]
    assert [each.tries for each in watchers] == [0, 0]
    bench.denials.stream_stale(watchers, bench.stream, INVALID(), 0.0)  # a stream of the old token
    assert len(bench.decisions()) == 2 and len(bench.actions) == 1


def test_a_static_token_that_hangs_is_tried_again_and_one_that_is_refused_ends():
    for error in (None, INVALID()):
        bench = Bench("static")
        watcher = bench.watcher()
        bench.denials.stream_stale([watcher], bench.stream, error, 0.0)
        bench.denials.refresh_failed(errors.AuthFailed(), 0.0)
        assert bench.decisions() == [(watcher, error, 0.0)]


def test_a_refresh_that_brings_the_same_token_is_a_failure():
    bench = Bench("static")
    watcher, denial = bench.watcher(), INVALID()
    bench.refuse(watcher, denial)
    bench.denials.refreshed(1, 0.0)
    assert bench.decisions() == [(watcher, denial, 0.0)]


def test_a_refresh_that_nobody_waits_for_is_not_started():
    bench = Bench()
    watcher = bench.watcher()
    bench.refuse(watcher)
    bench.denials.forget(watcher)
    bench.denials.refresh_failed(errors.Unavailable(), 0.0)
    assert len(bench.actions) == 1
    bench.refuse(watcher)
    for _ in range(2):
        bench.denials.refresh_failed(errors.Unavailable(), 0.0)
    timer = bench.denials.next_timer()
    assert timer is not None
    bench.denials.forget(watcher)
    bench.actions.clear()
    bench.denials.handle_timer(timer)
    assert bench.actions == [] and bench.denials.next_timer() is None


def test_creates_wait_only_while_they_would_meet_the_same_refusal():
    bench = Bench()
    other = MuxStream(LINK, 0, True, False, 0.0)
    watcher = bench.watcher()
    bench.refuse(watcher)
    assert bench.denials.pauses(bench.stream) and not bench.denials.pauses(other)
    bench.denials.refresh_failed(errors.Unavailable(), 0.0)  # that may take long, and others may get on
    assert not bench.denials.pauses(bench.stream)
    bench.denials.refreshed(2, 0.0)
    bench.stream.generation = 2
    bench.refuse(watcher, errors.PermissionDenied(), watch_id=3)
    assert bench.denials.pauses(bench.stream)
    bench.stream.proven = True  # the token works for others, so this is about the key
    assert not bench.denials.pauses(bench.stream)


def test_success_makes_the_next_refreshes_immediate_again():
    world, _ = with_password(V3_5_30)
    for _ in range(8):
        world.member.tokens.clear()
        watcher = world.watch("b/1")
        world.run()
        assert watcher.created
