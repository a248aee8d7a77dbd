# SPDX-License-Identifier: Apache-2.0
"""Which links a channel dials, which one serves, and how each of them ends."""

from __future__ import annotations

import random

import pytest

from purecd import errors
from purecd.core import kv, methods
from purecd.core.channel import Channel
from purecd.core.endpoints import parse_endpoint
from purecd.core.link import LinkState
from purecd.core.links import HURRY
from purecd.core.op import Call
from purecd.options import Options
from purecd.requests import Get
from tests.support.h2peer import ENHANCE_YOUR_CALM, H2Peer
from tests.support.steps import Steady, World, answer, refusing, used

MAX_CONCURRENT_STREAMS = 3


def channel_to(*names, rng=None):
    return Channel(Options(names), [parse_endpoint(name) for name in names], rng or Steady(), "purecd/0")


def get(channel, now):
    call = Call(methods.RANGE, Get("k"))
    channel.start(call, now)
    return call


def dialled(channel):
    opening, channel.opening = channel.opening, []
    return opening


def failed(channel, link, now):
    channel.link_lost(link, errors.Unavailable("cannot connect: refused"), now)


def dials(world):
    """Seconds from the start to each attempt, and the endpoints."""
    return [(round(moment - 1000.0, 6), endpoint) for moment, endpoint in world.dialled]


# Dialling.


def test_nothing_is_dialled_before_it_is_needed():
    world = World()
    world.advance(60.0)
    assert world.dialled == []
    assert world.channel.next_timer() is None


def test_a_failed_endpoint_is_followed_by_the_next_at_once():
    channel = channel_to("a:1", "b:1", "c:1")
    get(channel, 0.0)
    (silent,) = dialled(channel)
    assert silent.name == "a:1"
    channel.handle_timer(HURRY)
    (refused,) = dialled(channel)
    assert refused.name == "b:1"
    failed(channel, refused, HURRY)
    assert [link.name for link in dialled(channel)] == ["c:1"], "although a:1 is still being dialled"


def test_an_endpoint_that_takes_long_is_joined_by_another_every_250_ms():
    world = World("a:1", "b:1", "c:1")
    world.unreachable |= {"a:1", "b:1", "c:1"}
    world.run(kv.get("k"))
    world.advance(2.0)
    assert dials(world) == [(0.0, "a:1"), (0.25, "b:1"), (0.5, "c:1")]


def test_a_sole_endpoint_is_tried_again_and_again():
    world = World()
    world.refused.add("a:1")
    world.run(kv.get("k"), timeout=None)
    world.advance(26.0)
    moments = [moment for moment, _ in dials(world)]
    waits = [round(later - earlier, 3) for earlier, later in zip(moments, moments[1:])]
    # 0.1 s growing by 1.6 to 1 s, without jitter here.
    assert waits == [0.1, 0.16, 0.256, 0.41, 0.655] + [1.0] * 24


def test_an_endpoint_whose_connections_die_young_is_tried_often_enough_to_be_back_soon():
    world = World()
    run = world.run(kv.get("k"), timeout=None)
    for _ in range(20):
        world.cut()
        run = world.run(kv.get("k"), timeout=None)
        world.advance(0.45)
        run.value()
    moments = [moment for moment, _ in dials(world)]
    waits = [round(later - earlier, 3) for earlier, later in zip(moments, moments[1:])]
    assert waits[0] < waits[-1], "but not in a tight loop"


def test_waits_stay_bounded_for_ever():
    endpoints = channel_to("a:1").endpoints
    endpoint = endpoints.pick(0.0)
    endpoint.failures = 10_000
    endpoints.failed(endpoint, errors.Unavailable("refused"), 100.0)
    assert endpoint.retry_at == 101.0


def test_an_attempt_ends_with_the_dial_timeout():
    world = World(dial_timeout=3.0)
    world.unreachable.add("a:1")
    run = world.run(kv.get("k"))
    world.advance(2.999)
    assert len(world.open_links()) == 1
    world.advance(0.001)
    assert world.open_links() == []
    world.unreachable.clear()
    world.advance(0.1)
    run.value()
    assert dials(world) == [(0.0, "a:1"), (3.1, "a:1")]


