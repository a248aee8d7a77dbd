# SPDX-License-Identifier: Apache-2.0
"""Transactions against real etcd."""

from __future__ import annotations

import pytest

import purecd
from purecd import Delete, Get, Put, Txn, errors

pytestmark = pytest.mark.every_etcd


def test_one_branch_or_the_other(client, prefix):
    key = prefix + "lock"
    branches = {"success": [Put(key, "me")], "failure": [Get(key)]}
    won = client.txn(compare=[purecd.version(key) == 0], **branches)
    assert (won.succeeded, type(won.responses[0]).__name__) == (True, "PutReply")
    lost = client.txn(compare=[purecd.version(key) == 0], **branches)
    assert (lost.succeeded, lost.responses[0].value) == (False, b"me")
    assert lost.header.revision == won.header.revision


def test_every_operation(client, prefix):
    a, b, c = (prefix + name for name in "abc")
    client.put(a, "1")
    reply = client.txn(
        success=[
            Put(b, "2", prev_kv=True),
            Get(prefix, prefix=True, sort_by="key", descending=True),
            Delete(a, prev_kv=True),
            Txn([purecd.version(c) == 0], [Put(c, "3"), Get(c)], [Get(a)]),
            Get(prefix, prefix=True, count_only=True),
        ]
    )
    put, got, deleted, inner, counted = reply.responses
    assert put.prev_kv is None
    assert [kv.value for kv in got.kvs] == [b"2", b"1"]
    assert (deleted.deleted, deleted.prev_kvs[0].value) == (1, b"1")
    assert (inner.succeeded, inner.responses[1].value) == (True, b"3")
    assert counted.count == 2
    assert {kv.mod_revision for kv in client.get(prefix, prefix=True).kvs} == {reply.header.revision}


def test_every_target_and_operator(client, prefix):
    key = prefix + "k"
    client.put(key, "a")
    kv = client.put(key, "b") and client.get(key).kv
    for target, number in (
        (purecd.version, 2),
        (purecd.create_revision, kv.create_revision),
        (purecd.mod_revision, kv.mod_revision),
        (purecd.lease, 0),
    ):
        for compare, holds in (
            (target(key) == number, True),
            (target(key) == number + 1, False),
            (target(key) != number + 1, True),
            (target(key) != number, False),
            (target(key) < number + 1, True),
            (target(key) < number, False),
            (target(key) > number - 1, True),
            (target(key) > number, False),
        ):
            assert client.txn(compare=[compare]).succeeded is holds, compare
    assert client.txn(compare=[purecd.value(key) == "b", purecd.value(key) > b"a"]).succeeded
    assert not client.txn(compare=[purecd.value(key) == "b", purecd.value(key) < "b"]).succeeded
    assert not client.txn(compare=[purecd.value(prefix + "none") == ""]).succeeded


def test_compares_of_ranges(client, prefix):
    assert client.txn(compare=[purecd.version(prefix, prefix=True) == 0]).succeeded
    client.put(prefix + "a", "1")
    client.put(prefix + "b", "1")
    assert client.txn(compare=[purecd.version(prefix, prefix=True) == 1]).succeeded
    assert client.txn(compare=[purecd.value(prefix + "a", range_end=prefix + "c") == "1"]).succeeded
    client.put(prefix + "b", "2")
    assert not client.txn(compare=[purecd.version(prefix, prefix=True) == 1]).succeeded
    assert client.txn(compare=[purecd.version(prefix, prefix=True) > 0]).succeeded


def test_nested_five_deep(client, prefix):
    txn = Txn(success=[Put(prefix + "k", "deep"), Get(prefix + "k")])
    for _ in range(4):
        txn = Txn([purecd.version(prefix + "k") == 0], [txn])
    reply = client.txn(success=[txn])
    for _ in range(5):
        reply = reply.responses[0]
    assert reply.responses[1].value == b"deep"


def test_nothing_to_do(client):
    reply = client.txn()
    assert (reply.succeeded, reply.responses) == (True, [])


def test_128_operations_are_allowed(client, prefix):
    reply = client.txn(success=[Put(f"{prefix}{i}", str(i)) for i in range(128)])
    assert len(reply.responses) == 128
    with pytest.raises(errors.TooManyOps) as caught:
        client.txn(success=[Put(f"{prefix}{i}", "other") for i in range(129)])
    assert not caught.value.maybe_applied
    assert client.get(prefix + "0").value == b"0"


@pytest.mark.parametrize("second", ["put", "delete", "nested"])
def test_a_key_is_written_once(client, prefix, second):
    key = prefix + "k"
    twice = {
        "put": Put(key, "2"),
        "delete": Delete(prefix, prefix=True),
        "nested": Txn(success=[Put(key, "2")]),
    }[second]
    with pytest.raises(errors.DuplicateKey) as caught:
        client.txn(success=[Put(key, "1"), twice])
    assert not caught.value.maybe_applied
    assert client.get(key).kv is None


def test_errors_of_the_operations_in_it(client, prefix):
    with pytest.raises(errors.LeaseNotFound):
        client.txn(success=[Put(prefix + "k", lease=4711)])
    with pytest.raises(errors.FutureRev):
        client.txn(success=[Put(prefix + "k", "v"), Get(prefix + "k", revision=2**40)])
    assert client.get(prefix + "k").kv is None


def test_an_impossible_member(client, prefix):
    with pytest.raises(TypeError):
        client.txn(success=["put"])
    with pytest.raises(TypeError):
        client.txn(compare=[True])
