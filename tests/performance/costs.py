# SPDX-License-Identifier: Apache-2.0
"""What the client executes for one call or one event: lines of Python, and functions called.

Counted by the interpreter itself, so a count does not depend on how quick or how busy a machine is. What
does vary, a reply in two pieces or a PING in between, only adds: of many repetitions the least is taken.
``python -m tests.performance.costs`` writes what is counted now as the new baseline of this Python.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Callable

import purecd
from purecd.testing import EtcdServer

BASELINE = Path(__file__).with_name("baseline.json")
REPETITIONS = 60
EVENTS = 100  # in one transaction, and so in one response
KEYS = 100

Cost = dict[str, float]


class Counter:
    """Counts while its ``with`` block runs, in this thread."""

    def __init__(self) -> None:
        self.lines = 0
        self.calls = 0
        self._before: tuple[Any, Any] = (None, None)

    def __enter__(self) -> Counter:
        self._before = (sys.gettrace(), sys.getprofile())
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before[0])
        sys.setprofile(self._before[1])

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.lines += 1
        return self._trace

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            self.calls += 1


def least(work: Callable[[], object], share: int = 1) -> Cost:
    """The least that `work` costs in many repetitions, divided by `share`."""
    work()
    lines, calls = [], []
    for _ in range(REPETITIONS):
        with Counter() as counter:
            work()
        lines.append(counter.lines)
        calls.append(counter.calls)
    return {"lines": min(lines) / share, "calls": min(calls) / share}


def count_all(endpoint: str) -> dict[str, Cost]:
    """The costs of all kinds of work against an etcd."""
    costs = dict(blocking(endpoint))
    loop = asyncio.new_event_loop()
    try:
        costs.update(loop.run_until_complete(tasks(endpoint)))
    finally:
        loop.close()
    return costs


def changes() -> list[purecd.Put]:
    return [purecd.Put(f"costs/watched/{number:03}", b"v" * 100) for number in range(EVENTS)]


def blocking(endpoint: str) -> Iterator[tuple[str, Cost]]:
    """What the blocking client costs."""
    with purecd.Client(endpoint) as client:
        for _ in range(20):  # caches are filled, descriptors loaded
            client.put("costs/one", b"v" * 100)
            client.get("costs/one")
        yield "put", least(lambda: client.put("costs/one", b"v" * 100))
        yield "get", least(lambda: client.get("costs/one"))
        client.txn(success=[purecd.Put(f"costs/range/{number:03}", b"v" * 100) for number in range(KEYS)])
        yield "key of a range", least(lambda: client.get("costs/range/", prefix=True), KEYS)
        with client.watch("costs/watched/", prefix=True) as watch:

            def read() -> None:
                for _ in range(EVENTS):
                    next(watch)

            yield "event of a watch", least_after(lambda: client.txn(success=changes()), read)


def least_after(prepare: Callable[[], object], work: Callable[[], object]) -> Cost:
    """`least` per event, with `prepare` before each repetition."""
    found = []
    for _ in range(REPETITIONS):
        prepare()
        with Counter() as counter:
            work()
        found.append((counter.lines, counter.calls))
    return {"lines": min(found)[0] / EVENTS, "calls": min(each[1] for each in found) / EVENTS}


async def tasks(endpoint: str) -> dict[str, Cost]:
    """What the asyncio client costs, its event loop included."""
    costs = {}
    async with purecd.AsyncClient(endpoint) as client:
        for _ in range(20):
            await client.get("costs/one")
        for name, call in (
            ("put, asyncio", lambda: client.put("costs/one", b"v" * 100)),
            ("get, asyncio", lambda: client.get("costs/one")),
        ):
            found = []
            for _ in range(REPETITIONS):
                with Counter() as counter:
                    await call()
                found.append((counter.lines, counter.calls))
            costs[name] = {"lines": float(min(found)[0]), "calls": float(min(each[1] for each in found))}
        async with client.watch("costs/watched/", prefix=True) as watch:
            found = []
            for _ in range(REPETITIONS):
                await client.txn(success=changes())
                with Counter() as counter:
                    for _ in range(EVENTS):
                        await watch.__anext__()
                found.append((counter.lines, counter.calls))
            least_calls = min(each[1] for each in found)
            costs["event of a watch, asyncio"] = {
                "lines": min(found)[0] / EVENTS,
                "calls": least_calls / EVENTS,
            }
    return costs


def python() -> str:
    """The Python whose counts these are; each minor version has its own."""
    return "{}.{}".format(*sys.version_info[:2])


def baselines() -> dict[str, dict[str, Cost]]:
    """All recorded counts, by Python."""
    found: dict[str, dict[str, Cost]] = json.loads(BASELINE.read_text(encoding="utf-8"))
    return found


def main() -> None:
    with EtcdServer() as server:
        costs = count_all(server.endpoint)
    recorded = {**(baselines() if BASELINE.exists() else {}), python(): costs}
    ordered = dict(sorted(recorded.items(), key=lambda one: int(one[0].partition(".")[2])))
    BASELINE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    for name, cost in costs.items():
        print(f"{name:28}{cost['lines']:8.2f} lines{cost['calls']:8.2f} calls")


if __name__ == "__main__":
    main()