@pytest.mark.parametrize("silent_in", ["settings", "greeting"])
def test_the_dial_timeout_covers_the_greeting(silent_in):
    world = World(dial_timeout=3.0)
    if silent_in == "greeting":
        world.members["a:1"].silent.add("greeting")
    else:
        world.frozen.add("a:1")
    run = world.run(kv.get("k"), timeout=3.05)
    world.advance(3.05)
    with pytest.raises(errors.DeadlineExceeded, match=r"no answer within the dial timeout \(3 s\)"):
        run.value()


def test_a_success_ends_the_waits_of_the_others():
    world = World("a:1", "b:1")
    world.refused |= {"a:1", "b:1"}
    world.run(kv.get("k"), timeout=None)
    world.advance(20.0)
    before = len(world.dialled)
    assert all(each.retry_at > world.now for each in world.channel.endpoints._all)
    world.refused.discard("b:1")
    world.advance(5.0)
    assert world.open_links() == ["b:1"]
    assert all(each.retry_at <= world.now for each in world.channel.endpoints._all)
    assert len(world.dialled) > before


def test_what_failed_waits_and_is_tried_again():
    channel = channel_to("a:1", "b:1")
    get(channel, 0.0)
    for name in ("a:1", "b:1"):
        (link,) = dialled(channel)
        assert link.name == name
        failed(channel, link, 0.0)
    assert dialled(channel) == []
    timer = channel.next_timer()
    assert 0.05 < timer < 0.2
    channel.handle_timer(timer)
    assert len(dialled(channel)) == 1


def test_a_failed_endpoint_is_tried_again_while_others_hang():
    world = World("a:1", "b:1", "c:1", dial_timeout=60.0)
    world.unreachable |= {"b:1", "c:1"}
    world.refused.add("a:1")
    run = world.run(kv.get("k"), timeout=None)
    world.advance(2.0)
    world.refused.clear()
    world.advance(1.5)
    run.value()
    assert world.open_links() == ["a:1"]


def test_never_more_links_than_endpoints():
    rng = random.Random(1)
    channel = channel_to("a:1", "b:1", "c:1", rng=rng)
    get(channel, 0.0)
    now = 0.0
    most = 0
    for _ in range(200):
        busy = [link.endpoint for link in channel.links]
        assert len(busy) == len(set(busy))
        most = max(most, len(busy))
        timer = channel.next_timer()
        if channel.links and rng.random() < 0.5:
            failed(channel, rng.choice(channel.links), now)
        elif timer is not None:
            now = max(now, timer)
            channel.handle_timer(now)
    assert most == 3


@pytest.mark.parametrize("ending", ["before settings", "greeting", "after greeting"])
def test_a_server_that_accepts_and_closes_is_not_dialled_in_a_loop(ending):
    world = World()
    if ending == "greeting":
        world.members["a:1"].answers["greeting"] = lambda peer, request: closing.append(peer)
    closing = []
    run = world.run(kv.get("k"), timeout=None)
    if ending == "after greeting":
        run.value()
        world.run(kv.get("k"), timeout=None)
    for _ in range(200):
        world.members["a:1"].silent.add("Range")
        if any(each == "a:1" for each in world.open_links()) and world.channel.links[0] in world.peers:
            world.cut()
        world.advance(0.05)
    # 0.1 s growing by 1.6, to 0.4 s where it answered: not more than three a second.
    assert len(world.dialled) <= 30


def test_the_first_ready_link_wins():
    world = World("a:1", "b:1", "c:1")
    world.frozen |= {"a:1", "b:1"}
    run = world.run(kv.get("k"))
    world.advance(0.5)
    run.value()
    assert dials(world) == [(0.0, "a:1"), (0.25, "b:1"), (0.5, "c:1")]
    assert world.open_links() == ["c:1"]
    world.frozen.clear()
    world.advance(60.0)
    assert world.open_links() == ["c:1"]


