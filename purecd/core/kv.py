# SPDX-License-Identifier: Apache-2.0
"""Reading and writing keys: one operation per RPC of etcd's KV service.

Source: etcd client/v3/{kv,op,txn}.go; server/etcdserver/api/v3rpc/key.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from purecd.core import methods, retry
from purecd.core.op import Op
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import Compare, Delete, Get, LeaseId, Put, Text, Txn, check_flags
from purecd.types import CompactReply, DeleteReply, GetReply, PutReply, TxnReply


def get(
    key: Text,
    range_end: Text | None = None,
    *,
    prefix: bool = False,
    from_key: bool = False,
    limit: int = 0,
    revision: int = 0,
    sort_by: str | None = None,
    descending: bool = False,
    serializable: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
    min_mod_revision: int = 0,
    max_mod_revision: int = 0,
    min_create_revision: int = 0,
    max_create_revision: int = 0,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> Op[GetReply]:
    """Read one key, or a range of keys, as of one revision.

    Args:
        key: the key, or the first of ``[key, range_end)``.
        range_end: where the range ends, exclusive.
        prefix: read all keys that start with `key`; an empty key means all keys.
        from_key: read `key` and all keys after it.
        limit: at most so many keys, 0 for all; `more` in the reply tells of others.
        revision: as of this revision, 0 for the latest.
        sort_by: ``key``, ``version``, ``create_revision``, ``mod_revision`` or ``value``.
        descending: greatest first.
        serializable: let the member answer from what it has, which may be old.
        keys_only: leave the values out.
        count_only: only `count` in the reply.
        min_mod_revision, max_mod_revision: only keys last changed in this range, inclusive.
        min_create_revision, max_create_revision: only keys created in this range, inclusive.
        timeout: seconds for the whole command.

    Returns:
        The keys found, none being no error; ``reply.value`` and ``reply.kv`` are the first.

    Raises:
        Compacted: `revision` was compacted.
        FutureRev: `revision` is not reached yet.
        PermissionDenied: the user may not read all of the range.

    Sends: KV/Range, repeatable.
    """
    request = Get.__new__(
        Get,  # called as such: `Get(…)` makes a dict of so many arguments, and takes twice as long
        key,
        range_end,
        prefix=prefix,
        from_key=from_key,
        limit=limit,
        revision=revision,
        sort_by=sort_by,
        descending=descending,
        serializable=serializable,
        keys_only=keys_only,
        count_only=count_only,
        min_mod_revision=min_mod_revision,
        max_mod_revision=max_mod_revision,
        min_create_revision=min_create_revision,
        max_create_revision=max_create_revision,
    )
    return retry.call(methods.RANGE, request)


def put(
    key: Text,
    value: Text = b"",
    *,
    lease: LeaseId = 0,
    prev_kv: bool = False,
    ignore_value: bool = False,
    ignore_lease: bool = False,
    idempotent: bool = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> Op[PutReply]:
    """Write one key.

    Args:
        key: 1 byte or more.
        value: what to store; str is encoded as UTF-8.
        lease: the key is deleted when this lease ends; 0 detaches it from any lease.
        prev_kv: return what was there before.
        ignore_value: keep the value, change the lease only.
        ignore_lease: keep the lease, change the value only.
        idempotent: the caller's word that storing it twice is harmless, so that it may be
            sent again when the outcome of the first attempt is unknown.
        timeout: seconds for the whole command.

    Raises:
        LeaseNotFound: there is no such lease.
        KeyNotFound: `ignore_value` or `ignore_lease` for a key that does not exist.
        NoSpace: the database is full; the write may have been applied.

    Sends: KV/Put, again only when it was certainly not applied.
    """
    request = Put.__new__(
        Put, key, value, lease=lease, prev_kv=prev_kv, ignore_value=ignore_value, ignore_lease=ignore_lease
    )
    return retry.call(methods.PUT, request, idempotent=idempotent)


def delete(
    key: Text,
    range_end: Text | None = None,
    *,
    prefix: bool = False,
    from_key: bool = False,
    prev_kv: bool = False,
    idempotent: bool = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> Op[DeleteReply]:
    """Delete one key, or a range of keys.

    Args:
        key: the key, or the first of ``[key, range_end)``.
        range_end: where the range ends, exclusive.
        prefix: delete all keys that start with `key`; an empty key means all keys.
        from_key: delete `key` and all keys after it.
        prev_kv: return what was deleted.
        idempotent: the caller's word that deleting twice is harmless.
        timeout: seconds for the whole command.

    Returns:
        How many keys were deleted; 0 makes no new revision.

    Sends: KV/DeleteRange, again only when it was certainly not applied.
    """
    request = Delete(key, range_end, prefix=prefix, from_key=from_key, prev_kv=prev_kv)
    return retry.call(methods.DELETE_RANGE, request, idempotent=idempotent)


def txn(
    compare: Iterable[Compare] = (),
    success: Iterable[Get | Put | Delete | Txn] = (),
    failure: Iterable[Get | Put | Delete | Txn] = (),
    *,
    idempotent: bool = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> Op[TxnReply]:
    """Do one list of operations or another, atomically.

    Args:
        compare: conditions, such as ``purecd.version("lock") == 0``; all must hold.
        success: what is done when they do.
        failure: what is done when they do not.
        idempotent: the caller's word that doing it twice is harmless.
        timeout: seconds for the whole command.

    Returns:
        Which list was done (`succeeded`), and one reply per operation in it.

    Raises:
        TooManyOps: more than the server allows, 128 by default.
        DuplicateKey: one list writes a key twice.

    Sends: KV/Txn; repeatable when no operation in it writes, else again only when it was
        certainly not applied.
    """
    request = Txn(compare, success, failure)
    method = methods.TXN if request.is_write else methods.TXN_READ
    return retry.call(method, request, idempotent=idempotent)


def compact(revision: int, *, physical: bool = False, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[CompactReply]:
    """Forget what keys were before a revision.

    Args:
        revision: the oldest revision that stays readable, 0 to 2^63-1.
        physical: answer only when the entries are gone from the member's disk.
        timeout: seconds for the whole command.

    Raises:
        Compacted: that was done already.
        FutureRev: `revision` is not reached yet.

    Sends: KV/Compact, again only when it was certainly not applied.
    """
    if isinstance(revision, bool) or not isinstance(revision, int):
        raise TypeError(f"revision must be an int, not {type(revision).__name__}")
    if not 0 <= revision < 2**63:
        raise ValueError(f"revision {revision} is not from 0 to 2^63-1")
    check_flags(physical=physical)
    return retry.call(methods.COMPACT, (revision, physical))
