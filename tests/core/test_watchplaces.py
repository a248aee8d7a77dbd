# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.watchplaces: where watchers live, and how they move."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core.actions import CloseStream, OpenStream, Send
from purecd.core.watcher import State, Watcher, WatchRequest
from purecd.errors import StatusCode
from tests.support.fakewatch import PROXY, V3_5_1, FakeLink, World

UNAVAILABLE = errors.Unavailable("gone")


def refresh(world):
    """The link gets another token, as after a refused unary call."""
    world.link.token = world.member.login("secret")
    world.link.generation += 1
    world.mux.refreshed(world.link, world.link.generation, True, world.now)


def test_watchers_that_require_a_leader_have_their_own_stream():
    world = World()
    world.watch()
    world.watch(require_leader=True)
    world.watch(require_leader=True)
    world.run()
    assert sorted((stream.require_leader, stream.live) for stream in world.opened) == [(False, 1), (True, 2)]


def test_a_stream_carries_so_many_watchers_and_no_more():
    world = World(max_watchers_per_stream=10)
    watchers = [world.watch() for _ in range(25)]
    world.run()
    assert [stream.live for stream in world.opened] == [10, 10, 5]
    world.mux.cancel(watchers[0], world.now)
    world.mux.cancel(watchers[24], world.now)
    for _ in range(7):
        world.watch()
    world.run()
    assert [stream.live for stream in world.opened] == [10, 10, 10]


def test_streams_that_end_with_their_connection_are_resumed_once():
    world = World(max_watchers_per_stream=10)
    watchers = [world.watch() for _ in range(30)]
    world.run()
    world.cut()
    assert world.mux.next_timer() is None
    assert world.mux.take_actions() == []
    world.connect()
    world.run()
    assert len(world.opened) == 6
    revision = world.store.put("b/1")
    world.run()
    assert all(world.revisions(each) == [revision] for each in watchers)


def test_without_a_link_watchers_wait_and_nothing_is_asked_for():
    world = World()
    world.cut()
    watcher = world.watch()
    world.mux.cancel(world.watch(), world.now)
    world.run()
    assert watcher.state is State.WAITING and world.opened == []
    world.connect()
    world.run()
    assert watcher.created and len(world.creates()) == 1


def test_watchers_move_as_soon_as_another_link_is_ready():
    world = World()
    watcher = world.watch()
    world.run()
    old = world.link
    first = world.store.put("b/1")
    world.mux.link_draining(old, world.now)
    late = world.watch()
    world.run()
    assert world.closed == [] and not late.created  # the old stream lives on, nothing new is opened
    assert world.revisions(watcher) == [first]
    world.connect()
    world.run()
    assert world.closed == [world.opened[0]]
    assert {stream.link for stream in world.opened[1:]} == {world.link}
    second = world.store.put("b/1")
    world.run()
    assert world.revisions(watcher) == world.revisions(late) == [second]


def test_nothing_of_an_old_stream_reaches_a_watcher_that_moved():
    world = World()
    watcher = world.watch()
    world.run()
    old = world.opened[0]
    server = world.servers[old]
    world.store.put("b/1")
    server.flush()
    world.connect()
    for response in list(server.out):
        world.deliver(old, response)
    world.mux.stream_ended(old, UNAVAILABLE, world.now)
    assert not watcher.inbox
    world.run()
    assert world.revisions(watcher) == [2]


def test_failures_in_a_row_are_followed_after_growing_pauses():
    world = World()
    world.watch()
    started: list[float] = []
    for _ in range(40):
        world.carry_out()
        while len(world.opened) == len(started):
            timer = world.mux.next_timer()
            assert timer is not None
            world.now = timer
            world.mux.handle_timer(world.now)
            world.carry_out()
        started.append(world.now)
        world.end(world.opened[-1], UNAVAILABLE)
    gaps = [later - earlier for earlier, later in zip(started, started[1:])]
    assert gaps[0] == 0
    assert 0.001 <= gaps[1] <= 0.0015
    assert all(0.08 <= gap <= 0.12 + 1e-9 for gap in gaps[25:])


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.INTERNAL])
def test_ends_that_happen_in_life_are_followed_for_ever(code):
    world = World()
    watcher = world.watch()
    for _ in range(100):
        world.advance(0.5)
        world.end(world.opened[-1], errors.from_status(code, "x"))
    world.advance(1)
    assert watcher.error is None and watcher.state is State.ACTIVE


