# SPDX-License-Identifier: Apache-2.0
"""Values returned by reads, writes and watches."""

from __future__ import annotations

import pickle

import pytest

from purecd.types import (
    EMPTY_HEADER,
    CompactReply,
    DeleteReply,
    Event,
    EventType,
    GetReply,
    Header,
    KeyValue,
    PutReply,
    TxnReply,
    WatchResponse,
    brief,
)

KV = KeyValue(b"k", create_revision=3, mod_revision=5, version=2, value=b"v", lease=9)


def test_empty_header():
    assert EMPTY_HEADER == (0, 0, 0, 0)
    assert Header(1, 2, 3, 4)._asdict() == {"cluster_id": 1, "member_id": 2, "revision": 3, "raft_term": 4}


def test_field_order_is_the_wire_order():
    # mvccpb.KeyValue and etcdserverpb.WatchResponse, fields by ascending number.
    assert KeyValue._fields == ("key", "create_revision", "mod_revision", "version", "value", "lease")
    assert WatchResponse._fields == (
        "header",
        "watch_id",
        "created",
        "canceled",
        "compact_revision",
        "cancel_reason",
        "fragment",
        "events",
    )


def test_get_reply_gives_its_first_key():
    assert GetReply().kv is None
    assert GetReply().value is None
    reply = GetReply(Header(1, 2, 3, 4), [KV, KeyValue(b"l")], True, 7)
    assert reply.kv is KV
    assert reply.value == b"v"
    assert (reply.more, reply.count) == (True, 7)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event(EventType.PUT, KeyValue(b"k", 5, 5, 1, b"v")), (True, False, False)),
        (Event(EventType.PUT, KeyValue(b"k", 3, 5, 2, b"v")), (False, True, False)),
        (Event(EventType.DELETE, KeyValue(b"k", 0, 5)), (False, False, True)),
        (Event(EventType.DELETE, KeyValue(b"k")), (False, False, True)),
    ],
)
def test_kinds_of_events(event, expected):
    assert (event.is_create, event.is_modify, event.is_delete) == expected
    assert (event.key, event.value) == (event.kv.key, event.kv.value)


def test_event_types():
    assert [(kind.name, int(kind)) for kind in EventType] == [("PUT", 0), ("DELETE", 1)]


PROGRESS = WatchResponse(Header(revision=4), watch_id=-1)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (PROGRESS, True),
        (PROGRESS._replace(watch_id=3), True),
        (PROGRESS._replace(events=[Event()]), False),
        (PROGRESS._replace(created=True), False),
        (PROGRESS._replace(canceled=True), False),
        (PROGRESS._replace(compact_revision=2), False),
        (PROGRESS._replace(header=EMPTY_HEADER), False),
    ],
)
def test_progress(response, expected):
    assert response.is_progress is expected


def test_repr_cuts_long_values():
    assert brief(bytes(64)) == repr(bytes(64))
    assert brief(b"a" * 65) == f"<65 bytes, {b'a' * 64!r}...>"
    text = repr(WatchResponse(events=[Event(kv=KV._replace(value=b"s" * 5000))]))
    assert "s" * 64 in text
    assert "s" * 65 not in text
    assert repr(KV) == (
        "KeyValue(key=b'k', create_revision=3, mod_revision=5, version=2, value=b'v', lease=9)"
    )
    assert eval(repr(KV)) == KV


@pytest.mark.parametrize(
    "reply",
    [
        GetReply(kvs=[KV]),
        PutReply(prev_kv=KV),
        DeleteReply(deleted=1, prev_kvs=[KV]),
        TxnReply(succeeded=True, responses=[GetReply()]),
        CompactReply(),
        WatchResponse(),
    ],
)
def test_values_are_immutable_and_picklable(reply):
    with pytest.raises(AttributeError):
        reply.header = EMPTY_HEADER
    with pytest.raises(AttributeError):
        reply.extra = 1
    twin = pickle.loads(pickle.dumps(reply))
    assert (type(twin), twin) == (type(reply), reply)


def test_replies_of_a_transaction_by_their_kind():
    got, put, deleted, inner = GetReply(count=1), PutReply(), DeleteReply(deleted=2), TxnReply(succeeded=True)
    reply = TxnReply(responses=[put, got, inner, deleted, GetReply()])
    assert (reply.gets, reply.puts) == ([got, GetReply()], [put])
    assert (reply.deletes, reply.txns) == ([deleted], [inner])
    assert TxnReply().gets == []
