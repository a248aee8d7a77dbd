# SPDX-License-Identifier: Apache-2.0
"""Namespaces against a real server: keys below a prefix, and nothing else, over the same connections."""

from __future__ import annotations

import pytest

import purecd
from purecd import Delete, Get, Put, Txn, errors
from tests.live.fronts import take


@pytest.fixture
def view(client, prefix):
    return client.namespace(prefix)


def keys(reply):
    return [kv.key for kv in reply.kvs]


def test_keys(client, view, prefix):
    assert view.prefix == prefix.encode()
    assert prefix in repr(view)
    view.put("a", "1")
    assert client.get(prefix + "a").value == b"1"
    assert view.get("a").kv.key == b"a"
    assert view.put("a", "2", prev_kv=True).prev_kv[:1] == (b"a",)
    assert view.put("b", "1", prev_kv=True).prev_kv is None
    assert view.delete("a", prev_kv=True).prev_kvs[0].key == b"a"
    assert client.get(prefix + "a").kv is None


def test_ranges_stop_where_the_prefix_does(client, view, prefix):
    client.put(prefix[:-1] + "!before", "")
    client.put(prefix, "the prefix itself")
    client.put(prefix[:-1] + "0after", "")  # "0" follows "/"
    for name in ("a", "b", "b1", "c", b"\xff"):
        view.put(name, "")
    everything = [b"a", b"b", b"b1", b"c", b"\xff"]
    assert keys(view.get("", prefix=True)) == everything
    assert keys(view.get("", from_key=True)) == everything
    assert keys(view.get("b", from_key=True)) == everything[1:]
    assert keys(view.get("b", prefix=True)) == [b"b", b"b1"]
    assert keys(view.get("a", "b1")) == [b"a", b"b"]
    assert keys(view.get("", prefix=True, sort_by="key", descending=True)) == everything[::-1]
    assert [kv.key for kv in view.scan(page=2)] == everything
    assert [kv.key for kv in view.scan("b", prefix=True)] == [b"b", b"b1"]
    assert view.get("", prefix=True, count_only=True).count == 5
    assert view.delete("", prefix=True).deleted == 5
    assert client.get(prefix[:-1], prefix=True).count == 3, "nothing outside was touched"


def test_transactions(client, view, prefix):
    view.put("guard", "1")
    view.put("old", "1")
    reply = view.txn(
        compare=[purecd.value("guard") == "1", purecd.version("none", prefix=True) == 0],
        success=[
            Put("a", "1"),
            Put("guard", "2", prev_kv=True),
            Get("", prefix=True),
            Txn(
                compare=[purecd.create_revision("guard") > 0],  # as it was before the transaction
                success=[Get("a"), Delete("old", prev_kv=True)],
                failure=[Put("wrong", "")],
            ),
        ],
        failure=[Put("wrong", "")],
    )
    assert reply.succeeded
    put_a, put_guard, everything, nested = reply.responses
    assert put_a.prev_kv is None
    assert put_guard.prev_kv[:1] == (b"guard",)
    assert keys(everything) == [b"a", b"guard", b"old"]
    assert nested.succeeded
    assert keys(nested.responses[0]) == [b"a"]
    assert [kv.key for kv in nested.responses[1].prev_kvs] == [b"old"]
    assert keys(client.get(prefix, prefix=True)) == [(prefix + name).encode() for name in ("a", "guard")]
    failed = view.txn(compare=[purecd.value("guard") == "1"], failure=[Get("a")])
    assert not failed.succeeded
    assert keys(failed.responses[0]) == [b"a"]


def test_watches(client, view, prefix):
    first = view.put("a", "1").header.revision
    with view.watch("", prefix=True, start_revision=first, prev_kv=True) as watch, view.watch("b") as single:
        client.put(prefix[:-1] + "0after", "not seen")
        client.put(prefix, "not seen")
        view.put("a", "2")
        view.delete("a")
        view.put("b", "3")
        events = take(watch, 4)
        assert [event.key for event in events] == [b"a", b"a", b"a", b"b"]
        assert [event.prev_kv and (event.prev_kv.key, event.prev_kv.value) for event in events] == [
            None,
            (b"a", b"1"),
            (b"a", b"2"),
            None,
        ]
        assert take(single, 1)[0].key == b"b"
        assert watch.resume_revision == events[-1].kv.mod_revision + 1
        for each in (watch, single):
            with pytest.raises(TimeoutError):
                each.next(timeout=0.05)


def test_a_watch_in_a_view_survives_a_restart(front, start_server, prefix):
    server = start_server()
    view = front.client(server.endpoint).namespace("app/").namespace("x/")
    with view.watch("", prefix=True) as watch:
        view.put("a", "1")
        assert take(watch, 1)[0].key == b"a"
        server.restart()
        view.put("b", "2")
        assert take(watch, 1)[0].key == b"b"


def test_leases(client, view, prefix):
    with view.lease(60) as lease:
        view.put("a", "1", lease=lease)
        client.put(prefix[:-1] + "0outside", "1", lease=lease.id)
        assert lease.time_to_live(keys=True).keys == (b"a",)
        assert len(client.leases.time_to_live(lease.id, keys=True).keys) == 2
        assert view.get("a").kv.lease == lease.id
    assert view.get("a").kv is None


def test_views_nest(client, view, prefix):
    inner = view.namespace("in/").namespace("ner/")
    assert inner.prefix == b"ner/"
    inner.put("a", "1")
    assert client.get(prefix + "in/ner/a").value == b"1"
    assert view.get("in/ner/a").kv.key == b"in/ner/a"
    assert keys(inner.get("", prefix=True)) == [b"a"]
    with inner.watch("", from_key=True) as watch:
        view.put("in/ner/b", "2")
        assert take(watch, 1)[0].key == b"b"
    assert inner.txn(success=[Get("a")]).responses[0].kv.key == b"a"


def test_views_share_the_connections_of_their_client(front, start_server):
    server = start_server()
    client = front.client(server.endpoint)
    client.put("k", "v")
    with client.watch("k"), client.lease(60):
        connections = server.metric("process_open_fds")
        views = [client.namespace(f"{number}/") for number in range(20)]
        for view in views:
            view.put("k", "v")
            assert view.get("k").value == b"v"
        watches = [view.watch("k") for view in views]
        leases = [view.lease(60) for view in views]
        assert server.metric("process_open_fds") <= connections
        for each in [*watches, *leases]:
            each.close()


def test_errors_pass_through(client, view):
    assert view.compact is not None
    with pytest.raises(errors.FutureRev):
        view.get("a", revision=2**40)
    with pytest.raises(errors.LeaseNotFound):
        view.put("a", "1", lease=12345)
    with pytest.raises(ValueError, match="prefix"):
        client.namespace("")
    client.close()
    with pytest.raises(errors.ClientClosed):
        view.get("a")
