# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.watching: what watches deliver, against a small etcd."""

from __future__ import annotations

import random
import sys

import pytest

from purecd import errors
from purecd.core.watcher import EVENT_COST, State, Watcher, WatchRequest
from purecd.errors import StatusCode
from purecd.types import Event, Header, KeyValue, WatchResponse
from tests.support.fakewatch import CLUSTER, PROXY, V3_5_1, V3_5_30, World, matches


def answer(watch_id, revision=0, *, cluster=CLUSTER, **fields):
    return WatchResponse(Header(cluster, 1, revision, 1), watch_id, **fields)


def events(watch_id, *revisions, header=99, fragment=False):
    some = [Event(kv=KeyValue(b"b/1", each, each, 1, b"v")) for each in revisions]
    return answer(watch_id, header, events=some, fragment=fragment)


def established(world, **options):
    """A watcher whose server says nothing by itself any more, and its stream."""
    watcher = world.watch(**options)
    world.run()
    assert watcher.created
    stream = watcher.stream
    world.servers[stream].watchers.clear()
    world.take(watcher)
    return watcher, stream


# Events.


def test_a_watch_gets_its_events_and_no_others():
    world = World()
    watcher = world.watch("b/", "b0")
    world.run()
    assert watcher.created and watcher.created_revision == 1
    first = world.store.put("b/1")
    world.store.put("c")
    last = world.store.delete("b/1")
    world.run()
    assert world.revisions(watcher) == [first, last]
    assert world.mux.take_ready() == [watcher]
    assert world.mux.take_ready() == []


def test_a_watch_continues_after_the_connection_was_lost():
    world = World()
    watcher = world.watch()
    world.run()
    first = world.store.put("b/1")
    world.run()
    world.cut()
    second = world.store.put("b/1")
    world.connect()
    world.run()
    assert world.revisions(watcher) == [first, second]
    assert [each.start_revision for each in world.creates()] == [0, first + 1]


def test_a_watch_from_now_that_saw_nothing_resumes_where_it_was_created():
    world = World()
    for _ in range(5):
        world.store.put("c")
    watcher = world.watch()
    world.run()
    world.cut()
    missed = world.store.put("b/1")
    world.connect()
    world.run()
    assert [each.start_revision for each in world.creates()] == [0, 6]
    assert world.revisions(watcher) == [missed]


def test_a_watch_whose_create_was_never_answered_begins_again():
    world = World()
    watcher = world.watch()
    world.carry_out()
    world.cut()
    world.connect()
    world.run()
    assert [each.start_revision for each in world.creates()] == [0, 0]
    assert watcher.created


def test_the_header_of_a_response_with_events_does_not_move_the_resume_point():
    world = World()
    watcher, stream = established(world, start_revision=2)
    world.deliver(stream, events(1, 2, 3, header=500))
    assert watcher.next_revision == 4


def test_events_at_or_below_the_created_revision_of_a_watch_from_now_are_delivered():
    # Newer servers register a watcher first and read the revision afterwards.
    world = World()
    for _ in range(9):
        world.store.put("c")
    watcher, stream = established(world)
    assert watcher.next_revision == 10
    world.deliver(stream, events(1, 8))
    assert world.revisions(watcher) == [8]
    assert watcher.next_revision == 9  # 9 and 10 may be on their way


def test_events_that_were_delivered_or_never_wanted_are_dropped():
    world = World()
    watcher, stream = established(world, start_revision=50)
    world.deliver(stream, events(1, 48, 49))
    world.deliver(stream, events(1, 49, 50, 51))
    world.deliver(stream, events(1, 50, 51))
    world.deliver(stream, events(1, 51, 52))
    assert world.revisions(watcher) == [50, 51, 52]


def test_filters_and_previous_values_are_asked_for():
    world = World()
    world.watch(filters=(1,), prev_kv=True)
    world.run()
    (create,) = world.creates()
    assert list(create.filters) == [1] and create.prev_kv


# Fragments.


def test_fragments_arrive_as_one_response():
    world = World()
    watcher = world.watch("b/", "b0", fragment=True)
    world.run()
    world.store.put(*(f"b/{number}" for number in range(10)))
    world.run()
    (response,) = world.take(watcher)
    assert len(response.events) == 10 and not response.fragment