@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.CANCELLED, StatusCode.UNKNOWN])
def test_ends_that_should_not_happen_are_followed_five_times(code):
    world = World()
    watchers = [world.watch() for _ in range(3)]
    for _ in range(5):
        world.advance(0.5)
        assert all(each.created for each in watchers)
        world.end(world.opened[-1], errors.from_status(code, "x"))
        assert all(each.error is None for each in watchers)
    world.advance(0.5)
    world.end(world.opened[-1], errors.from_status(code, "x"))
    assert all(each.error is not None and each.error.code == code for each in watchers)
    assert len({id(each.error) for each in watchers}) == 3
    assert len(world.opened) == 6


def test_progress_or_a_long_life_starts_that_count_over():
    world = World()
    watcher = world.watch()
    for number in range(30):
        world.advance(0.1)
        if number % 4 == 3:
            world.store.put("b/1")
            world.advance(0.1)
        elif number % 4 == 1:
            world.advance(1.0)
        world.end(world.opened[-1], errors.from_status(StatusCode.OK, "x"))
    assert watcher.error is None


def test_no_leader_ends_the_watches_that_require_one():
    world = World()
    plain, strict = world.watch(), world.watch(require_leader=True)
    world.run()
    for stream in list(world.servers):
        world.end(stream, errors.NoLeader())
    world.advance(1)
    assert isinstance(strict.error, errors.NoLeader)
    assert plain.error is None and plain.state is State.ACTIVE


def test_a_status_that_means_no_ends_the_watches_of_that_stream_only():
    world = World(max_watchers_per_stream=1)
    one, two = world.watch(), world.watch()
    world.run()
    world.end(world.opened[0], errors.from_status(StatusCode.UNIMPLEMENTED, "unknown service"))
    world.run()
    assert one.error is not None and one.error.code == StatusCode.UNIMPLEMENTED
    assert two.error is None


def test_a_stream_that_ends_for_its_token_is_reopened_with_another():
    world = World(auth_mode="password", auth_on=True)
    watchers = [world.watch() for _ in range(3)]
    world.run()
    for _ in range(10):
        world.end(world.opened[-1], errors.InvalidAuthToken())
        world.advance(1.5)
    assert all(each.state is State.ACTIVE for each in watchers)
    assert world.member.authenticates == 1 + 10
    world.auth.password = "another"
    world.end(world.opened[-1], errors.InvalidAuthToken())
    world.advance(1.5)
    assert all(isinstance(each.error, errors.AuthFailed) for each in watchers)


def test_with_a_new_token_only_what_was_not_sent_moves():
    world = World(PROXY, auth_mode="password", auth_on=True)
    first = world.watch()
    world.run()
    sent, queued = world.watch(), world.watch()
    world.carry_out()
    refresh(world)
    world.run()
    assert [stream.live for stream in world.opened] == [2, 1]
    assert (first.stream, sent.stream, queued.stream) == (world.opened[0], world.opened[0], world.opened[1])


def test_with_a_new_token_a_stream_with_nothing_established_is_left():
    world = World(auth_mode="password", auth_on=True)
    watchers = [world.watch() for _ in range(3)]
    world.carry_out()
    refresh(world)
    world.run()
    assert world.closed == [world.opened[0]]
    assert all(each.stream is world.opened[1] and each.created for each in watchers)


def test_an_old_stream_ends_with_its_last_watcher():
    world = World(auth_mode="password", auth_on=True)
    first = world.watch()
    world.run()
    refresh(world)
    world.watch()
    world.run()
    assert world.closed == []
    world.mux.cancel(first, world.now)
    world.run()
    assert world.closed == [world.opened[0]]


def test_there_are_streams_of_four_tokens_at_most():
    world = World(auth_mode="password", auth_on=True, max_watchers_per_stream=2)
    watchers: list[Watcher] = []
    for _ in range(5):
        watchers.extend(world.watch() for _ in range(3))
        world.run()
        refresh(world)
    alive = [stream for stream in world.opened if not stream.closed]
    assert len({stream.generation for stream in alive}) == 4
    assert world.closed == world.opened[:2]
    revision = world.store.put("b/1")
    world.run()
    assert all(world.revisions(each) == [revision] for each in watchers)


