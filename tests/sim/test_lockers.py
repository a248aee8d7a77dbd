# SPDX-License-Identifier: Apache-2.0
"""What the simulation makes of histories of locks: right ones, and each kind of wrong one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from purecd.core.keptlease import KeptLease
from purecd.core.line import Place
from tests.sim.history import History
from tests.sim.lockers import LockBooks, Taken, check_locks
from tests.sim.world import InvariantError

A, B = b"lock-a/1", b"lock-a/2"
WORK = b"work-lock-a"


def history(*steps):
    """What a store went through: each step is a key and its new value, None for a deletion."""
    told = History()
    for revision, (key, value) in enumerate(steps, 2):
        told.changed(revision, [(key, SimpleNamespace(value=value, lease=0), value is None)])
    return told


def judge(told):
    check_locks(LockBooks(told), told)


def test_one_after_the_other():
    judge(history((A, b"x"), (B, b"y"), (WORK, b"2"), (WORK, b"2"), (A, None), (WORK, b"3"), (B, None)))


@pytest.mark.parametrize(
    ("steps", "number"),
    [
        ([(A, b"x"), (B, b"y"), (WORK, b"3"), (A, None), (B, None)], "S15"),
        ([(A, b"x"), (WORK, b"2"), (A, None), (WORK, b"2")], "S15"),
        ([(A, b"x"), (WORK, b"2"), (A, None), (B, b"y"), (WORK, b"2"), (B, None)], "S15"),
        ([(A, b"x")], "S16"),
    ],
    ids=["before its turn", "nobody's", "too late", "left over"],
)
def test_what_must_not_be(steps, number):
    with pytest.raises(InvariantError, match=number):
        judge(history(*steps))


def test_a_lock_is_believed_held_as_long_as_its_lease():
    taken = Taken(Place(b"lock-a", KeptLease(1, 5, 100.0), True, set()))
    assert taken.believed(104.9)
    assert not taken.believed(105.0)
    taken.over = True
    assert not taken.believed(101.0)
