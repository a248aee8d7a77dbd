# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.watchstream."""

from __future__ import annotations

from purecd.core.watcher import State, Watcher, WatchRequest
from purecd.core.watchstream import MAX_STRANGERS, MuxStream, Peer
from purecd.pb import messages
from purecd.types import Event, Header, KeyValue, WatchResponse


def stream():
    return MuxStream("link", 1, False, False, 0.0)


def queued(where, count, **request):
    watchers = [Watcher(WatchRequest(b"k%d" % number, **request)) for number in range(count)]
    for each in watchers:
        where.add(each)
    return watchers


def created(watch_id, revision=10):
    return WatchResponse(Header(1, 1, revision), watch_id, created=True)


def accept(where, watch_id):
    create = where.answered(0.0)
    assert create is not None and where.identify(create, watch_id)
    if create.watcher is not None:
        where.establish(create.watcher, create, created(watch_id))
    return create


def events(watch_id, *revisions, fragment=False):
    some = [Event(kv=KeyValue(b"k", each, each)) for each in revisions]
    return WatchResponse(Header(1, 1, 99), watch_id, fragment=fragment, events=some)


def decode(data):
    return messages.WatchRequest.FromString(data)


def test_the_create_request_carries_everything_that_was_asked_for():
    where = stream()
    where.add(
        Watcher(
            WatchRequest(
                b"a", b"b", start_revision=7, prev_kv=True, progress_notify=True, filters=(1,), fragment=True
            )
        )
    )
    data = where.next_create(0.0)
    assert data is not None
    request = decode(data).create_request
    assert (request.key, request.range_end, request.start_revision) == (b"a", b"b", 7)
    assert (request.prev_kv, request.progress_notify, list(request.filters)) == (True, True, [1])
    assert (request.fragment, request.watch_id) == (True, 1)


def test_the_first_create_goes_alone_and_the_others_follow_to_a_member():
    where = stream()
    queued(where, 4)
    assert where.next_create(0.0) is not None
    assert where.next_create(0.0) is None
    accept(where, 1)
    assert where.peer is Peer.MEMBER
    ids = []
    while (data := where.next_create(0.0)) is not None:
        ids.append(decode(data).create_request.watch_id)
    assert ids == [2, 3, 4]


def test_a_proxy_numbers_watchers_itself_and_gets_one_create_at_a_time():
    where = stream()
    first, second, third = queued(where, 3)
    where.next_create(0.0)
    accept(where, 0)
    assert where.peer is Peer.PROXY
    assert where.next_create(0.0) is not None
    assert where.next_create(0.0) is None
    accept(where, 1)
    assert where.active == {0: first, 1: second}
    assert third.state is State.QUEUED


def test_a_refusal_does_not_tell_who_the_peer_is():
    where = stream()
    refused, accepted = queued(where, 2)
    where.next_create(0.0)
    create = where.answered(0.0)
    assert create is not None and create.watcher is refused
    where.left(refused)
    assert where.peer.name == "UNKNOWN"
    data = where.next_create(0.0)
    assert data is not None and decode(data).create_request.watch_id == 2
    accept(where, 2)
    assert where.peer is Peer.MEMBER
    assert where.active == {2: accepted}


def test_an_answer_that_makes_no_sense_is_noticed():
    where = stream()
    queued(where, 3)
    where.next_create(0.0)
    accept(where, 1)
    where.next_create(0.0)
    create = where.answered(0.0)
    assert create is not None
    assert not where.identify(create, 5)  # a member echoes the id
    assert not where.identify(create, 1)  # which is in use


def test_ids_are_never_used_again():
    where = stream()
    for expected in range(1, 6):
        (watcher,) = queued(where, 1)
        data = where.next_create(0.0)
        assert data is not None and decode(data).create_request.watch_id == expected
        accept(where, expected)
        where.remove(watcher)


def test_a_watcher_leaves_from_wherever_it_is():
    where = stream()
    active, sent, waiting = queued(where, 3)
    where.next_create(0.0)
    accept(where, 1)
    where.next_create(0.0)
    assert where.remove(waiting) is None
    assert where.remove(sent) is None
    cancel = where.remove(active)
    assert cancel is not None and decode(cancel).cancel_request.watch_id == 1
    assert where.live == 0
    assert not where.active and not where.queue
    create = where.answered(0.0)  # the server answers all the same
    assert create is not None and create.watcher is None


def test_an_id_that_nobody_ever_had_is_cancelled_once():
    where = stream()
    (watcher,) = queued(where, 1)
    where.next_create(0.0)
    accept(where, 1)
    where.remove(watcher)
    assert where.stranger(1) is None  # cancelled when it left
    cancel = where.stranger(77)
    assert cancel is not None and decode(cancel).cancel_request.watch_id == 77
    assert where.stranger(77) is None
    sent = sum(where.stranger(each) is not None for each in range(1000, 1000 + 2 * MAX_STRANGERS))
    assert sent == MAX_STRANGERS - 1


def test_fragments_are_joined_for_each_watcher_apart():
    where = stream()
    assert where.join(events(1, 5, 6, fragment=True)) is None
    other = events(2, 6)
    assert where.join(other) is other
    assert where.join(events(1, 6, fragment=True)) is None
    assert where.pending(1)[0] == 3
    whole = where.join(events(1, 6, 7))
    assert whole is not None
    assert [each.kv.mod_revision for each in whole.events] == [5, 6, 6, 6, 7]
    assert where.pending(1) == (0, 0)


def test_what_is_incomplete_is_dropped_with_the_watcher_and_with_the_stream():
    where = stream()
    watcher, _ = queued(where, 2)
    where.next_create(0.0)
    accept(where, 1)
    where.join(events(1, 5, fragment=True))
    where.remove(watcher)
    assert not where.partials
    where.join(events(2, 5, fragment=True))
    where.clear()
    assert not where.partials


def test_the_end_of_a_stream_gives_back_its_watchers_established_ones_first():
    where = stream()
    watchers = queued(where, 4)
    where.next_create(0.0)
    accept(where, 1)
    where.next_create(0.0)
    where.next_create(0.0)
    where.remove(watchers[1])
    assert where.clear() == [watchers[0], watchers[2], watchers[3]]
    assert where.closed and where.live == 0
    assert all(each.stream is None for each in watchers)


def test_progress_that_was_requested_before_a_create_cannot_speak_for_its_history():
    def floor(start_revision, requested):
        where = stream()
        where.progress_requested = requested
        (watcher,) = queued(where, 1, start_revision=start_revision)
        where.next_create(0.0)
        accept(where, 1)
        return watcher.progress_floor

    assert floor(0, False) == floor(0, True) == floor(5, False) == 10
    assert floor(5, True) == 11
