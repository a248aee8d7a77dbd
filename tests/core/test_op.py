# SPDX-License-Identifier: Apache-2.0
"""Effects and the helpers that yield them."""

from __future__ import annotations

import pytest

from purecd.core import methods, op


def finish(operation, value):
    """Send the last result; what the operation returns."""
    with pytest.raises(StopIteration) as done:
        operation.send(value)
    return done.value.value


def test_sleeping():
    operation = op.sleep(0.5)
    effect = next(operation)
    assert type(effect) is op.Sleep
    assert (effect.seconds, effect.jitter) == (0.5, 0.1)
    assert finish(operation, None) is None
    assert next(op.sleep(0.5, jitter=0.0)).jitter == 0.0


def test_the_time():
    operation = op.now()
    assert type(next(operation)) is op.Now
    assert finish(operation, 12.5) == 12.5


def test_an_id():
    operation = op.random_id()
    assert type(next(operation)) is op.RandomId
    assert finish(operation, 7) == 7


def test_an_error_comes_through():
    operation = op.sleep(0.5)
    next(operation)
    with pytest.raises(TimeoutError):
        operation.throw(TimeoutError())


def test_a_fresh_call_is_neither_sent_nor_done():
    call = op.Call(methods.PUT, "request", require_leader=True, endpoint="a:1", metadata=[(b"n", b"v")])
    assert (call.method, call.request, call.require_leader) == (methods.PUT, "request", True)
    assert (call.endpoint, call.metadata) == ("a:1", [(b"n", b"v")])
    assert (call.done, call.error, call.link, call.stream, call.waiter) == (False, None, None, None, None)
    assert (call.attempt, call.deadline, call.fail_fast) == (1, None, False)


def test_a_fresh_refresh_is_not_done():
    call = op.Call(methods.PUT, None)
    refresh = op.Refresh(call)
    assert refresh.call is call
    assert (refresh.again, refresh.done, refresh.error, refresh.waiter) == (False, False, None, None)


@pytest.mark.parametrize(
    "effect",
    [
        op.Call(methods.PUT, None),
        op.Sleep(1.0),
        op.Refresh(op.Call(methods.PUT, None)),
        op.Attach(None),
        op.Next(None, 2.0),
        op.Detach(None),
        op.Now(),
        op.RandomId(),
    ],
)
def test_effects_are_slotted(effect):
    assert not hasattr(effect, "__dict__")
