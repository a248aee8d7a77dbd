# SPDX-License-Identifier: Apache-2.0
"""purecd: a client for etcd v3 in pure Python, blocking and asyncio.

    import purecd

    with purecd.Client("127.0.0.1:2379") as client:
        client.put("greeting", "hello")
        print(client.get("greeting").value)

Importing this package loads neither asyncio nor ssl, starts nothing and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.errors import EtcdError, StatusCode
from purecd.options import Retry, Tls
from purecd.requests import (
    Compare,
    Delete,
    Get,
    Put,
    Txn,
    create_revision,
    lease,
    mod_revision,
    value,
    version,
)
from purecd.types import (
    CompactReply,
    DeleteReply,
    Event,
    EventType,
    GetReply,
    Header,
    KeyValue,
    PutReply,
    TxnReply,
    WatchResponse,
)

if TYPE_CHECKING:
    from purecd import memory, testing
    from purecd.aio.client import AsyncClient
    from purecd.sync.client import Client

__version__ = "0.1.0"

_LAZY = {
    "Client": "purecd.sync.client",
    "AsyncClient": "purecd.aio.client",
    "testing": "purecd.testing",
    "memory": "purecd.memory",
}


def __getattr__(name: str) -> Any:
    """Load a front, the etcd in memory or the test helpers when they are first asked for."""
    module_name = _LAZY.get(name)
    if module_name is None:
        raise AttributeError(f"module 'purecd' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(module_name)
    found = module if name in ("memory", "testing") else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


__all__ = [
    "AsyncClient",
    "Client",
    "CompactReply",
    "Compare",
    "Delete",
    "DeleteReply",
    "EtcdError",
    "Event",
    "EventType",
    "Get",
    "GetReply",
    "Header",
    "KeyValue",
    "Put",
    "PutReply",
    "Retry",
    "StatusCode",
    "Tls",
    "Txn",
    "TxnReply",
    "WatchResponse",
    "create_revision",
    "errors",
    "lease",
    "memory",
    "mod_revision",
    "testing",
    "value",
    "version",
]
