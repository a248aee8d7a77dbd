# SPDX-License-Identifier: Apache-2.0
"""Standing in line below a prefix: what locks and elections have in common.

1. The line of ``name`` is the keys below ``name/``, oldest first by create revision; it is the oldest one's
   turn. Each is ``name/`` + its lease's id in hexadecimal, as Go's clients and the server's own services have
   it: all of them stand in the same lines.
2. A place lives as long as its lease. Whoever waits watches the one key that is just ahead of its own, so
   that an end of one wakes one; each time it looks again, at its own key, too.
3. A request to join can be repeated: it makes the key only where there is none, and the key's value tells
   whether an attempt without an answer has made it. So no two places share a key, though they share a lease.
   The value is a random number for a lock. In an election it is the proposal, and tells only after such an
   attempt.
4. Nobody who gives up leaves a key behind. A place with a lease of its own goes with the lease, whatever else
   is still on its way. In a shared lease the key is deleted; what may be left over nevertheless is remembered
   with the lease (`Place.doubts`), and is deleted before the lease stands in that line again.
5. A key is deleted by what no other key has, its create revision or such a random number, so a deletion that
   arrives late does no harm.

Source: etcd client/v3/concurrency/{key,mutex,election}.go. That client watches on when its own key is gone,
and deletes by key alone.
"""

from __future__ import annotations

from typing import Union

from purecd import errors
from purecd.core import kv, methods, retry
from purecd.core.keptlease import KeptLease
from purecd.core.op import Attach, Next, Op, Sleep, now, random_id
from purecd.core.watch import close_watch, watch_request
from purecd.core.watcher import Watcher
from purecd.errors import EtcdError
from purecd.requests import Compare, Delete, Get, Put, Text, Txn, as_bytes, create_revision, value
from purecd.types import GetReply, TxnReply, WatchResponse, brief

EXPIRED = "its lease has expired or was revoked"
PAUSES = (0.05, 0.2, 0.8)  # seconds between attempts to delete a key that may still be made


Doubt = Union[int, bytes]


class Place:
    """One place in a line.

    Args:
        name: of the lock or the election.
        kept: the lease that the place lives by.
        own: the lease is there for this place alone; who made it revokes it.
        doubts: create revisions of keys of this lease that may be left over, or values where the revision is
            not known; all places of the lease share it.
        value: of the key; None for a random number.

    Attributes:
        prefix, key: of the line, and of this place in it.
        value: of the key.
        unique: nobody else's key has the value.
        create_revision: of the key, 0 while it is not known.
        asked: the key may exist.
        repeated: two requests may be under way that make it.
        over: given up from this side; who waits stops waiting.
        watcher: what it waits with.
    """

    __slots__ = (
        "asked",
        "create_revision",
        "doubts",
        "kept",
        "key",
        "name",
        "over",
        "own",
        "prefix",
        "repeated",
        "unique",
        "value",
        "watcher",
    )

    def __init__(
        self, name: bytes, kept: KeptLease, own: bool, doubts: set[Doubt], value: bytes | None = None
    ) -> None:
        self.name = name
        self.prefix = name + b"/"
        self.key = self.prefix + b"%x" % kept.lease_id
        self.kept = kept
        self.own = own
        self.doubts = doubts
        self.value = value or b""
        self.unique = value is None
        self.create_revision = 0
        self.asked = False
        self.repeated = False
        self.over = False
        self.watcher: Watcher | None = None

    def __repr__(self) -> str:
        return brief(self.key)

    @property
    def is_there(self) -> Compare:
        """The condition that the key is there, and is this place's."""
        if self.create_revision:
            return create_revision(self.key) == self.create_revision
        return value(self.key) == self.value

    @property
    def doubt(self) -> Doubt:
        """What tells that a key is what this place has left over."""
        return self.create_revision or self.value

    def lost(self, why: str) -> errors.LockLost:
        """The error that tells that the place is gone."""
        error = errors.LockLost(f"{brief(self.name)} is not held: {why}")
        error.__cause__ = self.kept.error
        return error

    def left(self, moment: float) -> float:
        """Seconds that the lease certainly lives on.

        Raises:
            LockLost: it may have ended, or nobody wants the place any more.
        """
        if self.kept.lost or self.kept.alive_until <= moment:
            raise self.lost(EXPIRED)
        if self.over:
            raise self.lost("its lease was closed")
        return self.kept.alive_until - moment

    def give_up(self) -> Watcher | None:
        """Have whoever waits for its turn stop; what has to be detached for that."""
        self.over = True
        return self.watcher


def line_of(name: Text) -> bytes:
    """Check the name of a line."""
    checked = as_bytes("name", name)
    if not checked:
        raise ValueError("name is empty")
    return checked