def test_a_socket_that_connects_too_late_is_ignored():
    world = World("a:1", "b:1")
    world.unreachable.add("a:1")
    world.run(kv.get("k"))
    (late,) = world.channel.links
    world.advance(1.0)
    world.channel.link_opened(late, world.now)
    world.channel.link_received(late, b"\0\0\0\4\0\0\0\0\0", world.now)
    assert late.state is LinkState.CLOSED
    assert world.open_links() == ["b:1"]


def test_notes_tell_what_happened_to_links():
    world = World("a:1", "b:1")
    world.refused.add("a:1")
    world.do(kv.get("k"))
    world.peer("b:1").say_goaway(2**31 - 1, 0, b"graceful\x1b[31m_stop")
    world.settle()
    assert world.notes == [
        ("connect", "a:1", ""),
        ("closed", "a:1", "cannot connect: Connection refused"),
        ("connect", "b:1", ""),
        ("ready", "b:1", ""),
        ("goaway", "b:1", "graceful\ufffd[31m_stop"),
        ("closed", "b:1", ""),
    ]


# GOAWAY.


def test_goaway_in_two_steps_loses_no_call():
    world = used()
    old = world.peer()
    world.members["a:1"].silent.add("Put")
    early = world.run(kv.put("k", "1"))
    (request,) = world.requests("Put")
    # etcd stops like this: the greatest id, a PING, then the last stream that it took.
    old.say_goaway(2**31 - 1, 0, b"graceful_stop")
    old.ping()
    world.settle()
    assert not early.done
    world.members["a:1"].silent.clear()
    world.do(kv.put("k", "2"))
    assert world.peer() is not old, "new calls go to a new connection"
    old.say_goaway(request.stream_id)
    world.settle()
    old.ok(request, world.members["a:1"].reply(request))
    world.settle()
    early.value()
    assert world.open_links() == ["a:1"], "the old connection is closed when its last stream has ended"


def test_goaway_without_calls_in_flight_closes_at_once_and_dials_nothing():
    world = used()
    world.peer().say_goaway(2**31 - 1)
    world.settle()
    assert world.open_links() == []
    assert len(world.dialled) == 1


def test_after_goaway_another_endpoint_is_dialled():
    world = used("a:1", "b:1")
    world.peer("a:1").say_goaway(2**31 - 1)
    world.settle()
    world.do(kv.get("k"))
    assert world.open_links() == ["b:1"]


def test_goaway_for_too_many_pings_doubles_the_keepalive_time():
    world = used(keepalive_time=10.0)
    for expected in (10.0, 20.0, 40.0):
        assert world.link().keepalive_time == expected
        world.peer().say_goaway(2**31 - 1, ENHANCE_YOUR_CALM, b"too_many_pings")
        world.settle()
        world.do(kv.get("k"))


def test_a_keepalive_time_is_at_most_two_hours():
    world = used(keepalive_time=7000.0)
    world.peer().say_goaway(2**31 - 1, ENHANCE_YOUR_CALM, b"too_many_pings")
    world.settle()
    world.do(kv.get("k"))
    assert world.link().keepalive_time == 7200.0


def test_goaway_at_once_again_and_again_makes_no_loop():
    world = World()
    world.members["a:1"].answers["Range"] = lambda peer, request: peer.say_goaway(
        request.stream_id - 2, 0, b"max_age"
    )
    world.run(kv.get("k"), timeout=None)
    world.advance(10.0)
    assert len(world.dialled) <= 30


def test_a_life_counts_from_the_greeting_on():
    world = World()
    world.members["a:1"].silent.add("greeting")
    world.run(kv.get("k"))
    world.advance(2.0)
    (greeting,) = world.peer().requests
    answer(world, greeting)
    world.cut()
    assert world.channel.endpoints.all_failed(), "it served for no time at all"


# Silence and bad answers.


