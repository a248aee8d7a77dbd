# SPDX-License-Identifier: Apache-2.0
"""Watches against real etcd: what is delivered, in which order, and how a watch ends."""

from __future__ import annotations

import time

import pytest

import purecd
from purecd import Put, errors
from tests.live.fronts import Thread, take, together

pytestmark = pytest.mark.every_etcd


def shown(events, prefix):
    """Such as ``["+a=1", "a=2", "-a"]``: created, changed, deleted."""
    size = len(prefix)
    return [
        f"-{event.key.decode()[size:]}"
        if event.is_delete
        else f"{'+' if event.is_create else ''}{event.key.decode()[size:]}={event.value.decode()}"
        for event in events
    ]


def nothing_more(watch, seconds=0.2):
    with pytest.raises(TimeoutError):
        watch.next(timeout=seconds)


def test_changes_from_now_on(client, prefix):
    client.put(prefix + "a", "before")
    with client.watch(prefix, prefix=True) as watch:
        client.put(prefix + "a", "1")
        client.put(prefix + "b", "2")
        client.delete(prefix + "a")
        client.put(prefix[:-1] + "0", "outside")
        client.txn(success=[Put(prefix + "a", "3"), Put(prefix + "c", "4")])
        events = take(watch, 5)
        nothing_more(watch)
    assert shown(events, prefix) == ["a=1", "+b=2", "-a", "+a=3", "+c=4"]
    assert events[3].kv.mod_revision == events[4].kv.mod_revision == events[2].kv.mod_revision + 2
    assert all(event.prev_kv is None for event in events)


def test_one_key_and_ranges(client, prefix):
    with (
        client.watch(prefix + "b") as one,
        client.watch(prefix + "b", prefix + "d") as some,
        client.watch(prefix + "c", from_key=True) as rest,
    ):
        for name in "abcd":
            client.put(prefix + name, "1")
        assert shown(take(one, 1), prefix) == ["+b=1"]
        assert shown(take(some, 2), prefix) == ["+b=1", "+c=1"]
        assert shown(take(rest, 2), prefix) == ["+c=1", "+d=1"]
        nothing_more(one, 0.05)
        nothing_more(some, 0.05)


def test_history(client, prefix):
    first = client.put(prefix + "a", "1").header.revision
    client.put(prefix + "a", "2")
    client.delete(prefix + "a")
    with client.watch(prefix, prefix=True, start_revision=first) as watch:
        assert shown(take(watch, 3), prefix) == ["+a=1", "a=2", "-a"]
        assert watch.resume_revision == first + 3
    with client.watch(prefix, prefix=True, start_revision=first) as watch:
        take(watch, 1)
        assert watch.resume_revision == first + 1, "the others have arrived, and were not read"
    client.put(prefix + "a", "4")
    with client.watch(prefix, prefix=True, start_revision=first + 2) as watch:
        assert shown(take(watch, 2), prefix) == ["-a", "+a=4"]


def test_a_revision_to_come(client, prefix):
    now = client.put(prefix + "a", "1").header.revision
    with client.watch(prefix + "a", start_revision=now + 3) as watch:
        for value in "2345":
            client.put(prefix + "a", value)
        assert shown(take(watch, 2), prefix) == ["a=4", "a=5"]


def test_what_was_there_before(client, prefix):
    with client.watch(prefix, prefix=True, prev_kv=True) as watch:
        client.put(prefix + "a", "1")
        client.put(prefix + "a", "2")
        client.delete(prefix + "a")
        created, changed, deleted = take(watch, 3)
    assert created.prev_kv is None
    assert (changed.prev_kv.value, deleted.prev_kv.value) == (b"1", b"2")


@pytest.mark.parametrize(("exclude", "left"), [(["put"], ["-a"]), (["delete"], ["+a=1", "+a=2"])])
def test_kinds_left_out(client, prefix, exclude, left):
    with client.watch(prefix, prefix=True, exclude=exclude) as watch:
        client.put(prefix + "a", "1")
        client.delete(prefix + "a")
        client.put(prefix + "a", "2")
        assert shown(take(watch, len(left)), prefix) == left
        nothing_more(watch, 0.05)