def test_an_unanswered_create_moves_the_stream_after_ten_twenty_forty_and_eighty_seconds():
    world = World()
    first = world.watch()
    world.run()
    world.servers[world.opened[0]].deaf = True
    second = world.watch()
    moved = []
    start = world.now
    for _ in range(5):
        count = len(world.opened)
        while len(world.opened) == count:
            world.carry_out()
            for server in world.servers.values():
                server.deaf = True
            timer = world.mux.next_timer()
            assert timer is not None
            world.now = timer
            world.mux.handle_timer(world.now)
            world.carry_out()
        moved.append(world.now - start)
        start = world.now
    assert moved == [10, 20, 40, 80, 80]
    for server in world.servers.values():
        server.deaf = False
    world.advance(80)
    assert first.state is second.state is State.ACTIVE


def test_patience_begins_when_a_create_is_sent():
    world = World()
    world.watch()
    world.run()
    world.now += 100
    world.mux.handle_timer(world.now)
    world.watch()
    world.carry_out()
    assert world.mux.next_timer() == world.now + 10


def test_answers_that_come_keep_the_patience_up():
    world = World()
    watchers = [world.watch(start_revision=1) for _ in range(4)]
    world.carry_out()
    (server,) = world.servers.values()
    for _ in range(4):
        world.now += 9.0
        world.mux.handle_timer(world.now)
        world.deliver(world.opened[0], server.out.popleft())
        world.carry_out()
    assert all(each.created for each in watchers)
    assert world.mux.next_timer() is None and len(world.opened) == 1


def test_a_refused_login_on_a_new_link_ends_watches_without_a_place():
    world = World()
    world.cut()
    waiting = world.watch()
    world.mux.auth_failed(errors.AuthFailed(), world.now)
    assert isinstance(waiting.error, errors.AuthFailed)
    assert world.mux.take_ready() == [waiting] and world.mux.idle
    # On a link that works nobody is concerned.
    world.connect()
    other = world.watch()
    world.mux.auth_failed(errors.AuthFailed(), world.now)
    world.run()
    assert other.created and other.error is None


def test_a_refused_login_ends_watches_that_wait_out_a_pause():
    world = World(auth_mode="password", auth_on=True)
    world.watch()
    world.run()
    watcher = delayed(world)
    assert watcher.state is State.DELAYED
    world.cut()
    world.mux.auth_failed(errors.AuthFailed(), world.now)
    assert isinstance(watcher.error, errors.AuthFailed)
    assert world.mux.idle and world.mux.next_timer() is None


def test_a_refusal_on_a_draining_link_is_taken_to_the_next_one():
    world = World(auth_mode="password", auth_on=True)
    keeper = world.watch()
    world.run()
    watcher = world.watch()
    world.member.tokens.clear()
    world.carry_out()
    world.mux.link_draining(world.link, world.now)
    world.run()
    assert watcher.state is State.WAITING and world.member.authenticates == 1
    world.connect()
    world.run()
    assert watcher.created and keeper.state is State.ACTIVE and world.member.authenticates == 2


def test_nothing_is_asked_for_on_a_lost_link():
    world = World(auth_mode="password", auth_on=True)
    world.watch()
    world.run()
    watcher = world.watch()
    world.member.tokens.clear()
    world.member.login_error = errors.Unavailable()
    world.advance(1)
    assert not watcher.created and world.mux.next_timer() is not None
    world.cut()
    assert world.mux.next_timer() is None and world.mux.take_actions() == []
    assert watcher.state is State.WAITING


def test_refused_tries_start_over_with_a_success_and_with_a_broken_stream():
    world = World()
    watcher = world.watch()
    watcher.tries, watcher.transients = 5, 7
    world.run()
    assert (watcher.tries, watcher.transients) == (0, 0)
    later = world.watch()
    later.tries = 5
    world.carry_out()
    world.end(world.opened[0], UNAVAILABLE)
    assert later.tries == 0


def test_a_watch_cancelled_during_its_permission_read_holds_nobody_up():
    world = World(V3_5_1, auth_mode="password", auth_on=True)
    forbidden, other = world.watch("a"), world.watch()
    for action in world.mux.take_actions():
        world._do(action)
    world.fetch()
    asked = world.mux.take_actions()
    assert [type(each).__name__ for each in asked] == ["CheckPermission"]
    assert other.state is State.QUEUED
    world.mux.cancel(forbidden, world.now)
    world.run()
    assert other.created


