# SPDX-License-Identifier: Apache-2.0
"""The asyncio client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from purecd import errors
from purecd.aio import groups
from purecd.aio.commands import AsyncCommands
from purecd.aio.driver import Driver
from purecd.aio.runner import run
from purecd.core.op import Op
from purecd.front import Front, tell
from purecd.options import DEFAULT_TIMEOUT, Timeout

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")


class AsyncClient(Front, AsyncCommands):
    """A client for asyncio; any number of tasks of one event loop may share it.

    A client opens its connections when they are first needed. Close it, or use it in an
    ``async with`` statement. For the arguments see `purecd.front.Front`.

    Attributes:
        leases: leases by their ids.
        auth, users, roles: who may do what.
        members: which members the cluster has.
        maintenance: state, alarms, snapshots of members.
    """

    def _start(self) -> None:
        self._drivers: dict[str, Driver] = {}
        self._closed = False
        self.leases = groups.AsyncLeases(self)
        self.auth = groups.AsyncAuth(self)
        self.users = groups.AsyncUsers(self)
        self.roles = groups.AsyncRoles(self)
        self.members = groups.AsyncMembers(self)
        self.maintenance = groups.AsyncMaintenance(self)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything the client has open; may be called more than once, from any thread."""
        self._closed = True
        for driver in list(self._drivers.values()):  # they stay: handles may still be closed
            if not driver.loop.is_closed():
                await driver.close()

    # What operations are run on.

    async def _run(self, op: Op[T], timeout: Timeout) -> T:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._options.timeout
        return await run(op, self, None if timeout is None else time.monotonic() + timeout)

    def _streams(self) -> Driver:
        return self.of("streams")

    def of(self, kind: str) -> Driver:
        """The driver of ``calls`` or ``streams``; for the operations' use."""
        driver = self._drivers.get(kind)
        if driver is not None and driver.loop is asyncio.get_running_loop():
            return driver
        return self._new_driver(kind, None)

    def at(self, endpoint: str) -> Driver:
        """A driver for one endpoint only; for the operations' use."""
        driver = self._drivers.get(endpoint)
        if driver is not None and driver.loop is asyncio.get_running_loop():
            return driver
        return self._new_driver(endpoint, endpoint)

    def _new_driver(self, name: str, endpoint: str | None) -> Driver:
        if self._closed:
            raise errors.ClientClosed("the client is closed")
        old = self._drivers.get(name)
        if old is not None and not old.loop.is_closed():
            raise RuntimeError("this AsyncClient is in use on another event loop; make one per loop")
        # A loop that is closed took its connections with it.
        driver = self._drivers[name] = Driver(self._new_channel(endpoint), tell)
        return driver
