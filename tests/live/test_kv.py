# SPDX-License-Identifier: Apache-2.0
"""get, put, delete and compact with every option, against real etcd."""

from __future__ import annotations

import pytest

import purecd
from purecd import errors

pytestmark = pytest.mark.every_etcd


@pytest.fixture
def four(client, prefix):
    """Puts a, b, c, d below `prefix`, then c again; returns the revision of each last put."""
    for name, value in (("a", "4"), ("b", "3"), ("c", "0"), ("d", "1")):
        client.put(prefix + name, value)
    last = client.put(prefix + "c", "2").header.revision
    return {"a": last - 4, "b": last - 3, "c": last, "d": last - 1}


def names(reply, prefix):
    return "".join(kv.key.decode()[len(prefix) :] for kv in reply.kvs)


def test_what_was_put_is_got(client, prefix):
    first = client.put(prefix + "k", "one")
    second = client.put(prefix + "k", b"two")
    reply = client.get(prefix + "k")
    assert reply.value == b"two"
    assert reply.kv == purecd.KeyValue(
        (prefix + "k").encode(), first.header.revision, second.header.revision, 2, b"two", 0
    )
    assert (reply.count, reply.more) == (1, False)
    assert second.header.revision == first.header.revision + 1 == reply.header.revision
    assert reply.header.cluster_id
    assert reply.header.member_id
    assert reply.header.raft_term
    assert second.prev_kv is None


def test_a_missing_key_is_no_error(client, prefix):
    reply = client.get(prefix + "k")
    assert (reply.kv, reply.value, reply.kvs, reply.count) == (None, None, [], 0)


@pytest.mark.parametrize("key", ["gr\u00fc\u00dfe/\U0001f511", b"\x00", b"\xff\xff", b"a\x00b\nc"])
@pytest.mark.parametrize("value", [b"", bytes(range(256)), "\u4e16\u754c", bytearray(b"x"), memoryview(b"y")])
def test_keys_and_values_are_any_bytes(client, key, value):
    expected = value.encode() if isinstance(value, str) else bytes(value)
    client.put(key, value)
    assert client.get(key).value == expected
    assert client.delete(key, prev_kv=True).prev_kvs[0].value == expected


def test_put_returns_what_was_there(client, prefix):
    assert client.put(prefix + "k", "1", prev_kv=True).prev_kv is None
    previous = client.put(prefix + "k", "2", prev_kv=True).prev_kv
    assert (previous.value, previous.version) == (b"1", 1)


def test_put_keeps_the_value_or_the_lease(client, prefix):
    client.put(prefix + "k", "kept")
    client.put(prefix + "k", ignore_value=True)
    assert client.get(prefix + "k").kv[3:5] == (2, b"kept")  # version, value
    client.put(prefix + "k", "new", ignore_lease=True)
    assert client.get(prefix + "k").value == b"new"


@pytest.mark.parametrize("option", ["ignore_value", "ignore_lease"])
def test_there_is_nothing_to_keep(client, prefix, option):
    with pytest.raises(errors.KeyNotFound) as caught:
        client.put(prefix + "k", **{option: True})
    assert not caught.value.maybe_applied


def test_delete(client, prefix, four):
    assert client.delete(prefix + "none").deleted == 0
    assert client.get(prefix, prefix=True).header.revision == four["c"], "deleting nothing makes no revision"
    reply = client.delete(prefix + "c", prev_kv=True)
    assert (reply.deleted, reply.prev_kvs[0].value) == (1, b"2")
    assert reply.header.revision == four["c"] + 1
    assert client.delete(prefix + "a", prefix + "c").deleted == 2
    assert client.delete(prefix, prefix=True).prev_kvs == []
    assert client.get(prefix, prefix=True).kvs == []


def test_range_prefix_and_all_keys(client, prefix, four):
    assert names(client.get(prefix, prefix=True), prefix) == "abcd"
    assert names(client.get(prefix + "b", prefix + "d"), prefix) == "bc"
    assert names(client.get(prefix + "c", prefix=True), prefix) == "c"
    everything = client.get("", prefix=True, keys_only=True)
    assert everything.count == len(everything.kvs) >= 4
    assert client.get("", from_key=True, count_only=True).count == everything.count
    assert client.get(prefix + "b", from_key=True).kvs[0].key == (prefix + "b").encode()
    assert client.get("a", "a").kvs == []


