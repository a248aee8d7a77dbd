# SPDX-License-Identifier: Apache-2.0
"""One face for both clients, so that one test body serves threads and asyncio.

`Aio` keeps an event loop in a thread of its own. Each method of its clients blocks the caller while
the coroutine of the same name runs there: 64 threads that call are 64 tasks on one loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Callable, Protocol, TypeVar

import pytest

import purecd
from purecd import EtcdError
from purecd.aio.commands import AsyncView
from purecd.aio.elections import AsyncElection
from purecd.aio.groups import AsyncGroup
from purecd.aio.leases import AsyncLease
from purecd.aio.locks import AsyncLock
from purecd.options import Timeout
from purecd.types import Event, WatchResponse

HANDLES = (AsyncElection, AsyncLease, AsyncLock, AsyncView)
_Self = TypeVar("_Self", bound="AioObject")

SLACK = 0.5
"""Seconds over a deadline that a busy machine may take; the aim is 0.1."""


class Thread:
    """One function running beside the test; `result` waits for its value or raises its error."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._future: Future[Any] = Future()
        self._thread = threading.Thread(target=self._run, args=(function, args), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._future.set_result(function(*args))
        except BaseException as error:
            self._future.set_exception(error)

    @property
    def done(self) -> bool:
        return self._future.done()

    def result(self, timeout: float = 20.0) -> Any:
        return self._future.result(timeout)


class FrontUnderTest(Protocol):
    """Makes clients that block, whichever front they are of."""

    name: str

    def client(self, endpoints: Any, **options: Any) -> Any:
        """A client; it is closed when the test is over, if not before."""

    def close(self) -> None:
        """Close what is open; raises when something went wrong unseen."""


class Threads:
    """The blocking client as it is."""

    name = "threads"

    def __init__(self) -> None:
        self._clients: list[purecd.Client] = []

    def client(self, endpoints: Any, **options: Any) -> purecd.Client:
        client = purecd.Client(endpoints, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Aio:
    """The asyncio client on a loop in another thread."""

    name = "aio"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.unseen: list[dict[str, Any]] = []
        self._clients: list[AioClient] = []
        self.loop.set_exception_handler(lambda loop, context: self.unseen.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, name="Aio", daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def get(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a method comes to; it is called on the loop."""

        named = {name: value.wrapped if type(value) is AioObject else value for name, value in kwargs.items()}

        async def call() -> Any:
            value = method(*args, **named)
            return await value if inspect.isawaitable(value) else value

        value = self.run(call())
        if hasattr(value, "__aiter__"):
            return self.iterate(value, at_most=256 if method.__name__ == "scan" else 1)
        return AioObject(self, value) if isinstance(value, HANDLES) else value

    def iterate(self, items: AsyncIterator[Any], at_most: int) -> Iterator[Any]:
        """The items of an asynchronous generator; closing it closes that one.

        They are taken 1, 2, 4 and so on at once: each change of the thread costs more than an item.

        Args:
            at_most: so many are taken at once; 1 when they are to be waited for.
        """

        async def take_some(count: int) -> tuple[list[Any], BaseException | None]:
            taken: list[Any] = []
            try:
                while len(taken) < count:
                    taken.append(await items.__anext__())
            except Exception as error:
                return taken, error
            return taken, None

        count = 1
        try:
            while True:
                taken, error = self.run(take_some(count))
                yield from taken
                if isinstance(error, StopAsyncIteration):
                    return
                if error is not None:
                    raise error
                count = min(2 * count, at_most)
        finally:
            if hasattr(items, "aclose"):
                self.run(items.aclose())

    def client(self, endpoints: Any, **options: Any) -> AioClient:
        client = AioClient(self, purecd.AsyncClient(endpoints, **options))
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()
        left = self.run(self._tasks_left())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        assert not self.unseen, self.unseen
        assert not left, left

    async def _tasks_left(self) -> list[str]:
        await asyncio.sleep(0)
        return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


class AioObject:
    """A client, a view, a group of commands or a handle of asyncio, whose methods block."""

    def __init__(self, front: Aio, wrapped: Any) -> None:
        self._front = front
        self.wrapped = wrapped

    def __repr__(self) -> str:
        return repr(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.wrapped, name)
        if not callable(value):
            return AioObject(self._front, value) if isinstance(value, (AsyncGroup, *HANDLES)) else value
        return lambda *args, **kwargs: self._front.get(value, *args, **kwargs)

    def watch(self, *args: Any, **kwargs: Any) -> AioWatch:
        return AioWatch(self._front, self.wrapped.watch(*args, **kwargs))

    def __enter__(self: _Self) -> _Self:
        if hasattr(self.wrapped, "__aenter__"):
            self._front.run(self.wrapped.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self.wrapped, "__aexit__"):
            self._front.run(self.wrapped.__aexit__(kind, error, trace))


class AioClient(AioObject):
    """An `AsyncClient` whose methods block."""

    @property
    def client(self) -> purecd.AsyncClient:
        client: purecd.AsyncClient = self.wrapped
        return client

    def close(self) -> None:
        self._front.run(self.client.close())


class AioWatch:
    """An `AsyncWatch` whose methods block."""

    def __init__(self, front: Aio, watch: Any) -> None:
        self._front = front
        self._watch = watch
        front.run(watch.open())

    def __enter__(self) -> AioWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        iterator = self._watch.__aiter__()
        while True:
            try:
                yield self._front.run(iterator.__anext__())
            except StopAsyncIteration:
                return

    def next(self, timeout: float | None = None) -> Event | None:
        event: Event | None = self._front.run(self._watch.next(timeout))
        return event

    def responses(self, timeout: float | None = None) -> Iterator[WatchResponse]:
        iterator = self._watch.responses(timeout)
        while True:
            try:
                yield self._front.run(iterator.__anext__())
            except StopAsyncIteration:
                return

    @property
    def resume_revision(self) -> int:
        revision: int = self._watch.resume_revision
        return revision

    def request_progress(self, **options: Timeout) -> None:
        self._front.run(self._watch.request_progress(**options))

    def close(self) -> None:
        self._front.run(self._watch.close())


FRONTS: dict[str, Callable[[], FrontUnderTest]] = {"threads": Threads, "aio": Aio}


def timed(call: Callable[[], Any]) -> tuple[EtcdError, float]:
    """The error that `call` raises, and how many seconds it took."""
    started = time.monotonic()
    with pytest.raises(EtcdError) as caught:
        call()
    return caught.value, time.monotonic() - started


def take(watch: Any, count: int, timeout: float = 10.0) -> list[Event]:
    """The next `count` events of a watch."""
    return [watch.next(timeout) for _ in range(count)]


def together(count: int, function: Callable[[int], Any], timeout: float = 40.0) -> list[Any]:
    """What `function` returns for 0 to `count` - 1, each call in its own thread, all at once."""
    barrier = threading.Barrier(count)

    def one(index: int) -> Any:
        barrier.wait()
        return function(index)

    threads = [Thread(one, index) for index in range(count)]
    return [thread.result(timeout) for thread in threads]
