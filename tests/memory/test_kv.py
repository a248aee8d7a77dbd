# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import kv, statuses
from purecd.memory.calls import Status
from purecd.memory.leases import Leases
from purecd.memory.store import Store
from purecd.pb import messages as pb

LESS, NOT_EQUAL = 2, 3


@pytest.fixture
def leases():
    return Leases()


@pytest.fixture
def store(leases):
    """Keys a to e: created in this order, b put twice more, with values that fall."""
    store = Store(leases, lambda revision, changes: None)
    for key, value in ((b"a", b"5"), (b"b", b"4"), (b"c", b"3"), (b"d", b"2"), (b"e", b"1")):
        put(store, key=key, value=value)
    put(store, key=b"b", value=b"4")
    put(store, key=b"b", value=b"0")
    return store


def put(store, **fields):
    write = store.write()
    reply = kv.put(write, pb.PutRequest(**fields))
    write.end()
    return reply


def read(store, **fields):
    return kv.read(store, pb.RangeRequest(key=b"a", range_end=b"z", **fields))


def keys(reply):
    return b"".join(each.key for each in reply.kvs)


@pytest.mark.parametrize(
    ("fields", "expected", "more"),
    [
        ({}, b"abcde", False),
        ({"limit": 2}, b"ab", True),
        ({"limit": 5}, b"abcde", False),
        ({"limit": -1}, b"abcde", False),
        ({"sort_order": 2}, b"edcba", False),
        ({"sort_order": 2, "limit": 2}, b"ed", True),
        ({"sort_order": 1, "sort_target": 4}, b"bedca", False),
        ({"sort_order": 2, "sort_target": 3}, b"bedca", False),
        ({"sort_order": 2, "sort_target": 1}, b"bacde", False),
        # Ordered by something without an order: the limit comes first, with one key to spare.
        ({"sort_target": 4, "limit": 2}, b"bc", True),
        ({"min_mod_revision": 4, "max_mod_revision": 5}, b"cd", False),
        ({"max_mod_revision": 5, "limit": 1}, b"a", True),
        ({"min_create_revision": 3, "max_create_revision": 4}, b"bc", False),
        ({"revision": 3}, b"ab", False),
        ({"sort_order": 7}, b"abcde", False),
    ],
)
def test_range(store, fields, expected, more):
    reply = read(store, **fields)
    assert (keys(reply), reply.more) == (expected, more)
    assert reply.count == (2 if "revision" in fields else 5)
    assert reply.header.revision == 8


def test_range_of_keys_and_of_counts(store):
    reply = read(store, keys_only=True)
    assert keys(reply) == b"abcde"
    assert {each.value for each in reply.kvs} == {b""}
    assert store.range(b"a", None).kvs[0].value == b"5", "the store keeps its values"
    reply = read(store, count_only=True, limit=1)
    assert (len(reply.kvs), reply.count, reply.more) == (0, 5, False)


def test_put(store, leases):
    leases.grant(7, 60, 0.0)
    assert put(store, key=b"b", value=b"1", lease=7, prev_kv=True).prev_kv.value == b"0"
    assert not put(store, key=b"new", prev_kv=True).HasField("prev_kv")
    put(store, key=b"b", value=b"2", ignore_lease=True)
    assert (store.range(b"b", None).kvs[0].lease, list(leases.find(7).keys)) == (7, [b"b"])
    put(store, key=b"b", ignore_value=True)
    found = store.range(b"b", None).kvs[0]
    assert (found.value, found.lease) == (b"2", 0)
    with pytest.raises(Status) as caught:
        put(store, key=b"x", ignore_value=True)
    assert (caught.value.code, caught.value.text) == statuses.KEY_NOT_FOUND


