# SPDX-License-Identifier: Apache-2.0
"""Leases in the blocking front: one daemon thread renews all that a client keeps alive."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

from purecd import errors
from purecd.admin_types import Done, LeaseKeepAliveReply, LeaseTimeToLiveReply
from purecd.core import leases
from purecd.core.keepalive import KeptLease, alive_until
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.sync.driver import Driver

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.line import Doubt, Place

logger = logging.getLogger("purecd")


class Lease:
    """A lease of this client.

    In a ``with`` statement it is revoked at the end, and with it go the keys attached to it. It
    counts as lost from the moment when the server may have dropped it, also while this process
    was stopped.

    Attributes:
        id: pass it, or the lease itself, to ``put(..., lease=)``.
        ttl: seconds granted by the server.
    """

    def __init__(
        self,
        owner: Any,
        lease_id: int,
        ttl: int,
        sent_at: float | None,
        on_lost: Callable[[Lease], None] | None,
    ) -> None:
        self.id = lease_id
        self.ttl = ttl
        self._owner = owner
        self._kept = KeptLease(lease_id, ttl, sent_at)
        self._on_lost = on_lost
        self._ended = threading.Event()
        self._keeping = False
        self._places: set[Place] = set()  # where it stands in line
        self._doubts: set[Doubt] = set()  # see `purecd.core.line`, rule 4

    def __repr__(self) -> str:
        return f"<Lease {self.id:x} ttl={self.ttl}{' lost' if self.lost else ''}>"

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if not self.lost:
            try:
                self.revoke()
            except errors.LeaseNotFound:
                pass  # it ended by itself in the meantime
            except errors.EtcdError as failure:
                if kind is None:
                    raise
                logger.warning("lease %x not revoked: %s", self.id, failure)  # the body's error matters more

    @property
    def lost(self) -> bool:
        """Whether the server may have dropped it."""
        return self._kept.lost or self.remaining <= 0

    @property
    def remaining(self) -> float:
        """Seconds for which it certainly lives on, 0 once it is lost."""
        if self._kept.lost:
            return 0.0
        return max(0.0, self._kept.alive_until - time.monotonic())

    def keep_alive(self) -> None:
        """Have it renewed in the background from now on, unless it is renewed already.

        Raises:
            LeaseLost: it was lost.
            RuntimeError: it was closed; ``client.leases.keep_alive`` makes a new object of its id.
        """
        if self._ended.is_set():
            self.check()
            raise RuntimeError(f"lease {self.id:x} was closed; use client.leases.keep_alive to keep it again")
        if not self._keeping:
            self._keeping = True
            self._owner._lease_keeper().add(self)

    def check(self) -> None:
        """Raise `LeaseLost` if it is lost."""
        if self.lost:
            raise self._kept.error or errors.LeaseLost(
                f"lease {self.id:x} was not renewed in time", reason="timeout"
            )

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost or closed.

        Args:
            timeout: seconds, None for no limit.

        Returns:
            True when it was closed from this side, False when the time is over.

        Raises:
            LeaseLost: it was lost.
        """
        deadline = deadline_after(timeout, time.monotonic())
        while not self._ended.is_set():
            if not self._keeping:
                self.check()
            until = None if deadline is None else deadline - time.monotonic()
            if until is not None and until <= 0:
                return False
            waited = until if self._keeping else min(self.remaining, until if until is not None else 3600.0)
            self._ended.wait(waited)
        if self._kept.error is not None:
            raise self._kept.error
        return True

    def close(self) -> None:
        """Stop renewing it; it lives on for the rest of its time. See `revoke`."""
        if self._keeping and not self._ended.is_set():
            self._owner._lease_keeper().remove(self)
        self._ended.set()
        self._leave_lines()

    def _leave_lines(self) -> None:
        """Whoever waits in line with it stops waiting."""
        for place in list(self._places):
            watcher = place.give_up()
            if watcher is not None:
                self._owner._streams().detach(watcher)

    def revoke(self, timeout: Timeout = DEFAULT_TIMEOUT) -> Done:
        """End it and delete the keys attached to it."""
        self.close()
        done: Done = self._owner._run(leases.revoke(self.id), timeout)
        return done

    def time_to_live(self, *, keys: bool = False, timeout: Timeout = DEFAULT_TIMEOUT) -> LeaseTimeToLiveReply:
        """Ask the server how long it still lives, and with `keys` what is attached to it."""
        reply: LeaseTimeToLiveReply = self._owner._run(leases.time_to_live(self.id, keys=keys), timeout)
        return reply

    def keep_alive_once(self, timeout: Timeout = DEFAULT_TIMEOUT) -> LeaseKeepAliveReply:
        """Renew it once, now."""
        reply: LeaseKeepAliveReply = self._owner._run(leases.keep_alive_once(self.id), timeout)
        self._kept.alive_until = max(self._kept.alive_until, alive_until(reply.sent_at, reply.ttl))
        return reply

    def _changed(self) -> None:
        """It was renewed or lost. Called by the keeper's thread, no lock held."""
        while self._kept.take() is not None:
            pass
        if self._kept.closed:
            self._ended.set()  # by the client, if not by `close`
        if self._kept.lost and not self._ended.is_set():
            self._ended.set()
            logger.warning("lease %x lost: %s", self.id, self._kept.error)
            self._leave_lines()
            if self._on_lost is not None:
                self._on_lost(self)


