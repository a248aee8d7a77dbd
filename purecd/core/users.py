# SPDX-License-Identifier: Apache-2.0
"""Users: one operation per RPC about them.

Passwords travel in clear inside the connection and are hashed by the server. An empty one is refused
here: the server would take it, and anybody could log in with it.

Source: etcd client/v3/auth.go; server/auth/store.go.
"""

from __future__ import annotations

from purecd.admin_types import Done, UserReply, UsersReply
from purecd.core import methods
from purecd.core.op import Op
from purecd.core.replies import as_name, command, header_of
from purecd.core.retry import call
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages
from purecd.requests import check_flags


def _check_password(password: str) -> None:
    # The value itself never gets into a message.
    if not isinstance(password, str):
        raise TypeError(f"password must be str, not {type(password).__name__}")
    if not password:
        raise ValueError("password is empty")


def add(
    name: str, password: str | None = None, *, no_password: bool = False, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[Done]:
    """Add a user, without any role.

    Args:
        name: not empty.
        password: not empty.
        no_password: the user can log in with a TLS client certificate of this common name only; then no
            password is given.
        timeout: seconds for the whole command.

    Raises:
        UserAlreadyExist: there is one of that name.

    Sends: Auth/UserAdd, again only when it was certainly not applied.
    """
    as_name("name", name)
    check_flags(no_password=no_password)
    if no_password and password is not None:
        raise ValueError("a user with no_password has no password")
    if not no_password:
        if password is None:
            raise ValueError("give a password, or no_password=True")
        _check_password(password)
    options = messages.UserAddOptions(no_password=no_password)
    request = messages.AuthUserAddRequest(name=name, password=password or "", options=options)
    return command(methods.USER_ADD, request)


def get(name: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[UserReply]:
    """Ask for the roles of a user. Users may ask for their own.

    Args:
        name: the user's.
        timeout: seconds for the whole command.

    Raises:
        UserNotFound: there is none of that name.

    Sends: Auth/UserGet, repeatable.
    """
    reply = yield from call(methods.USER_GET, messages.AuthUserGetRequest(name=as_name("name", name)))
    return UserReply(header_of(reply), tuple(reply.roles))


def list_all(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[UsersReply]:
    """List the names of all users.

    Args:
        timeout: seconds for the whole command.

    Sends: Auth/UserList, repeatable.
    """
    reply = yield from call(methods.USER_LIST, messages.AuthUserListRequest())
    return UsersReply(header_of(reply), tuple(reply.users))


def delete(name: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Delete a user; its tokens end with it.

    Args:
        name: the user's.
        timeout: seconds for the whole command.

    Raises:
        UserNotFound: there is none of that name.
        InvalidAuthMgmt: it is ``root``, and authentication is on.

    Sends: Auth/UserDelete, again only when it was certainly not applied.
    """
    return command(methods.USER_DELETE, messages.AuthUserDeleteRequest(name=as_name("name", name)))


def change_password(name: str, password: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Give a user another password; its tokens end with the old one.

    Args:
        name: the user's.
        password: the new one, not empty.
        timeout: seconds for the whole command.

    Raises:
        UserNotFound: there is none of that name.

    Sends: Auth/UserChangePassword, again only when it was certainly not applied.
    """
    _check_password(password)
    request = messages.AuthUserChangePasswordRequest(name=as_name("name", name), password=password)
    return command(methods.USER_CHANGE_PASSWORD, request)


def grant_role(name: str, role: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Give a user a role.

    Args:
        name: the user's.
        role: the role's; ``root`` permits everything.
        timeout: seconds for the whole command.

    Raises:
        UserNotFound: there is no such user.
        RoleNotFound: there is no such role.

    Sends: Auth/UserGrantRole, again only when it was certainly not applied.
    """
    request = messages.AuthUserGrantRoleRequest(user=as_name("name", name), role=as_name("role", role))
    return command(methods.USER_GRANT_ROLE, request)


def revoke_role(name: str, role: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Take a role from a user.

    Args:
        name: the user's.
        role: the role's.
        timeout: seconds for the whole command.

    Raises:
        UserNotFound: there is no such user.
        RoleNotGranted: it does not have that role.
        InvalidAuthMgmt: it is the role ``root`` of user ``root``, and authentication is on.

    Sends: Auth/UserRevokeRole, again only when it was certainly not applied.
    """
    request = messages.AuthUserRevokeRoleRequest(name=as_name("name", name), role=as_name("role", role))
    return command(methods.USER_REVOKE_ROLE, request)
