# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.watching."""

from __future__ import annotations

from purecd import errors
from tests.support.fakewatch import World


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