def test_half_of_a_response_is_dropped_when_its_stream_breaks():
    world = World()
    watcher = world.watch("b/", "b0", fragment=True)
    world.run()
    world.store.put(*(f"b/{number}" for number in range(10)))
    stream = world.opened[0]
    server = world.servers[stream]
    server.flush()
    for _ in range(2):
        world.deliver(stream, server.out.popleft())
    assert not watcher.inbox and watcher.next_revision == 1
    world.end(stream, errors.Unavailable())
    world.run()
    (response,) = world.take(watcher)
    assert len(response.events) == 10


@pytest.mark.parametrize("event", [{"canceled": True}, {"canceled": True, "compact_revision": 9}])
def test_half_of_a_response_is_never_delivered_before_a_cancel(event):
    world = World()
    watcher, stream = established(world, fragment=True)
    other, _ = established(world)
    world.deliver(stream, events(1, 5, 6, fragment=True))
    world.deliver(stream, answer(1, **event))
    assert watcher.error is not None and not watcher.inbox
    assert not stream.partials and other.error is None


def test_fragments_without_end_are_bounded_by_the_buffer(monkeypatch):
    world = World(max_buffer_events=5)
    watcher, stream = established(world, fragment=True)
    world.deliver(stream, events(1, 2))
    for number in range(3, 20):
        world.deliver(stream, events(1, number, fragment=True))
    assert watcher.state is State.SUSPENDED and not stream.partials
    monkeypatch.setattr("purecd.core.watching.MAX_JOINED", 10 * EVENT_COST)
    watcher, stream = established(world, fragment=True)
    for number in range(2, 20):
        world.deliver(stream, events(watcher.watch_id, number, fragment=True))
    assert isinstance(watcher.error, errors.MessageTooLarge)


# Ends.


def test_a_compaction_ends_the_watch_with_the_smallest_revision_left():
    world = World()
    for _ in range(9):
        world.store.put("b/1")
    world.store.compact(6)
    watcher, other = world.watch(start_revision=3), world.watch()
    world.run()
    assert isinstance(watcher.error, errors.Compacted)
    assert watcher.error.compact_revision == 6
    assert other.error is None and other.created
    assert world.cancels() == [1]


def test_a_watch_resumes_into_a_compaction_after_delivering_what_it_had():
    world = World()
    watcher = world.watch()
    world.run()
    first = world.store.put("b/1")
    world.run()
    world.cut()
    for _ in range(5):
        world.store.put("b/1")
    world.store.compact(5)
    world.connect()
    world.run()
    assert isinstance(watcher.error, errors.Compacted)
    assert world.revisions(watcher) == [first]


def test_a_refused_range_ends_with_the_reason():
    world = World()
    watcher, other = world.watch("b", "a"), world.watch()
    world.run()
    assert watcher.error is not None and watcher.error.message == "mvcc: watcher range is empty"
    assert other.created


def test_a_proxy_refuses_a_range_without_a_word():
    world = World(PROXY)
    watcher, other = world.watch("b", "a"), world.watch()
    world.run()
    assert isinstance(watcher.error, errors.WatchCanceled)
    assert "refused" in watcher.error.message
    assert other.created


def test_a_refusal_may_lack_the_created_flag():
    world = World()
    refused = world.watch()
    other = world.watch()
    world.carry_out()
    world.servers[world.opened[0]].out.clear()
    world.deliver(world.opened[0], answer(-1, canceled=True, cancel_reason="mvcc: watcher range is empty"))
    world.run()
    assert refused.error is not None and other.created


def test_a_created_response_without_an_id_is_a_refusal():
    world = World()
    refused, other = world.watch(), world.watch()
    world.carry_out()
    world.servers[world.opened[0]].out.clear()
    world.deliver(world.opened[0], answer(-1, 5, created=True))
    world.run()
    assert isinstance(refused.error, errors.WatchCanceled) and other.created


