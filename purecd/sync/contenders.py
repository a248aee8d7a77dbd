# SPDX-License-Identifier: Apache-2.0
"""What locks and elections have in common in the blocking front."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from purecd import errors
from purecd.core import line, locks
from purecd.core.holds import Hold
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.requests import Compare, Delete, Get, Put, Text, Txn, as_int
from purecd.sync.leases import Lease
from purecd.sync.runner import CLEAN_UP
from purecd.types import TxnReply

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.line import Place
    from purecd.core.op import Op

logger = logging.getLogger("purecd")


class Contender(Hold):
    """What a lock and a candidate have in common: a place in line, and the lease that it lives by.

    Args:
        owner: client or view that runs its operations.
        name: of the line.
        ttl: of a lease of its own, seconds.
        lease: one to use instead.
    """

    def __init__(self, owner: Any, name: Text, ttl: int, lease: Lease | None) -> None:
        if lease is not None and not isinstance(lease, Lease):
            raise TypeError("lease must be one of client.lease() or client.leases.keep_alive()")
        super().__init__(name, lease)
        self._owner = owner
        self._ttl = as_int("ttl", ttl, 1)
        self._using = threading.Lock()  # held from the first try to get it to the end of giving it up
        self._forgetting = threading.Lock()
        self._pid = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._place is None:  # the body gave it up
            return
        try:
            self._let_go(DEFAULT_TIMEOUT)
        except BaseException as failure:
            if self._place is not None:
                self._end(self._lease, self._place, self._place)  # nobody will try again
            if kind is None or not isinstance(failure, errors.EtcdError):
                raise
            logger.warning("%s not given up: %s", self, failure)  # the body's error matters more

    @property
    def lease(self) -> Lease | None:
        """The lease that it lives by while it is held; None otherwise, unless one was given."""
        lease: Lease | None = self._lease or self._given
        return lease

    def check(self) -> None:
        """Raise `LockLost` if it was lost, `RuntimeError` if it was not got."""
        self._held().left(time.monotonic())

    def guard(self, txn: Txn) -> Txn:
        """The transaction with one more condition: that it is held.

        Raises:
            RuntimeError: it was not got.
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
        """Run a transaction, like ``client.txn``, if it is held.

        Args:
            compare: further conditions.
            success: what is done when they hold.
            failure: what is done when they do not.
            idempotent: the caller's word that doing it twice is harmless.
            timeout: seconds for the whole command.

        Raises:
            LockLost: it is not held any more; nothing was done.
            RuntimeError: it was not got.

        Sends: KV/Txn, as ``client.txn`` does.
        """
        op = locks.guarded(self._held(), compare, success, failure, idempotent)
        reply: TxnReply = self._owner._run(op, timeout)
        return reply

    def _take(
        self, operation: Callable[[Place], Op[bool]], timeout: Timeout, value: bytes | None = None
    ) -> bool:
        """Get it in one way or another; all of it is undone if anything goes wrong."""
        deadline = None if timeout is DEFAULT_TIMEOUT else deadline_after(timeout, time.monotonic())
        if not self._using.acquire(blocking=False):
            raise RuntimeError(f"{self} is held or waited for already; make one for each thread")
        lease, place = self._given, None
        try:
            if lease is None:
                lease = self._owner.lease(self._ttl, timeout=timeout)
            place = line.Place(self.name, lease._kept, self._given is None, lease._doubts, value)
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
        """It was not got: leave nothing behind."""
        try:
            if place is not None and place.asked and not place.own:
                # A signal came between two steps of an operation.
                self._owner._run(line.leave(place), CLEAN_UP)
        finally:
            self._end(lease, place, self._place)  # got, if the signal came in the last instant

    def _end(self, lease: Lease | None, place: Place | None, got: Place | None = None) -> None:
        """Part with a lease of its own, and be ready to begin again.

        Args:
            got: the place, if it was got.
        """
        try:
            if lease is not None and place is not None:
                lease._places.discard(place)
            if lease is not None and self._given is None:
                revoke(lease)
        finally:
            self._forget(got)

    def _forget(self, got: Place | None) -> None:
        """Be free to be got again, unless another thread that gave up `got` was quicker."""
        with self._forgetting:
            if self._place is not got:
                return
            self._place = self._lease = None
        self._using.release()

    def _let_go(self, timeout: Timeout) -> None:
        place = self._held()
        lease = self._lease
        if self._pid != os.getpid():
            self._forget(place)  # it is the parent's
            return
        try:
            if lease is not None and place.own:
                lease.close()
            self._owner._run(locks.release(place), timeout)
        except errors.LockLost:
            self._end(lease, place, place)
            raise
        self._end(lease, place, place)


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
