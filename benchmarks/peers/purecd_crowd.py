# SPDX-License-Identifier: Apache-2.0
"""One blocking client of purecd with masses of watchers and kept leases."""

from __future__ import annotations

import itertools
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from serving import KEY, VALUE, Watching, repeat, serve

import purecd


def resident() -> int:
    """Memory of this process that is in use, bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    client = purecd.Client(sys.argv[1])
    kept: list[object] = []
    numbers = itertools.count()

    def grow(make, count: int) -> dict[str, float]:
        """Make `count` more, by several threads, and tell what memory each took."""
        before = resident()
        with ThreadPoolExecutor(16) as pool:
            kept.extend(pool.map(lambda _: make(next(numbers)), range(count)))
        return {"bytes": (resident() - before) / count}

    def watchers(count: int, prefix: str = "idle/") -> dict[str, float]:
        return grow(lambda number: client.watch(f"{prefix}{number}"), count)

    def leases(count: int, ttl: int = 60) -> dict[str, float]:
        return grow(lambda _: client.lease(ttl).__enter__(), count)

    def idle(seconds: float) -> None:
        time.sleep(seconds)

    def values(prefix):
        return (event.kv.value for event in client.watch(prefix, prefix=True))

    serve(
        {
            "watchers": watchers,
            "leases": leases,
            "idle": idle,
            "get": repeat(lambda: client.get(KEY)),
            "put": repeat(lambda: client.put(KEY, VALUE)),
            **Watching(values).works(),
        }
    )


main()