def test_a_stream_ends_when_its_only_create_is_refused():
    world = World()
    world.watch("b", "a")
    world.run()
    assert world.closed == world.opened and world.mux.idle


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("", errors.WatchCanceled),
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", errors.PermissionDenied),
        ("etcdserver: mvcc: required revision has been compacted", errors.Compacted),
    ],
)
def test_a_watch_that_the_server_cancels_ends_with_the_reason(reason, kind):
    world = World()
    watcher, stream = established(world)
    other, _ = established(world)
    world.deliver(stream, answer(1, canceled=True, cancel_reason=reason))
    assert type(watcher.error) is kind
    assert str(watcher.error).endswith("[Watch]")
    assert other.error is None


def test_cancelling_one_of_two_watches_tells_the_server_and_the_last_resets_the_stream():
    world = World()
    one, two = world.watch(), world.watch()
    world.run()
    world.mux.cancel(one, world.now)
    world.run()
    assert one.closed and one.error is None
    assert world.cancels() == [1] and world.closed == []
    world.mux.cancel(two, world.now)
    world.run()
    assert world.cancels() == [1] and world.closed == world.opened
    assert world.mux.idle


def test_a_create_that_is_answered_after_its_watch_was_cancelled_is_cancelled_then():
    world = World()
    abandoned, other = world.watch(), world.watch()
    world.carry_out()
    world.mux.cancel(abandoned, world.now)
    world.run()
    assert world.cancels() == [1]
    assert other.created and other.watch_id == 2
    world.store.put("b/1")
    world.run()
    assert not abandoned.inbox


def test_a_cancelled_watch_delivers_nothing_and_its_late_events_are_ignored():
    world = World()
    watcher, stream = established(world)
    established(world)
    world.deliver(stream, events(1, 5))
    world.mux.cancel(watcher, world.now)
    world.carry_out()
    sent = len(world.sent)
    world.deliver(stream, events(1, 6))
    world.deliver(stream, answer(1, canceled=True))
    world.run()
    assert not watcher.inbox and len(world.sent) == sent


def test_an_unknown_id_is_cancelled_once():
    world = World()
    _, stream = established(world)
    for _ in range(3):
        world.deliver(stream, events(77, 5))
    world.deliver(stream, answer(78, created=True))
    world.run()
    assert world.cancels() == [77, 78]


def test_a_created_response_for_another_id_starts_the_stream_again():
    world = World()
    one = world.watch()
    world.run()
    two = world.watch()
    world.carry_out()
    world.servers[world.opened[0]].out.clear()
    world.deliver(world.opened[0], answer(9, 5, created=True))
    world.advance(1)
    assert world.closed == [world.opened[0]]
    assert one.state is two.state is State.ACTIVE


def test_closing_ends_every_watch_without_an_error():
    world = World(auth_mode="password", auth_on=True, max_buffer_events=2)
    watchers = [world.watch(), world.watch(require_leader=True)]
    world.run()
    for _ in range(4):
        world.store.put("b/1")
        world.run()
    world.member.tokens.clear()
    world.hold_refresh = True
    watchers += [world.watch(), world.watch()]
    world.run()
    assert {each.state for each in watchers} == {State.SUSPENDED, State.HELD, State.QUEUED}
    world.mux.close(world.now)
    world.run()
    assert all(each.closed and each.error is None for each in watchers)
    assert world.mux.idle and world.servers == {} and world.mux.next_timer() is None
    late = world.watch()
    assert isinstance(late.error, errors.ClientClosed)
    assert late in world.mux.take_ready()


# Progress.


def test_progress_of_its_own_moves_the_resume_point_and_is_delivered():
    world = World()
    watcher = world.watch(progress_notify=True)
    world.run()
    for _ in range(5):
        world.store.put("c")
    world.run()
    for server in world.servers.values():
        server.notify()
    world.run()
    (response,) = world.take(watcher)
    assert response.is_progress and response.header.revision == 6
    world.cut()
    world.connect()
    world.run()
    assert world.creates()[-1].start_revision == 7


def test_progress_nobody_asked_for_and_progress_from_before_the_start_are_ignored():
    world = World()
    watcher, stream = established(world)
    world.deliver(stream, answer(1, 50))
    assert not watcher.inbox and watcher.next_revision == 1
    future, stream = established(world, start_revision=100, progress_notify=True)
    world.deliver(stream, answer(2, 98))
    assert not future.inbox and future.next_revision == 100
    world.deliver(stream, answer(2, 99))
    assert len(future.inbox) == 1 and future.next_revision == 100


