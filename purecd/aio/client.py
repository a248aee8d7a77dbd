# SPDX-License-Identifier: Apache-2.0
"""The asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from purecd import errors, forking
from purecd.aio import groups
from purecd.aio.commands import AsyncCommands
from purecd.aio.driver import Driver
from purecd.aio.runner import run
from purecd.core import membership
from purecd.core.endpoints import Address
from purecd.core.op import Op
from purecd.front import Front, logger
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")


class AsyncClient(Front, AsyncCommands):
    """A client for asyncio; any number of tasks of one event loop may share it.

    A client opens its connections when they are first needed. Close it, or use it in an
    ``async with`` statement, which also is where `min_server_version` is checked. For the
    arguments see `purecd.front.Front`.

    Attributes:
        leases: leases by their ids.
        auth, users, roles: who may do what.
        members: which members the cluster has.
        maintenance: state, alarms, snapshots of members.
    """

    def _start(self) -> None:
        self._drivers: dict[str, Driver] = {}
        self._closed = False
        self._sync_task: asyncio.Task[None] | None = None
        forking.remember(self)
        self.leases = groups.AsyncLeases(self)
        self.auth = groups.AsyncAuth(self)
        self.users = groups.AsyncUsers(self)
        self.roles = groups.AsyncRoles(self)
        self.members = groups.AsyncMembers(self)
        self.maintenance = groups.AsyncMaintenance(self)

    async def __aenter__(self) -> AsyncClient:
        if self._options.min_server_version is not None:
            try:
                await self.check_versions(self._options.min_server_version, self._options.dial_timeout)
            except BaseException:
                await self.close()
                raise
        self._follow_members()
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
        if self._sync_task is not None:
            self._sync_task.cancel()
            self._sync_task = None
        for driver in list(self._drivers.values()):  # they stay: handles may still be closed
            if not driver.loop.is_closed():
                await driver.close()

    async def sync_endpoints(self, timeout: Timeout = DEFAULT_TIMEOUT) -> tuple[str, ...]:
        """Take the endpoints from the cluster's member list: started members that vote.

        When an endpoint in use has TLS, those without it are left out.

        Raises:
            LookupError: the list has no usable endpoint; nothing was changed.
        """
        self.endpoints = await self._run(membership.member_endpoints(self.endpoints), timeout)
        return self.endpoints

    async def check_versions(self, minimum: str, timeout: Timeout = DEFAULT_TIMEOUT) -> list[str]:
        """Ask every endpoint for its version, one after the other.

        Args:
            minimum: the oldest that will do, ``major.minor`` or ``major.minor.patch``.
            timeout: seconds for all of them.

        Raises:
            OldCluster: one is older than `minimum`.
        """
        return await self._run(membership.check_versions(self.endpoints, minimum), timeout)

    def _endpoints_changed(self, addresses: list[Address]) -> None:
        for name in ("calls", "streams", "leases"):
            driver = self._drivers.get(name)
            if driver is not None:
                driver.replace_endpoints(list(addresses))

    def _follow_members(self) -> None:
        """Begin to look at the member list from time to time, if that is wanted and not done on this loop."""
        interval = self._options.auto_sync_interval
        if interval is not None and (self._sync_task is None or self._sync_task.done()):
            self._sync_task = asyncio.create_task(self._keep_in_sync(interval))

    async def _keep_in_sync(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                await self.sync_endpoints(timeout=min(interval, 5.0))
            except (errors.EtcdError, LookupError, ValueError) as error:
                logger.warning("endpoints not synchronised: %s", error)

    # What operations are run on.

    def _run(self, op: Op[T], timeout: Timeout) -> Coroutine[Any, Any, T]:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._options.timeout
        return run(op, self, deadline_after(timeout, time.monotonic()))

    def _streams(self) -> Driver:
        return self._driver("streams")

    def _leases(self) -> Driver:
        calls = self._drivers.get("calls")
        return self._driver(self._channel_for_leases(calls.channel if calls is not None else None))

    def _driver(self, kind: str, endpoint: str | None = None) -> Driver:
        name = kind if endpoint is None else endpoint
        driver = self._drivers.get(name)
        if driver is not None and driver.loop is asyncio.get_running_loop():
            return driver
        return self._new_driver(name, endpoint)

    def _new_driver(self, name: str, endpoint: str | None) -> Driver:
        if self._closed:
            raise errors.ClientClosed("the client is closed")
        old = self._drivers.get(name)
        if old is not None and not old.loop.is_closed():
            raise RuntimeError("this AsyncClient is in use on another event loop; make one per loop")
        if old is not None:
            old.disown(errors.ClientClosed("the event loop that this was begun on is closed"))
        driver = self._drivers[name] = Driver(self._new_channel(endpoint), self._tell)
        self._follow_members()
        return driver

    def _after_fork(self) -> None:
        """This is a child process: the connections are the parent's, leave them alone and start anew."""
        drivers, self._drivers = self._drivers, {}
        self._sync_task = None
        for driver in drivers.values():
            driver.disown(forking.not_ours())
