# SPDX-License-Identifier: Apache-2.0
"""What all tests share: options, the report's header, hypothesis without a clock."""

from __future__ import annotations

import pytest

from tests.live import etcds

pytest_plugins = ["pytester"]

try:
    import hypothesis
except ImportError:  # only some tests need it
    pass
else:
    # Same examples in every run; a busy machine is no failure.
    hypothesis.settings.register_profile("purecd", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("purecd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-etcds", action="store_true", help="run every live test on every etcd present")
    parser.addoption("--fidelity-requests", type=int, default=1500, help="requests to both etcds, per seed")
    parser.addoption("--fidelity-seeds", type=int, default=1, help="how many seeds for tests/memory")
    parser.addoption("--fidelity-seed", type=int, default=1, help="the first of these seeds")
    parser.addoption("--fidelity-etcd", default="", help="version of the etcd for tests/memory")
    parser.addoption("--fuzz-examples", type=int, default=300, help="inputs for each fuzz target")


def pytest_report_header() -> list[str]:
    present = ", ".join(etcd.version for etcd in etcds.present()) or "none"
    return [f"etcd: {present}", *(f"etcd skipped: {reason}" for reason in etcds.skipped())]
