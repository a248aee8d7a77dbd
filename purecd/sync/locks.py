# SPDX-License-Identifier: Apache-2.0
"""Locks in the blocking front."""

from __future__ import annotations

from typing import Any

from purecd.core import locks
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import Text
from purecd.sync.contenders import Contender
from purecd.sync.leases import Lease


class Lock(Contender):
    """A lock that one holder has at a time, in whatever process or language.

    In a ``with`` statement the body runs with the lock held, and `LockLost` is raised at its end if the
    lock was lost meanwhile. Those who wait get it in the order in which they came. A `Lock` is used by
    one thread at a time; make one for each thread.

    A lock is lost when its lease is: this process may have stood still for too long to notice in time. Writes
    that must not happen then go through `txn` or `guard`; stores other than etcd compare the `fencing_token`.

    Go's ``concurrency.Mutex``, ``etcdctl lock`` and the lock service of etcd contend for the same lock.

    Attributes:
        name: of the lock; its contenders are the keys below ``name/``.
    """

    _kind = "Lock"

    def __init__(self, owner: Any, name: Text, ttl: int, lease: Lease | None, timeout: float | None) -> None:
        super().__init__(owner, name, ttl, lease)
        self._timeout = timeout

    def __enter__(self) -> Lock:
        self.acquire()
        return self

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

        Sends: Lease/LeaseGrant, unless a lease was given; KV/Txn; while others are ahead KV/Range and
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
        self._let_go(timeout)
