# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of the machines behind watches: an honest etcd with faults, and one that lies."""

from __future__ import annotations

from typing import Any

from purecd.types import Event, EventType, Header, KeyValue, WatchResponse
from tests.support.fakewatch import (
    CLUSTER,
    PROXY,
    V3_4_5,
    V3_4_23,
    V3_5_1,
    V3_5_30,
    Member,
    World,
    matches,
)

from .taste import Taste

KEYS = ("b/1", "b/2", "b/3")
RELEASES = (V3_5_30, V3_5_1, V3_4_23, V3_4_5, PROXY)


def watches(data: bytes) -> None:
    """Z12: whatever happens to streams, connections and members, each watcher gets each event once."""
    taste = Taste(data)
    world = World(taste.one_of(RELEASES), auth_mode=taste.one_of(("none", "password")))
    world.run()
    watchers: list[tuple[Any, int]] = []
    seen: dict[Any, list[tuple[int, bytes]]] = {}
    while taste.left:
        _step(world, taste, watchers)
        world.carry_out()
        if taste.chance(70):
            world.run()
        if taste.chance(30):
            _collect(world, watchers, seen)
    world.advance(60.0)
    for _ in range(3):  # a watcher that was suspended goes on once it was read
        _collect(world, watchers, seen)
        world.advance(60.0)
    for watcher, since in watchers:
        assert watcher.error is None, watcher.error
        wanted = [
            (event.kv.mod_revision, event.kv.key)
            for revision in range(since, world.store.revision + 1)
            for event in world.store.history.get(revision, ())
            if matches(watcher.request, event.kv.key)
        ]
        assert seen.get(watcher, []) == wanted


def _step(world: World, taste: Taste, watchers: list[tuple[Any, int]]) -> None:
    kind = taste.below(9)
    if kind <= 2:
        world.store.put(*KEYS[: 1 + taste.below(3)])
    elif kind == 3:
        world.store.delete(taste.one_of(KEYS))
    elif kind == 4 and len(watchers) < 6:
        # A watch from "now" begins at an unknown revision while it is being created, so it is let settle.
        start = taste.one_of((1, world.store.revision, world.store.revision + 3))
        watcher = world.watch(
            taste.one_of(KEYS),
            taste.one_of(("", "b0")),
            start_revision=start,
            progress_notify=taste.chance(30),
            fragment=taste.chance(50),
        )
        watchers.append((watcher, start))
    elif kind == 5:
        world.cut()
        world.connect()
    elif kind == 6:
        world.restart()
    elif kind == 7:
        world.mux.request_progress(False, world.now)
    else:
        world.advance(taste.one_of((0.1, 1.0, 20.0)))


def _collect(world: World, watchers: list[tuple[Any, int]], seen: dict[Any, list[tuple[int, bytes]]]) -> None:
    for watcher, _ in watchers:
        for response in world.take(watcher):
            events = [(event.kv.mod_revision, event.kv.key) for event in response.events]
            seen.setdefault(watcher, []).extend(events)


def lies(data: bytes) -> None:
    """Z12: a server that says anything: no exception, no event below the last, and all ends at the close."""
    taste = Taste(data)
    world = World(taste.one_of(RELEASES), auth_mode=taste.one_of(("none", "password")))
    watchers = [
        world.watch(key, start_revision=taste.below(4), progress_notify=taste.chance(50), fragment=True)
        for key in KEYS
    ]
    world.run()
    last: dict[Any, int] = {}
    while taste.left:
        kind = taste.below(10)
        streams = [stream for stream in world.servers if not stream.closed]
        if kind <= 6 and streams:
            world.deliver(taste.one_of(streams), _response(taste))
        elif kind == 7:
            world.cut()
            world.connect(Member(world.store, world.auth) if taste.chance(20) else None)
        elif kind == 8:
            world.mux.request_progress(False, world.now)
        else:
            world.advance(taste.one_of((0.0, 1.0, 30.0)))
        world.run()
        for watcher in watchers:
            for response in world.take(watcher):
                for event in response.events:
                    assert event.kv.mod_revision > last.get(watcher, 0), "an event came again"
                if response.events:
                    last[watcher] = response.events[-1].kv.mod_revision
    world.mux.close(world.now)
    world.carry_out()
    assert all(watcher.closed or watcher.error is not None for watcher in watchers)


def _response(taste: Taste) -> WatchResponse:
    events = []
    # In order within a response: nothing could be done about a server that mixes revisions there.
    for revision in sorted({taste.one_of((1, 2, 3, 7, 9, 2**62)) for _ in range(taste.below(3))}):
        kv = KeyValue(taste.one_of(KEYS).encode(), 1, revision, 1, b"v")
        events.append(Event(taste.one_of((EventType.PUT, EventType.DELETE)), kv))
    return WatchResponse(
        Header(taste.one_of((CLUSTER, 0, 0xBAD)), 1, taste.one_of((0, 1, 2, 5, 2**62, -5)), 1),
        watch_id=taste.one_of((1, 2, 3, 0, -1, 99, 2**62)),
        created=taste.chance(20),
        canceled=taste.chance(20),
        compact_revision=taste.one_of((0, 0, 0, 2, 2**62)),
        cancel_reason=taste.one_of(
            (
                "",
                "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
                "etcdserver: mvcc: required revision has been compacted",
                "nonsense",
            )
        ),
        fragment=taste.chance(20),
        events=events,
    )
