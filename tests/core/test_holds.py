# SPDX-License-Identifier: Apache-2.0
"""What a handle tells, from a place and a lease alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from purecd.core.holds import Hold
from tests.core.test_line import KEY, in_line


class Held(Hold):
    _kind = "Lock"


def test_nothing_is_held_at_first():
    hold = Held("jobs", None)
    assert (hold.held, hold.lost, hold.key, hold.fencing_token) == (False, False, b"", 0)
    assert repr(hold) == "<Lock b'jobs' not held>"
    with pytest.raises(RuntimeError, match="was not got, or was given up"):
        hold._held()


@pytest.mark.parametrize("lost", [False, True])
def test_it_is_held_as_long_as_its_lease_lives(lost):
    hold = Held("jobs", None)
    hold._place, hold._lease = in_line(5), SimpleNamespace(lost=lost)
    assert (hold.held, hold.lost, hold.key, hold.fencing_token) == (not lost, lost, KEY, 5)
    assert repr(hold) == f"<Lock b'jobs' {'lost' if lost else 'held'}>"
    assert hold._held() is hold._place


def test_a_name_is_checked():
    with pytest.raises(ValueError, match="empty"):
        Held("", None)