def test_whole_responses(client, prefix):
    with client.watch(prefix, prefix=True) as watch:
        revision = client.txn(success=[Put(f"{prefix}{i}", "v") for i in range(5)]).header.revision
        response = next(iter(watch.responses(timeout=5)))
    assert len(response.events) == 5
    assert {event.kv.mod_revision for event in response.events} == {revision}
    assert response.header.revision >= revision
    assert not response.is_progress


def test_progress_on_request(client, prefix):
    with client.watch(prefix, prefix=True) as watch:
        revision = client.put(prefix + "a", "1").header.revision
        take(watch, 1)
        for _ in range(20):  # a server may drop a request while another watcher of the stream catches up
            watch.request_progress()
            try:
                response = next(iter(watch.responses(timeout=0.5)))
                break
            except TimeoutError:
                pass
        assert response.is_progress
        assert response.header.revision >= revision
        client.put(prefix + "a", "2")
        assert shown(take(watch, 1), prefix) == ["a=2"]


def test_compacted(client, prefix):
    old = client.put(prefix + "a", "1").header.revision
    new = client.put(prefix + "a", "2").header.revision
    client.compact(new)
    with (
        pytest.raises(errors.Compacted) as caught,
        client.watch(prefix, prefix=True, start_revision=old) as watch,
    ):
        watch.next(timeout=5)
    assert caught.value.compact_revision == new
    with client.watch(prefix, prefix=True, start_revision=caught.value.compact_revision) as watch:
        assert shown(take(watch, 1), prefix) == ["a=2"]


def test_closing_ends_the_loop(client, prefix):
    watch = client.watch(prefix, prefix=True)
    reader = Thread(lambda: shown(watch, prefix))
    client.put(prefix + "a", "1")
    time.sleep(0.1)
    assert not reader.done
    started = time.monotonic()
    watch.close()
    assert reader.result(5) == ["+a=1"]
    assert time.monotonic() - started < 1
    assert watch.next(timeout=1) is None
    watch.close()
    client.put(prefix + "a", "2")


def test_closing_the_client_ends_the_loop(front, server, prefix):
    client = front.client(server.endpoint)
    watch = client.watch(prefix, prefix=True)
    reader = Thread(lambda: shown(watch, prefix))
    client.put(prefix + "a", "1")
    time.sleep(0.1)
    client.close()
    assert reader.result(5) == ["+a=1"]
    with pytest.raises(errors.ClientClosed):
        client.watch(prefix)
    with pytest.raises(errors.ClientClosed):
        client.get(prefix)
    watch.close()


def test_a_watch_made_while_another_is_read(client, prefix):
    with client.watch(prefix + "a/", prefix=True) as outer:
        client.put(prefix + "a/1", "go")
        for event in outer:
            with client.watch(prefix + "b/", prefix=True, start_revision=event.kv.mod_revision) as inner:
                client.put(prefix + "b/1", "come")
                assert shown(take(inner, 1), prefix) == ["+b/1=come"]
            assert client.get(prefix + "b/1").value == b"come"
            break
        client.put(prefix + "a/2", "on")
        assert shown(take(outer, 1), prefix) == ["+a/2=on"]


def test_a_watch_for_each_of_many_threads(client, prefix):
    def one(index):
        with client.watch(f"{prefix}{index}/", prefix=True) as watch:
            for i in range(5):
                client.put(f"{prefix}{index}/{i}", "v")
            return [event.key.decode() for event in take(watch, 5)]

    assert together(8, one) == [[f"{prefix}{index}/{i}" for i in range(5)] for index in range(8)]


def test_what_is_wrong_is_said_before_anything_is_sent(client):
    for options in (
        {"key": ""},
        {"key": "a", "start_revision": -1},
        {"key": "b", "range_end": "a"},
        {"key": "a", "prefix": True, "from_key": True},
        {"key": "a", "exclude": ["get"]},
        {"key": "a", "exclude": "put"},
    ):
        with pytest.raises(ValueError, match="."):
            client.watch(**options)


def test_all_keys(client, prefix):
    with client.watch("", prefix=True) as watch:
        client.put(b"\xff\xff", "v")
        client.delete(b"\xff\xff")
        found = [event for event in take(watch, 2) if event.key == b"\xff\xff"]
    assert [event.type for event in found] == [purecd.EventType.PUT, purecd.EventType.DELETE]
