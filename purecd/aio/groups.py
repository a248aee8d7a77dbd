# SPDX-License-Identifier: Apache-2.0
"""Administration, grouped by what is administered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from purecd.admin_types import SnapshotInfo
from purecd.aio.binding import awaitable
from purecd.aio.leases import AsyncLease
from purecd.core import auth_admin, leases, maintenance, members, roles, snapshot, users
from purecd.core.op import Op
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import LeaseId
from purecd.snapshot_file import SnapshotFile

if TYPE_CHECKING:
    from purecd.aio.commands import AsyncCommands

T = TypeVar("T")


class AsyncGroup:
    """Commands of one kind, run by the client they belong to."""

    def __init__(self, owner: AsyncCommands) -> None:
        self._owner = owner

    async def _run(self, op: Op[T], timeout: Timeout) -> T:
        return await self._owner._run(op, timeout)


class AsyncLeases(AsyncGroup):
    """Leases by their ids; see ``client.lease`` for one that is kept alive."""

    grant = awaitable(leases.grant)
    revoke = awaitable(leases.revoke)
    time_to_live = awaitable(leases.time_to_live)
    keep_alive_once = awaitable(leases.keep_alive_once)
    list = awaitable(leases.list_all)

    async def keep_alive(
        self,
        lease: LeaseId,
        *,
        on_lost: Callable[[AsyncLease], None] | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> AsyncLease:
        """Keep a lease alive that was granted before, by another program say.

        Args:
            lease: its id.
            on_lost: called once when it was lost, as for ``client.lease``.
            timeout: seconds for the first renewal.

        Raises:
            LeaseNotFound: there is no such lease.
        """
        renewed = await self._run(leases.keep_alive_once(lease), timeout)
        kept = AsyncLease(self._owner, renewed.id, renewed.ttl, renewed.sent_at, on_lost)
        kept.keep_alive()
        return kept


class AsyncAuth(AsyncGroup):
    """Whether etcd asks who one is."""

    enable = awaitable(auth_admin.enable)
    disable = awaitable(auth_admin.disable)
    status = awaitable(auth_admin.status)


class AsyncUsers(AsyncGroup):
    """Who there is."""

    add = awaitable(users.add)
    get = awaitable(users.get)
    list = awaitable(users.list_all)
    delete = awaitable(users.delete)
    change_password = awaitable(users.change_password)
    grant_role = awaitable(users.grant_role)
    revoke_role = awaitable(users.revoke_role)


class AsyncRoles(AsyncGroup):
    """What they may do."""

    add = awaitable(roles.add)
    get = awaitable(roles.get)
    list = awaitable(roles.list_all)
    delete = awaitable(roles.delete)
    grant_permission = awaitable(roles.grant_permission)
    revoke_permission = awaitable(roles.revoke_permission)


class AsyncMembers(AsyncGroup):
    """Which members the cluster has."""

    list = awaitable(members.list_all)
    add = awaitable(members.add)
    remove = awaitable(members.remove)
    update = awaitable(members.update)
    promote = awaitable(members.promote)


class AsyncMaintenance(AsyncGroup):
    """The state of members and their databases."""

    status = awaitable(maintenance.status)
    health = awaitable(maintenance.health)
    alarms = awaitable(maintenance.alarms)
    raise_alarm = awaitable(maintenance.raise_alarm)
    disarm = awaitable(maintenance.disarm)
    defragment = awaitable(maintenance.defragment)
    hash = awaitable(maintenance.hash)
    hash_kv = awaitable(maintenance.hash_kv)
    move_leader = awaitable(maintenance.move_leader)
    downgrade = awaitable(maintenance.downgrade)

    async def snapshot(
        self,
        path: str | os.PathLike[str],
        *,
        endpoint: str | None = None,
        progress: Callable[[int, int], Any] | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> SnapshotInfo:
        """Save a copy of a member's database, its checksum verified.

        Args:
            path: the file; it is there whole or not at all, and only its owner can read it.
            endpoint: which member's database, as given in the options.
            progress: called after each piece with the bytes received and the bytes to come in all.
            timeout: seconds until the first piece, and then for each piece.

        Raises:
            SnapshotCorrupt: it did not arrive as it was sent; nothing is left at `path`.
        """
        # Writing blocks the loop for 32 KiB at a time; only the final sync may take long.
        with SnapshotFile(path) as file:
            running = await self._run(snapshot.begin(endpoint=endpoint), timeout)
            try:
                while True:
                    data = await self._run(snapshot.next_chunk(running), timeout)
                    if data is None:
                        break
                    file.write(data)
                    if progress is not None:
                        progress(running.reader.size, running.reader.total)
                await asyncio.get_running_loop().run_in_executor(None, file.commit)
            finally:
                await self._run(snapshot.end(running), timeout)
        assert running.info is not None
        return running.info

    async def snapshot_chunks(
        self, *, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT
    ) -> AsyncIterator[bytes]:
        """A member's database as it arrives; its checksum is verified when the last piece was taken.

        Args:
            endpoint: which member's database, as given in the options.
            timeout: seconds until the first piece, and then for each piece.
        """
        running = await self._run(snapshot.begin(endpoint=endpoint), timeout)
        try:
            while True:
                data = await self._run(snapshot.next_chunk(running), timeout)
                if data is None:
                    return
                yield data
        finally:
            await self._run(snapshot.end(running), timeout)
