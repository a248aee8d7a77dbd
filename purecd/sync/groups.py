# SPDX-License-Identifier: Apache-2.0
"""Administration, grouped by what is administered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from purecd.admin_types import SnapshotInfo
from purecd.core import auth_admin, leases, maintenance, members, roles, snapshot, users
from purecd.core.op import Op
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import LeaseId
from purecd.snapshot_file import SnapshotFile
from purecd.sync.binding import blocking
from purecd.sync.leases import Lease

if TYPE_CHECKING:
    from purecd.sync.commands import Commands

T = TypeVar("T")


class Group:
    """Commands of one kind, run by the client they belong to."""

    def __init__(self, owner: Commands) -> None:
        self._owner = owner

    def _run(self, op: Op[T], timeout: Timeout) -> T:
        return self._owner._run(op, timeout)


class Leases(Group):
    """Leases by their ids; see ``client.lease`` for one that is kept alive."""

    grant = blocking(leases.grant)
    revoke = blocking(leases.revoke)
    time_to_live = blocking(leases.time_to_live)
    keep_alive_once = blocking(leases.keep_alive_once)
    list = blocking(leases.list_all)

    def keep_alive(
        self,
        lease: LeaseId,
        *,
        on_lost: Callable[[Lease], None] | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> Lease:
        """Keep a lease alive that was granted before, by another program say.

        Args:
            lease: its id.
            on_lost: called once when it was lost, as for ``client.lease``.
            timeout: seconds for the first renewal.

        Raises:
            LeaseNotFound: there is no such lease.
        """
        renewed = self._run(leases.keep_alive_once(lease), timeout)
        kept = Lease(self._owner, renewed.id, renewed.ttl, renewed.sent_at, on_lost)
        kept.keep_alive()
        return kept


class Auth(Group):
    """Whether etcd asks who one is."""

    enable = blocking(auth_admin.enable)
    disable = blocking(auth_admin.disable)
    status = blocking(auth_admin.status)


class Users(Group):
    """Who there is."""

    add = blocking(users.add)
    get = blocking(users.get)
    list = blocking(users.list_all)
    delete = blocking(users.delete)
    change_password = blocking(users.change_password)
    grant_role = blocking(users.grant_role)
    revoke_role = blocking(users.revoke_role)


class Roles(Group):
    """What they may do."""

    add = blocking(roles.add)
    get = blocking(roles.get)
    list = blocking(roles.list_all)
    delete = blocking(roles.delete)
    grant_permission = blocking(roles.grant_permission)
    revoke_permission = blocking(roles.revoke_permission)


class Members(Group):
    """Which members the cluster has."""

    list = blocking(members.list_all)
    add = blocking(members.add)
    remove = blocking(members.remove)
    update = blocking(members.update)
    promote = blocking(members.promote)


class Maintenance(Group):
    """The state of members and their databases."""

    status = blocking(maintenance.status)
    health = blocking(maintenance.health)
    alarms = blocking(maintenance.alarms)
    raise_alarm = blocking(maintenance.raise_alarm)
    disarm = blocking(maintenance.disarm)
    defragment = blocking(maintenance.defragment)
    hash = blocking(maintenance.hash)
    hash_kv = blocking(maintenance.hash_kv)
    move_leader = blocking(maintenance.move_leader)
    downgrade = blocking(maintenance.downgrade)

    def snapshot(
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
        with SnapshotFile(path) as file:
            running = self._run(snapshot.begin(endpoint=endpoint), timeout)
            try:
                while True:
                    data = self._run(snapshot.next_chunk(running), timeout)
                    if data is None:
                        break
                    file.write(data)
                    if progress is not None:
                        progress(running.reader.size, running.reader.total)
                file.commit()
            finally:
                self._run(snapshot.end(running), timeout)
        assert running.info is not None
        return running.info

    def snapshot_chunks(
        self, *, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT
    ) -> Iterator[bytes]:
        """A member's database as it arrives; its checksum is verified when the last piece was taken.

        Args:
            endpoint: which member's database, as given in the options.
            timeout: seconds until the first piece, and then for each piece.
        """
        running = self._run(snapshot.begin(endpoint=endpoint), timeout)
        try:
            while True:
                data = self._run(snapshot.next_chunk(running), timeout)
                if data is None:
                    return
                yield data
        finally:
            self._run(snapshot.end(running), timeout)
