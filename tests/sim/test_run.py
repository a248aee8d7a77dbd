# SPDX-License-Identifier: Apache-2.0
"""The simulation as part of the test suite: some seeds, and whether it would find bugs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from purecd import errors
from tests.sim import planted
from tests.sim.run import MOST_DOUBT, Outcome, doubt, simulate

SEEDS = 200
BATCH = 10
ENOUGH = 60  # seeds in which a planted bug is found; most take fewer than 10


def shown(outcome: Outcome) -> str:
    return "\n".join(
        [*outcome.notes, outcome.failure, f"again: python -m tests.sim --seed {outcome.seed} --trace"]
    )


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_that_must_be_true_is_violated(first):
    counts = Counter()
    for seed in range(first, first + BATCH):
        outcome = simulate(seed)
        assert not outcome.failure, shown(outcome)
        counts += outcome.counts
    assert counts["writes open"]
    assert doubt(counts) <= MOST_DOUBT


def test_a_client_that_doubts_too_much_is_found(monkeypatch):
    monkeypatch.setattr(errors.RequestTooLarge, "ambiguous", True)
    counts = Counter()
    for seed in range(BATCH):
        outcome = simulate(seed)
        assert not outcome.failure, shown(outcome)
        counts += outcome.counts
    assert doubt(counts) > MOST_DOUBT


def test_a_seed_repeats_exactly_whatever_the_order_of_hashes():
    expected = simulate(2).digest
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.sim", "--seed", "2"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=50)
        assert f"digest {expected}," in ran.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", planted.BUGS)
def test_a_planted_bug_is_found(name):
    seeds, what = planted.find(name, 0, ENOUGH)
    assert seeds, f"not in {ENOUGH} seeds"
    assert what.split()[0] in planted.BUGS[name].shows


def test_a_planted_bug_is_gone_afterwards():
    for name, bug in planted.BUGS.items():
        places = [(owner, attribute) for owner, attribute, _ in bug.patches()]
        before = [getattr(owner, attribute) for owner, attribute in places]
        with planted.planted(name):
            assert before != [getattr(owner, attribute) for owner, attribute in places]
        assert before == [getattr(owner, attribute) for owner, attribute in places]
