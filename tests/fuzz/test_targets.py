# SPDX-License-Identifier: Apache-2.0
"""Each fuzz target under hypothesis, and every input that once failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

REGRESSIONS = Path(__file__).parent / "regressions"


@pytest.mark.parametrize("name", TARGETS)
def test_target(name, pytestconfig):
    target = TARGETS[name]
    examples = pytestconfig.getoption("--fuzz-examples")

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples <= 1000,  # CI tries the same inputs each time; longer runs try new ones
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.binary(max_size=target.longest))
    def check(data):
        target.run(data)

    check()


@pytest.mark.parametrize(
    "path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_regression(path):
    TARGETS[path.parent.name].run(path.read_bytes())
