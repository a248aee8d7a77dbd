# SPDX-License-Identifier: Apache-2.0
"""A watch whose reader is interrupted by a signal."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Callable

import pytest

from purecd.core.watcher import Watcher, WatchRequest, weigh
from purecd.errors import Compacted
from purecd.sync.handles import Watch
from purecd.types import Event, EventType, KeyValue, WatchResponse


def change(revision):
    event = Event(EventType.PUT, KeyValue(b"k", revision, revision, 1, b"v"))
    return WatchResponse(events=[event])


class Owner:
    """Hands out what is in the inbox of a watch; `interrupted`: a signal comes right after the taking."""

    def __init__(self):
        self.interrupted = False

    def _run(self, op, timeout):
        try:
            effect = next(op)
            while True:
                if not hasattr(effect, "source"):
                    effect = op.send(0.0)  # Now
                    continue
                watcher = effect.source
                if not watcher.created:  # Attach, and the first answer
                    watcher.created = True
                    op.send(watcher)
                    effect = op.send(WatchResponse(created=True))
                    continue
                item = watcher.take()
                if self.interrupted:
                    raise KeyboardInterrupt
                effect = op.send(item)
        except StopIteration as end:
            return end.value

    def _tell_watch(self, event, detail):
        pass

    def _streams(self):
        return self

    def put_back(self, watcher):
        watcher.put_back()


def watch_of(owner, *revisions):
    """A watch that has got a response for each of some revisions."""
    watch = Watch(owner, WatchRequest(b"k", start_revision=5), None)
    for revision in revisions:
        watch._watcher.put(change(revision), weigh(change(revision).events))
    return watch


READERS: dict[str, Callable[[Watch], Callable[[], Any]]] = {
    "next": lambda watch: lambda: watch.next(1),
    "iterator": lambda watch: partial(next, iter(watch)),
    "watch as iterator": lambda watch: partial(next, watch),
    "responses": lambda watch: lambda: next(watch.responses()).events[0],
}


@pytest.mark.parametrize("reader", READERS)
def test_what_an_interrupted_reader_took_is_not_lost(reader):
    owner = Owner()
    watch = watch_of(owner, 5, 6)
    read = READERS[reader](watch)
    owner.interrupted = True
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            read()
    assert watch.resume_revision == 5
    owner.interrupted = False
    assert [read().kv.mod_revision for _ in range(2)] == [5, 6]
    assert (watch._watcher.buffered_events, watch._watcher.buffered_bytes) == (0, 0)


def interrupted_at(step, read):
    """`read()`, with a signal before the `step`-th line or call of it; whether there were that many."""
    left = step

    def trace(frame, event, argument):
        nonlocal left
        if event in ("call", "line"):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="a signal may come between any two steps there"
)
def test_an_iteration_goes_on_wherever_a_signal_came():
    step = 0
    interrupted = True
    while interrupted:
        iterator = iter(watch_of(Owner(), 5, 6, 7))
        assert next(iterator).kv.mod_revision == 5
        interrupted = interrupted_at(step, partial(next, iterator))
        assert next(iterator).kv.mod_revision == (6 if interrupted else 7), f"after a signal at step {step}"
        step += 1
    assert step > 10


def test_several_ways_of_reading_share_what_is_left():
    watch = watch_of(Owner())
    for revisions in ((5, 6, 7), (8, 9)):
        events = [change(revision).events[0] for revision in revisions]
        watch._watcher.put(WatchResponse(events=events), weigh(events))
    first, second = iter(watch), iter(watch)
    seen = [next(first), next(second), watch.next(1), next(second)]
    assert watch.resume_revision == 9
    seen.append(next(first))
    assert [event.kv.mod_revision for event in seen] == [5, 6, 7, 8, 9]


def test_the_iteration_ends_when_the_watch_is_closed_and_stays_so():
    watch = watch_of(Owner(), 5, 6)
    revisions = []
    for event in watch:
        revisions.append(event.kv.mod_revision)
        break
    iterator = iter(watch)
    revisions.extend(event.kv.mod_revision for event in iterator)
    assert revisions == [5, 6]
    assert [*iterator, *watch] == []
    with pytest.raises(StopIteration):
        next(watch)
    assert watch.next() is None


def test_an_error_is_raised_whenever_the_iteration_goes_on(monkeypatch):
    owner = Owner()
    watch = watch_of(owner, 5)
    iterator = iter(watch)
    assert next(iterator).kv.mod_revision == 5

    def fail(op, timeout):
        raise Compacted(compact_revision=9)

    monkeypatch.setattr(owner, "_run", fail)
    for reading in (iterator, iterator, watch, iter(watch)):
        with pytest.raises(Compacted):
            next(reading)


def test_a_taking_that_was_cut_short_is_undone_once():
    watcher = Watcher(WatchRequest(b"k"))
    watcher.put(change(5), weigh(change(5).events))
    watcher.taken, watcher.takes = watcher.inbox[0], 1  # the signal came before it left the inbox
    watcher.put_back()
    assert [len(each.events) for each in watcher.inbox] == [1]
    assert (watcher.buffered_events, watcher.buffered_bytes) == (1, weigh(change(5).events))


def test_what_was_read_of_a_response_is_not_asked_for_again():
    owner = Owner()
    watch = Watch(owner, WatchRequest(b"k", start_revision=5), None)
    events = [change(revision).events[0] for revision in (5, 6, 7, 8)]
    watch._watcher.put(WatchResponse(events=events), weigh(events))
    watch._watcher.put(change(9), weigh(change(9).events))
    revisions = [watch.resume_revision]
    for read in (lambda: next(watch), lambda: watch.next(1), lambda: next(iter(watch)), lambda: next(watch)):
        revisions.append(read().kv.mod_revision)
        revisions.append(watch.resume_revision)
    assert revisions == [5, 5, 6, 6, 7, 7, 8, 8, 9]
    assert next(watch).kv.mod_revision == 9
