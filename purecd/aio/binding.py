# SPDX-License-Identifier: Apache-2.0
"""An operation as an awaitable method, with its own signature, types and docstring."""

from __future__ import annotations

import functools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from purecd.binding import with_self
from purecd.core.op import Op
from purecd.options import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")


def awaitable(operation: Callable[P, Op[T]]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Make a method that runs the operation by the owner's ``_run``."""

    @functools.wraps(operation)
    async def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._run(operation(*args, **kwargs), kwargs.get("timeout", DEFAULT_TIMEOUT))
        return result

    with_self(method, operation)
    return method  # type: ignore[return-value]  # self is positional-only for callers, too
