# SPDX-License-Identifier: Apache-2.0
"""The asyncio client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Dict, Iterable, Optional, TypeVar

from purecd import errors
from purecd.core import kv
from purecd.core.op import Op
from purecd.core.watch import watch_request
from purecd.front import Front, tell
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import Text
from purecd.aio.binding import awaitable
from purecd.aio.driver import Driver
from purecd.aio.handles import AsyncWatch
from purecd.aio.runner import run

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

class AsyncClient(Front):
    """A client for asyncio; any number of tasks of one event loop may share it.

    A client opens its connections when they are first needed. Close it, or use it in a
    ``async with`` statement. For the arguments see `purecd.front.Front`.
    """

    get = awaitable(kv.get)
    put = awaitable(kv.put)
    delete = awaitable(kv.delete)
    txn = awaitable(kv.txn)
    compact = awaitable(kv.compact)

    def _start(self) -> None:
        self._drivers: Dict[str, Driver] = {}
        self._closed = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    def watch(
        self,
        key: Text,
        range_end: Optional[Text] = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
        exclude: Iterable[str] = (),
        fragment: bool = True,
        require_leader: bool = False,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> AsyncWatch:
        """Watch a key or a range; use it as ``async with``, which waits until the server has it.

        Args:
            key: the key, or the first of ``[key, range_end)``.
            range_end: where the range ends, exclusive.
            prefix: watch all keys that start with `key`; an empty key means all keys.
            from_key: watch `key` and all keys after it.
            start_revision: first revision to report, 0 for what happens from now on.
            prev_kv: have each event carry what was there before.
            progress_notify: have the server report progress while nothing changes.
            exclude: kinds of events to leave out, ``"put"`` or ``"delete"``.
            fragment: let the server send large responses in pieces; they are put together again.
            require_leader: end the watch with `NoLeader` when the member loses its leader.
            timeout: seconds until the server must have the watch; events are waited for without limit.

        Raises:
            PermissionDenied: the user may not read all of the range.
            DeadlineExceeded: no endpoint took the watch in time.
        """
        request = watch_request(
            key,
            range_end,
            prefix=prefix,
            from_key=from_key,
            start_revision=start_revision,
            prev_kv=prev_kv,
            progress_notify=progress_notify,
            exclude=exclude,
            fragment=fragment,
            require_leader=require_leader,
        )
        return AsyncWatch(self, request, timeout)

    async def close(self) -> None:
        """End everything the client has open; may be called more than once, from any thread."""
        self._closed = True
        drivers, self._drivers = self._drivers, {}
        for driver in drivers.values():
            if not driver.loop.is_closed():
                await driver.close()

    # What operations are run on.

    async def _run(self, op: Op[T], timeout: Timeout) -> T:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._options.timeout
        return await run(op, self, None if timeout is None else time.monotonic() + timeout)

    def _request_progress(self, require_leader: bool) -> None:
        self.of("streams").request_progress(require_leader)

    def of(self, kind: str) -> Driver:
        """The driver of ``calls`` or ``streams``; for the operations' use."""
        driver = self._drivers.get(kind)
        if driver is not None and driver.loop is asyncio.get_running_loop():
            return driver
        return self._new_driver(kind, None)

    def at(self, endpoint: str) -> Driver:
        """A driver for one endpoint only; for the operations' use."""
        driver = self._drivers.get(endpoint)
        if driver is not None and driver.loop is asyncio.get_running_loop():
            return driver
        return self._new_driver(endpoint, endpoint)

    def _new_driver(self, name: str, endpoint: Optional[str]) -> Driver:
        if self._closed:
            raise errors.ClientClosed("the client is closed")
        old = self._drivers.get(name)
        if old is not None and not old.loop.is_closed():
            raise RuntimeError("this AsyncClient is in use on another event loop; make one per loop")
        # A loop that is closed took its connections with it.
        driver = self._drivers[name] = Driver(self._new_channel(endpoint), tell)
        return driver