def test_requested_progress_reaches_all_and_moves_nothing():
    world = World()
    first, second = world.watch(), world.watch("b/2")
    other = world.watch("b/9", require_leader=True)
    world.run()
    world.store.put("b/1")
    world.run()
    world.take(first)
    world.mux.request_progress(False, world.now)
    world.run()
    for watcher, resume in ((first, 3), (second, 1)):
        (response,) = world.take(watcher)
        assert response.is_progress and response.header.revision == 2
        assert watcher.next_revision == resume
    assert not other.inbox


def test_progress_may_be_asked_for_right_after_the_watch_was_added():
    world = World()
    watcher = world.watch()
    world.mux.request_progress(False, world.now)
    world.run()
    kinds = [each.WhichOneof("request_union") for each in world.sent]
    assert kinds == ["create_request", "progress_request", "progress_request"], "one is the machine's own"
    assert [response.is_progress for response in world.take(watcher)] == [True, True]


def test_a_quiet_watch_from_now_does_not_get_what_came_before_it():
    world = World()
    before = world.store.put("b/1")
    watcher = world.watch()
    world.run()
    assert (watcher.created_revision, watcher.next_revision) == (before, before)
    world.cut()
    world.connect()
    after = world.store.put("b/1")
    world.run()
    assert world.revisions(watcher) == [after]


def test_what_cannot_be_settled_is_sent_again():
    """The stream breaks before the server said how far it had got: better once too often than never."""
    world = World()
    world.store.put("b/1")  # at the created revision
    watcher = world.watch()
    world.carry_out()
    (server,) = world.servers.values()
    world.deliver(world.opened[0], server.out.popleft())
    assert watcher.created
    world.cut()
    world.connect()
    world.run()
    assert world.revisions(watcher) == [watcher.created_revision]


def test_one_question_settles_many_watches():
    world = World()
    watchers = [world.watch(key=f"b/{number}") for number in range(50)]
    world.run()
    kinds = [each.WhichOneof("request_union") for each in world.sent]
    assert kinds.count("progress_request") <= 3
    assert all(each.bookmark >= each.created_revision for each in watchers)


def test_progress_is_asked_for_only_where_somebody_watches():
    world = World()
    world.mux.request_progress(False, world.now)
    world.run()
    assert world.opened == [] and world.sent == []


def test_requested_progress_does_not_speak_for_a_younger_watch_with_history():
    # Recorded on 3.5.16 and 3.5.30: created with revision 111, progress 111, then events 2 to 111.
    world = World()
    first = world.watch()
    world.run()
    world.mux.request_progress(False, world.now)
    younger, stream = established(world, start_revision=2)
    fresh, _ = established(world)
    world.take(first)
    revision = world.store.revision
    world.deliver(stream, answer(-1, revision))
    assert len(first.inbox) == 1 and len(fresh.inbox) == 1
    assert not younger.inbox
    world.deliver(stream, events(younger.watch_id, 2, 3))
    assert world.revisions(younger) == [2, 3]
    world.deliver(stream, answer(-1, revision + 5))
    assert len(younger.inbox) == 1


def test_progress_never_goes_back():
    world = World()
    watcher, stream = established(world)
    world.mux.request_progress(False, world.now)
    for revision in (50, 40, 50):
        world.deliver(stream, answer(-1, revision))
    assert [each.header.revision for each in world.take(watcher)] == [50, 50]
    world.deliver(stream, events(1, 60))
    world.deliver(stream, answer(-1, 58))
    assert [len(each.events) for each in world.take(watcher)] == [1]


def test_progress_that_nobody_requested_on_this_stream_is_ignored():
    world = World()
    watcher, stream = established(world)
    world.deliver(stream, answer(-1, 50))
    assert not watcher.inbox


# The first created response.


def test_the_created_response_is_delivered_once_where_wanted():
    world = World()
    wants, does_not = world.watch(created_notify=True), world.watch()
    world.run()
    for _ in range(3):
        world.cut()
        world.connect()
        world.run()
    (response,) = world.take(wants)
    assert response.created and response.header.revision == 1
    assert not does_not.inbox


