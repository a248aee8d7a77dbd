# SPDX-License-Identifier: Apache-2.0
"""An etcd in memory, for tests, examples and places without the real program; no replacement for it.

    with purecd.memory.MemoryEtcd() as server:
        client = purecd.Client(server.endpoint)

It is one member, in a thread of this process, and speaks etcd's gRPC on a socket, so any client of etcd can
use it. Nothing is written to disk. Under pytest the fixture ``memory_etcd`` gives each test a fresh one.
docs/memory.md says what it does not do. Nothing of the client uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purecd.memory.member import MemberOptions
    from purecd.memory.server import MemoryEtcd

__all__ = ["MemoryEtcd", "MemberOptions"]

_HOMES = {"MemoryEtcd": "server", "MemberOptions": "member"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
