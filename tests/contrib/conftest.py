# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the adapters' tests: a real etcd and both clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from purecd.testing import EtcdServer
from tests.live.fronts import FRONTS, FrontUnderTest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def server() -> Iterator[EtcdServer]:
    """A running server, shared by all tests here."""
    with EtcdServer() as server:
        yield server


@pytest.fixture(params=list(FRONTS))
def front(request: pytest.FixtureRequest) -> Iterator[FrontUnderTest]:
    """Makes clients of one front, whose methods block in both; the test runs once for each."""
    front = FRONTS[request.param]()
    yield front
    front.close()