def life_tests(peer):
    """PINGs that ask whether the server lives; others ask whether it has seen a reset."""
    return peer.pings.count(b"purecd\0\0")


def silent_get(world, timeout):
    """A call that gets no answer in time."""
    run = world.run(kv.get("k"), timeout)
    world.advance(timeout)
    with pytest.raises(errors.DeadlineExceeded):
        run.value()


def test_a_silent_link_is_left_for_another_endpoint():
    world = used("a:1", "b:1")
    world.frozen.add("a:1")
    silent_get(world, 0.3)
    run = world.run(kv.get("k"))
    run.value()
    assert world.requests("Range", "b:1")
    world.advance(30.0)
    assert world.open_links() == ["b:1"]


def test_a_suspect_link_is_tested_and_used_again_when_it_answers():
    world = used()
    world.frozen.add("a:1")
    silent_get(world, 0.3)
    link = world.current()
    assert link.suspect
    waiting = world.run(kv.get("k"))
    assert not waiting.done
    world.advance(1.0)
    world.frozen.clear()
    world.settle()
    waiting.value()
    assert world.current() is link
    assert life_tests(world.peers[link]) == 1
    world.advance(10.0)
    assert world.open_links() == ["a:1"], "the one dialled meanwhile is not needed"


def test_a_suspect_link_that_does_not_answer_is_closed():
    world = used(keepalive_timeout=5.0)
    dead = world.peer()
    world.frozen.add("a:1")
    silent_get(world, 0.3)
    waiting = world.run(kv.get("k"), timeout=None)
    world.advance(1.999)
    assert dead in [world.peers.get(each) for each in world.channel.links]
    world.advance(0.001)
    assert dead not in [world.peers.get(each) for each in world.channel.links]
    world.frozen.clear()
    world.advance(10.0)
    waiting.value()


def test_a_suspect_link_gets_no_ping_within_5_s_of_the_last():
    world = used()
    world.members["a:1"].silent.add("Range")
    world.members["a:1"].silent.add("greeting")
    for _ in range(4):
        silent_get(world, 0.3)
        world.advance(0.7)
    assert life_tests(world.peers[world.current()]) == 1
    world.advance(2.0)
    silent_get(world, 0.3)
    world.settle()
    assert life_tests(world.peers[world.current()]) == 2


def test_a_call_that_expires_while_others_are_answered_accuses_nobody():
    world = used()
    world.members["a:1"].silent.add("Put")
    slow = world.run(kv.put("k", "v"), timeout=0.4)
    world.advance(0.2)
    world.do(kv.get("k"))
    world.advance(0.2)
    with pytest.raises(errors.DeadlineExceeded):
        slow.value()
    assert world.current().usable
    assert life_tests(world.peer()) == 0
    assert len(world.dialled) == 1


@pytest.mark.parametrize("error", [errors.NoLeader, errors.Timeout, errors.TimeoutDueToLeaderFail])
def test_a_member_that_cannot_serve_is_left_for_another_endpoint(error):
    world = used("a:1", "b:1")
    world.members["a:1"].answers["Range"] = refusing(error)
    world.run(kv.get("k")).value()
    assert [each for _, each in world.dialled] == ["a:1", "b:1"]
    assert world.open_links() == ["b:1"]
    assert ("turn", "a:1", "answers badly") in world.notes


def test_calls_that_get_no_answer_from_a_living_member_make_it_worse_than_others():
    world = used("a:1", "b:1")
    world.members["a:1"].silent.add("Range")
    run = world.run(kv.get("k"), timeout=1.0)
    world.advance(0.5)
    world.peer("a:1").ping()  # it lives, but has lost its quorum, say
    world.advance(0.5)
    with pytest.raises(errors.DeadlineExceeded):
        run.value()
    world.run(kv.get("k")).value()
    assert world.open_links() == ["b:1"]