def test_prefix_of_the_greatest_bytes(client):
    keys = [b"\xfe\xff", b"\xff", b"\xff\xff", b"\xff\xff\x01"]
    for key in keys:
        client.put(key, b"v")
    try:
        assert [kv.key for kv in client.get(b"\xff", prefix=True).kvs] == keys[1:]
        assert [kv.key for kv in client.get(b"\xfe\xff", prefix=True).kvs] == keys[:1]
        assert [kv.key for kv in client.get(b"\xff\xff", from_key=True).kvs] == keys[2:]
    finally:
        assert client.delete(b"\xff", prefix=True).deleted == 3
        client.delete(b"\xfe\xff")


@pytest.mark.parametrize(
    ("sort_by", "ascending"),
    [
        ("key", "abcd"),
        ("version", ""),
        ("create_revision", "abcd"),
        ("mod_revision", "abdc"),
        ("value", "dcba"),
    ],
)
def test_sorted(client, prefix, four, sort_by, ascending):
    rising = names(client.get(prefix, prefix=True, sort_by=sort_by), prefix)
    falling = names(client.get(prefix, prefix=True, sort_by=sort_by, descending=True), prefix)
    if sort_by == "version":  # three are equal, in no promised order
        rising, falling, ascending = rising[-1], falling[0], "c"
    assert (rising, falling) == (ascending, ascending[::-1])


def test_limit_keys_only_count_only(client, prefix, four):
    some = client.get(prefix, prefix=True, limit=3, sort_by="mod_revision", descending=True)
    assert (names(some, prefix), some.more, some.count) == ("cdb", True, 4)
    assert not client.get(prefix, prefix=True, limit=4).more
    bare = client.get(prefix, prefix=True, keys_only=True)
    assert [kv.value for kv in bare.kvs] == [b""] * 4
    assert [kv.mod_revision for kv in bare.kvs] == [four[name] for name in "abcd"]
    counted = client.get(prefix, prefix=True, count_only=True)
    assert (counted.kvs, counted.count) == ([], 4)


def test_serializable(client, prefix, four):
    assert names(client.get(prefix, prefix=True, serializable=True), prefix) == "abcd"


def test_filtered_by_revision(client, prefix, four):
    def found(**options):
        return names(client.get(prefix, prefix=True, **options), prefix)

    assert found(min_mod_revision=four["d"]) == "cd"
    assert found(max_mod_revision=four["b"]) == "ab"
    assert found(min_create_revision=four["d"] - 1) == "cd"
    assert found(max_create_revision=four["b"]) == "ab"
    assert found(min_mod_revision=four["b"], max_mod_revision=four["b"]) == "b"


def test_as_of_a_revision(client, prefix, four):
    then = client.get(prefix, prefix=True, revision=four["d"])
    assert [kv.value for kv in then.kvs] == [b"4", b"3", b"0", b"1"]
    assert then.header.revision == four["c"], "the header tells the present revision"


def test_compacted_and_future_revisions(client, prefix, four):
    client.compact(four["c"])
    with pytest.raises(errors.Compacted):
        client.get(prefix + "c", revision=four["d"])
    with pytest.raises(errors.Compacted):
        client.compact(four["d"])
    assert client.get(prefix + "c", revision=four["c"]).value == b"2"
    with pytest.raises(errors.FutureRev) as caught:
        client.get(prefix + "c", revision=four["c"] + 1000)
    assert caught.value.code is purecd.StatusCode.OUT_OF_RANGE
    assert caught.value.attempts == 1
    assert caught.value.method == "/etcdserverpb.KV/Range"
    assert caught.value.endpoint.startswith("http://127.0.0.1:")
    with pytest.raises(errors.FutureRev):
        client.compact(four["c"] + 1000)
    last = client.put(prefix + "k").header.revision
    assert client.compact(last, physical=True).header.revision == last


def test_no_lease(client, prefix):
    with pytest.raises(errors.LeaseNotFound) as caught:
        client.put(prefix + "k", "v", lease=4711)
    assert not caught.value.maybe_applied
    assert client.get(prefix + "k").kv is None


def test_what_is_wrong_is_said_before_anything_is_sent(client):
    for call in (
        lambda: client.put("", "v"),
        lambda: client.get(""),
        lambda: client.delete(""),
        lambda: client.get("a", limit=-1),
        lambda: client.get("a", prefix=True, from_key=True),
        lambda: client.get("a", sort_by="size"),
        lambda: client.put("k", "v", ignore_value=True),
        lambda: client.compact(-1),
    ):
        with pytest.raises(ValueError, match="."):
            call()
    with pytest.raises(TypeError):
        client.put(1, "v")
    with pytest.raises(TypeError):
        client.put("k", None)
