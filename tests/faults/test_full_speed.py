# SPDX-License-Identifier: Apache-2.0
"""Full speed against a real etcd: no limit of this side ever trips, and etcd never complains.

Small reads and writes of 64 tasks, large values, and watches that see every write, through asyncio and
through threads at once. ``PURECD_FULL_SPEED=seconds`` says for how long, 60 by default.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter

import pytest

import purecd
from purecd.hooks import Hook
from tests.conformance.hostile import MIB, resident

SECONDS = float(os.environ.get("PURECD_FULL_SPEED", "60"))
IN_FLIGHT = 64
LARGE = bytes(MIB)

pytestmark = pytest.mark.timeout(SECONDS + 120)


class Notes(Hook):
    """What became of connections; counts by event, and the reasons of those that ended."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.reasons: list[str] = []

    def connection(self, event: str, endpoint: str, detail: str) -> None:
        self.events[event] += 1
        if event in ("goaway", "closed") and detail:
            self.reasons.append(f"{event}: {detail}")


async def run_aio(endpoint: str, notes: Notes, until: float, counts: Counter[str]) -> None:
    async with purecd.AsyncClient(endpoint, hooks=[notes]) as client:

        async def call(number: int) -> None:
            key = f"speed/{number}"
            while time.monotonic() < until:
                await client.put(key, "v" * (number + 1))
                assert (await client.get(key)).value == b"v" * (number + 1)
                counts["calls"] += 2

        async def carry(number: int) -> None:
            while time.monotonic() < until:
                await client.put(f"large/{number}", LARGE)
                assert len((await client.get(f"large/{number}")).value or b"") == MIB
                counts["large"] += 2
                await asyncio.sleep(0.5)  # or the disk is all that is tested

        async def follow(name: str) -> None:
            last = 0
            async with client.watch("speed/", prefix=True) as watch:
                while time.monotonic() < until:
                    event = await watch.next(timeout=1.0)
                    if event is not None:
                        assert event.kv.mod_revision > last
                        last = event.kv.mod_revision
                        counts["events"] += 1

        tasks = [call(number) for number in range(IN_FLIGHT)]
        tasks += [carry(number) for number in range(2)] + [follow(name) for name in "ab"]
        await asyncio.gather(*tasks)
        assert set(client._drivers) == {"calls", "streams"}


def run_threads(endpoint: str, notes: Notes, until: float, counts: Counter[str]) -> None:
    with purecd.Client(endpoint, hooks=[notes]) as client:
        failed: list[BaseException] = []

        def call(number: int) -> None:
            try:
                while time.monotonic() < until:
                    client.put(f"threads/{number}", "v")
                    counts["threads"] += 1
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed


def test_no_limit_trips_at_full_speed(start_server):
    # K6: etcd sends a PING and a WINDOW_UPDATE with nearly every reply.
    server = start_server(
        args=[
            "--quota-backend-bytes=8589934592",
            "--auto-compaction-retention=1000",
            "--auto-compaction-mode=revision",
        ]
    )
    notes, counts = Notes(), Counter()
    until = time.monotonic() + SECONDS
    before = resident()
    beside = threading.Thread(target=run_threads, args=(server.endpoint, notes, until, counts))
    beside.start()
    try:
        asyncio.run(run_aio(server.endpoint, notes, until, counts))
    finally:
        beside.join()
    measured = {
        "test": "full_speed",
        "seconds": SECONDS,
        **counts,
        "events_of_connections": dict(notes.events),
        "ended": notes.reasons,
        "grown_mib": round((resident() - before) / MIB, 1),
    }
    print(f"FIGURES {json.dumps(measured)}")
    assert not notes.reasons, "a connection ended"
    assert notes.events["ready"] == 3, "two of asyncio, one of threads"
    assert counts["calls"] > 20 * SECONDS
    assert counts["events"] > counts["calls"] // 4
