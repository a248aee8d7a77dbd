# SPDX-License-Identifier: Apache-2.0
"""How often and how quickly one RPC is repeated; what may be repeated is in test_outcomes.py."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core import methods, retry
from purecd.core.op import Call, Sleep
from purecd.options import Retry
from purecd.requests import Get, Put


def lost(applied: bool = False) -> errors.Unavailable:
    return errors.Unavailable("connection lost", maybe_applied=applied)


def repeat(rule: Retry, count: int):
    """Let `count` attempts of a read fail; the pauses between them."""
    op = retry.call(methods.RANGE, Get(b"k"))
    effect = next(op)
    pauses = []
    for _ in range(count):
        assert isinstance(effect, Call)
        effect.retry = rule
        effect = op.throw(lost())
        if isinstance(effect, Sleep):
            pauses.append(effect.seconds)
            effect = next(op)
        else:
            pauses.append(0.0)
    return pauses


def test_the_first_repetition_is_at_once_and_the_pauses_grow_to_their_limit():
    assert repeat(Retry(backoff=0.1, max_backoff=0.3), 6) == pytest.approx([0, 0.1, 0.16, 0.256, 0.3, 0.3])


def test_the_defaults():
    pauses = repeat(Retry(), 12)
    assert pauses[:4] == pytest.approx([0, 0.025, 0.04, 0.064])
    assert pauses[-1] == 1.0
    assert Retry().pause(10**6) == 1.0


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_of_attempts(limit):
    op = retry.call(methods.RANGE, Get(b"k"))
    effect = next(op)
    for attempt in range(1, limit + 1):
        assert effect.attempt == attempt
        effect.retry = Retry(max_attempts=limit)
        if attempt == limit:
            with pytest.raises(errors.Unavailable) as caught:
                op.throw(lost())
            assert caught.value.attempts == limit
        else:
            effect = op.throw(lost())
            effect = next(op) if isinstance(effect, Sleep) else effect


def test_no_rule_lets_a_write_be_repeated_whose_outcome_is_unknown():
    op = retry.call(methods.PUT, Put(b"k", b"v"))
    next(op).retry = Retry(max_attempts=10)
    with pytest.raises(errors.Unavailable) as caught:
        op.throw(lost(applied=True))
    assert caught.value.maybe_applied


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"backoff": 0}, {"max_backoff": -1}, {"jitter": 1.5}, {"jitter": -0.1}]
)
def test_rules_that_are_none(wrong):
    with pytest.raises(ValueError):
        Retry(**wrong)
