# SPDX-License-Identifier: Apache-2.0
"""What two tasks may do at once with a watch that is only being opened."""

from __future__ import annotations

import asyncio
import time

import pytest

import purecd
from purecd.aio.handles import AsyncWatch
from purecd.core.op import Attach, Detach, Next
from purecd.core.watcher import WatchRequest
from purecd.types import WatchResponse
from tests.support.peers import Silent


class Owner:
    """Runs the operations of watches; the server takes a watch when `taken` is set, and sends nothing."""

    def __init__(self):
        self.taken = asyncio.Event()
        self.open = []
        self.told = []

    async def _run(self, op, timeout):
        effect = next(op)
        try:
            while True:
                if type(effect) is Attach:
                    self.open.append(effect.source)
                    effect = op.send(effect.source)
                elif type(effect) is Detach:
                    self.open.remove(effect.source)
                    effect = op.send(None)
                else:
                    assert type(effect) is Next
                    await self.taken.wait()
                    effect = op.send(WatchResponse(created=True))
        except StopIteration as end:
            return end.value

    def _tell_watch(self, event, detail):
        self.told.append(event)


def test_a_watch_that_is_closed_while_it_opens_ends():
    async def main():
        owner = Owner()
        watch = AsyncWatch(owner, WatchRequest(b"k"), None)
        reading = asyncio.create_task(watch.next())
        await asyncio.sleep(0)
        await watch.close()
        owner.taken.set()
        assert await asyncio.wait_for(reading, 5) is None
        assert owner.open == [], "nothing is left on the server"
        assert owner.told == []

    asyncio.run(main())


def test_two_tasks_that_open_a_watch_make_one():
    async def main():
        owner = Owner()
        watch = AsyncWatch(owner, WatchRequest(b"k"), None)
        opening = [asyncio.create_task(watch.open()) for _ in range(2)]
        await asyncio.sleep(0)
        owner.taken.set()
        await asyncio.gather(*opening)
        assert len(owner.open) == 1
        await watch.close()
        assert (owner.open, owner.told) == ([], ["opened", "closed"])

    asyncio.run(main())


def test_the_wait_for_an_event_opens_the_watch_in_its_own_time():
    async def main():
        server = Silent()
        with server:
            async with purecd.AsyncClient(server.endpoint, timeout=60) as client:
                watch = client.watch("k")
                started = time.monotonic()
                with pytest.raises(TimeoutError):
                    await watch.next(timeout=0.2)
                assert time.monotonic() - started < 20, "and not in that of the client"
                with pytest.raises(TimeoutError):
                    await watch.responses(timeout=0.1).__anext__()
                await watch.close()

    asyncio.run(main())
