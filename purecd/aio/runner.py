# SPDX-License-Identifier: Apache-2.0
"""Runs operations on an event loop: performs each effect, keeps the deadline of the whole."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from purecd import errors
from purecd.aio.driver import Driver
from purecd.core import exchange
from purecd.core.op import Attach, Call, Detach, Effect, Elsewhere, Next, Now, Op, RandomId, Refresh, Sleep
from purecd.core.retry import OneCall
from purecd.hooks import Hook, Observed
from purecd.options import Retry, deadline_after

T = TypeVar("T")

CLEAN_UP = 2.0
"""Seconds for the clean-up of an operation that was given up, or whose deadline has passed."""


class Drivers(Protocol):
    """Where effects are performed: by kind, ``calls`` or ``streams``, or at a single endpoint."""

    max_send_size: int
    fail_fast: bool
    retry: Retry
    hooks: tuple[Hook, ...]

    def _driver(self, kind: str, endpoint: str | None = None) -> Driver: ...


async def run(op: Op[T], drivers: Drivers, deadline: float | None) -> T:
    """Run an operation to its end, its clean-up included when the task is cancelled.

    Args:
        op: a fresh operation.
        drivers: where its effects are performed.
        deadline: absolute monotonic seconds, None for no limit.

    Raises:
        DeadlineExceeded: the deadline passed first.
        EtcdError: whatever the operation lets through.
    """
    try:
        if type(op) is OneCall:
            try:
                reply: T = await _call(op.first, drivers, deadline)
                return reply
            except BaseException as error:
                if exchange.ends_operation(op.first, error):
                    deadline = time.monotonic() + CLEAN_UP  # a little time of its own
                effect = op.failed(error)
        else:
            effect = op.send(None)
        send = op.send
        while True:
            try:
                if type(effect) is Call:
                    result = await _call(effect, drivers, deadline)
                elif type(effect) is Next:
                    result = await _next(effect, drivers, deadline)
                else:
                    result = await _perform(effect, drivers, deadline)
            except BaseException as error:
                if exchange.ends_operation(effect, error):
                    deadline = time.monotonic() + CLEAN_UP  # a little time of its own
                effect = op.throw(error)
            else:
                effect = send(result)
    except StopIteration as end:
        value: T = end.value
        return value


def _call(call: Call, drivers: Drivers, deadline: float | None) -> Awaitable[Any]:
    exchange.encode(call, drivers.max_send_size, deadline)
    call.fail_fast = drivers.fail_fast
    call.retry = drivers.retry
    driver = drivers._driver("calls", call.endpoint)
    return _observed(call, driver, drivers.hooks) if drivers.hooks else _attempt(call, driver)


async def _attempt(call: Call, driver: Driver) -> Any:
    # No coroutine more than needed between a task and its future: each is resumed for each call.
    future = driver.begin(call)
    if future is not None:
        try:
            await future
        except asyncio.CancelledError:
            driver.abandon(call)
            raise
        finally:
            driver.end(call)
    if call.error is not None:
        raise call.error
    return exchange.decode(call, call.message)


async def _observed(call: Call, driver: Driver, hooks: tuple[Hook, ...]) -> Any:
    observed = Observed(hooks, call)
    try:
        reply = await _attempt(call, driver)
    except BaseException as error:
        observed.ended(b"", error)
        raise
    observed.ended(call.message, None)
    return reply


async def _perform(effect: Effect, drivers: Drivers, deadline: float | None) -> Any:
    if isinstance(effect, Sleep):
        await _sleep(effect, deadline)
        return None
    if isinstance(effect, Refresh):
        call = effect.call
        driver = drivers._driver("calls", call.endpoint)
        return await driver.refresh(effect, deadline)
    if isinstance(effect, Elsewhere):
        drivers._driver("calls", effect.call.endpoint).elsewhere(effect.call)
        return None
    if isinstance(effect, Attach):
        source = effect.source
        if isinstance(source, Call):
            exchange.encode(source, drivers.max_send_size, None)  # a stream outlives the command
        _driver_of(source, drivers).attach(source)
        return source
    if isinstance(effect, Detach):
        _driver_of(effect.source, drivers).detach(effect.source)
        return None
    if isinstance(effect, Now):
        return time.monotonic()
    if isinstance(effect, RandomId):
        import secrets

        return secrets.randbelow(2**63 - 1) + 1
    raise TypeError(f"no effect: {effect!r}")


def _driver_of(source: Any, drivers: Drivers) -> Driver:
    endpoint = getattr(source, "endpoint", None)
    return drivers._driver(source.channel, endpoint)


def _next(effect: Next, drivers: Drivers, deadline: float | None) -> Awaitable[Any]:
    driver = _driver_of(effect.source, drivers)
    if effect.timeout is None and deadline is None:
        return driver.next(effect.source, None)  # as of `_attempt`: no coroutine more than needed
    return _next_until(effect, driver, deadline)


async def _next_until(effect: Next, driver: Driver, deadline: float | None) -> Any:
    until = deadline
    if effect.timeout is not None:
        own = deadline_after(effect.timeout, time.monotonic())
        until = own if own is None or deadline is None else min(own, deadline)
    try:
        return await driver.next(effect.source, until)
    except errors.EtcdError:
        raise
    except TimeoutError:
        if deadline is not None and until == deadline:
            raise exchange.nothing_in_time(driver.channel) from None
        raise


async def _sleep(effect: Sleep, deadline: float | None) -> None:
    seconds = effect.seconds * (1 + effect.jitter * (2 * random.random() - 1))
    if deadline is not None and seconds >= deadline - time.monotonic():
        # Sleeping on would only end at the deadline; say so now.
        raise exchange.out_of_time("the time was over before the next attempt")
    await asyncio.sleep(seconds)
