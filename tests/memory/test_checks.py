# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import checks, statuses
from purecd.memory.calls import Status
from purecd.pb import messages as pb


def put(key, **fields):
    return pb.RequestOp(request_put=pb.PutRequest(key=key, **fields))


def delete(key, range_end=b""):
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=range_end))


def txn(success=(), failure=(), compare=()):
    return pb.TxnRequest(success=success, failure=failure, compare=compare)


def nested(success=(), failure=()):
    return pb.RequestOp(request_txn=txn(success, failure))


def refusal(function, *args):
    try:
        function(*args)
    except Status as status:
        return status.code, status.text
    return None


@pytest.mark.parametrize(
    ("check", "request_", "status"),
    [
        (checks.check_range, pb.RangeRequest(key=b"k"), None),
        (checks.check_range, pb.RangeRequest(), statuses.EMPTY_KEY),
        (checks.check_range, pb.RangeRequest(key=b"k", sort_target=5), statuses.INVALID_SORT_OPTION),
        (checks.check_put, pb.PutRequest(value=b"v"), statuses.EMPTY_KEY),
        (checks.check_put, pb.PutRequest(key=b"k", ignore_value=True), None),
        (checks.check_put, pb.PutRequest(key=b"k", value=b"v", ignore_value=True), statuses.VALUE_PROVIDED),
        (checks.check_put, pb.PutRequest(key=b"k", lease=1, ignore_lease=True), statuses.LEASE_PROVIDED),
        (checks.check_delete, pb.DeleteRangeRequest(range_end=b"\0"), statuses.EMPTY_KEY),
    ],
)
def test_single_requests(check, request_, status):
    assert refusal(check, request_) == status


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (txn(), None),
        (txn([put(b"a")], [put(b"a")]), None),
        (txn([put(b"a"), put(b"a")]), statuses.DUPLICATE_KEY),
        (txn([], [put(b"a"), put(b"a")]), statuses.DUPLICATE_KEY),
        (txn([delete(b"a"), delete(b"a", b"c")]), None),
        (txn([put(b"b"), delete(b"a", b"c")]), statuses.DUPLICATE_KEY),
        (txn([put(b"c"), delete(b"a", b"c")]), None),
        (txn([put(b"a"), delete(b"a")]), statuses.DUPLICATE_KEY),
        (txn([put(b"a\0"), delete(b"a")]), None),
        # etcd takes the end of a range without one literally here, so that it overlaps nothing.
        (txn([put(b"b"), delete(b"a", b"\0")]), None),
        (txn([nested([put(b"a")], [put(b"a")])]), None),
        (txn([nested([put(b"a")]), nested([put(b"a")])]), statuses.DUPLICATE_KEY),
        (txn([put(b"a"), nested([], [put(b"a")])]), statuses.DUPLICATE_KEY),
        (txn([nested([delete(b"a", b"c")]), put(b"b")]), statuses.DUPLICATE_KEY),
        (txn([nested([delete(b"a")]), nested([put(b"a")])]), statuses.DUPLICATE_KEY),
        # The other way round it is overlooked.
        (txn([nested([put(b"a")]), nested([delete(b"a")])]), None),
        (txn([pb.RequestOp()]), statuses.KEY_NOT_FOUND),
        (txn([put(b"")]), statuses.EMPTY_KEY),
        (txn([nested([], [pb.RequestOp(request_range=pb.RangeRequest())])]), statuses.EMPTY_KEY),
        (txn(compare=[pb.Compare()]), statuses.EMPTY_KEY),
    ],
)
def test_transactions(request_, status):
    assert refusal(checks.check_txn, request_, 128) == status


def test_operations_are_counted_with_those_of_the_levels_above():
    two = [put(b"a"), put(b"b")]
    assert refusal(checks.check_txn, txn(two), 2) is None
    assert refusal(checks.check_txn, txn(two), 1) == statuses.TOO_MANY_OPS
    assert refusal(checks.check_txn, txn(compare=[pb.Compare(key=b"k")] * 2), 1) == statuses.TOO_MANY_OPS
    assert refusal(checks.check_txn, txn([nested(two)]), 3) is None
    assert refusal(checks.check_txn, txn([nested(two)]), 2) == statuses.TOO_MANY_OPS
