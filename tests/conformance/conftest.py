# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the conformance tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.fronts import FRONTS, FrontUnderTest


@pytest.fixture(params=list(FRONTS))
def front(request: pytest.FixtureRequest) -> Iterator[FrontUnderTest]:
    """Makes clients of one front, whose methods block in both; the test runs once for each."""
    front = FRONTS[request.param]()
    yield front
    front.close()
