# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.watcher."""

from __future__ import annotations

import pytest

from purecd.core.watcher import EVENT_COST, Watcher, WatchRequest, weigh
from purecd.types import Event, Header, KeyValue, WatchResponse


def put(revision, value=b"v", prev_kv=None):
    return Event(kv=KeyValue(b"k", revision, revision, 1, value), prev_kv=prev_kv)


def response(*events):
    return WatchResponse(Header(1, 1, 99), 1, events=list(events))


@pytest.mark.parametrize(
    "wrong", [{"start_revision": -1}, {"start_revision": 2**63}, {"filters": (2,)}, {"filters": (0, -1)}]
)
def test_a_request_that_servers_disagree_about_is_refused(wrong):
    with pytest.raises(ValueError, match="start_revision|filters"):
        WatchRequest(b"k", **wrong)


def test_a_request_cannot_be_changed():
    request = WatchRequest(b"k", filters=(0, 1), start_revision=2**63 - 1)
    with pytest.raises(AttributeError):
        request.key = b"other"  # type: ignore[misc]
    assert not hasattr(request, "__dict__")


@pytest.mark.parametrize("weighed", [(), (0,), (1,), (0, 1)])
def test_the_inbox_counts_events_and_bytes_and_empty_responses_as_one(weighed):
    watcher = Watcher(WatchRequest(b"k"))
    assert watcher.take() is None
    first, second = response(put(2), put(3, b"x" * 1000)), response()
    for number, each in enumerate((first, second)):
        watcher.put(each, weigh(each.events) if number in weighed else None)
    assert watcher.buffered_events == 3
    assert watcher.buffered_bytes == 2 * EVENT_COST + 2 + 1 + 1000
    assert watcher.take() is first
    assert (watcher.buffered_events, watcher.buffered_bytes) == (1, 0)
    assert watcher.take() is second
    assert (watcher.buffered_events, watcher.buffered_bytes) == (0, 0)


def test_an_event_weighs_its_previous_state_too():
    previous = KeyValue(b"k", 1, 1, 1, b"x" * 500)
    assert weigh([put(2, prev_kv=previous)]) - weigh([put(2)]) > 501


def test_what_was_delivered_before_is_left_out():
    watcher = Watcher(WatchRequest(b"k", start_revision=5))
    assert watcher.unseen(response(put(3), put(4))) is None
    fresh = watcher.unseen(response(put(4), put(5), put(5), put(6)))
    assert fresh is not None
    assert [each.kv.mod_revision for each in fresh.events] == [5, 5, 6]
    watcher.passed(6)
    assert watcher.next_revision == 7
    assert watcher.unseen(response(put(6))) is None
    whole = response(put(7))
    assert watcher.unseen(whole) is whole


def test_a_revision_counts_as_seen_only_when_it_was_received():
    watcher = Watcher(WatchRequest(b"k", start_revision=50))
    assert watcher.seen_revision == 0
    watcher.passed(60)
    assert watcher.seen_revision == 60


def test_after_a_signal_the_counts_and_the_resume_point_follow_from_the_inbox():
    watcher = Watcher(WatchRequest(b"k", start_revision=5))
    for revision in (5, 6):
        each = response(put(revision))
        watcher.put(each, weigh(each.events))
    watcher.buffered_events, watcher.next_revision = 9, 6  # the signal came before `passed(6)`
    watcher.mend()
    assert (watcher.next_revision, watcher.floor, watcher.buffered_events) == (7, 7, 2)
    watcher.passed(9)  # by progress
    watcher.mend()
    assert watcher.next_revision == 10


def test_what_a_reader_took_counts_as_delivered():
    watcher = Watcher(WatchRequest(b"k", start_revision=5))
    each = response(put(5))
    watcher.put(each, weigh(each.events))
    watcher.take()
    watcher.mend()
    assert watcher.next_revision == 6
    watcher.put_back()
    watcher.closed = True
    watcher.forget_inbox()
    watcher.put_back()
    assert not watcher.inbox, "nothing of it is delivered once it is closed"
