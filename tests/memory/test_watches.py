# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory.leases import Leases
from purecd.memory.store import NO_END, Store
from purecd.memory.watches import NO_DELETE, NO_PUT, Watcher, Watchers, event


class Listener:
    """A stream that notes what it is told."""

    def __init__(self):
        self.congested = False
        self.told = []

    def tell(self, watcher, revision, changes):
        self.told.append((watcher.watch_id, revision, [(each.kv.key, each.main) for each in changes]))

    def tell_compacted(self, watcher, revision):
        self.told.append((watcher.watch_id, "compacted", revision))

    def take(self):
        taken, self.told = self.told, []
        return taken


class World:
    def __init__(self):
        self.store = Store(Leases(), self.committed)
        self.watchers = Watchers(self.store, interval=0.1)
        self.stream = Listener()

    def committed(self, revision, changes):
        self.watchers.committed(revision, changes, 10.0)

    def watch(self, watch_id, key, end=None, start=0, filters=()):
        watcher = Watcher(self.stream, watch_id, key, end, start, set(filters))
        self.watchers.add(watcher, 10.0)
        return watcher

    def put(self, *keys):
        write = self.store.write()
        for key in keys:
            write.put(key, b"", 0)
        write.end()

    def delete(self, key):
        write = self.store.write()
        write.delete_range(key, None)
        write.end()


@pytest.fixture
def world():
    return World()


def test_synced_watchers_are_told_at_once(world):
    world.watch(1, b"a")
    world.watch(2, b"a", b"c")
    world.watch(3, b"b", NO_END)
    world.put(b"a", b"b")
    world.put(b"z")
    assert sorted(world.stream.take()) == [
        (1, 2, [(b"a", 2)]),
        (2, 2, [(b"a", 2), (b"b", 2)]),
        (3, 2, [(b"b", 2)]),
        (3, 3, [(b"z", 3)]),
    ]
    assert world.watchers.next_timer() is None


def test_the_past_comes_with_the_next_round(world):
    for key in (b"a", b"b", b"a"):
        world.put(key)
    watcher = world.watch(1, b"a", start=2)
    assert world.watchers.next_timer() == 10.1
    assert not world.watchers.is_current(watcher)
    world.put(b"a")
    world.watchers.handle_timer(10.05)
    assert world.stream.take() == []
    world.watchers.handle_timer(10.1)
    assert world.stream.take() == [(1, 5, [(b"a", 2), (b"a", 4), (b"a", 5)])]
    assert world.watchers.is_current(watcher)
    world.put(b"a")
    assert world.stream.take() == [(1, 6, [(b"a", 6)])]


def test_a_round_tells_a_thousand_revisions_and_leaves_none_in_parts(world):
    for _ in range(1100):
        world.put(b"a", b"b")
    world.watch(1, b"a", b"c", start=1)
    world.watchers.handle_timer(10.1)
    ((_, revision, changes),) = world.stream.take()
    assert (revision, len(changes), changes[-1]) == (1101, 2000, (b"b", 1001))
    world.watchers.handle_timer(10.3)
    ((_, _, changes),) = world.stream.take()
    assert (changes[0], len(changes)) == ((b"a", 1002), 200)


def test_a_start_in_the_future_is_waited_for(world):
    watcher = world.watch(1, b"a", start=4)
    world.put(b"a")
    world.put(b"a")
    assert not world.watchers.is_current(watcher)
    world.put(b"a")
    assert world.stream.take() == [(1, 4, [(b"a", 4)])]
    assert world.watchers.is_current(watcher)


def test_what_is_compacted_ends_an_unsynced_watcher(world):
    for _ in range(5):
        world.put(b"a")
    world.watch(1, b"a", start=3)
    world.watch(2, b"a", start=4)
    world.store.compact(4)
    world.watchers.handle_timer(10.1)
    assert world.stream.take() == [(1, "compacted", 4), (2, 6, [(b"a", 4), (b"a", 5), (b"a", 6)])]
    world.put(b"a")
    assert world.stream.take() == [(2, 7, [(b"a", 7)])]


def test_filters(world):
    world.watch(1, b"a", filters=(NO_PUT,))
    world.watch(2, b"a", filters=(NO_DELETE,))
    world.watch(3, b"a", filters=(NO_PUT, NO_DELETE))
    world.put(b"a")
    world.delete(b"a")
    assert world.stream.take() == [(2, 2, [(b"a", 2)]), (1, 3, [(b"a", 3)])]


def test_a_congested_stream_is_told_later(world):
    watcher = world.watch(1, b"a")
    world.stream.congested = True
    world.put(b"a")
    world.put(b"a")
    world.watchers.handle_timer(10.1)
    assert world.stream.take() == []
    assert not world.watchers.is_current(watcher)
    world.stream.congested = False
    world.watchers.handle_timer(10.2)
    assert world.stream.take() == [(1, 3, [(b"a", 2), (b"a", 3)])]


def test_removed_watchers_hear_nothing(world):
    for watcher in (world.watch(1, b"a"), world.watch(2, b"a", b"b"), world.watch(3, b"a", start=1)):
        world.watchers.remove(watcher)
        world.watchers.remove(watcher)
    world.put(b"a")
    world.watchers.handle_timer(10.2)
    assert world.stream.take() == []


def test_a_newer_store_is_caught_up_with(world):
    world.watch(1, b"a")
    ahead = World()
    ahead.put(b"a")
    ahead.put(b"b")
    world.store.copy_from(ahead.store)
    world.watchers.restored(20.0)
    world.watchers.handle_timer(20.1)
    assert world.stream.take() == [(1, 3, [(b"a", 2)])]


def test_events(world):
    world.put(b"a")
    world.put(b"a")
    world.delete(b"a")
    created, changed, deleted = (changes[0] for changes in world.store.changes_since(2))
    assert (event(world.store, created, True).type, event(world.store, deleted, False).type) == (0, 1)
    assert not event(world.store, created, True).HasField("prev_kv")
    assert not event(world.store, changed, False).HasField("prev_kv")
    assert event(world.store, changed, True).prev_kv.mod_revision == 2
    assert event(world.store, deleted, True).prev_kv.version == 2