def test_a_created_response_without_a_header_never_leads_to_a_resumption_from_now():
    world = World()
    world.store.put("c")
    world.watch()
    world.run()
    watcher = world.watch()
    world.carry_out()
    server = world.servers[world.opened[0]]
    server.out[0] = server.out[0]._replace(header=Header())
    world.run()
    world.cut()
    world.connect()
    world.run()
    assert watcher.created and watcher.next_revision == 2
    assert all(each.start_revision for each in world.creates()[2:])


# Overflow.


def test_a_watch_that_is_not_read_is_taken_off_the_server_and_comes_back():
    world = World(max_buffer_events=10)
    slow, quick = world.watch(), world.watch()
    world.run()
    got = []
    for _ in range(100):
        world.store.put("b/1")
        world.run()
        assert slow.buffered_events <= 10
        got += world.revisions(quick)
    assert got == list(range(2, 102))
    assert slow.state is State.SUSPENDED and world.cancels() == [1]
    seen: list[int] = []
    while len(seen) < 100:
        response = slow.take()
        assert response is not None
        seen += [event.kv.mod_revision for event in response.events]
        world.mux.taken(slow, world.now)
        if slow.state is not State.SUSPENDED:
            world.run()
    assert seen == list(range(2, 102))


def test_a_buffer_is_limited_in_bytes_too_but_a_single_response_always_fits():
    world = World(max_buffer_bytes=10_000)
    watcher = world.watch()
    world.run()
    world.store.put("b/1", value=b"x" * 50_000)
    world.run()
    assert len(watcher.inbox) == 1 and watcher.state is State.ACTIVE
    world.store.put("b/1", value=b"x")
    world.run()
    assert watcher.stream is None and watcher.next_revision == 3
    assert world.closed == world.opened  # it was the last
    assert world.revisions(watcher) == [2]
    world.run()
    assert world.revisions(watcher) == [3]


def test_a_compaction_while_a_watch_is_suspended_shows():
    world = World(max_buffer_events=2)
    watcher = world.watch()
    world.run()
    for _ in range(9):
        world.store.put("b/1")
        world.run()
    world.store.compact(8)
    assert world.revisions(watcher) == [2, 3]
    world.run()
    assert isinstance(watcher.error, errors.Compacted)


# Other clusters, and stores that go back.


def test_another_cluster_ends_the_watches_that_reach_it():
    world = World(max_watchers_per_stream=1)
    one, two = world.watch(), world.watch()
    world.run()
    stream = one.stream
    assert stream is not None
    world.deliver(stream, answer(1, 5, cluster=0))
    assert one.error is None
    world.deliver(stream, events(1, 5)._replace(header=Header(0xBAD, 1, 5)))
    world.run()
    assert isinstance(one.error, errors.ClusterMismatch) and not one.inbox
    assert two.error is None and stream in world.closed


def test_a_store_that_went_back_ends_the_watches_that_have_seen_more():
    world = World()
    watcher, fresh = world.watch(), world.watch(start_revision=500)
    world.run()
    for _ in range(9):
        world.store.put("b/1")
    world.run()
    world.cut()
    world.store.revision = 4  # restored from a snapshot
    world.connect()
    world.run()
    assert isinstance(watcher.error, errors.ClusterMismatch)
    assert "revision went backwards" in watcher.error.message
    assert world.revisions(watcher) == list(range(2, 11))
    assert fresh.error is None  # asked for the future, received nothing
    assert world.revision_reads == 1


def test_a_member_that_lags_is_no_store_that_went_back():
    world = World()
    watchers = [world.watch() for _ in range(5)]
    world.run()
    for _ in range(9):
        world.store.put("b/1")
    world.run()
    world.cut()
    world.connect()
    world.carry_out()
    for server in world.servers.values():
        server.out[0] = server.out[0]._replace(header=Header(CLUSTER, 1, 4))
    world.run()
    assert world.revision_reads == 1
    assert all(each.error is None for each in watchers)


def test_a_revision_that_a_proxy_made_up_is_no_store_that_went_back():
    world = World()
    watcher, stream = established(world)
    world.deliver(stream, events(1, 50))
    world.end(stream, errors.Unavailable())
    world.mux.take_actions()
    assert watcher.stream is not None
    world.deliver(watcher.stream, answer(0, 4, cluster=0, created=True))
    assert watcher.state is State.ACTIVE and world.mux.take_actions() == []


