# SPDX-License-Identifier: Apache-2.0
"""Ranges, puts, deletions and transactions as messages, carried out on a store.

1. A range with an order, or with bounds on revisions, reads everything before it cuts at the limit; the
   count is that of the keys in the range, whatever the bounds.
2. A range ordered by anything but the key without saying how is ordered upwards, after the limit.
3. A transaction compares first, in the state before it, all the way down through nested transactions;
   then checks what the chosen operations need; then carries them out, which cannot fail any more.

Source: etcd server/etcdserver/apply.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Union

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.store import range_end
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from purecd.memory.leases import Leases
    from purecd.memory.store import Found, Store, Write

    Reader = Union[Store, Write]

NO_ORDER, ASCEND, DESCEND = 0, 1, 2
KEY = 0
SORT_KEYS: dict[int, Callable[[pb.KeyValue], Any]] = {
    0: lambda kv: kv.key,
    1: lambda kv: kv.version,
    2: lambda kv: kv.create_revision,
    3: lambda kv: kv.mod_revision,
    4: lambda kv: kv.value,
}


def read(store: Reader, request: pb.RangeRequest) -> pb.RangeResponse:
    """Carry out a range.

    Raises:
        Status: the revision is compacted, or in the future.
    """
    order, limit = request.sort_order, request.limit
    bounded = bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )
    fetched = 0 if order != NO_ORDER or bounded else limit + 1 if limit > 0 else limit
    found = store.range(
        request.key, range_end(request.range_end), fetched, request.revision, request.count_only
    )
    kvs = [kv for kv in found.kvs if _within(kv, request)] if bounded else found.kvs
    if order == NO_ORDER and request.sort_target != KEY:
        order = ASCEND
    if order in (ASCEND, DESCEND) and kvs:
        kvs = sorted(kvs, key=SORT_KEYS[request.sort_target], reverse=order == DESCEND)
    return _range_reply(found, kvs, request)


def _range_reply(found: Found, kvs: list[pb.KeyValue], request: pb.RangeRequest) -> pb.RangeResponse:
    limit = request.limit
    more = 0 < limit < len(kvs)
    reply = pb.RangeResponse(more=more, count=found.total)
    reply.header.revision = found.revision
    reply.kvs.extend(kvs[:limit] if more else kvs)
    if request.keys_only:
        for kv in reply.kvs:
            kv.ClearField("value")
    return reply


def _within(kv: pb.KeyValue, request: pb.RangeRequest) -> bool:
    """Whether a key is within the bounds on revisions; a bound of 0 is none."""
    return (
        (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
        and (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
        and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
        and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
    )


def put(write: Write, request: pb.PutRequest) -> pb.PutResponse:
    """Carry out a put.

    Raises:
        Status: value or lease shall stay, and there is no such key.
    """
    reply = pb.PutResponse()
    value, lease = request.value, request.lease
    if request.ignore_value or request.ignore_lease or request.prev_kv:
        old = write.range(request.key, None).kvs
        if not old and (request.ignore_value or request.ignore_lease):
            raise Status(*statuses.KEY_NOT_FOUND)
        if request.ignore_value:
            value = old[0].value
        if request.ignore_lease:
            lease = old[0].lease
        if request.prev_kv and old:
            reply.prev_kv.CopyFrom(old[0])
    reply.header.revision = write.put(request.key, value, lease)
    return reply


def delete(write: Write, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
    """Carry out a deletion."""
    reply = pb.DeleteRangeResponse()
    end = range_end(request.range_end)
    if request.prev_kv:
        reply.prev_kvs.extend(write.range(request.key, end).kvs)
    reply.deleted, reply.header.revision = write.delete_range(request.key, end)
    return reply


def is_read_only(request: pb.TxnRequest) -> bool:
    """Whether a transaction holds nothing but ranges; such a one does not go through the log."""
    return all(each.WhichOneof("request") == "request_range" for each in _both(request))


def is_serializable(request: pb.TxnRequest) -> bool:
    """Whether a transaction holds nothing but serializable ranges."""
    return is_read_only(request) and all(each.request_range.serializable for each in _both(request))


def _both(request: pb.TxnRequest) -> Iterator[pb.RequestOp]:
    yield from request.success
    yield from request.failure


def transact(store: Store, leases: Leases, request: pb.TxnRequest) -> pb.TxnResponse:
    """Carry out a transaction; it is committed when this returns.

    Raises:
        Status: an operation of the chosen branch cannot be carried out; nothing was.
    """
    path = list(_compare(store, request))
    chosen = list(_chosen(request, iter(path)))
    for operation in chosen:
        _check_put(store, leases, operation)
    for operation in chosen:
        _check_range(store, operation)
    write = store.write()
    reply = _run(write, request, iter(path))
    reply.header.revision = write.revision + (1 if write.changes else 0)
    write.end()
    return reply


def _compare(store: Store, request: pb.TxnRequest) -> Iterator[bool]:
    """Which branch runs, then the same of the transactions nested in it."""
    succeeded = all(_holds(store, compare) for compare in request.compare)
    yield succeeded
    for operation in request.success if succeeded else request.failure:
        if operation.WhichOneof("request") == "request_txn":
            yield from _compare(store, operation.request_txn)


def _holds(store: Store, compare: pb.Compare) -> bool:
    kvs: Sequence[pb.KeyValue] = store.range(compare.key, range_end(compare.range_end)).kvs
    if not kvs:
        if compare.target == 3:
            return False  # there is no telling an empty value from none
        kvs = [pb.KeyValue()]
    return all(_compares(compare, kv) for kv in kvs)


def _compares(compare: pb.Compare, kv: pb.KeyValue) -> bool:
    target = compare.target
    mine: Any
    theirs: Any
    # A value of another kind than the target's is as good as none.
    if target == 0:
        mine, theirs = kv.version, compare.version
    elif target == 1:
        mine, theirs = kv.create_revision, compare.create_revision
    elif target == 2:
        mine, theirs = kv.mod_revision, compare.mod_revision
    elif target == 3:
        mine, theirs = kv.value, compare.value
    elif target == 4:
        mine, theirs = kv.lease, compare.lease
    else:
        mine = theirs = 0
    result = compare.result
    if result == 0:
        return bool(mine == theirs)
    if result == 1:
        return bool(mine > theirs)
    if result == 2:
        return bool(mine < theirs)
    return bool(mine != theirs) if result == 3 else True


def _chosen(request: pb.TxnRequest, path: Iterator[bool]) -> Iterator[pb.RequestOp]:
    """The operations that will run, in order, those of nested transactions in their place."""
    for operation in request.success if next(path) else request.failure:
        if operation.WhichOneof("request") == "request_txn":
            yield from _chosen(operation.request_txn, path)
        else:
            yield operation


def _check_put(store: Store, leases: Leases, operation: pb.RequestOp) -> None:
    if operation.WhichOneof("request") != "request_put":
        return
    request = operation.request_put
    if (request.ignore_value or request.ignore_lease) and not store.range(request.key, None).kvs:
        raise Status(*statuses.KEY_NOT_FOUND)
    if request.lease:
        leases.find(request.lease)


def _check_range(store: Store, operation: pb.RequestOp) -> None:
    if operation.WhichOneof("request") != "request_range":
        return
    revision = operation.request_range.revision
    if revision > store.revision:
        raise Status(*statuses.FUTURE_REV)
    if revision != 0 and revision < store.compacted:
        raise Status(*statuses.COMPACTED)


def _run(write: Write, request: pb.TxnRequest, path: Iterator[bool]) -> pb.TxnResponse:
    reply = pb.TxnResponse(succeeded=next(path))
    reply.header.SetInParent()
    for operation in request.success if reply.succeeded else request.failure:
        kind = operation.WhichOneof("request")
        answer = reply.responses.add()
        if kind == "request_range":
            answer.response_range.CopyFrom(read(write, operation.request_range))
        elif kind == "request_put":
            answer.response_put.CopyFrom(put(write, operation.request_put))
        elif kind == "request_delete_range":
            answer.response_delete_range.CopyFrom(delete(write, operation.request_delete_range))
        elif kind == "request_txn":
            answer.response_txn.CopyFrom(_run(write, operation.request_txn, path))
    return reply
