# SPDX-License-Identifier: Apache-2.0
"""Coroutines that run on the time of a world: the least that a front needs of an event loop."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Callable

from purecd.errors import EtcdError

Soon = Callable[[Callable[[], None]], None]
"""Has a function called now, or as soon as the process that it belongs to runs again."""


class Cancelled(BaseException):
    """The task was cancelled, as asyncio does it: thrown in where it waits."""


class Future:
    """Something to wait for, by one task.

    Attributes:
        late: it was not what was waited for that came, but the end of the time for it.
    """

    __slots__ = ("_done", "_task", "late")

    def __init__(self) -> None:
        self._done = False
        self._task: Task | None = None
        self.late = False

    def done(self) -> bool:
        """Whether it has come."""
        return self._done

    def set_result(self, result: None) -> None:
        """It has come."""
        if not self._done:
            self._done = True
            if self._task is not None:
                self._task.wake(self)

    def expire(self) -> None:
        """The time for it is over."""
        if not self._done:
            self.late = True
            self.set_result(None)

    def __await__(self) -> Generator[Future, None, None]:
        if not self._done:
            yield self

    def wait(self, task: Task) -> None:
        """`task` waits for it from now on."""
        self._task = task
        if self._done:
            task.wake(self)


class Task:
    """One coroutine. What it raises besides errors of the client goes on to whoever runs the world.

    Attributes:
        done: it has ended.
        result: what it returned.
        error: what it raised.
        ended: set when it has ended.
    """

    def __init__(self, coroutine: Coroutine[Any, None, Any], soon: Soon) -> None:
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = Future()
        self._coroutine = coroutine
        self._soon = soon
        self._waits_for: Future | None = None
        self._cancelled = False
        soon(self._begin)

    def __repr__(self) -> str:
        return f"<Task {getattr(self._coroutine, '__name__', '')}>"

    def _begin(self) -> None:
        self._step(Cancelled() if self._cancelled else None)

    def wake(self, future: Future) -> None:
        """What it waits for has come."""
        self._soon(lambda: self._resume(future))

    def _resume(self, future: Future) -> None:
        if self._waits_for is future:  # not cancelled meanwhile
            self._step(None)

    def cancel(self) -> None:
        """Throw `Cancelled` in at the place where it waits, once."""
        if self.done or self._cancelled:
            return
        self._cancelled = True
        if self._waits_for is not None:
            self._waits_for = None
            self._soon(lambda: self._step(Cancelled()))

    def _step(self, error: BaseException | None) -> None:
        self._waits_for = None
        try:
            future = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as end:
            self._end(end.value, None)
        except (EtcdError, Cancelled) as failure:
            self._end(None, failure)
        else:
            self._waits_for = future
            future.wait(self)

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.done, self.result, self.error = True, result, error
        self._waits_for = None
        self.ended.set_result(None)
