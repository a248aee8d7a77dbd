# SPDX-License-Identifier: Apache-2.0
"""Users, roles and what they permit.

1. Every change of a user or a role raises the auth revision, and so does switching auth off. Who was
   identified at an older one is refused: `revision of auth store is old`.
2. The role `root` permits everything and administers; it is known by its name and need not exist.
3. A range is permitted when the ranges that are granted, taken together, cover it.
4. Passwords are kept as a salted SHA-256 where etcd has bcrypt: enough for an etcd in memory, and quick.

Source: etcd server/auth/{store,range_perm_cache}.go.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.store import NO_END
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "root"
READ, WRITE, READ_WRITE = 0, 1, 2
NO_PASSWORD_USER = (2, "auth: authentication failed, password was given for no password user")


class Identity(NamedTuple):
    """Who makes a request.

    Attributes:
        revision: auth revision at which that was found out.
    """

    username: str
    revision: int


ANYBODY = Identity("", -1)  # who may do everything, as where etcd forgets to check


class User(NamedTuple):
    """A user: its hashed password, empty for one that has none and cannot log in, and its roles, sorted."""

    password: str
    roles: tuple[str, ...] = ()
    has_password: bool = True


class AuthStore:
    """Users, roles and whether they count; the same on all members.

    Attributes:
        revision: see rule 1.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, User] = {}
        self.roles: dict[str, tuple[pb.Permission, ...]] = {}  # permissions sorted by key
        self._granted: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}  # made when asked for

    def _changed(self) -> None:
        self.revision += 1
        self._granted.clear()

    def check_admin(self, identity: Identity | None) -> None:
        """Refuse who is not an administrator, while auth is on.

        Raises:
            Status: refused.
        """
        if not self.enabled or identity is ANYBODY:
            return
        if identity is None or not identity.username:
            raise Status(*statuses.USER_EMPTY)
        user = self.users.get(identity.username)
        if user is None:
            raise Status(*statuses.USER_NOT_FOUND)
        if ROOT not in user.roles:
            raise Status(*statuses.PERMISSION_DENIED)

    def is_admin(self, identity: Identity | None) -> bool:
        """Whether `check_admin` lets it pass."""
        try:
            self.check_admin(identity)
        except Status:
            return False
        return True

    def check_read(self, identity: Identity | None, key: bytes, range_end: bytes) -> None:
        """Refuse who may not read a range, while auth is on.

        Args:
            range_end: as in a request.

        Raises:
            Status: refused.
        """
        self._check(identity, key, range_end, READ)

    def check_write(self, identity: Identity | None, key: bytes, range_end: bytes = b"") -> None:
        """As `check_read`, for writing."""
        self._check(identity, key, range_end, WRITE)

    def _check(self, identity: Identity | None, key: bytes, range_end: bytes, kind: int) -> None:
        if not self.enabled or identity is ANYBODY:
            return
        if identity is None or identity.revision == 0:
            raise Status(*statuses.USER_EMPTY)
        if identity.revision < self.revision:
            raise Status(*statuses.AUTH_OLD_REVISION)
        user = self.users.get(identity.username)
        if user is None:
            raise Status(*statuses.PERMISSION_DENIED)
        if ROOT in user.roles:
            return
        granted = self._ranges(identity.username, kind)
        if not range_end:
            permitted = any(low <= key and (high == NO_END or key < high) for low, high in granted)
        else:
            permitted = _covers(granted, key, NO_END if range_end == b"\0" else range_end)
        if not permitted:
            raise Status(*statuses.PERMISSION_DENIED)

    def _ranges(self, username: str, kind: int) -> list[tuple[bytes, bytes]]:
        """What a user may read or write: ranges, sorted."""
        found = self._granted.get((username, kind))
        if found is None:
            permissions = [
                permission for role in self.users[username].roles for permission in self.roles.get(role, ())
            ]
            found = sorted(_interval(each) for each in permissions if each.permType in (kind, READ_WRITE))
            self._granted[username, kind] = found
        return found

    def enable(self) -> None:
        """Switch auth on.

        Raises:
            Status: there is no user `root` with the role `root`.
        """
        if self.enabled:
            return
        if ROOT not in self.users:
            raise Status(*statuses.ROOT_USER_NOT_EXIST)
        if ROOT not in self.users[ROOT].roles:
            raise Status(*statuses.ROOT_ROLE_NOT_EXIST)
        self.enabled = True

    def disable(self) -> None:
        """Switch auth off."""
        if self.enabled:
            self.enabled = False
            self._changed()

    def check_password(self, name: str, password: str) -> int:
        """Refuse a wrong password; returns the auth revision at which it was right.

        Raises:
            Status: it is wrong, there is no such user, or auth is off.
        """
        if not self.enabled:
            raise Status(*statuses.AUTH_NOT_ENABLED)
        user = self.users.get(name)
        if user is None:
            raise Status(*statuses.AUTH_FAILED)
        if not user.has_password:
            raise Status(*NO_PASSWORD_USER)
        if user.password != hashed(password, user.password.partition("$")[0]):
            raise Status(*statuses.AUTH_FAILED)
        return self.revision

    def check_login(self, name: str) -> None:
        """Refuse who cannot log in (any more) when a login is applied.

        Raises:
            Status: refused.
        """
        if not self.enabled:
            raise Status(*statuses.AUTH_NOT_ENABLED)
        user = self.users.get(name)
        if user is None or not user.has_password:
            raise Status(*statuses.AUTH_FAILED)

    def add_user(self, name: str, password: str, has_password: bool) -> None:
        """Add a user.

        Args:
            password: hashed.

        Raises:
            Status: it has no name, or exists.
        """
        if not name:
            raise Status(*statuses.USER_EMPTY)
        if name in self.users:
            raise Status(*statuses.USER_ALREADY_EXIST)
        self.users[name] = User(password if has_password else "", (), has_password)
        self._changed()

    def delete_user(self, name: str) -> None:
        """Delete a user.

        Raises:
            Status: there is no such user, or it is root while auth is on.
        """
        if self.enabled and name == ROOT:
            raise Status(*statuses.INVALID_AUTH_MGMT)
        self.user(name)
        del self.users[name]
        self._changed()

    def user(self, name: str) -> User:
        """The user of that name.

        Raises:
            Status: there is none.
        """
        user = self.users.get(name)
        if user is None:
            raise Status(*statuses.USER_NOT_FOUND)
        return user

    def change_password(self, name: str, password: str) -> None:
        """Change a user's password, given hashed; one without a password stays so.

        Raises:
            Status: there is no such user.
        """
        user = self.user(name)
        if user.has_password:
            self.users[name] = user._replace(password=password)
        self._changed()

    def grant_role(self, name: str, role: str) -> None:
        """Give a role to a user.

        Raises:
            Status: there is no such user or role.
        """
        user = self.user(name)
        if role != ROOT and role not in self.roles:
            raise Status(*statuses.ROLE_NOT_FOUND)
        if role in user.roles:
            return
        self.users[name] = user._replace(roles=tuple(sorted((*user.roles, role), key=str.encode)))
        self._changed()

    def revoke_role(self, name: str, role: str) -> None:
        """Take a role from a user.

        Raises:
            Status: there is no such user, it has no such role, or it is root's while auth is on.
        """
        if self.enabled and name == ROOT and role == ROOT:
            raise Status(*statuses.INVALID_AUTH_MGMT)
        user = self.user(name)
        if role not in user.roles:
            raise Status(*statuses.ROLE_NOT_GRANTED)
        self.users[name] = user._replace(roles=tuple(each for each in user.roles if each != role))
        self._changed()

    def add_role(self, name: str) -> None:
        """Add a role.

        Raises:
            Status: it has no name, or exists.
        """
        if not name:
            raise Status(*statuses.ROLE_EMPTY)
        if name in self.roles:
            raise Status(*statuses.ROLE_ALREADY_EXIST)
        self.roles[name] = ()
        self._changed()

    def role(self, name: str) -> tuple[pb.Permission, ...]:
        """The permissions of a role, sorted by key.

        Raises:
            Status: there is no such role.
        """
        found = self.roles.get(name)
        if found is None:
            raise Status(*statuses.ROLE_NOT_FOUND)
        return found

    def delete_role(self, name: str) -> None:
        """Delete a role and take it from all users.

        Raises:
            Status: there is no such role, or it is root while auth is on.
        """
        if self.enabled and name == ROOT:
            raise Status(*statuses.INVALID_AUTH_MGMT)
        self.role(name)
        del self.roles[name]
        for user_name, user in self.users.items():
            if name in user.roles:
                left = tuple(role for role in user.roles if role != name)
                self.users[user_name] = user._replace(roles=left)
        self._changed()

    def grant_permission(self, name: str, permission: pb.Permission) -> None:
        """Add a permission to a role, or change one of the same range.

        Raises:
            Status: there is no such role, or the range is empty.
        """
        if not _is_range(permission.key, permission.range_end):
            raise Status(*statuses.INVALID_AUTH_MGMT)
        permissions = list(self.role(name))
        # etcd looks at the first permission of that key only.
        place = next(
            (i for i, each in enumerate(permissions) if each.key >= permission.key), len(permissions)
        )
        if place < len(permissions) and _same(permissions[place], permission):
            permissions[place] = _copied(permission)
        else:
            permissions.append(_copied(permission))
            permissions.sort(key=lambda each: each.key)
        self.roles[name] = tuple(permissions)
        self._changed()

    def revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """Take all permissions of a range from a role.

        Raises:
            Status: there is no such role, or no such permission.
        """
        permissions = self.role(name)
        left = tuple(each for each in permissions if each.key != key or each.range_end != range_end)
        if len(left) == len(permissions):
            raise Status(*statuses.PERMISSION_NOT_GRANTED)
        self.roles[name] = left
        self._changed()

    def copy_from(self, other: AuthStore) -> None:
        """Take over another member's users and roles."""
        self.enabled, self.revision = other.enabled, other.revision
        self.users, self.roles = dict(other.users), dict(other.roles)
        self._granted.clear()