def test_answers_about_other_links_are_ignored():
    world = World(auth_mode="password", auth_on=True)
    world.watch()
    world.run()
    stranger = FakeLink(world.member)
    world.mux.refreshed(stranger, 9, True, world.now)
    world.mux.refresh_failed(stranger, errors.AuthFailed(), world.now)
    world.mux.link_lost(stranger, UNAVAILABLE, world.now)
    world.mux.link_draining(stranger, world.now)
    world.watch()
    world.run()
    assert [stream.live for stream in world.opened] == [2]


def held(world):
    world.member.tokens.clear()
    world.hold_refresh = True
    watcher = world.watch()
    world.run()
    return watcher


def delayed(world):
    world.member.tokens.clear()
    watcher = world.watch()
    watcher.tries = 2
    world.run()
    return watcher


def suspended(world):
    watcher = world.watch("b/2")
    for _ in range(4):
        world.run()
        world.store.put("b/2")
    world.run()
    return watcher


def sent(world):
    watcher = world.watch()
    world.carry_out()
    return watcher


def queued(world):
    world.cut()
    world.connect()  # now the create of the first watcher goes out alone
    watcher = world.watch()
    world.carry_out()
    return watcher


def active(world):
    watcher = world.watch()
    world.run()
    return watcher


def waiting(world):
    world.cut()
    return world.watch()


@pytest.mark.parametrize("reach", [queued, sent, active, held, delayed, suspended, waiting])
def test_cancelling_works_in_every_state(reach):
    world = World(auth_mode="password", auth_on=True, max_buffer_events=2)
    keeper = world.watch()
    world.run()
    watcher = reach(world)
    assert watcher.state is State[reach.__name__.upper()]
    world.mux.cancel(watcher, world.now)
    assert watcher.closed and watcher.error is None and watcher.take() is None
    assert watcher in world.mux.take_ready()
    while world.refreshes:
        world.answer_refresh()
    if world.link is None:
        world.connect()
    world.advance(200)
    assert watcher.state is State.ENDED and not watcher.inbox
    assert keeper.state is State.ACTIVE
    assert [len(server.watchers) for server in world.servers.values()] == [1]


def test_actions_come_in_an_order_that_can_be_carried_out():
    world = World()
    world.mux.add(Watcher(WatchRequest(b"k")), world.now)
    opened, sent = world.mux.take_actions()
    assert isinstance(opened, OpenStream) and isinstance(sent, Send)
    assert opened.stream is sent.stream
    world.mux.stream_ended(opened.stream, UNAVAILABLE, world.now)
    world.mux.link_ready(world.link, 2, False, world.now)
    assert [type(each) for each in world.mux.take_actions()] == [OpenStream, Send]
    world.mux.close(world.now)
    assert [type(each) for each in world.mux.take_actions()] == [CloseStream]


def test_after_a_signal_every_watch_goes_on_from_where_it_was_read_to():
    """Whatever was cut short, a watcher needs no more than its resume point."""
    world = World()
    watchers = [world.watch(key=f"b/{number}") for number in range(4)]
    world.run()
    for number in range(4):
        world.store.put(f"b/{number}")
    world.run()
    seen = [world.revisions(each) for each in watchers]
    # As if inputs had stopped halfway: one forgotten by its stream, one listed twice, one in no list.
    stream = watchers[0].stream
    assert stream is not None
    stream.active.pop(watchers[0].watch_id)
    stream.queue[watchers[1]] = None
    watchers[2].stream = None
    world.mux.mend(world.now)
    world.connect()
    world.run()
    for number in range(4):
        world.store.put(f"b/{number}")
    world.run()
    assert [len(world.revisions(each)) for each in watchers] == [1, 1, 1, 1]
    assert all(len(each) == 1 for each in seen)
    assert world.mux.next_timer() is None


def test_what_was_delivered_is_not_delivered_again_though_nothing_noted_it():
    world = World()
    watcher = world.watch()
    world.run()
    first = world.store.put("b/1")
    world.run()
    assert world.revisions(watcher) == [first]
    watcher.floor = watcher.next_revision = first  # a signal came before `passed`
    world.mux.mend(world.now)
    world.connect()
    second = world.store.put("b/1")
    world.run()
    assert world.revisions(watcher) == [second]
