# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.namespace."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purecd import errors, requests
from purecd.core import kv, leases, watch
from purecd.core.namespace import Namespace
from purecd.core.op import Attach, Next
from purecd.core.scan import Scan, next_page
from purecd.pb import messages
from purecd.requests import Delete, Get, Put, Txn
from purecd.types import (
    EMPTY_HEADER,
    DeleteReply,
    Event,
    EventType,
    GetReply,
    KeyValue,
    PutReply,
    TxnReply,
    WatchResponse,
)
from tests.core.steps import Stepper


def stored(key, value=b"v"):
    return KeyValue(key, 1, 2, 1, value)


def inside(operation, *answers, prefix="app/"):
    """Run an operation in a namespace; its result and the requests that leave."""
    world = Stepper(*answers)
    result = world.run(Namespace(prefix).run(operation))
    return result, [call.request for call in world.calls]


# Requests.


@pytest.mark.parametrize(
    ("request_", "key", "end"),
    [
        (Get("k"), b"app/k", b""),
        (Get("a", "c"), b"app/a", b"app/c"),
        (Get("k", prefix=True), b"app/k", b"app/l"),
        (Get("", prefix=True), b"app/\0", b"app0"),
        (Get("k", from_key=True), b"app/k", b"app0"),
        (Get(b"\xff", prefix=True), b"app/\xff", b"app0"),
        (Delete("k"), b"app/k", b""),
        (Delete("", from_key=True), b"app/\0", b"app0"),
        (Put("k", "v"), b"app/k", b""),
        (Put("app/k", "v"), b"app/app/k", b""),
    ],
)
def test_keys_and_ranges(request_, key, end):
    entered = Namespace("app/")._request(request_)
    assert entered.key == key
    assert getattr(entered, "range_end", b"") == end
    assert entered == request_.with_key_range(key, *([] if isinstance(request_, Put) else [end]))


def test_a_prefix_without_an_end_reaches_to_the_last_key():
    assert Namespace(b"\xff\xff")._range(b"k", b"\0") == (b"\xff\xffk", b"\0")


small_keys = st.binary(max_size=3).map(
    lambda key: key.translate(bytes(each % 3 * 127 for each in range(256)))
)


@given(prefix=small_keys.filter(len), key=small_keys.filter(len), end=small_keys, probe=small_keys)
def test_a_key_is_in_the_range_inside_exactly_when_it_is_outside(prefix, key, end, probe):
    def holds(first, last, candidate):
        if not last:
            return candidate == first
        return candidate >= first and (last == b"\0" or candidate < last)

    first, last = Namespace(prefix)._range(key, end)
    assert holds(first, last, prefix + probe) == holds(key, end, probe)
    # Nothing without the prefix is in it.
    if end and holds(first, last, probe) and not probe.startswith(prefix):
        assert last <= first, "only an empty range may look as if it reached outside"


def test_the_whole_of_a_request_is_kept():
    options: Any = {"limit": 3, "revision": 5, "sort_by": "version", "descending": True, "keys_only": True}
    _, (sent,) = inside(kv.get("k", prefix=True, **options), GetReply(EMPTY_HEADER, [], False, 0))
    assert sent == Get("app/k", prefix=True, **options)
    _, (sent,) = inside(kv.put("k", "v", lease=5, prev_kv=True), PutReply(EMPTY_HEADER, None))
    assert sent == Put("app/k", "v", lease=5, prev_kv=True)


def test_transactions_at_every_depth():
    operation = kv.txn(
        compare=[requests.version("a") == 0, requests.value("p/", prefix=True) == "x"],
        success=[Put("a", "1"), Txn(compare=[requests.lease("b") == 7], failure=[Delete("", prefix=True)])],
        failure=[Get("a")],
    )
    answer = TxnReply(
        EMPTY_HEADER,
        True,
        [
            PutReply(EMPTY_HEADER, stored(b"app/a")),
            TxnReply(EMPTY_HEADER, False, [DeleteReply(EMPTY_HEADER, 1, [stored(b"app/z")])]),
        ],
    )
    reply, (sent,) = inside(operation, answer)
    assert sent == Txn(
        compare=[requests.version("app/a") == 0, requests.value("app/p/", prefix=True) == "x"],
        success=[
            Put("app/a", "1"),
            Txn(compare=[requests.lease("app/b") == 7], failure=[Delete(b"app/\0", b"app0")]),
        ],
        failure=[Get("app/a")],
    )
    assert reply.responses[0].prev_kv.key == b"a"
    assert reply.responses[1].responses[0].prev_kvs[0].key == b"z"