def hashed(password: str, salt: str) -> str:
    """A password as it is kept: the salt, a dollar sign, the digest of both."""
    return f"{salt}${hashlib.sha256(f'{salt}${password}'.encode()).hexdigest()}"


def _same(one: pb.Permission, other: pb.Permission) -> bool:
    return one.key == other.key and one.range_end == other.range_end


def _copied(permission: pb.Permission) -> pb.Permission:
    copy = pb.Permission()
    copy.CopyFrom(permission)
    return copy


def _interval(permission: pb.Permission) -> tuple[bytes, bytes]:
    key, end = permission.key, permission.range_end
    if not end:
        return key, key + b"\0"
    return key, NO_END if end == b"\0" else end


def _is_range(key: bytes, range_end: bytes) -> bool:
    return bool(key) and (not range_end or range_end == b"\0" or key < range_end)


def _covers(granted: Iterable[tuple[bytes, bytes]], key: bytes, end: bytes) -> bool:
    """Whether sorted ranges, taken together, cover ``[key, end)``."""
    reached = key
    for low, high in granted:
        if low > reached:
            return False
        if high == NO_END:
            return True
        if high <= key:
            continue
        reached = max(reached, high)
        # An end before the key makes it a range of nothing, which whoever may read the key may read.
        if end != NO_END and reached >= end:
            return True
    return False
