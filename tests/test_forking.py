# SPDX-License-Identifier: Apache-2.0
"""Which clients hear of a fork; what they do then is tested with real ones, in tests/live/test_process.py."""

from __future__ import annotations

import gc
import os

import pytest

from purecd import errors, forking

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Client:
    """Tells through a pipe that it was told."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def _after_fork(self) -> None:
        os.write(self._pipe, b"x")


@forks
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_those_that_live_are_told_in_the_child_alone():
    reader, writer = os.pipe()
    living, gone = Client(writer), Client(writer)
    forking.remember(living)
    forking.remember(gone)
    del gone
    gc.collect()  # PyPy forgets it only now
    pid = os.fork()
    if not pid:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(writer)
    with open(reader, "rb") as told:
        assert told.read() == b"x", "once, by one client, from one process"


def test_what_a_child_is_told():
    error = forking.not_ours()
    assert type(error) is errors.ClientClosed
    assert "parent process" in str(error)
    assert not error.maybe_applied
