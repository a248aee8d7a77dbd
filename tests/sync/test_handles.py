# SPDX-License-Identifier: Apache-2.0
"""A watch whose reader is interrupted by a signal."""

from __future__ import annotations

import pytest

from purecd.core.watcher import Watcher, WatchRequest, weigh
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


@pytest.mark.parametrize(
    "read", [lambda watch: watch.next(1), lambda watch: next(watch.responses()).events[0]]
)
def test_what_an_interrupted_reader_took_is_not_lost(read):
    owner = Owner()
    watch = Watch(owner, WatchRequest(b"k", start_revision=5), None)
    for revision in (5, 6):
        watch._watcher.put(change(revision), weigh(change(revision).events))
    owner.interrupted = True
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            read(watch)
    assert watch.resume_revision == 5
    owner.interrupted = False
    assert [read(watch).kv.mod_revision for _ in range(2)] == [5, 6]
    assert (watch._watcher.buffered_events, watch._watcher.buffered_bytes) == (0, 0)


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
