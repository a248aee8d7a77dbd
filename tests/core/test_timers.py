# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.timers."""

import random

from purecd.core.timers import Timers


def test_timers_come_up_in_order_of_time():
    timers: Timers[str] = Timers()
    timers.set("b", 2.0)
    timers.set("a", 1.0)
    assert timers.first() == 1.0
    assert timers.pop_due(0.9) is None
    assert timers.pop_due(2.0) == "a"
    assert timers.pop_due(2.0) == "b"
    assert timers.pop_due(9.0) is None
    assert timers.first() is None


def test_a_timer_that_is_set_again_moves():
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 3.0)
    assert timers.first() == 3.0
    timers.set("a", 2.0)
    assert timers.pop_due(2.0) == "a"
    assert timers.pop_due(9.0) is None


def test_a_timer_that_is_set_back_to_an_earlier_time_comes_up_once():
    timers: Timers[str] = Timers()
    for when in (1.0, 2.0, 1.0):
        timers.set("a", when)
    assert timers.pop_due(5.0) == "a"
    assert timers.pop_due(5.0) is None
    assert len(timers) == 0


def test_a_discarded_timer_does_not_come_up():
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("b", 2.0)
    timers.discard("a")
    timers.discard("unknown")
    assert timers.first() == 2.0
    assert len(timers) == 1


def test_moved_timers_leave_bounded_garbage():
    timers: Timers[int] = Timers()
    for step in range(10_000):
        timers.set(step % 10, float(step))
    assert len(timers) == 10
    assert len(timers._heap) <= 2 * 10 + 64


def test_random_use_agrees_with_a_plain_dictionary():
    seed = 20261125
    rng = random.Random(seed)
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    for _ in range(5_000):
        key, when = rng.randrange(20), float(rng.randrange(100))
        choice = rng.random()
        if choice < 0.6:
            timers.set(key, when)
            model[key] = when
        elif choice < 0.8:
            timers.discard(key)
            model.pop(key, None)
        else:
            due = timers.pop_due(when)
            if due is None:
                assert all(time > when for time in model.values()), seed
            else:
                assert model.pop(due) <= min(model.values(), default=when), seed
        assert timers.first() == min(model.values(), default=None), seed
