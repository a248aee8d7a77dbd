# SPDX-License-Identifier: Apache-2.0
"""Locks in the asyncio front."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from purecd import errors
from purecd.aio.leases import AsyncLease
from purecd.aio.runner import CLEAN_UP
from purecd.core import line, locks
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.requests import Compare, Delete, Get, Put, Text, Txn, as_int
from purecd.types import TxnReply, brief

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.line import Place
    from purecd.core.op import Op

logger = logging.getLogger("purecd")


class AsyncLock:
    """A lock that one holder has at a time, in whatever process or language.

    In an ``async with`` statement the body runs with the lock held, and `LockLost` is raised at its end if
    the lock was lost meanwhile. Those who wait get it in the order in which they came. An `AsyncLock` is
    acquired by one task at a time; make one for each task.

    A lock is lost when its lease is: this process may have stood still for too long to notice in time. Writes
    that must not happen then go through `txn` or `guard`; stores other than etcd compare the `fencing_token`.

    Go's ``concurrency.Mutex``, ``etcdctl lock`` and the lock service of etcd contend for the same lock.

    Attributes:
        name: of the lock; its contenders are the keys below ``name/``.
    """

    def __init__(
        self, owner: Any, name: Text, ttl: int, lease: AsyncLease | None, timeout: float | None
    ) -> None:
        self.name = line.line_of(name)
        if lease is not None and not isinstance(lease, AsyncLease):
            raise TypeError("lease must be one of client.lease() or client.leases.keep_alive()")
        self._owner = owner
        self._ttl = as_int("ttl", ttl, 1)
        self._given = lease
        self._timeout = timeout
        self._using = False  # from the begin of acquiring to the end of releasing
        self._lease: AsyncLease | None = None
        self._place: Place | None = None
        self._pid = 0

    def __repr__(self) -> str:
        state = "lost" if self.lost else "held" if self.held else "not held"
        return f"<Lock {brief(self.name)} {state}>"

    async def __aenter__(self) -> AsyncLock:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._place is None:  # the body released it
            return
        try:
            await self.release()
        except BaseException as failure:
            if self._place is not None:
                await self._end(self._lease, self._place)  # nobody will release it again
            if kind is None or not isinstance(failure, errors.EtcdError):
                raise
            logger.warning("lock not released: %s", failure)  # the body's error matters more

    @property
    def held(self) -> bool:
        """Whether it was acquired, not released, and its lease certainly lives."""
        return self._place is not None and self._lease is not None and not self._lease.lost

    @property
    def lost(self) -> bool:
        """Whether it was acquired, not released, and its lease may have ended."""
        return self._place is not None and not self.held

    @property
    def lease(self) -> AsyncLease | None:
        """The lease that it lives by while it is held; None otherwise, unless one was given."""
        return self._lease or self._given

    @property
    def key(self) -> bytes:
        """The holder's key, b"" while it is not held."""
        return self._place.key if self._place is not None else b""

    @property
    def fencing_token(self) -> int:
        """The create revision of the holder's key, which grows from holder to holder; 0 while not held."""
        return self._place.create_revision if self._place is not None else 0

    def check(self) -> None:
        """Raise `LockLost` if it was lost, `RuntimeError` if it was not acquired."""
        self._held().left(time.monotonic())

    async def acquire(self, timeout: Timeout = DEFAULT_TIMEOUT) -> int:
        """Wait until it is held.

        Args:
            timeout: seconds to wait, None for no limit; without it that of the lock.

        Returns:
            The `fencing_token`.

        Raises:
            DeadlineExceeded: it was not to be had in time. It leaves no trace in the line.
            LockLost: the lease was lost while waiting.
            RuntimeError: this `AsyncLock` is in use, or its lease is in the line by another.

        Sends: Lease/LeaseGrant, unless a lease was given; KV/Txn; while others are ahead KV/Txn and
            Watch/Watch. Repeatable. Lease/LeaseRevoke, or KV/Txn in a given lease, when it gives up.
        """
        await self._take(locks.acquire, self._timeout if timeout is DEFAULT_TIMEOUT else timeout)
        return self.fencing_token

    async def try_acquire(self, timeout: Timeout = DEFAULT_TIMEOUT) -> bool:
        """Take it if nobody holds it or waits for it; whether it is held now.

        Args:
            timeout: seconds for the whole command.

        Raises:
            LockLost: the lease is lost.
            RuntimeError: this `AsyncLock` is in use, or its lease is in the line by another.

        Sends: Lease/LeaseGrant, unless a lease was given; KV/Txn, repeatable; Lease/LeaseRevoke.
        """
        return await self._take(locks.try_acquire, timeout)

    async def release(self, timeout: Timeout = DEFAULT_TIMEOUT) -> None:
        """Let go of it.

        Args:
            timeout: seconds for the whole command.

        Raises:
            LockLost: it was not held any more.
            RuntimeError: it was not acquired, or was released before.
            EtcdError: it may be held still, at most until its lease ends. It can be released again.

        Sends: KV/Txn, repeatable; Lease/LeaseRevoke, unless a lease was given.
        """
        place = self._held()
        lease = self._lease
        if self._pid != os.getpid():
            self._forget()  # it is the parent's
            return
        try:
            if lease is not None and place.own:
                lease.close()
            await self._owner._run(locks.release(place), timeout)
        except errors.LockLost:
            await self._end(lease, place)
            raise
        await self._end(lease, place)

    def guard(self, txn: Txn) -> Txn:
        """The transaction with one more condition: that the lock is held.

        Raises:
            RuntimeError: it was not acquired.
        """
        return Txn([self._held().is_there, *txn.compare], txn.success, txn.failure)

    async def txn(
        self,
        compare: Iterable[Compare] = (),
        success: Iterable[Get | Put | Delete | Txn] = (),
        failure: Iterable[Get | Put | Delete | Txn] = (),
        *,
        idempotent: bool = False,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> TxnReply:
        """Run a transaction, like ``client.txn``, if the lock is held.

        Args:
            compare: further conditions.
            success: what is done when they hold.
            failure: what is done when they do not.
            idempotent: the caller's word that doing it twice is harmless.
            timeout: seconds for the whole command.

        Raises:
            LockLost: the lock is not held any more; nothing was done.
            RuntimeError: it was not acquired.

        Sends: KV/Txn, as ``client.txn`` does.
        """
        op = locks.guarded(self._held(), compare, success, failure, idempotent)
        reply: TxnReply = await self._owner._run(op, timeout)
        return reply

    def _held(self) -> Place:
        if self._place is None:
            raise RuntimeError("the lock is not acquired")
        return self._place

    async def _take(self, operation: Callable[[Place], Op[bool]], timeout: Timeout) -> bool:
        """Acquire it in one way or another; all of it is undone if anything goes wrong."""
        deadline = None if timeout is DEFAULT_TIMEOUT else deadline_after(timeout, time.monotonic())
        if self._using:
            raise RuntimeError(
                "this AsyncLock is acquired, or being acquired, already; make one for each task"
            )
        self._using = True
        lease, place = self._given, None
        try:
            if lease is None:
                lease = await self._owner.lease(self._ttl, timeout=timeout)
            place = line.Place(self.name, lease._kept, self._given is None, lease._doubts)
            lease._places.add(place)
            left = timeout if deadline is None else max(0.0, deadline - time.monotonic())
            if await self._owner._run(operation(place), left):
                lease._places.discard(place)
                self._pid, self._lease, self._place = os.getpid(), lease, place
                return True
        except BaseException:
            await self._undo(lease, place)
            raise
        await self._end(lease, place)
        return False

    async def _undo(self, lease: AsyncLease | None, place: Place | None) -> None:
        """It was not acquired: leave nothing behind."""
        try:
            if place is not None and place.asked and not place.own:
                await self._owner._run(line.leave(place), CLEAN_UP)
        finally:
            await self._end(lease, place)

    async def _end(self, lease: AsyncLease | None, place: Place | None) -> None:
        """Part with a lease of the lock's own, and be ready to be acquired again."""
        try:
            if lease is not None and place is not None:
                lease._places.discard(place)
            if lease is not None and self._given is None:
                await revoke(lease)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._place = self._lease = None
        self._using = False


async def revoke(lease: AsyncLease) -> None:
    """End a lease that nobody needs any more; when that fails it ends with its TTL."""
    lease.close()
    if lease.lost:
        return
    try:
        await lease.revoke(CLEAN_UP)
    except errors.LeaseNotFound:
        pass
    except errors.EtcdError as failure:
        logger.warning("lease %x not revoked: %s", lease.id, failure)
