# SPDX-License-Identifier: Apache-2.0
"""Stepping operations by hand: what they ask for, and what they make of the answers."""

from __future__ import annotations

from typing import Any

from purecd.core.op import Attach, Call, Detach, Next, Now, RandomId


def first_call(operation: Any) -> Call:
    """The call that an operation begins with."""
    call = next(operation)
    assert type(call) is Call
    return call


def request_of(operation: Any) -> Any:
    """The request message of an operation that is one call, as it arrives at the server."""
    call = next(operation)
    while type(call) in (Now, RandomId):
        call = operation.send(1)
    assert type(call) is Call
    data = call.method.encode(call.request)
    return type(call.request).FromString(data)


class Stepper:
    """Runs an operation against a script of answers.

    Args:
        answers: for each `Call` and each `Next`, in order, the reply, or the error to throw.
        clock: the answers to `Now`; the last one is repeated.

    Attributes:
        calls: the calls and attached streams, in order.
        log: the type of every effect.
    """

    def __init__(self, *answers: Any, clock: tuple[float, ...] = (0.0,), random_id: int = 77) -> None:
        self.answers = list(answers)
        self.clock = list(clock)
        self.random_id = random_id
        self.calls: list[Any] = []
        self.open: list[Any] = []
        self.log: list[Any] = []

    def run(self, operation: Any) -> Any:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = operation.send(value) if error is None else operation.throw(error)
            except StopIteration as done:
                return done.value
            value = error = None
            self.log.append(type(effect))
            if type(effect) is Now:
                value = self.clock.pop(0) if len(self.clock) > 1 else self.clock[0]
            elif type(effect) is RandomId:
                value = self.random_id
            elif type(effect) is Attach:
                self.calls.append(effect.source)
                self.open.append(effect.source)
            elif type(effect) is Detach:
                if effect.source in self.open:
                    self.open.remove(effect.source)
            elif type(effect) in (Call, Next):
                if type(effect) is Call:
                    self.calls.append(effect)
                else:
                    assert effect.source in self.open
                value = self.answers.pop(0)
                if isinstance(value, BaseException):
                    value, error = None, value
            else:
                value = True  # Sleep, Refresh
