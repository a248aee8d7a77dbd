# SPDX-License-Identifier: Apache-2.0
"""Windows that follow what arrives."""

from __future__ import annotations

from purecd.memory.bandwidth import FIRST, LARGEST, Estimate


def test_one_probe_at_a_time():
    estimate = Estimate()
    assert estimate.arrived(100, 1.0)
    assert not estimate.arrived(100, 1.01)
    assert not estimate.answered(1.02), "200 octets say nothing about 65,535"
    assert estimate.arrived(100, 1.03)
    assert estimate.size == FIRST


def test_a_full_window_doubles_the_sample():
    estimate = Estimate()
    estimate.arrived(16_384, 1.0)
    for _ in range(3):
        estimate.arrived(16_384, 1.0)
    assert estimate.answered(1.01)
    assert estimate.size == 2 * 65_536


def test_a_slower_sample_changes_nothing():
    estimate = Estimate()
    estimate.arrived(60_000, 1.0)
    assert estimate.answered(1.001)
    estimate.arrived(110_000, 2.0)
    assert not estimate.answered(3.0), "many octets in a long time"
    assert estimate.size == 120_000


def test_the_largest_window_ends_it():
    estimate = Estimate()
    now = 0.0
    while estimate.arrived(estimate.size, now):
        assert estimate.answered(now + 0.001)
        now += 1
    assert estimate.size == LARGEST
    assert now < 12


def test_an_answer_without_a_question():
    assert not Estimate().answered(1.0)
