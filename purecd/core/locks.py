# SPDX-License-Identifier: Apache-2.0
"""Locks: whose turn it is in the line of the lock's name holds it.

A lock in a distributed system can be lost while its holder believes to have it: the process may stand still
for longer than its lease lives. What protects data is the fencing token, the create revision of the holder's
key: it grows from holder to holder, and a transaction can compare it.

Source: etcd client/v3/concurrency/mutex.go, server/etcdserver/api/v3lock.
"""

from __future__ import annotations

from collections.abc import Iterable

from purecd.core import methods, retry
from purecd.core.line import Place, join, leave, wait_turn
from purecd.core.op import Op, now
from purecd.errors import EtcdError
from purecd.requests import Compare, Delete, Get, Put, Txn
from purecd.types import TxnReply

GONE = "its lease has ended, or somebody deleted its key"


def acquire(place: Place) -> Op[bool]:
    """Wait in line until the lock is this place's; always true.

    Raises:
        LockLost: the lease ended, or the key was deleted, before that.
        RuntimeError: the lease is in this line already.

    Sends: KV/Txn once, then KV/Txn and Watch/Watch until it is first; KV/Txn when it gives up.
    """
    try:
        if not (yield from join(place)):
            yield from wait_turn(place)
        place.left((yield from now()))
        return True
    except GeneratorExit:
        raise  # nobody performs effects any more
    except BaseException:
        yield from leave(place)
        raise


def try_acquire(place: Place) -> Op[bool]:
    """Take the lock if nobody holds it or waits for it; whether it is this place's now.

    Raises:
        LockLost: the lease has ended.

    Sends: KV/Txn, repeatable; a lock that another holds is not written to.
    """
    try:
        if not (yield from join(place, if_empty=True)):
            return False
        place.left((yield from now()))
        return True
    except GeneratorExit:
        raise
    except BaseException:
        yield from leave(place)
        raise


def release(place: Place) -> Op[None]:
    """Let go of a lock.

    Raises:
        LockLost: it was not held any more.
        EtcdError: it may be held still; it can be released again.

    Sends: KV/Txn, repeatable.
    """
    request = Txn([place.is_there], [Delete(place.key)])
    try:
        reply = yield from _delete_once(request)
    except GeneratorExit:
        raise
    except BaseException:
        place.doubts.add(place.doubt)
        raise
    place.asked = False
    place.doubts.discard(place.doubt)
    if not reply:
        raise place.lost(GONE)


def _delete_once(request: Txn) -> Op[bool]:
    """Whether the lock was held until now, as far as that can be told."""
    try:
        reply: TxnReply = yield from retry.call(methods.TXN, request)
    except EtcdError as error:
        if not error.maybe_applied or error.final:
            raise
        yield from retry.call(methods.TXN, request, idempotent=True)
        return True  # if it is gone now, then by the attempt without an answer
    return reply.succeeded


def guarded(
    place: Place,
    compare: Iterable[Compare],
    success: Iterable[Get | Put | Delete | Txn],
    failure: Iterable[Get | Put | Delete | Txn],
    idempotent: bool,
) -> Op[TxnReply]:
    """Run a transaction if the lock is still held.

    Raises:
        LockLost: it is not; nothing was done.
        EtcdError: as for any transaction.

    Sends: KV/Txn, as `kv.txn` does.
    """
    inner = Txn(compare, success, failure)
    method = methods.TXN if inner.is_write else methods.TXN_READ
    reply = yield from retry.call(method, Txn([place.is_there], [inner]), idempotent=idempotent)
    if not reply.succeeded:
        raise place.lost(GONE)
    within: TxnReply = reply.txns[0]
    return within._replace(header=reply.header)
