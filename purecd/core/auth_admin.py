# SPDX-License-Identifier: Apache-2.0
"""Authentication as a whole: on, off, and whether it is.

Source: etcd client/v3/auth.go; server/auth/store.go.
"""

from __future__ import annotations

from purecd.admin_types import AuthStatusReply, Done
from purecd.core import methods
from purecd.core.op import Op
from purecd.core.replies import command, header_of
from purecd.core.retry import call
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages


def enable(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Turn authentication on; from then on every request needs a user's rights.

    Args:
        timeout: seconds for the whole command.

    Raises:
        RootUserNotExist: there must be a user ``root`` first.
        RootRoleNotExist: and it must have the role ``root``.

    Sends: Auth/AuthEnable, again only when it was certainly not applied.
    """
    return command(methods.AUTH_ENABLE, messages.AuthEnableRequest())


def disable(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """Turn authentication off; users and roles stay. No error when it is off already.

    Args:
        timeout: seconds for the whole command.

    Sends: Auth/AuthDisable, again only when it was certainly not applied.
    """
    return command(methods.AUTH_DISABLE, messages.AuthDisableRequest())


def status(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[AuthStatusReply]:
    """Ask whether authentication is on. Before etcd 3.7 only a root user may; etcd 3.4 cannot tell.

    Args:
        timeout: seconds for the whole command.

    Sends: Auth/AuthStatus, repeatable.
    """
    reply = yield from call(methods.AUTH_STATUS, messages.AuthStatusRequest())
    return AuthStatusReply(header_of(reply), reply.enabled, reply.authRevision)
