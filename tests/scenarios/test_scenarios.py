# SPDX-License-Identifier: Apache-2.0
"""Every scenario on every stage: simulated, and on threads and asyncio against etcd and the one in memory."""

from __future__ import annotations

import pytest

from purecd.memory import MemoryEtcd
from purecd.testing import EtcdServer
from tests.scenarios.scenarios import ALL
from tests.scenarios.stage import AsyncioStage, SimStage, ThreadsStage

SEEDS = 3
by_name = pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)


@by_name
def test_simulated(scenario):
    for seed in range(SEEDS):
        SimStage(seed).play(scenario)


@by_name
@pytest.mark.parametrize("stage", [ThreadsStage, AsyncioStage], ids=lambda stage: stage.name)
def test_in_memory(scenario, stage):
    with MemoryEtcd(drain_timeout=1.0) as server:
        stage(server).play(scenario)


@by_name
@pytest.mark.live
@pytest.mark.parametrize("stage", [ThreadsStage, AsyncioStage], ids=lambda stage: stage.name)
def test_real(scenario, stage):
    with EtcdServer() as server:
        stage(server).play(scenario)