@pytest.mark.parametrize("refused", [True, False])
def test_where_no_other_endpoint_is_to_be_had_the_old_one_is_used_on(refused):
    world = used("a:1", "b:1", "c:1")
    (world.refused if refused else world.unreachable).update({"b:1", "c:1"})
    world.members["a:1"].once["Range"] = [refusing(errors.NoLeader)]
    run = world.run(kv.get("k"))
    if not refused:
        world.advance(2 * HURRY - 0.001)
        assert not run.done, "the others get 250 ms each"
        world.advance(0.001)
    run.value()
    assert world.current().name == "a:1"
    assert len(world.requests("Range", "a:1")) == 3
    world.do(kv.get("k"))


def test_a_bad_answer_while_another_endpoint_is_dialled_makes_no_call_wait_again():
    world = used("a:1", "b:1", dial_timeout=60.0)
    world.unreachable.add("b:1")
    world.members["a:1"].once["Range"] = [refusing(errors.NoLeader)]
    world.do(kv.get("k"))
    world.members["a:1"].once["Range"] = [refusing(errors.NoLeader)]
    world.run(kv.get("k")).value()


def test_a_bad_member_alone_is_asked_again():
    world = used()
    world.members["a:1"].once["Range"] = [refusing(errors.NoLeader)] * 3
    world.do(kv.get("k"))
    assert len(world.dialled) == 1


def test_a_sole_endpoint_that_answers_again_keeps_its_connection():
    # Moving to another connection to the same member would only interrupt its watches and renewals.
    world = used()
    world.members["a:1"].silent.add("Range")
    run = world.run(kv.get("k"), timeout=0.6)
    old = world.current()
    world.unreachable.add("a:1")
    world.frozen.add("a:1")
    world.advance(0.6)
    assert run.done and not old.usable
    (new,) = [each for each in world.channel.links if each is not old]
    world.frozen.clear()
    world.settle()
    assert old.usable
    world.members["a:1"].silent.clear()
    world.peers[new] = H2Peer(world.members["a:1"])
    world.channel.link_opened(new, world.now)
    world.settle()
    assert world.current() is old
    assert new not in world.channel.links


def test_members_that_were_left_are_not_turned_to_again_for_3_s():
    world = used("a:1", "b:1")
    for member in world.members.values():
        member.answers["Range"] = refusing(errors.NoLeader)
    world.run(kv.get("k"), timeout=None)
    world.advance(2.5)
    assert [each for _, each in world.dialled] == ["a:1", "b:1"]
    world.advance(20.0)
    assert len(world.dialled) <= 10


def test_a_replaced_link_ends_its_calls_and_closes():
    world = used("a:1", "b:1")
    world.members["a:1"].silent.add("Put")
    early = world.run(kv.put("k", "v"), timeout=None)
    old = world.peer("a:1")
    world.members["a:1"].once["Range"] = [refusing(errors.NoLeader)]
    world.do(kv.get("k"))
    assert world.open_links() == ["a:1", "b:1"]
    world.advance(300.0)
    assert world.open_links() == ["a:1", "b:1"], "for it answers PINGs"
    assert old.pings
    (request,) = world.requests("Put")
    old.ok(request, world.members["a:1"].reply(request))
    world.settle()
    early.value()
    assert world.open_links() == ["b:1"]
    assert old.goaway == 0


def test_a_replaced_link_closes_when_its_last_call_is_given_up():
    world = used("a:1", "b:1")
    world.members["a:1"].silent.add("Put")
    early = world.run(kv.put("k", "v"), timeout=None)
    world.members["a:1"].once["Range"] = [refusing(errors.NoLeader)]
    world.do(kv.get("k"))
    world.channel.abandon(early.calls[0], world.now)
    assert world.open_links() == ["b:1"]


@pytest.mark.parametrize(("keepalive_time", "pinged_after"), [(15.0, 15.0), (None, 30.0)])
def test_a_silent_link_that_drains_is_tested(keepalive_time, pinged_after):
    world = used(keepalive_time=keepalive_time, keepalive_timeout=2.0)
    world.members["a:1"].silent.add("Put")
    early = world.run(kv.put("k", "v"), timeout=None)
    world.peer().say_goaway(2**31 - 1)
    world.settle()
    world.frozen.add("a:1")
    world.advance(pinged_after + 1.999)
    assert not early.done
    world.advance(0.001)
    with pytest.raises(errors.Unavailable, match="no answer to a PING within 2 s"):
        early.value()


