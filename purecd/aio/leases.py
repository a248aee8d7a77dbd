# SPDX-License-Identifier: Apache-2.0
"""Leases in the asyncio front: renewed on the event loop, without a task of their own."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Callable

from purecd import errors
from purecd.admin_types import Done, LeaseKeepAliveReply, LeaseTimeToLiveReply
from purecd.core import leases
from purecd.core.keepalive import KeptLease, alive_until
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.line import Doubt, Place

logger = logging.getLogger("purecd")


class AsyncLease:
    """A lease of this client.

    In an ``async with`` statement it is revoked at the end, and with it go the keys attached to it. It
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
        on_lost: Callable[[AsyncLease], None] | None,
    ) -> None:
        self.id = lease_id
        self.ttl = ttl
        self._owner = owner
        self._kept = KeptLease(lease_id, ttl, sent_at)
        self._on_lost = on_lost
        self._ended = asyncio.Event()
        self._keeping = False
        self._places: set[Place] = set()  # where it stands in line
        self._doubts: set[Doubt] = set()  # see `purecd.core.line`, rule 4

    def __repr__(self) -> str:
        return f"<Lease {self.id:x} ttl={self.ttl}{' lost' if self.lost else ''}>"

    async def __aenter__(self) -> AsyncLease:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if not self.lost:
            try:
                await self.revoke()
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
            self._kept.waiter = _Signal(self)
            self._owner._leases().attach(self._kept)

    def check(self) -> None:
        """Raise `LeaseLost` if it is lost."""
        if self.lost:
            raise self._kept.error or errors.LeaseLost(
                f"lease {self.id:x} was not renewed in time", reason="timeout"
            )

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost or closed.

        Args:
            timeout: seconds, None for no limit.

        Returns:
            True when it was closed from this side, False when the time is over.

        Raises:
            LeaseLost: it was lost.
        """
        deadline = deadline_after(timeout, time.monotonic())
        while not self._ended.is_set() and self._kept.error is None:
            if not self._keeping:
                self.check()
            until = None if deadline is None else deadline - time.monotonic()
            if until is not None and until <= 0:
                return False
            waited = until if self._keeping else min(self.remaining, until if until is not None else 3600.0)
            try:
                await asyncio.wait_for(self._ended.wait(), waited)
            except asyncio.TimeoutError:
                continue
        if self._kept.error is not None:
            raise self._kept.error
        return True

    def close(self) -> None:
        """Stop renewing it; it lives on for the rest of its time. See `revoke`."""
        if self._keeping and not self._ended.is_set():
            self._owner._leases().detach(self._kept)
        self._ended.set()
        self._leave_lines()

    def _leave_lines(self) -> None:
        """Whoever waits in line with it stops waiting."""
        for place in list(self._places):
            watcher = place.give_up()
            if watcher is not None:
                self._owner._streams().detach(watcher)

    async def revoke(self, timeout: Timeout = DEFAULT_TIMEOUT) -> Done:
        """End it and delete the keys attached to it."""
        self.close()
        done: Done = await self._owner._run(leases.revoke(self.id), timeout)
        return done

    async def time_to_live(
        self, *, keys: bool = False, timeout: Timeout = DEFAULT_TIMEOUT
    ) -> LeaseTimeToLiveReply:
        """Ask the server how long it still lives, and with `keys` what is attached to it."""
        reply: LeaseTimeToLiveReply = await self._owner._run(leases.time_to_live(self.id, keys=keys), timeout)
        return reply

    async def keep_alive_once(self, timeout: Timeout = DEFAULT_TIMEOUT) -> LeaseKeepAliveReply:
        """Renew it once, now."""
        reply: LeaseKeepAliveReply = await self._owner._run(leases.keep_alive_once(self.id), timeout)
        self._kept.alive_until = max(self._kept.alive_until, alive_until(reply.sent_at, reply.ttl))
        return reply

    def _changed(self) -> None:
        """It was renewed or lost. Called on the event loop."""
        while self._kept.take() is not None:
            pass
        if self._kept.closed:
            self._ended.set()  # by the client, if not by `close`
        if self._kept.lost and not self._ended.is_set():
            self._ended.set()
            logger.warning("lease %x lost: %s", self.id, self._kept.error)
            self._leave_lines()
            if self._on_lost is not None:
                try:
                    self._on_lost(self)
                except Exception:  # whatever the user's callback raises, the loop goes on
                    logger.exception("on_lost of lease %x failed", self.id)


class _Signal:
    """What stands in a kept lease's place of a waiter: it leads to the lease."""

    __slots__ = ("_lease",)

    def __init__(self, lease: AsyncLease) -> None:
        self._lease = lease

    def done(self) -> bool:
        """It never is: it is told of every renewal."""
        return False

    def set_result(self, result: None) -> None:
        """The kept lease was renewed or lost."""
        asyncio.get_running_loop().call_soon(self._lease._changed)
