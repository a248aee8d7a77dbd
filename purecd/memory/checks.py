# SPDX-License-Identifier: Apache-2.0
"""What a member refuses before a request enters the log: empty keys, too many operations, duplicates.

1. In one transaction no key may be put twice, nor put and deleted; the two branches of a nested
   transaction may put the same key, for only one of them runs.
2. An operation nested in a branch counts against what the levels above have left of `max_txn_ops`.

Source: etcd server/etcdserver/api/v3rpc/key.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from purecd.memory import statuses
from purecd.memory.calls import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from purecd.pb import messages as pb

Interval = tuple[bytes, bytes]  # [key, end), an empty end is none


def check_range(request: pb.RangeRequest) -> None:
    """Refuse a range without a key.

    Raises:
        Status: refused.
    """
    if not request.key:
        raise Status(*statuses.EMPTY_KEY)
    if request.sort_target > 4:
        # etcd 3.5 crashes; 3.6 and later refuse it in these words.
        raise Status(*statuses.INVALID_SORT_OPTION)


def check_put(request: pb.PutRequest) -> None:
    """Refuse a put without a key, or with what it asks to ignore.

    Raises:
        Status: refused.
    """
    if not request.key:
        raise Status(*statuses.EMPTY_KEY)
    if request.ignore_value and request.value:
        raise Status(*statuses.VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise Status(*statuses.LEASE_PROVIDED)


def check_delete(request: pb.DeleteRangeRequest) -> None:
    """Refuse a deletion without a key.

    Raises:
        Status: refused.
    """
    if not request.key:
        raise Status(*statuses.EMPTY_KEY)


def check_txn(request: pb.TxnRequest, max_txn_ops: int) -> None:
    """Refuse a transaction that is too long, or that changes a key twice.

    Args:
        max_txn_ops: most comparisons, and operations in each branch.

    Raises:
        Status: refused.
    """
    _check_operations(request, max_txn_ops)
    _changes(request.success)
    _changes(request.failure)


def _check_operations(request: pb.TxnRequest, left: int) -> None:
    used = max(len(request.compare), len(request.success), len(request.failure))
    if used > left:
        raise Status(*statuses.TOO_MANY_OPS)
    for compare in request.compare:
        if not compare.key:
            raise Status(*statuses.EMPTY_KEY)
    for branch in (request.success, request.failure):
        for operation in branch:
            _check_operation(operation, left - used)


def _check_operation(operation: pb.RequestOp, left: int) -> None:
    kind = operation.WhichOneof("request")
    if kind == "request_range":
        check_range(operation.request_range)
    elif kind == "request_put":
        check_put(operation.request_put)
    elif kind == "request_delete_range":
        check_delete(operation.request_delete_range)
    elif kind == "request_txn":
        _check_operations(operation.request_txn, left)
    else:
        raise Status(*statuses.KEY_NOT_FOUND)


def _changes(operations: Iterable[pb.RequestOp]) -> tuple[set[bytes], list[Interval]]:
    """The keys that a branch puts and the ranges it deletes, those of nested transactions included."""
    deletions = [
        _interval(each.request_delete_range)
        for each in operations
        if each.WhichOneof("request") == "request_delete_range"
    ]
    puts: set[bytes] = set()
    for each in operations:
        if each.WhichOneof("request") == "request_txn":
            _add_nested(each.request_txn, puts, deletions)
    for each in operations:
        if each.WhichOneof("request") == "request_put":
            _refuse_if_changed(each.request_put.key, puts, deletions)
            puts.add(each.request_put.key)
    return puts, deletions


def _add_nested(request: pb.TxnRequest, puts: set[bytes], deletions: list[Interval]) -> None:
    then_puts, then_deletions = _changes(request.success)
    else_puts, else_deletions = _changes(request.failure)
    for key in then_puts:
        _refuse_if_changed(key, puts, deletions)
    for key in else_puts:
        _refuse_if_changed(key, puts, deletions)
    puts |= then_puts | else_puts
    deletions += then_deletions + else_deletions


def _refuse_if_changed(key: bytes, puts: set[bytes], deletions: list[Interval]) -> None:
    if key in puts or any(low <= key and (not high or key < high) for low, high in deletions):
        raise Status(*statuses.DUPLICATE_KEY)


def _interval(request: pb.DeleteRangeRequest) -> Interval:
    # A range to the end of all keys is sent as one zero octet, and etcd takes that literally here: it
    # overlaps nothing.
    return request.key, request.range_end or request.key + b"\0"
