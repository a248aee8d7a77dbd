# SPDX-License-Identifier: Apache-2.0
"""Locks in the blocking front."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from purecd import errors
from purecd.core import line, locks
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.requests import Compare, Delete, Get, Put, Text, Txn, as_int
from purecd.sync.leases import Lease
from purecd.sync.runner import CLEAN_UP
from purecd.types import TxnReply, brief

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.line import Place
    from purecd.core.op import Op

logger = logging.getLogger("purecd")


class Lock:
    """A lock that one holder has at a time, in whatever process or language.

    In a ``with`` statement the body runs with the lock held, and `LockLost` is raised at its end if the
    lock was lost meanwhile. Those who wait get it in the order in which they came. A `Lock` is acquired by
    one thread at a time; make one for each thread.

    A lock is lost when its lease is: this process may have stood still for too long to notice in time. Writes
    that must not happen then go through `txn` or `guard`; stores other than etcd compare the `fencing_token`.

    Go's ``concurrency.Mutex``, ``etcdctl lock`` and the lock service of etcd contend for the same lock.

    Attributes:
        name: of the lock; its contenders are the keys below ``name/``.
    """

    def __init__(self, owner: Any, name: Text, ttl: int, lease: Lease | None, timeout: float | None) -> None:
        self.name = line.line_of(name)
        if lease is not None and not isinstance(lease, Lease):
            raise TypeError("lease must be one of client.lease() or client.leases.keep_alive()")
        self._owner = owner
        self._ttl = as_int("ttl", ttl, 1)
        self._given = lease
        self._timeout = timeout
        self._using = threading.Lock()  # held from the begin of acquiring to the end of releasing
        self._lease: Lease | None = None
        self._place: Place | None = None
        self._pid = 0

    def __repr__(self) -> str:
        state = "lost" if self.lost else "held" if self.held else "not held"
        return f"<Lock {brief(self.name)} {state}>"

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._place is None:  # the body released it
            return
        try:
            self.release()
        except BaseException as failure:
            if self._place is not None:
                self._end(self._lease, self._place)  # nobody will release it again
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
    def lease(self) -> Lease | None:
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

    def acquire(self, timeout: Timeout = DEFAULT_TIMEOUT) -> int:
        """Wait until it is held.

        Args:
            timeout: seconds to wait, None for no limit; without it that of the lock.

        Returns:
            The `fencing_token`.

        Raises:
            DeadlineExceeded: it was not to be had in time. It leaves no trace in the line.
            LockLost: the lease was lost while waiting.
            RuntimeError: this `Lock` is in use, or its lease is in the line by another.

        Sends: Lease/LeaseGrant, unless a lease was given; KV/Txn; while others are ahead KV/Txn and
            Watch/Watch. Repeatable. Lease/LeaseRevoke, or KV/Txn in a given lease, when it gives up.
        """
        self._take(locks.acquire, self._timeout if timeout is DEFAULT_TIMEOUT else timeout)
        return self.fencing_token

    def try_acquire(self, timeout: Timeout = DEFAULT_TIMEOUT) -> bool:
        """Take it if nobody holds it or waits for it; whether it is held now.

        Args:
            timeout: seconds for the whole command.

        Raises:
            LockLost: the lease is lost.
            RuntimeError: this `Lock` is in use, or its lease is in the line by another.

        Sends: Lease/LeaseGrant, unless a lease was given; KV/Txn, repeatable; Lease/LeaseRevoke.
        """
        return self._take(locks.try_acquire, timeout)

    def release(self, timeout: Timeout = DEFAULT_TIMEOUT) -> None:
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
            self._owner._run(locks.release(place), timeout)
        except errors.LockLost:
            self._end(lease, place)
            raise
        self._end(lease, place)

    def guard(self, txn: Txn) -> Txn:
        """The transaction with one more condition: that the lock is held.

        Raises:
            RuntimeError: it was not acquired.
        """
        return Txn([self._held().is_there, *txn.compare], txn.success, txn.failure)

    def txn(
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
        reply: TxnReply = self._owner._run(op, timeout)
        return reply

    def _held(self) -> Place:
        if self._place is None:
            raise RuntimeError("the lock is not acquired")
        return self._place

    def _take(self, operation: Callable[[Place], Op[bool]], timeout: Timeout) -> bool:
        """Acquire it in one way or another; all of it is undone if anything goes wrong."""
        deadline = None if timeout is DEFAULT_TIMEOUT else deadline_after(timeout, time.monotonic())
        if not self._using.acquire(blocking=False):
            raise RuntimeError("this Lock is acquired, or being acquired, already; make one for each thread")
        lease, place = self._given, None
        try:
            if lease is None:
                lease = self._owner.lease(self._ttl, timeout=timeout)
            place = line.Place(self.name, lease._kept, self._given is None, lease._doubts)
            lease._places.add(place)
            left = timeout if deadline is None else max(0.0, deadline - time.monotonic())
            if self._owner._run(operation(place), left):
                lease._places.discard(place)
                self._pid, self._lease, self._place = os.getpid(), lease, place
                return True
        except BaseException:
            self._undo(lease, place)
            raise
        self._end(lease, place)
        return False

    def _undo(self, lease: Lease | None, place: Place | None) -> None:
        """It was not acquired: leave nothing behind."""
        try:
            if place is not None and place.asked and not place.own:
                self._owner._run(
                    line.leave(place), CLEAN_UP
                )  # a signal came between two steps of an operation
        finally:
            self._end(lease, place)

    def _end(self, lease: Lease | None, place: Place | None) -> None:
        """Part with a lease of the lock's own, and be ready to be acquired again."""
        try:
            if lease is not None and place is not None:
                lease._places.discard(place)
            if lease is not None and self._given is None:
                revoke(lease)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._place = self._lease = None
        self._using.release()


def revoke(lease: Lease) -> None:
    """End a lease that nobody needs any more; when that fails it ends with its TTL."""
    lease.close()
    if lease.lost:
        return
    try:
        lease.revoke(CLEAN_UP)
    except errors.LeaseNotFound:
        pass
    except errors.EtcdError as failure:
        logger.warning("lease %x not revoked: %s", lease.id, failure)
