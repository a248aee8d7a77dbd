# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the live tests: real etcd processes.

A test names the fixture ``server`` (shared by all tests of its etcd version, so keep to keys below
``prefix``), or ``start_server`` / ``start_cluster`` for its own ones. It runs on the default etcd; with
the mark ``every_etcd``, or all of them with ``--all-etcds``, on each etcd present. One that names
``front`` or ``client`` runs with both clients. Those that `in_memory.also` chooses run against
purecd's etcd in memory as well, under the mark ``memory``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import pytest

from purecd.testing import EtcdCluster, EtcdServer
from tests.live import etcds, in_memory
from tests.live.etcds import Etcd
from tests.live.fronts import FRONTS, FrontUnderTest

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "etcd" in metafunc.fixturenames:
        present = etcds.present()
        on_all = metafunc.config.getoption("--all-etcds") or any(
            metafunc.definition.iter_markers("every_etcd")
        )
        chosen: list[Any] = [
            pytest.param(etcd, id=etcd.version) for etcd in (present if on_all else present[:1])
        ]
        if in_memory.also(metafunc):
            chosen.append(pytest.param(in_memory.ETCD, id="memory", marks=in_memory.marks(metafunc)))
        metafunc.parametrize("etcd", chosen, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def _shared_servers() -> Iterator[dict[Etcd, Any]]:
    servers: dict[Etcd, Any] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def server(etcd: Etcd, _shared_servers: dict[Etcd, Any]) -> Any:
    """A running server, shared with other tests."""
    if etcd not in _shared_servers:
        _shared_servers[etcd] = _server(etcd)
    server = _shared_servers[etcd]
    if not server.running:
        server.start()
    return server


def _server(etcd: Etcd, **options: Any) -> Any:
    if etcd.path is None:
        return in_memory.server(**options)
    return EtcdServer(**{"binary": etcd.path, **options})


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix that is this test's alone, ending in a slash."""
    return f"{request.node.nodeid}/"


@pytest.fixture
def start_server(etcd: Etcd) -> Iterator[Callable[..., Any]]:
    """``start_server(**options of EtcdServer)``: a started server of this test's own."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(_server(etcd, **options))


@pytest.fixture
def start_cluster(etcd: Etcd) -> Iterator[Callable[..., EtcdCluster]]:
    """``start_cluster(size=3, **options of EtcdCluster)``: a started cluster of this test's own."""
    with ExitStack() as stack:
        yield lambda size=3, **options: stack.enter_context(
            EtcdCluster(size, **{"binary": etcd.path, **options})
        )


@pytest.fixture(params=list(FRONTS))
def front(request: pytest.FixtureRequest) -> Iterator[FrontUnderTest]:
    """Makes clients of one front, whose methods block in both; the test runs once for each."""
    front = FRONTS[request.param]()
    yield front
    front.close()


@pytest.fixture
def client(front: FrontUnderTest, server: Any) -> Any:
    """A client of the shared server."""
    return front.client(server.endpoint)