# Keepalive.


def test_silence_with_a_call_in_flight_is_broken_by_a_ping():
    world = used(keepalive_time=10.0, keepalive_timeout=3.0)
    world.members["a:1"].silent.add("Put")
    run = world.run(kv.put("k", "v"), timeout=None)
    world.advance(100.0)
    assert not run.done
    assert 9 <= len(world.peer().pings) <= 11
    assert len(world.dialled) == 1


def test_no_ping_without_a_call_in_flight():
    world = used(keepalive_time=10.0)
    world.advance(3600.0)
    assert world.peer().pings == []
    assert world.channel.next_timer() is None


def test_no_ping_when_switched_off():
    world = used(keepalive_time=None)
    world.members["a:1"].silent.add("Put")
    world.run(kv.put("k", "v"), timeout=None)
    world.advance(3600.0)
    assert world.peer().pings == []


def test_whatever_arrives_counts_as_life():
    world = used(keepalive_time=10.0)
    world.members["a:1"].silent.add("Put")
    world.run(kv.put("k", "v"), timeout=None)
    for _ in range(20):
        world.peer().ping()
        world.advance(5.0)
    assert world.peer().pings == []


# A server that takes no streams.


def test_a_server_that_takes_no_stream_is_no_endpoint():
    world = World("a:1", "b:1")
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 0}
    run = world.run(kv.get("k"))
    world.advance(HURRY)
    run.value()
    assert world.open_links() == ["b:1"]


def test_a_server_that_takes_streams_later_is_greeted_then():
    world = World()
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 0}
    run = world.run(kv.get("k"))
    world.advance(1.0)
    assert not run.done
    world.peer().set({MAX_CONCURRENT_STREAMS: 10})
    world.settle()
    run.value()


# Endpoints replaced at run time.


def test_a_link_to_a_removed_endpoint_ends_its_calls():
    world = used("a:1", "b:1")
    world.members["a:1"].silent.add("Put")
    early = world.run(kv.put("k", "v"))
    world.channel.replace_endpoints([parse_endpoint("b:1")], world.now)
    world.settle()
    world.do(kv.get("k"))
    assert world.open_links() == ["a:1", "b:1"]
    (request,) = world.requests("Put")
    world.peer("a:1").ok(request, world.members["a:1"].reply(request))
    world.settle()
    early.value()
    assert world.open_links() == ["b:1"]


def test_a_new_endpoint_is_dialled_at_once_for_those_who_wait():
    world = World("a:1", "b:1")
    world.unreachable.add("a:1")
    world.channel.endpoints.replace([parse_endpoint("a:1")])
    run = world.run(kv.get("k"))
    assert not run.done
    world.channel.replace_endpoints([parse_endpoint("a:1"), parse_endpoint("b:1")], world.now)
    world.settle()
    run.value()
    assert world.open_links() == ["b:1"]


def test_a_removed_endpoint_is_not_dialled_on():
    world = World("a:1", "b:1")
    world.unreachable.add("a:1")
    world.run(kv.get("k"))
    world.channel.replace_endpoints([parse_endpoint("b:1")], world.now)
    world.settle()
    assert world.open_links() == ["b:1"]


def test_the_same_endpoints_change_nothing():
    world = used("a:1", "b:1")
    world.channel.replace_endpoints([parse_endpoint("b:1"), parse_endpoint("a:1")], world.now)
    world.settle()
    world.do(kv.get("k"))
    assert len(world.dialled) == 1


def test_an_empty_list_is_refused():
    world = used()
    with pytest.raises(ValueError, match="no available endpoints"):
        world.channel.replace_endpoints([], world.now)
    world.do(kv.get("k"))