def test_a_suspicion_ends_with_the_link_it_arose_on():
    world = World()
    watcher, stream = established(world)
    world.deliver(stream, events(1, 50))
    world.end(stream, errors.Unavailable())
    world.mux.take_actions()
    assert watcher.stream is not None
    world.deliver(watcher.stream, answer(1, 4, created=True))
    assert len(world.mux.take_actions()) == 1
    world.mux.revision_answer(world.link, None, world.now)
    world.store.revision = 60
    world.connect()
    world.advance(5)
    assert watcher.state is State.ACTIVE and world.revision_reads == 0


def test_a_revision_that_cannot_be_read_is_asked_for_again():
    world = World()
    watcher, _ = established(world)
    watcher.next_revision = 50
    stream = watcher.stream
    world.end(stream, errors.Unavailable())
    world.mux.take_actions()
    (stream,) = (each for each in [watcher.stream] if each is not None)
    world.deliver(stream, answer(1, 4, created=True))
    link = world.link
    assert [type(each).__name__ for each in world.mux.take_actions()] == ["CheckRevision"]
    world.mux.revision_answer(link, None, world.now)
    assert world.mux.take_actions() == []
    assert world.mux.next_timer() == world.now + 1
    world.mux.handle_timer(world.now + 1)
    assert [type(each).__name__ for each in world.mux.take_actions()] == ["CheckRevision"]
    world.mux.revision_answer(object(), 4, world.now)
    assert watcher.error is None
    world.mux.revision_answer(link, 4, world.now)
    assert isinstance(watcher.error, errors.ClusterMismatch)


# Many.


