# SPDX-License-Identifier: Apache-2.0
"""Runs under faults: a load through both clients while members and networks fail.

Each test starts its own cluster of the newest 3.5 present, else of the default etcd. A test prints
one line of figures as JSON. ``PURECD_FAULT_RUNS=n`` runs each n times, with other choices of calls;
``PURECD_FAULT_CALLERS=n`` sets how many callers there are, 16 by default.
All need ``make faults``, but for those of test_short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import pytest

from purecd.testing import EtcdCluster, EtcdServer
from tests.faults.trial import Trial
from tests.live import etcds
from tests.live.fronts import FRONTS, FrontUnderTest

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(int(os.environ.get("PURECD_FAULT_RUNS", "1"))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))
            if item.path.stem != "test_short":
                item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def binary() -> Path:
    """The etcd program of these tests."""
    present = etcds.present()
    newest = [each for each in present if each.version.startswith("3.5.")]
    path = max(newest or present, key=lambda each: tuple(map(int, each.version.split(".")))).path
    assert path is not None
    return path


@pytest.fixture
def start_cluster(binary: Path) -> Iterator[Callable[..., EtcdCluster]]:
    """``start_cluster(size=3, **options of EtcdCluster)``: a started cluster of this test's own."""
    with ExitStack() as stack:
        yield lambda size=3, **options: stack.enter_context(
            EtcdCluster(size, **{"binary": binary, **options})
        )


@pytest.fixture
def start_server(binary: Path) -> Iterator[Callable[..., EtcdServer]]:
    """``start_server(**options of EtcdServer)``: a started server of this test's own."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(EtcdServer(**{"binary": binary, **options}))


@pytest.fixture
def fronts() -> Iterator[list[FrontUnderTest]]:
    """Both fronts at once."""
    both = [make() for make in FRONTS.values()]
    yield both
    for front in both:
        front.close()


@pytest.fixture(params=list(FRONTS))
def front(request: pytest.FixtureRequest) -> Iterator[FrontUnderTest]:
    """Makes clients of one front; the test runs once for each."""
    front = FRONTS[request.param]()
    yield front
    front.close()


@pytest.fixture
def trial(request: pytest.FixtureRequest, fronts: list[FrontUnderTest], seed: int) -> Callable[..., Trial]:
    """``trial(endpoints, **options)``: a load through both fronts, ready to be started."""

    def make(endpoints: Any, **options: Any) -> Trial:
        if "PURECD_FAULT_CALLERS" in os.environ:
            options.setdefault("callers", int(os.environ["PURECD_FAULT_CALLERS"]))
        return Trial(request.node.name, fronts, endpoints, seed=seed, **options)

    return make
