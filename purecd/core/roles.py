# SPDX-License-Identifier: Apache-2.0
"""Roles and their permissions: one operation per RPC about them.

Source: etcd client/v3/auth.go; server/auth/store.go.
"""

from __future__ import annotations

from typing import Union

from purecd.admin_types import Done, Permission, PermissionType, RoleReply, RolesReply
from purecd.core import methods
from purecd.core.op import Op
from purecd.core.replies import as_name, command, header_of
from purecd.core.retry import call
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages
from purecd.requests import NO_END, Text, range_of

PermissionName = Union[str, PermissionType]
"""``"read"``, ``"write"`` or ``"readwrite"``, or a `PermissionType`."""


def _permission_type(allow: PermissionName) -> PermissionType:
    if isinstance(allow, PermissionType):
        return allow
    try:
        return PermissionType[allow.upper()]
    except (AttributeError, KeyError):
        names = ", ".join(each.name.lower() for each in PermissionType)
        raise ValueError(f"allow must be one of {names}, not {allow!r}") from None


def add(name: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Add a role, without any permission.

    Args:
        name: not empty.
        timeout: seconds for the whole command.

    Raises:
        RoleAlreadyExist: there is one of that name.

    Sends: Auth/RoleAdd, again only when it was certainly not applied.
    """
    return command(methods.ROLE_ADD, messages.AuthRoleAddRequest(name=as_name("name", name)))


def get(name: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[RoleReply]:
    """Ask for the permissions of a role. Users may ask for their own roles.

    Args:
        name: the role's.
        timeout: seconds for the whole command.

    Raises:
        RoleNotFound: there is none of that name.

    Sends: Auth/RoleGet, repeatable.
    """
    reply = yield from call(methods.ROLE_GET, messages.AuthRoleGetRequest(role=as_name("name", name)))
    return RoleReply(header_of(reply), tuple(_permission(each) for each in reply.perm))


def _permission(message: messages.Permission) -> Permission:
    try:
        allow: int = PermissionType(message.permType)
    except ValueError:
        allow = message.permType
    return Permission(allow, message.key, message.range_end)


def list_all(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[RolesReply]:
    """List the names of all roles.

    Args:
        timeout: seconds for the whole command.

    Sends: Auth/RoleList, repeatable.
    """
    reply = yield from call(methods.ROLE_LIST, messages.AuthRoleListRequest())
    return RolesReply(header_of(reply), tuple(reply.roles))


def delete(name: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Delete a role; users that have it lose it.

    Args:
        name: the role's.
        timeout: seconds for the whole command.

    Raises:
        RoleNotFound: there is none of that name.
        InvalidAuthMgmt: it is ``root``, and authentication is on.

    Sends: Auth/RoleDelete, again only when it was certainly not applied.
    """
    return command(methods.ROLE_DELETE, messages.AuthRoleDeleteRequest(role=as_name("name", name)))


def grant_permission(
    name: str,
    key: Text,
    range_end: Text | None = None,
    *,
    allow: PermissionName,
    prefix: bool = False,
    from_key: bool = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> Op[Done]:
    """Permit a role to read or write a key or a range; replaces what it was permitted on exactly these.

    Args:
        name: the role's.
        key: the key, or the first of ``[key, range_end)``.
        range_end: where the range ends, exclusive; after `key`.
        allow: ``"read"``, ``"write"`` or ``"readwrite"``.
        prefix: all keys that start with `key`; an empty key means all keys.
        from_key: `key` and all keys after it.
        timeout: seconds for the whole command.

    Raises:
        RoleNotFound: there is none of that name.

    Sends: Auth/RoleGrantPermission, again only when it was certainly not applied.
    """
    first, end = range_of(key, range_end, prefix, from_key)
    # Servers before 3.4.25 and 3.5.8 take an empty range, and misbehave.
    if end and end != NO_END and end <= first:
        raise ValueError(f"range_end {end!r} is not after key {first!r}")
    # Without `perm`, a server before 3.4.25 crashes; it is always sent.
    permission = messages.Permission(permType=int(_permission_type(allow)), key=first, range_end=end)
    request = messages.AuthRoleGrantPermissionRequest(name=as_name("name", name), perm=permission)
    return command(methods.ROLE_GRANT_PERMISSION, request)


def revoke_permission(
    name: str,
    key: Text,
    range_end: Text | None = None,
    *,
    prefix: bool = False,
    from_key: bool = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> Op[Done]:
    """Take a permission from a role; key and range must be exactly those that were granted.

    Args:
        name: the role's.
        key: the key, or the first of ``[key, range_end)``.
        range_end: where the range ends, exclusive.
        prefix: all keys that start with `key`; an empty key means all keys.
        from_key: `key` and all keys after it.
        timeout: seconds for the whole command.

    Raises:
        RoleNotFound: there is none of that name.
        PermissionNotGranted: the role has no permission on exactly this range.

    Sends: Auth/RoleRevokePermission, again only when it was certainly not applied.
    """
    first, end = range_of(key, range_end, prefix, from_key)
    request = messages.AuthRoleRevokePermissionRequest(role=as_name("name", name), key=first, range_end=end)
    return command(methods.ROLE_REVOKE_PERMISSION, request)