def lines_run(work):
    """How many lines of Python `work` executes: a measure of effort that no busy machine disturbs."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_ten_thousand_watches_cost_no_more_than_one_where_one_is_concerned():
    def effort(watchers):
        world = World()
        first = world.watch()
        for number in range(watchers - 1):
            world.mux.add(Watcher(WatchRequest(b"c%d" % number)), world.now)
        world.run()
        stream = world.opened[0]
        assert len(world.opened) == (watchers + 999) // 1000

        def one_event(revision=6):
            world.deliver(stream, events(1, revision))
            assert world.mux.take_ready() and world.mux.take_actions() == []
            assert world.mux.next_timer() is None
            world.mux.handle_timer(world.now + 1)
            world.take(first)

        world.mux.take_ready()
        one_event(5)  # abandoned timers of the creates are cleared away
        return lines_run(one_event)

    # Per stream a look at whether something is to be sent, and nothing else.
    assert effort(10_000) - effort(1) < 10 * 10


# Promises, under random faults.


class Journal:
    """What one watch delivered, and what etcd promises about it."""

    def __init__(self, watcher):
        self.watcher = watcher
        self.events = []
        self.bookmark = 0

    def take(self, world, most):
        for _ in range(most):
            response = self.watcher.take()
            if response is None:
                return
            world.mux.taken(self.watcher, world.now)
            self._check(response)

    def _check(self, response):
        last = self.events[-1][0] if self.events else 0
        if response.is_progress:
            assert response.header.revision >= last, "progress below the last event"
            assert response.header.revision >= self.bookmark, "progress goes back"
            self.bookmark = response.header.revision
            return
        revisions = [event.kv.mod_revision for event in response.events]
        assert revisions == sorted(revisions), "not ordered"
        assert revisions[0] > last, "two responses share a revision"
        assert revisions[0] > self.bookmark, "an event at or below progress"
        assert revisions[0] >= self.watcher.request.start_revision, "an event before the start"
        self.events += [(event.kv.mod_revision, event.kv.key) for event in response.events]
        assert len(set(self.events)) == len(self.events), "not unique"

    def compare(self, history, revision):
        """Complete from the first wanted revision to `revision`."""
        request = self.watcher.request
        first = request.start_revision or self.watcher.created_revision + 1
        expected = [
            (at, event.kv.key)
            for at in range(first, revision + 1)
            for event in history.get(at, ())
            if matches(request, event.kv.key) and event.type not in request.filters
        ]
        # A watch from "now" that resumes before its first event may see the created revision itself.
        got = [each for each in self.events if each[0] >= first]
        assert got == expected, "not reliable"
        assert all(at >= self.watcher.created_revision for at, _ in self.events) or request.start_revision


ENDS = (
    errors.Unavailable("connection lost"),
    errors.from_status(StatusCode.INTERNAL, "no trailers"),
    errors.from_status(StatusCode.OK, "ended"),
    errors.from_status(StatusCode.CANCELLED, "the client connection is closing"),
)


def live_through(seed):
    rng = random.Random(seed)
    release = rng.choice((V3_5_1, V3_5_30, V3_5_30, PROXY))
    auth_mode = rng.choice(("none", "password"))
    world = World(
        release,
        auth_mode=auth_mode,
        auth_on=auth_mode == "password",
        seed=seed,
        max_buffer_events=rng.choice((6, 10_000)),
        max_watchers_per_stream=rng.choice((2, 1000)),
    )
    history: dict[int, list[Event]] = {}
    journals: list[Journal] = []
    compacted = 0

    def put(*keys):
        revision = world.store.put(*keys)
        history[revision] = world.store.history[revision]

    for _ in range(90):
        chance = rng.random()
        if chance < 0.35:
            put(*rng.sample(["b/1", "b/2", "b/3", "b/4", "c"], rng.randint(1, 5)))
        elif chance < 0.45 and len(journals) < 8:
            key, end = rng.choice((("b/1", ""), ("b/", "b0"), ("b/2", "b/4")))
            start = rng.choice((0, rng.randint(1, world.store.revision + 3)))
            options = {name: rng.random() < 0.5 for name in ("fragment", "progress_notify", "require_leader")}
            journals.append(Journal(world.watch(key, end, start_revision=start, **options)))
        elif chance < 0.50:
            world.cut()
            world.connect()
        elif chance < 0.55 and world.servers:
            world.end(rng.choice(list(world.servers)), rng.choice(ENDS))
        elif chance < 0.58:
            world.mux.link_draining(world.link, world.now)
        elif chance < 0.61:
            world.connect()
        elif chance < 0.63 and journals:
            world.mux.cancel(rng.choice(journals).watcher, world.now)
        elif chance < 0.66:
            compacted = rng.randint(1, world.store.revision)
            world.store.compact(compacted)
        elif chance < 0.72 and auth_mode == "password":
            if rng.random() < 0.5:
                world.auth.turn_off(world.member)
            else:
                world.auth.on = True
                world.member.tokens.clear()
        elif chance < 0.76:
            world.mux.request_progress(rng.random() < 0.5, world.now)
        elif chance < 0.79:
            for server in world.servers.values():
                server.notify()
        else:
            world.now += rng.choice((0.0, 0.01, 2.0))
            world.mux.handle_timer(world.now)
        world.carry_out()
        for stream, server in list(world.servers.items()):
            if rng.random() < 0.7:
                server.flush(rng.randint(1, 4))
            for _ in range(rng.randint(0, 5)):
                if server.out and not stream.closed:
                    world.deliver(stream, server.out.popleft())
        for journal in journals:
            journal.take(world, rng.choice((0, 0, 1, 20)))
    world.connect()
    for _ in range(40):
        world.advance(1.0)
        for journal in journals:
            journal.take(world, 1000)
    for journal in journals:
        watcher = journal.watcher
        if watcher.closed:
            continue
        if watcher.error is not None:
            assert isinstance(watcher.error, errors.Compacted), repr(watcher.error)
            assert watcher.next_revision < compacted or watcher.next_revision < watcher.error.compact_revision
            journal.compare(history, watcher.next_revision - 1)
        else:
            assert watcher.state is State.ACTIVE
            journal.compare(history, world.store.revision)
    for journal in journals:
        world.mux.cancel(journal.watcher, world.now)
    world.run()
    assert world.mux.idle and world.servers == {} and world.mux.next_timer() is None
    return len(journals)


@pytest.mark.parametrize("block", range(4))
def test_watches_keep_their_promises_under_random_faults(block):
    for seed in range(block * 75, block * 75 + 75):
        try:
            live_through(seed)
        except BaseException:
            print(f"seed {seed}")
            raise
