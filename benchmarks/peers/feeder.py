# SPDX-License-Identifier: Apache-2.0
"""Puts what others watch, at a given pace, from a process of its own."""

from __future__ import annotations

import sys
import time

from serving import serve

import purecd


def main() -> None:
    client = purecd.Client(sys.argv[1])

    def feed(prefix: str, count: int, batch: int = 1, rate: float = 0.0, stamped: bool = False) -> None:
        """Put `count` values, `batch` in a transaction, `rate` a second (0: as fast as they are taken)."""
        start = time.monotonic()
        for number in range(count // batch):
            early = start + number * batch / rate - time.monotonic() if rate else 0
            if early > 0:
                time.sleep(early)
            value = b"%020d" % time.monotonic_ns() if stamped else b"v" * 100
            if batch == 1:
                client.put(prefix, value)
            else:
                client.txn(success=[purecd.Put(f"{prefix}{each:04}", value) for each in range(batch)])

    serve({"feed": feed})


main()
