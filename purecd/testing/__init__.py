# SPDX-License-Identifier: Apache-2.0
"""Real etcd processes and clusters for tests, on 127.0.0.1; Linux and macOS.

    with purecd.testing.EtcdServer() as server:
        client = purecd.Client(server.endpoint)

    with purecd.testing.EtcdCluster(3) as cluster:
        cluster.leader().kill()

The program comes from ``$PURECD_ETCD``, from PATH or from the wheel that the extra
``purecd[etcd]`` installs (`find_etcd`). Under pytest the fixtures ``etcd_server`` and
``etcd_cluster`` give each test a fresh one. Nothing here uses the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purecd.testing.binary import etcd_version, find_etcd
    from purecd.testing.cluster import EtcdCluster
    from purecd.testing.etcd import EtcdServer, TlsFiles

__all__ = ["EtcdServer", "EtcdCluster", "TlsFiles", "find_etcd", "etcd_version"]

_HOMES = {
    "EtcdServer": "etcd",
    "TlsFiles": "etcd",
    "EtcdCluster": "cluster",
    "find_etcd": "binary",
    "etcd_version": "binary",
}


def __getattr__(name: str) -> object:
    # Loaded at first use: the pytest plugin imports this package in every pytest run.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