def test_delete(store):
    write = store.write()
    reply = kv.delete(write, pb.DeleteRangeRequest(key=b"a", range_end=b"c", prev_kv=True))
    write.end()
    assert (reply.deleted, reply.header.revision) == (2, 9)
    assert [each.value for each in reply.prev_kvs] == [b"5", b"0"]
    assert keys(read(store)) == b"cde"


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (pb.Compare(key=b"a", target=0, version=1), True),
        (pb.Compare(key=b"b", target=0, version=3), True),
        (pb.Compare(key=b"b", target=1, create_revision=3), True),
        (pb.Compare(key=b"b", target=2, mod_revision=8), True),
        (pb.Compare(key=b"b", target=2, mod_revision=8, result=NOT_EQUAL), False),
        (pb.Compare(key=b"b", target=2, mod_revision=9, result=LESS), True),
        (pb.Compare(key=b"b", target=2, mod_revision=7, result=1), True),
        (pb.Compare(key=b"b", target=3, value=b"0"), True),
        (pb.Compare(key=b"b", target=4, lease=0), True),
        (pb.Compare(key=b"none", target=0, version=0), True),
        (pb.Compare(key=b"none", target=4, lease=0), True),
        # No value equals none, nor does it differ from any.
        (pb.Compare(key=b"none", target=3, value=b""), False),
        (pb.Compare(key=b"none", target=3, value=b"", result=NOT_EQUAL), False),
        # All keys of the range must hold.
        (pb.Compare(key=b"a", range_end=b"z", target=0, version=1), False),
        (pb.Compare(key=b"c", range_end=b"z", target=0, version=1), True),
        (pb.Compare(key=b"c", range_end=b"\0", target=0, version=0, result=1), True),
        # A value of another kind is as good as none.
        (pb.Compare(key=b"a", target=0, create_revision=1), False),
        (pb.Compare(key=b"none", target=0, create_revision=1), True),
    ],
)
def test_compare(store, leases, compare, holds):
    assert kv.transact(store, leases, pb.TxnRequest(compare=[compare])).succeeded is holds


def request_op(**kind):
    return pb.RequestOp(**kind)


def test_nested_transactions_compare_before_anything_changes(store, leases):
    inner = pb.TxnRequest(
        compare=[pb.Compare(key=b"a", target=3, value=b"5")],
        success=[request_op(request_range=pb.RangeRequest(key=b"a"))],
        failure=[request_op(request_put=pb.PutRequest(key=b"wrong"))],
    )
    outer = pb.TxnRequest(
        success=[
            request_op(request_put=pb.PutRequest(key=b"a", value=b"6")),
            request_op(request_txn=inner),
            request_op(request_delete_range=pb.DeleteRangeRequest(key=b"c", range_end=b"z")),
        ]
    )
    reply = kv.transact(store, leases, outer)
    assert (reply.succeeded, reply.header.revision, store.revision) == (True, 9, 9)
    first, second, third = reply.responses
    assert first.response_put.header.revision == 9
    assert second.response_txn.succeeded
    assert second.response_txn.header.revision == 0
    assert second.response_txn.responses[0].response_range.kvs[0].value == b"6"
    assert third.response_delete_range.deleted == 3


def test_a_transaction_that_cannot_be_carried_out_changes_nothing(store, leases):
    for impossible, status in (
        (request_op(request_put=pb.PutRequest(key=b"x", ignore_value=True)), statuses.KEY_NOT_FOUND),
        (request_op(request_put=pb.PutRequest(key=b"x", lease=9)), statuses.LEASE_NOT_FOUND),
        (request_op(request_range=pb.RangeRequest(key=b"x", revision=9)), statuses.FUTURE_REV),
        (request_op(request_range=pb.RangeRequest(key=b"x", revision=-2)), statuses.COMPACTED),
    ):
        possible = request_op(request_put=pb.PutRequest(key=b"a", value=b"wrong"))
        with pytest.raises(Status) as caught:
            kv.transact(store, leases, pb.TxnRequest(success=[possible, impossible]))
        assert (caught.value.code, caught.value.text) == status
        # Of the branch that does not run nothing is needed.
        assert not kv.transact(
            store, leases, pb.TxnRequest(compare=[pb.Compare(key=b"a", version=9)], success=[impossible])
        ).succeeded
    assert store.revision == 8


def test_what_goes_through_the_log():
    ranged = request_op(request_range=pb.RangeRequest(key=b"a"))
    local = request_op(request_range=pb.RangeRequest(key=b"a", serializable=True))
    changing = request_op(request_put=pb.PutRequest(key=b"a"))
    for request, read_only, serializable in (
        (pb.TxnRequest(), True, True),
        (pb.TxnRequest(success=[ranged], failure=[local]), True, False),
        (pb.TxnRequest(success=[local], failure=[local]), True, True),
        (pb.TxnRequest(success=[local], failure=[changing]), False, False),
        (pb.TxnRequest(success=[request_op(request_txn=pb.TxnRequest())]), False, False),
    ):
        assert (kv.is_read_only(request), kv.is_serializable(request)) == (read_only, serializable)
