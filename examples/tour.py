# SPDX-License-Identifier: Apache-2.0
"""A tour of purecd against a real etcd, which it starts: ``make demo``.

    python examples/tour.py          (for a real one: the extra purecd[etcd], or an etcd on PATH)

Where there is no etcd program for this machine, the tour says so and uses purecd's etcd in memory.

Each line says what was done, what came of it and how long it took. It ends with status 1, and
says why, as soon as something is not as promised.
"""

from __future__ import annotations

import asyncio
import platform
import queue
import sys
import threading
import time
from typing import Callable, Union

import purecd
from purecd.memory import MemoryEtcd
from purecd.testing import EtcdServer

Server = Union[EtcdServer, MemoryEtcd]

STARTED = time.perf_counter()
PATIENCE = 20.0  # seconds; nothing here should take nearly that long


class Broken(Exception):
    """Something was not as promised."""


def check(truth: bool, promise: str) -> None:
    if not truth:
        raise Broken(promise)


class Lap:
    """A stopwatch that prints the table: what was done, what came of it, the time it took."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def title(self, text: str) -> None:
        print(f"\n{text}\n{'-' * len(text)}")
        self.since = time.perf_counter()

    def row(self, what: str, outcome: str, seconds: float | None = None) -> None:
        seconds = time.perf_counter() - self.since if seconds is None else seconds
        taken = f"{seconds * 1000:8.1f} ms" if seconds < 1 else f"{seconds:8.2f} s "
        print(f"  {what:<38}{outcome:<43}{taken}", flush=True)
        self.since = time.perf_counter()


def show(event: purecd.Event) -> str:
    return f"{event.type.name} {event.key.decode()} = {event.value.decode()}"


# --- threads ---


def keys_and_values(client: purecd.Client, lap: Lap) -> None:
    lap.title("Blocking client")
    put = client.put("greeting", "hello")
    lap.row('put("greeting", "hello")', f"revision {put.header.revision}, connected for it")

    got = client.get("greeting")
    check(got.value == b"hello", f"greeting should be b'hello', not {got.value!r}")
    lap.row('get("greeting")', repr(got.value))

    for number in range(1, 6):
        client.put(f"fruit/{number}", ("apple", "pear", "plum", "fig", "quince")[number - 1])
    lap.row('put("fruit/1" … "fruit/5")', "5 keys")

    # Of the keys that start with "fruit/", the two that were changed last.
    latest = client.get("fruit/", prefix=True, limit=2, sort_by="mod_revision", descending=True)
    found = [kv.value for kv in latest.kvs]
    check(found == [b"quince", b"fig"] and latest.count == 5, f"not the 2 latest of 5: {latest}")
    names = ", ".join(value.decode() for value in found)
    lap.row('get("fruit/", prefix=True, limit=2)', f"{names}: the latest of {latest.count}")

    gone = client.delete("fruit/", prefix=True)
    check(gone.deleted == 5, f"not 5 keys deleted: {gone}")
    lap.row('delete("fruit/", prefix=True)', f"{gone.deleted} keys deleted")


def transactions(client: purecd.Client, lap: Lap) -> None:
    for name in ("ann", "bob"):
        reply = client.txn(
            compare=[purecd.version("desk") == 0],
            success=[purecd.Put("desk", name)],
        )
        check(reply.succeeded == (name == "ann"), f"the desk is ann's, but txn says {reply}")
        lap.row(
            f"txn: {name} takes the desk if free", "taken" if reply.succeeded else "not free, nothing changed"
        )
    check(client.get("desk").value == b"ann", "the desk should be ann's")


def watch_from_a_thread(client: purecd.Client, lap: Lap) -> None:
    arrived: queue.Queue[tuple[purecd.Event, float]] = queue.Queue()
    with client.watch("jobs/", prefix=True) as events:
        lap.row('watch("jobs/", prefix=True)', "the server has it")

        def read() -> None:
            for event in events:
                arrived.put((event, time.perf_counter()))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for number in (1, 2, 3):
            began = time.perf_counter()
            client.put(f"jobs/{number}", f"job {number}")
            event, seen = arrived.get(timeout=PATIENCE)
            check(event.key == b"jobs/%d" % number, f"a put of jobs/{number} came as {event}")
            lap.row("  seen by another thread", show(event), seen - began)
    reader.join(1.0)
    check(not reader.is_alive(), "closing a watch should end the loop over it at once")
    lap.row("close the watch", "the loop over it ended")


def leases(client: purecd.Client, lap: Lap) -> None:
    with client.lease(5) as lease:
        client.put("workers/ann", "here", lease=lease)
        left = lease.time_to_live(keys=True)
        check(left.keys == (b"workers/ann",) and not lease.lost, f"the lease should hold the key: {left}")
        lap.row("put with a lease of 5 s", "kept alive in the background")
    gone = client.get("workers/ann")
    check(gone.kv is None, f"the key should go with its lease: {gone}")
    lap.row("end the lease", "its key is gone")


# --- asyncio ---


async def the_same_from_asyncio(endpoint: str, lap: Lap) -> None:
    lap.title("Asyncio client")
    async with purecd.AsyncClient(endpoint) as client:
        await client.put("greeting", "hello again")
        got = await client.get("greeting")
        check(got.value == b"hello again", f"greeting should be b'hello again', not {got.value!r}")
        lap.row('await put, await get("greeting")', repr(got.value))

        replies = await asyncio.gather(*(client.put(f"many/{number}", str(number)) for number in range(200)))
        revisions = {reply.header.revision for reply in replies}
        check(len(revisions) == 200, "200 puts make 200 revisions")
        lap.row("200 puts at once", "200 revisions")

        reply = await client.txn(compare=[purecd.value("desk") == "ann"], success=[purecd.Delete("desk")])
        check(reply.succeeded, f"the desk should still be ann's: {reply}")
        lap.row("txn: ann leaves the desk if hers", "deleted")

        async with client.watch("jobs/", prefix=True) as events:
            lap.row('watch("jobs/", prefix=True)', "the server has it")
            for number in (4, 5, 6):
                began = time.perf_counter()
                writing = asyncio.ensure_future(client.put(f"jobs/{number}", f"job {number}"))
                event = await events.next(timeout=PATIENCE)
                seconds = time.perf_counter() - began
                await writing
                if event is None or event.key != b"jobs/%d" % number:
                    raise Broken(f"a put of jobs/{number} came as {event}")
                lap.row("  seen by another task", show(event), seconds)


# --- a restart under running watches ---


class Writer(threading.Thread):
    """Counts up in the key ``count`` until told to stop, whatever happens to the server."""

    def __init__(self, client: purecd.Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.enough = threading.Event()
        self.wrote = threading.Condition()  # guards the rest
        self.acknowledged: list[bytes] = []
        self.uncertain: list[bytes] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        number = 0
        while self.failure is None and not self.enough.wait(0.005):
            number += 1
            self.write(str(number).encode())

    def write(self, value: bytes) -> None:
        outcome, failure = self.acknowledged, None
        try:
            self.client.put("count", value)
        except purecd.EtcdError as error:
            outcome = self.uncertain  # not sent again: the server may have it already
            failure = None if error.maybe_applied else error
        with self.wrote:
            outcome.append(value)
            self.failure = failure
            self.wrote.notify_all()

    def wait_for(self, more: int) -> None:
        """Until so many more writes are acknowledged."""
        with self.wrote:
            goal = len(self.acknowledged) + more
            self.wrote.wait_for(lambda: self.failure or len(self.acknowledged) >= goal, PATIENCE)
            check(len(self.acknowledged) >= goal, f"writing should go on, but: {self.failure}")


class Reader(threading.Thread):
    """Runs a function that collects events until one has the value ``end``."""

    def __init__(self, collect: Callable[[list[purecd.Event]], None]) -> None:
        super().__init__(daemon=True)
        self.collect = collect
        self.events: list[purecd.Event] = []

    def run(self) -> None:
        self.collect(self.events)


def restart_under_watches(server: Server, client: purecd.Client, lap: Lap) -> None:
    lap.title("The member stops and starts, while both clients watch and one writes")
    listening = threading.Barrier(3)

    def watch_blocking(seen: list[purecd.Event]) -> None:
        with client.watch("count") as events:
            listening.wait(PATIENCE)
            for event in events:
                seen.append(event)
                if event.value == b"end":
                    return

    async def watch_async(seen: list[purecd.Event]) -> None:
        async with purecd.AsyncClient(server.endpoint) as other, other.watch("count") as events:
            listening.wait(PATIENCE)
            async for event in events:
                seen.append(event)
                if event.value == b"end":
                    return

    readers = {
        "blocking": Reader(watch_blocking),
        "asyncio": Reader(lambda seen: asyncio.run(watch_async(seen))),
    }
    for reader in readers.values():
        reader.start()
    listening.wait(PATIENCE)
    writer = Writer(client)
    writer.start()
    writer.wait_for(50)
    lap.row("two watches, one writer", f"{len(writer.acknowledged)} puts acknowledged")

    server.stop()
    ended = "its process ended" if isinstance(server, EtcdServer) else "it closed its connections"
    lap.row("stop etcd (SIGTERM)" if isinstance(server, EtcdServer) else "stop etcd", ended)
    server.start()
    lap.row("start it again", "it serves again, with its data")
    writer.wait_for(50)
    writer.enough.set()
    writer.join(PATIENCE)
    client.put("count", "end")
    lap.row("go on writing", f"{len(writer.acknowledged)} puts acknowledged, and a last one")

    stored = client.get("count").kvs[0]
    for name, reader in readers.items():
        reader.join(PATIENCE)
        check(not reader.is_alive(), f"the {name} watch should get to the last event")
        # The version of a key goes up by one with each write, so it shows what is missing.
        versions = [event.kv.version for event in reader.events]
        check(versions == list(range(1, stored.version + 1)), f"{name}: events lost, doubled or out of order")
        values = {event.value for event in reader.events}
        check(values.issuperset(writer.acknowledged), f"{name}: an acknowledged put was not seen")
        lap.row(f"what the {name} watch saw", f"all {len(versions)} events, in order, each once")
    for value in writer.uncertain:
        outcome = "stored" if value in values else "not stored"
        lap.row("the put that was cut off", f"maybe applied, not sent again: {outcome}")


def find_server(lap: Lap) -> Server:
    """A real etcd if this machine has one; else an etcd in memory, and a line that says so."""
    try:
        server = EtcdServer()
    except (RuntimeError, OSError) as reason:  # there is none, or it is for another kind of machine
        lap.title("An etcd in memory, not a real one")
        print(f"  {reason}\n  Until then this tour runs against purecd.memory, which imitates etcd.")
        return MemoryEtcd()
    lap.title("A real etcd")
    return server


def main() -> int:
    lap = Lap()
    print(f"purecd {purecd.__version__}, {platform.python_implementation()} {platform.python_version()}")
    try:
        with find_server(lap) as server:
            version = ".".join(map(str, server.version))
            lap.row("start it on a free port", f"{version} at {server.endpoint}")
            with purecd.Client(server.endpoint) as client:
                keys_and_values(client, lap)
                transactions(client, lap)
                watch_from_a_thread(client, lap)
                leases(client, lap)
                asyncio.run(the_same_from_asyncio(server.endpoint, lap))
                restart_under_watches(server, client, lap)
    except Broken as broken:
        print(f"\nNOT AS PROMISED: {broken}", file=sys.stderr)
        return 1
    print(f"\nAll as promised, in {time.perf_counter() - STARTED:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
