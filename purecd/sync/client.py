# SPDX-License-Identifier: Apache-2.0
"""The blocking client."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from purecd import errors, forking
from purecd.core.endpoints import Address
from purecd.core.op import Op
from purecd.front import Front, logger
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.sync.commands import Commands
from purecd.sync.driver import Driver
from purecd.sync.runner import run

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.sync import groups
    from purecd.sync.leases import LeaseKeeper

T = TypeVar("T")


class Client(Front, Commands):
    """A client whose calls block; any number of threads may share it.

    A client opens its connections when they are first needed. Close it, or use it in a
    ``with`` statement. For the arguments see `purecd.front.Front`.

    Attributes:
        leases: leases by their ids.
        auth, users, roles: who may do what.
        members: which members the cluster has.
        maintenance: state, alarms, snapshots of members.
    """

    def _start(self) -> None:
        self._lock = threading.Lock()  # guards _drivers and _closed
        self._drivers: dict[str, Driver] = {}
        self._keeper: LeaseKeeper | None = None
        self._closed = False
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None
        forking.remember(self)
        if self._options.min_server_version is not None:
            try:
                self.check_versions(self._options.min_server_version, self._options.dial_timeout)
            except BaseException:
                self.close()
                raise
        self._follow_members()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Groups of commands. Many programs need none, so they are loaded by the first use.

    @cached_property
    def leases(self) -> groups.Leases:
        """Leases by their ids."""
        from purecd.sync.groups import Leases

        return Leases(self)

    @cached_property
    def auth(self) -> groups.Auth:
        """Whether etcd asks who one is."""
        from purecd.sync.groups import Auth

        return Auth(self)

    @cached_property
    def users(self) -> groups.Users:
        """Users, and the roles they have."""
        from purecd.sync.groups import Users

        return Users(self)

    @cached_property
    def roles(self) -> groups.Roles:
        """Roles, and what they may do."""
        from purecd.sync.groups import Roles

        return Roles(self)

    @cached_property
    def members(self) -> groups.Members:
        """Which members the cluster has."""
        from purecd.sync.groups import Members

        return Members(self)

    @cached_property
    def maintenance(self) -> groups.Maintenance:
        """State, alarms, snapshots of members."""
        from purecd.sync.groups import Maintenance

        return Maintenance(self)

    def close(self) -> None:
        """End everything the client has open; may be called more than once, from any thread."""
        self._stop.set()
        with self._lock:
            self._closed = True
            drivers = list(self._drivers.values())  # they stay: handles may still be closed
        for driver in drivers:
            driver.close()

    def sync_endpoints(self, timeout: Timeout = DEFAULT_TIMEOUT) -> tuple[str, ...]:
        """Take the endpoints from the cluster's member list: started members that vote.

        When an endpoint in use has TLS, those without it are left out.

        Raises:
            LookupError: the list has no usable endpoint; nothing was changed.
        """
        from purecd.core import membership

        self.endpoints = self._run(membership.member_endpoints(self.endpoints), timeout)
        return self.endpoints

    def check_versions(self, minimum: str, timeout: Timeout = DEFAULT_TIMEOUT) -> list[str]:
        """Ask every endpoint for its version, one after the other.

        Args:
            minimum: the oldest that will do, ``major.minor`` or ``major.minor.patch``.
            timeout: seconds for all of them.

        Raises:
            OldCluster: one is older than `minimum`.
        """
        from purecd.core import membership

        return self._run(membership.check_versions(self.endpoints, minimum), timeout)

    def _endpoints_changed(self, addresses: list[Address]) -> None:
        for name in ("calls", "streams", "leases"):
            driver = self._drivers.get(name)
            if driver is not None:
                driver.replace_endpoints(list(addresses))

    def _follow_members(self) -> None:
        """Begin to look at the member list from time to time, if that is wanted and not done yet."""
        interval = self._options.auto_sync_interval
        if interval is not None and self._follower is None:
            self._follower = threading.Thread(
                target=self._keep_in_sync, args=(interval,), name="purecd-sync", daemon=True
            )
            self._follower.start()

    def _keep_in_sync(self, interval: float) -> None:
        while not self._stop.wait(interval):
            try:
                self.sync_endpoints(timeout=min(interval, 5.0))
            except (errors.EtcdError, LookupError, ValueError) as error:
                logger.warning("endpoints not synchronised: %s", error)

    # What operations are run on.

    def _run(self, op: Op[T], timeout: Timeout) -> T:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._options.timeout
        return run(op, self, deadline_after(timeout, time.monotonic()))

    def _streams(self) -> Driver:
        return self._driver("streams")

    def _lease_keeper(self) -> LeaseKeeper:
        from purecd.sync.leases import LeaseKeeper

        calls = self._drivers.get("calls")
        driver = self._driver(self._channel_for_leases(calls.channel if calls is not None else None))
        with self._lock:
            if self._keeper is None:
                self._keeper = LeaseKeeper(driver)
            return self._keeper

    def _driver(self, kind: str, endpoint: str | None = None) -> Driver:
        name = kind if endpoint is None else endpoint
        driver = self._drivers.get(name)
        return driver if driver is not None else self._new_driver(name, endpoint)

    def _new_driver(self, name: str, endpoint: str | None) -> Driver:
        with self._lock:
            if self._closed:
                raise errors.ClientClosed("the client is closed")
            driver = self._drivers.get(name)
            if driver is None:
                tend = self._tend_others if name in ("streams", "leases") else None
                driver = self._drivers[name] = Driver(self._new_channel(endpoint), self._tell, tend)
            self._follow_members()  # the thread of the parent does not run in a child process
            return driver

    def _tend_others(self) -> None:
        for name in ("calls", "streams"):
            driver = self._drivers.get(name)
            if driver is not None:
                driver.tend()  # but for the one that is being led

    def _after_fork(self) -> None:
        """This is a child process: the connections are the parent's, leave them alone and start anew."""
        drivers, self._drivers = self._drivers, {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._follower = None
        keeper, self._keeper = self._keeper, None
        for driver in drivers.values():
            driver.disown()
        if keeper is not None:
            keeper.disown()
