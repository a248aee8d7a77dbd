# SPDX-License-Identifier: Apache-2.0
"""Objects with a life in the asyncio front: watches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Callable

from purecd.core import watch as operations
from purecd.errors import EtcdError
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.types import Event, WatchResponse

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.op import Op
    from purecd.core.watching import Watcher, WatchRequest


class AsyncWatch:
    """Changes of a key or a range, in order, each once, across lost connections.

    ``async with`` waits until the server has the watch. Iterate it for single events, or
    `responses` for all events of one response together. It ends when it is closed; an error
    that ends it is raised.

    It must be read by one task at a time. While nobody reads, up to 10,000 events are kept;
    beyond that the server is told to stop, and to go on from there when they were read.
    """

    def __init__(self, owner: Any, request: WatchRequest, timeout: Timeout) -> None:
        self._owner = owner
        self._request = request
        self._timeout = timeout
        self._events: deque[Event] = deque()
        self._watcher: Watcher | None = None
        self._closed = False
        self._told_end = False

    async def open(self) -> AsyncWatch:
        """Begin the watch, unless that is done; ``async with`` and reading do it by themselves."""
        await self._open(self._timeout)
        return self

    async def _open(self, timeout: Timeout) -> None:
        if self._watcher is None and not self._closed:
            try:
                watcher = await self._owner._run(operations.open_watch(self._request), timeout)
            except BaseException as error:
                self._tell_end("failed", str(error) or type(error).__name__)
                raise
            if self._closed or self._watcher is not None:  # another task closed or opened it meanwhile
                await self._owner._run(operations.close_watch(watcher), None)
                return
            self._watcher = watcher
            self._told_end = False
            self._owner._tell_watch("opened", "")

    async def __aenter__(self) -> AsyncWatch:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Event:
        # Without another coroutine for each event, and with as few as can be between a wait and its reader.
        while not self._events:
            response = await self._read(operations.next_changes, None)
            if response is None:
                raise StopAsyncIteration
            self._events.extend(response.events)
        return self._events.popleft()

    async def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None once the watch was closed.

        Args:
            timeout: seconds to wait, None for no limit. A watch that is not open yet is opened within them;
                with None it is opened within the timeout it was made with.

        Raises:
            TimeoutError: none came in time; the watch lives on, or is still to be opened.
            Compacted: events were compacted before they could be delivered.
        """
        while not self._events:
            response = await self._read(operations.next_changes, timeout)
            if response is None:
                return None
            self._events.extend(response.events)
        return self._events.popleft()

    async def responses(self, timeout: float | None = None) -> AsyncIterator[WatchResponse]:
        """Whole responses: all events of a revision are in one; progress reports have none.

        Args:
            timeout: seconds to wait for each, None for no limit.
        """
        while True:
            response = await self._read(operations.next_response, timeout)
            if response is None:
                return
            yield response

    async def _read(
        self, next_of: Callable[[Watcher, float | None], Op[WatchResponse | None]], timeout: float | None
    ) -> WatchResponse | None:
        if self._watcher is None:
            until = deadline_after(timeout, time.monotonic())
            await self._open(self._timeout if until is None else timeout)
            timeout = None if until is None else max(0.0, until - time.monotonic())
        if self._watcher is None:
            return None
        try:
            response: WatchResponse | None = await self._owner._run(next_of(self._watcher, timeout), None)
        except EtcdError as error:
            self._tell_end("failed", str(error))
            raise
        self._watcher.taken = None
        if response is None:
            self._tell_end("closed", "")
        return response

    def _tell_end(self, event: str, detail: str) -> None:
        """Tell the hooks, once, how it ended."""
        if not self._told_end:
            self._told_end = True
            self._owner._tell_watch(event, detail)

    @property
    def resume_revision(self) -> int:
        """Where a new watch must start so that nothing is missed after what was read from this one.

        A revision of which some events were read and some not is read as a whole again.
        """
        if self._watcher is None:
            return self._request.start_revision
        return operations.resume_revision(self._watcher, self._events)

    @property
    def created_revision(self) -> int:
        """Revision of the store when a server first took the watch, 0 before; what comes later is seen."""
        return self._watcher.created_revision if self._watcher is not None else 0

    async def request_progress(self, timeout: Timeout = DEFAULT_TIMEOUT) -> None:
        """Ask the server to report how far this watch is; the answer comes as a response without events.

        etcd may leave it unanswered while other watches of the client are catching up.
        """
        await self.open()
        self._owner._streams().request_progress(self._request.require_leader)

    async def close(self) -> None:
        """End the watch, also on the server; may be called more than once."""
        self._closed = True
        if self._watcher is not None:
            await self._owner._run(operations.close_watch(self._watcher), None)
            self._tell_end("closed", "")