def join(place: Place, *, if_empty: bool = False) -> Op[bool]:
    """Stand in line.

    Args:
        if_empty: only if nobody is in it.

    Returns:
        Whether it is this place's turn. With `if_empty` False means that it has not joined.

    Raises:
        LockLost: the lease has ended.
        RuntimeError: another place has the key.

    Sends: KV/Txn, repeatable.
    """
    if place.unique and not place.value:
        place.value = b"%016x" % (yield from random_id())
    key = place.prefix if if_empty else place.key
    first = Get(place.prefix, prefix=True, sort_by="create_revision", limit=1, keys_only=True)
    request = Txn(
        [create_revision(key, prefix=if_empty) == 0],
        [Put(place.key, place.value, lease=place.kept.lease_id), first],
        [Get(place.key), first],
    )
    while True:
        reply, again = yield from _ask(place, request)
        if reply.succeeded:
            place.create_revision = reply.header.revision
            return _is_first(place, reply.gets[0])
        found = reply.gets[0].kv
        if found is None:
            place.asked = False
            return False
        left_over = place.doubts & {found.create_revision, found.value}
        if left_over:
            yield from _delete(place.key, create_revision(place.key) == found.create_revision)
            place.doubts.difference_update(left_over)
            continue
        if found.value != place.value or not (again or place.unique):
            place.asked = False
            raise RuntimeError(f"lease {place.kept.lease_id:x} is in line for {brief(place.name)} already")
        place.create_revision = found.create_revision
        return _is_first(place, reply.gets[1])


def _ask(place: Place, request: Txn) -> Op[tuple[TxnReply, bool]]:
    """Ask for a place in line; whether an earlier attempt may have made the key, too."""
    place.asked = True
    again = False
    while True:
        try:
            reply: TxnReply = yield from retry.call(methods.TXN, request, idempotent=again)
            place.repeated = False
            return reply, again
        except errors.LeaseNotFound as error:
            place.asked = False  # the keys of a lease go with it
            raise place.lost(EXPIRED) from error
        except EtcdError as error:
            if not again and error.maybe_applied and retry.may_repeat(methods.TXN, error, idempotent=True):
                again = place.repeated = True
                continue
            place.asked = again or error.maybe_applied
            raise


def _is_first(place: Place, first: GetReply) -> bool:
    return first.kv is None or first.kv.create_revision == place.create_revision


def wait_turn(place: Place) -> Op[None]:
    """Wait until nobody is ahead of a place.

    Raises:
        LockLost: its key is gone, or its lease has ended.

    Sends: KV/Range, and Watch/Watch, for each one ahead that is waited for.
    """
    # One read tells of both. No transaction: a member of an older etcd (3.5.1, say) panics when the caller of
    # one that only reads gives up, "unexpected error during txn" (etcd issue 14110).
    look = Get(
        place.prefix,
        prefix=True,
        sort_by="create_revision",
        descending=True,
        limit=2,
        keys_only=True,
        max_create_revision=place.create_revision,
    )
    while True:
        reply: GetReply = yield from retry.call(methods.RANGE, look)
        mine = reply.kv
        if mine is None or mine.create_revision != place.create_revision:
            raise place.lost("its key is gone, for its lease has ended or somebody deleted it")
        if len(reply.kvs) == 1:
            return
        yield from _until_deleted(place, reply.kvs[1].key, reply.header.revision + 1)


def _until_deleted(place: Place, key: bytes, start_revision: int) -> Op[None]:
    """Wait until a key is deleted, or may have been."""
    request = watch_request(key, start_revision=start_revision, exclude=("put",))
    watcher = place.watcher = Watcher(request)
    yield Attach(watcher)
    while True:
        left = place.left((yield from now()))
        try:
            response: WatchResponse | None = yield Next(watcher, left)
        except errors.Compacted:
            break  # it may have happened long ago
        except TimeoutError as error:
            if isinstance(error, EtcdError):
                raise _not_in_time(place, key) from error
            continue  # the lease was renewed meanwhile, or is over
        if response is None:
            place.left((yield from now()))
            raise errors.ClientClosed("the client was closed")
        if response.events:
            break
    yield from _put_away(place)


def _not_in_time(place: Place, key: bytes) -> errors.DeadlineExceeded:
    error = errors.DeadlineExceeded(f"{place} was waiting for {brief(key)} when the time was over")
    error.final = True
    return error


def _put_away(place: Place) -> Op[None]:
    watcher, place.watcher = place.watcher, None
    if watcher is not None:
        yield from close_watch(watcher)


def leave(place: Place) -> Op[None]:
    """Give up a place that was not got, or not wanted any more; whatever fails is left to the lease.

    Sends: KV/Txn that deletes the key, repeatable, unless the lease is the place's own.
    """
    yield from _put_away(place)
    if place.own or not place.asked:
        return
    try:
        yield from _withdraw(place)
    except BaseException as error:
        place.doubts.add(place.doubt)
        if not isinstance(error, EtcdError):
            raise
    place.asked = False


def _withdraw(place: Place) -> Op[None]:
    """Delete the key, also one that is still being made: that request may arrive after this one."""
    for pause in PAUSES:
        if not (place.create_revision or place.unique):
            found = (yield from kv.get(place.key)).kv
            if found is not None and found.value == place.value:
                place.create_revision = found.create_revision
        if place.create_revision or place.unique:
            deleted = yield from _delete(place.key, place.is_there)
            if (deleted or place.create_revision) and not place.repeated:
                return
            if deleted:
                place.repeated, place.create_revision = False, 0  # the other request may make it again
        yield Sleep(pause)
    place.doubts.add(place.doubt)


def _delete(key: bytes, condition: Compare) -> Op[bool]:
    reply: TxnReply = yield from retry.call(methods.TXN, Txn([condition], [Delete(key)]), idempotent=True)
    return reply.succeeded
