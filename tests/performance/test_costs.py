# SPDX-License-Identifier: Apache-2.0
"""No call and no event costs noticeably more than it did, counted and not timed.

A count more than 1.25 times the recorded one fails. So does one below 0.85: what became cheaper is
recorded anew, or a later regression could hide below the old figure. So between two records nothing grows by
1.5.
"""

from __future__ import annotations

import sys

import pytest

from purecd.testing import EtcdServer
from tests.performance import costs

MOST, LEAST = 1.25, 0.85
ANEW = "if that is meant, record it with `python -m tests.performance.costs`"

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        sys.implementation.name != "cpython" or costs.python() not in costs.baselines(),
        reason="no counts are recorded for this Python",
    ),
]


@pytest.fixture(scope="module")
def counted():
    with EtcdServer() as server:
        return costs.count_all(server.endpoint)


@pytest.mark.parametrize("kind", ["lines", "calls"])
@pytest.mark.parametrize("name", sorted(costs.baselines().get(costs.python(), {"-": {}})))
def test_cost(counted, name, kind):
    recorded, found = costs.baselines()[costs.python()][name][kind], counted[name][kind]
    told = f"{name}: {found:.2f} {kind}, recorded are {recorded:.2f}; {ANEW}"
    assert found <= recorded * MOST, told
    assert found >= recorded * LEAST, told


def test_everything_counted_is_recorded(counted):
    assert set(counted) == set(costs.baselines()[costs.python()])


def test_the_same_work_counts_the_same():
    def work():
        return sorted(str(number) for number in range(50))

    assert costs.least(work) == costs.least(work)
    doubled = costs.least(lambda: (work(), work()))
    assert 1.9 < doubled["lines"] / costs.least(work)["lines"] < 2.1
