# SPDX-License-Identifier: Apache-2.0
"""Forks: a child process gets fresh connections, and its parent notices nothing.

After a fork both processes hold the same sockets. The child closes its copies, which sends
nothing, and opens its own when it first calls. Watches, kept leases and streamed scans stay with the
parent; in the child they end with `ClientClosed`.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from purecd import errors


class _Forkable(Protocol):
    def _after_fork(self) -> None: ...


_clients: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def remember(client: _Forkable) -> None:
    """Tell `client` when it finds itself in a child process."""
    _clients.add(client)


def not_ours() -> errors.EtcdError:
    """The error of whatever was begun before the fork."""
    return errors.ClientClosed("this belongs to the parent process; begin another one in the child")


def _in_child() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
