# SPDX-License-Identifier: Apache-2.0
"""pytest fixtures for a real etcd, and for one in memory, registered by installing purecd.

``etcd_server`` is a fresh `EtcdServer` for the test, ``etcd_cluster`` a fresh `EtcdCluster` of
three, ``memory_etcd`` a fresh `purecd.memory.MemoryEtcd`. When the test fails, the end of their
logs is in the report. One for many tests is two lines in a ``conftest.py``::

    @pytest.fixture(scope="session")
    def etcd():
        with purecd.testing.EtcdServer() as server:
            yield server

Loading this plugin loads neither the client nor the helpers: they come with the first fixture.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from purecd.memory.server import MemoryEtcd
    from purecd.testing.cluster import EtcdCluster
    from purecd.testing.etcd import EtcdServer


@pytest.fixture
def etcd_server() -> Generator[EtcdServer, None, None]:
    """A fresh real etcd, one member."""
    from purecd.testing.etcd import EtcdServer

    with EtcdServer() as server:
        yield server


@pytest.fixture
def etcd_cluster() -> Generator[EtcdCluster, None, None]:
    """A fresh real etcd cluster of three members."""
    from purecd.testing.cluster import EtcdCluster

    with EtcdCluster(3) as cluster:
        yield cluster


@pytest.fixture
def memory_etcd() -> Generator[MemoryEtcd, None, None]:
    """A fresh etcd in memory, started in a few milliseconds; it needs no etcd program."""
    from purecd.memory.server import MemoryEtcd

    with MemoryEtcd() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        _add_logs(item, report)
    return report


def _add_logs(item: pytest.Function, report: pytest.TestReport) -> None:
    servers: list[EtcdServer] = []
    if "etcd_server" in item.funcargs:
        servers.append(cast("EtcdServer", item.funcargs["etcd_server"]))
    if "etcd_cluster" in item.funcargs:
        servers.extend(cast("EtcdCluster", item.funcargs["etcd_cluster"]).members)
    if "memory_etcd" in item.funcargs:
        memory = cast("MemoryEtcd", item.funcargs["memory_etcd"])
        report.sections.append((f"requests to etcd {memory.name} in memory", memory.log_tail()))
    for server in servers:
        report.sections.append((f"log of etcd {server.name}", server.log_tail()))
