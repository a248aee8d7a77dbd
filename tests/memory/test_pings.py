# SPDX-License-Identifier: Apache-2.0
"""Which PINGs are too many."""

from __future__ import annotations

import pytest

from purecd.memory.pings import PingGuard


def verdicts(guard, times, *, idle):
    return [guard.received(now, idle=idle) for now in times]


@pytest.mark.parametrize("idle", [True, False])
def test_the_fourth_within_the_interval_is_one_too_many(idle):
    assert verdicts(PingGuard(5.0), [0.0, 0.1, 0.2, 0.3], idle=idle) == [False, False, False, True]


def test_patient_pings_with_a_call_are_welcome():
    assert not any(verdicts(PingGuard(5.0), range(0, 100, 5), idle=False))


def test_without_a_call_hours_must_pass():
    assert verdicts(PingGuard(5.0), [0, 10, 20, 30], idle=True)[-1]
    assert not any(verdicts(PingGuard(5.0), range(0, 80_000, 7200), idle=True))


def test_anything_sent_wipes_the_strikes_out():
    guard = PingGuard(5.0)
    assert not any(verdicts(guard, [0.0, 0.1, 0.2], idle=False))
    guard.sent()
    assert verdicts(guard, [0.3, 0.4, 0.5, 0.6], idle=False) == [False, False, False, True]


def test_the_guard_can_be_sent_away():
    assert not any(verdicts(PingGuard(0.0), [0.0] * 50, idle=True))