# Answers.


def test_keys_in_answers_lose_the_prefix_and_nothing_else():
    answer = GetReply(EMPTY_HEADER, [stored(b"app/app/"), stored(b"app/")], True, 9)
    reply, _ = inside(kv.get("", prefix=True), answer)
    assert reply == GetReply(EMPTY_HEADER, [stored(b"app/"), stored(b"")], True, 9)
    reply, _ = inside(kv.put("k", prev_kv=True), PutReply(EMPTY_HEADER, None))
    assert reply.prev_kv is None


def test_errors_pass_and_a_repeated_request_is_prefixed_once():
    lost = errors.Unavailable("connection lost")
    reply, sent = inside(kv.get("k"), lost, GetReply(EMPTY_HEADER, [stored(b"app/k")], False, 1))
    assert [each.key for each in sent] == [b"app/k", b"app/k"]
    assert reply.kv.key == b"k"
    with pytest.raises(errors.PermissionDenied):
        inside(kv.get("k"), errors.PermissionDenied())


def test_of_a_lease_only_the_keys_inside_are_shown():
    answer = messages.LeaseTimeToLiveResponse(ID=7, TTL=5, grantedTTL=9, keys=[b"app/a", b"apple", b"b"])
    reply, _ = inside(leases.time_to_live(7, keys=True), answer)
    assert reply.keys == (b"a",)
    assert (reply.id, reply.ttl, reply.granted_ttl) == (7, 5, 9)


def test_a_watch():
    request = watch.watch_request("", prefix=True, start_revision=5, prev_kv=True, exclude=["delete"])
    operation = Namespace("app/").run(watch.open_watch(request))
    effect = next(operation)
    assert type(effect) is Attach
    watcher = effect.source
    assert watcher.request == request._replace(key=b"app/\0", range_end=b"app0")
    assert type(operation.send(None)) is Next
    with pytest.raises(StopIteration) as done:
        operation.send(WatchResponse(EMPTY_HEADER, 1, True, False, 0, "", False, []))
    assert done.value.value is watcher

    arrived = WatchResponse(
        EMPTY_HEADER,
        1,
        False,
        False,
        0,
        "",
        False,
        [
            Event(EventType.PUT, stored(b"app/a"), None),
            Event(EventType.DELETE, stored(b"app/b", b""), stored(b"app/b")),
        ],
    )
    reading = Namespace("app/").run(watch.next_response(watcher))
    next(reading)
    with pytest.raises(StopIteration) as done:
        reading.send(arrived)
    events = done.value.value.events
    assert [event.key for event in events] == [b"a", b"b"]
    assert events[0].prev_kv is None
    assert events[1].prev_kv.key == b"b"
    assert arrived.events[0].key == b"app/a", "what arrived is left alone"


def test_a_scan_goes_on_in_pages():
    first = GetReply(EMPTY_HEADER._replace(revision=9), [stored(b"app/a")], True, 2)
    second = GetReply(EMPTY_HEADER, [stored(b"app/b")], False, 1)
    world = Stepper(first, second)
    scan = Scan("", prefix=True, page=1)
    view = Namespace("app/")
    pages = [world.run(view.run(next_page(scan))) for _ in range(3)]
    assert [page and [kv.key for kv in page.kvs] for page in pages] == [[b"a"], [b"b"], None]
    ranges = [(call.request.key, call.request.range_end) for call in world.calls]
    assert ranges == [(b"app/\0", b"app0"), (b"app/a\0", b"app0")]
    assert world.calls[1].request.revision == 9


# Namespaces themselves.


def test_namespaces_nest():
    world = Stepper(GetReply(EMPTY_HEADER, [stored(b"app/in/k")], False, 1))
    reply = world.run(Namespace("app/").run(Namespace("in/").run(kv.get("k", prefix=True))))
    assert (world.calls[0].request.key, world.calls[0].request.range_end) == (b"app/in/k", b"app/in/l")
    assert reply.kv.key == b"k"
    assert Namespace("app/").below("in/").prefix == b"app/in/"
    # The inner one has no end of its own; the outer one has.
    world = Stepper(GetReply(EMPTY_HEADER, [], False, 0))
    world.run(Namespace("app/").run(Namespace(b"\xff").run(kv.get("", prefix=True))))
    assert world.calls[0].request.range_end == b"app0"


def test_a_prefix_must_be_given():
    for empty in ("", b""):
        with pytest.raises(ValueError, match="empty"):
            Namespace(empty)
    with pytest.raises(TypeError):
        Namespace(None)  # type: ignore[arg-type]
