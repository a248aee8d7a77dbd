# SPDX-License-Identifier: Apache-2.0
"""What opening and reading a watch asks of the driver, and where a new watch must start."""

from __future__ import annotations

from typing import Any

import pytest

from purecd import errors
from purecd.core import watch
from purecd.core.op import Attach, Detach, Next, Now
from purecd.core.watcher import Watcher, WatchRequest
from purecd.types import Event, EventType, Header, KeyValue, WatchResponse


def put(revision):
    return Event(EventType.PUT, KeyValue(b"k", revision, revision, 1, b"v"))


def response(*revisions):
    return WatchResponse(Header(revision=max(revisions, default=9)), events=[put(each) for each in revisions])


def test_opening_waits_for_the_created_response():
    op = watch.open_watch(WatchRequest(b"k"))
    attach = next(op)
    assert type(attach) is Attach
    wait = op.send(attach.source)
    assert (type(wait), wait.source) == (Next, attach.source)
    with pytest.raises(StopIteration) as end:
        op.send(WatchResponse(created=True))
    assert end.value.value is attach.source


def test_a_watch_that_cannot_be_opened_is_taken_back():
    op = watch.open_watch(WatchRequest(b"k"))
    source = next(op).source
    op.send(source)
    undo = op.throw(errors.DeadlineExceeded("too late"))
    assert (type(undo), undo.source) == (Detach, source)
    with pytest.raises(errors.DeadlineExceeded):
        op.send(None)


def test_a_watch_is_not_open_when_its_client_was_closed_first():
    op = watch.open_watch(WatchRequest(b"k"))
    op.send(next(op).source)
    undo = op.send(None)  # it ended before any answer
    assert type(undo) is Detach
    with pytest.raises(errors.ClientClosed):
        op.send(None)


@pytest.mark.parametrize(
    ("inbox", "unread", "resume"),
    [
        ([], [], 20),
        ([response(12, 12), response(19)], [], 12),
        ([response(12)], [put(11), put(11)], 11),
        ([response()], [], 20),
        ([response(), response(13)], [], 13),
    ],
)
def test_a_new_watch_starts_at_what_was_not_read(inbox, unread, resume):
    watcher = Watcher(WatchRequest(b"k", start_revision=10))
    watcher.next_revision = 20
    for each in inbox:
        watcher.put(each, 0)
    assert watch.resume_revision(watcher, unread) == resume


def test_what_is_wrong_with_a_request():
    wrongs: list[dict[str, Any]] = [
        {"key": ""},
        {"key": "b", "range_end": "a"},
        {"key": "b", "range_end": "b"},
        {"key": "a", "exclude": "put"},
        {"key": "a", "exclude": ["get"]},
        {"key": "a", "start_revision": -1},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="."):
            watch.watch_request(**wrong)
    for flag in ("prev_kv", "progress_notify", "fragment", "require_leader"):
        for value in (None, "yes", 2):
            options: dict[str, Any] = {flag: value}
            with pytest.raises(TypeError, match=flag):
                watch.watch_request("a", **options)
    request = watch.watch_request("a", from_key=True, exclude=["delete", "put"])
    assert (request.range_end, request.filters, request.fragment) == (b"\0", (0, 1), True)


@pytest.mark.parametrize("wait", [None, 5.0])
def test_reports_of_progress_do_not_prolong_the_wait_for_changes(wait):
    op = watch.next_changes(Watcher(WatchRequest(b"k")), wait)
    asked, clock = [], iter([100.0, 102.0, 104.5])
    effect = next(op)
    for answer in (response(), response(), response(12)):
        while type(effect) is Now:
            effect = op.send(next(clock))
        asked.append(effect.timeout)
        try:
            effect = op.send(answer)
        except StopIteration as end:
            assert end.value is answer
    assert asked == ([None] * 3 if wait is None else [5.0, 3.0, 0.5])
