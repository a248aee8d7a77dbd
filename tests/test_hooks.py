# SPDX-License-Identifier: Apache-2.0
"""Hooks by themselves: order, what they are told, and that they change nothing."""

from __future__ import annotations

import logging

import pytest

from purecd import errors
from purecd.core.methods import PUT
from purecd.core.op import Call
from purecd.errors import StatusCode
from purecd.hooks import Hook, Observed, each_safely
from purecd.requests import Put


class Recorder(Hook):
    """Writes down what it is told, under its name."""

    def __init__(self, name, heard):
        self.name = name
        self.heard = heard

    def call_started(self, method, attempt):
        self.heard.append((self.name, "started", method, attempt))
        return f"state of {self.name}"

    def call_ended(self, state, event):
        self.heard.append((self.name, state, event))


@pytest.fixture
def call():
    call = Call(PUT, Put(b"k", b"v"))
    call.data = b"12345"
    call.attempt = 2
    return call


def test_several_hooks_are_ended_in_reverse(call):
    heard: list[tuple] = []
    Observed([Recorder("a", heard), Recorder("b", heard)], call).ended(b"123", None)
    assert heard[:2] == [("a", "started", PUT.path, 2), ("b", "started", PUT.path, 2)]
    assert [each[:2] for each in heard[2:]] == [("b", "state of b"), ("a", "state of a")]
    event = heard[2][2]
    assert event == heard[3][2]
    assert event._replace(seconds=0) == (PUT.path, 2, "", StatusCode.OK, None, 0, 5, 3)
    assert 0 <= event.seconds < 1


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.Unavailable("gone"), StatusCode.UNAVAILABLE),
        (errors.DeadlineExceeded("late"), StatusCode.DEADLINE_EXCEEDED),
        (errors.from_status(3, "etcdserver: key is not provided"), StatusCode.INVALID_ARGUMENT),
        (KeyboardInterrupt(), None),
    ],
)
def test_errors_have_their_code(call, error, code):
    heard: list[tuple] = []
    Observed([Recorder("a", heard)], call).ended(b"", error)
    event = heard[-1][2]
    assert event.error is error
    assert event.code is code


def test_a_hook_that_raises_is_logged_and_changes_nothing(call, caplog):
    class Broken(Hook):
        def call_started(self, method, attempt):
            raise ZeroDivisionError

        def call_ended(self, state, event):
            assert state is None
            raise ValueError("broken")

    heard: list[tuple] = []
    with caplog.at_level(logging.ERROR, "purecd"):
        Observed([Broken(), Recorder("b", heard), Broken()], call).ended(b"", None)
    assert [each[1] for each in heard] == ["started", "state of b"]
    assert [record.exc_info[0] for record in caplog.records] == [
        ZeroDivisionError,
        ZeroDivisionError,
        ValueError,
        ValueError,
    ]


def test_what_ends_the_program_is_not_caught():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        each_safely(interrupted)


def test_a_plain_hook_hears_and_says_nothing(call):
    hook = Hook()
    Observed([hook], call).ended(b"", None)
    hook.connection("ready", "here", "")
    hook.watch("opened", "")