class _Signal:
    """What stands in a kept lease's place of a waiter: it leads to the keeper."""

    __slots__ = ("_keeper", "_lease")
    fired = False

    def __init__(self, keeper: LeaseKeeper, lease: Lease) -> None:
        self._keeper = keeper
        self._lease = lease

    def fire(self) -> None:
        self._keeper.changed.append(self._lease)
        self._keeper.waiter.fire()


class LeaseKeeper:
    """Keeps the leases of one client alive, on one thread that lives as long as there are any."""

    def __init__(self, driver: Driver) -> None:
        self.waiter = driver.waiter()
        self.changed: deque[Lease] = deque()
        self._driver = driver
        self._lock = threading.Lock()  # guards _leases, _thread and the ends of leases
        self._leases: dict[int, Lease] = {}
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease) -> None:
        """Keep a lease alive."""
        kept = lease._kept
        kept.waiter = _Signal(self, lease)
        try:
            self._driver.attach(kept)
            with self._lock:
                self._leases[id(lease)] = lease
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="purecd-leases", daemon=True)
                    self._thread.start()
            self._driver.nudge(self.waiter)
        except BaseException:
            self.remove(lease)
            raise

    def remove(self, lease: Lease) -> None:
        """Stop renewing it."""
        with self._lock:
            self._leases.pop(id(lease), None)
        self._driver.detach(lease._kept)
        self._driver.nudge(self.waiter)

    def disown(self) -> None:
        """In a child process: the leases are the parent's, nobody here waits for news of them."""
        for lease in self._leases.values():
            lease._ended = threading.Event()  # the old one's lock may be held by a thread of the parent
            lease._ended.set()

    def _work(self) -> None:
        while True:
            waiter = self.waiter
            self._driver.serve(waiter, None)
            self.waiter = self._driver.waiter()
            if waiter.mends != self.waiter.mends:
                with self._lock:
                    self.changed.extend(self._leases.values())  # a signal may have swallowed the news
            while self.changed:
                lease = self.changed.popleft()
                try:
                    lease._changed()
                except Exception:  # whatever the user's callback raises must not end the renewals of others
                    logger.exception("on_lost of lease %x failed", lease.id)
                if lease._kept.lost or lease._kept.closed:
                    with self._lock:
                        self._leases.pop(id(lease), None)
            with self._lock:
                if not self._leases:
                    self._thread = None
                    return
