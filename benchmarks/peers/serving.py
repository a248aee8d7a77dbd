# SPDX-License-Identifier: Apache-2.0
"""The worker's side of a benchmark: read one command a line, do it, say what it took.

A command is a JSON object with ``do``, ``count`` and what that work needs; the answer has ``count``, ``wall``
and ``cpu`` (seconds; CPU of all threads of this process), and whatever the work returned. This module is
imported in the peers' environments, so it needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
import traceback

KEY = b"bench/key"
VALUE = b"v" * 100


def serve(works):
    """Answer commands until standard input ends.

    Args:
        works: name to function; called with ``count`` and the command's other fields. What it returns, if
            anything, is added to the answer; its own ``wall`` and ``cpu`` replace those measured here.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    print(json.dumps({"ready": sorted(works)}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        work = works.get(command.pop("do"))
        try:
            if work is None:
                raise NotImplementedError("this client cannot do that")
            gc.collect()
            answer = timed(work, command)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)


def timed(work, command):
    """Run `work` and say what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    more = work(**command)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"count": command.get("count", 1), "wall": wall, "cpu": cpu, **(more or {})}


def repeat(call):
    """A work that makes `call` again and again, from one thread or several."""

    def calls(count):
        for _ in range(count):
            call()

    def work(count, threads=1):
        if threads == 1:
            calls(count)
            return
        workers = [threading.Thread(target=calls, args=(count // threads,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return work


def in_flight(loop, call):
    """A work that awaits `call` again and again, from one task or several.

    Args:
        call: a function that returns an awaitable.
    """

    async def calls(count):
        for _ in range(count):
            await call()

    async def all_calls(count, tasks):
        await asyncio.gather(*[calls(count // tasks) for _ in range(tasks)])

    def work(count, tasks=1):
        loop.run_until_complete(all_calls(count, tasks))

    return work


class Stamps:
    """What a reader of a watch does with values: count them, and tell how old each was.

    The feeder writes the monotonic time in nanoseconds into each value; all processes of a machine share it.
    """

    def __init__(self, count):
        self.left = count
        self.ages = []

    def take(self, value):
        """Note one value; tells whether it was the last."""
        self.ages.append(time.monotonic_ns() - int(value[:20]))
        self.left -= 1
        return self.left <= 0

    def answer(self):
        """The median age in seconds."""
        ages = sorted(self.ages)
        return {"latency": ages[len(ages) // 2] / 1e9}


class Watching:
    """A work in two commands: ``watch`` opens and comes back, ``events`` reads until `count` have come.

    In between the benchmark tells its feeder to begin. CPU is taken over the whole of the second command.

    Args:
        open_watch: called with the prefix; returns an iterator over values.
    """

    def __init__(self, open_watch):
        self._open = open_watch
        self._values = None

    def open(self, prefix):
        self._values = self._open(prefix.encode())

    def read(self, count, stamped=False):
        if stamped:
            stamps = Stamps(count)
            for value in self._values:
                if stamps.take(value):
                    return stamps.answer()
        for _ in self._values:
            count -= 1
            if count <= 0:
                break
        return None

    def works(self):
        return {"watch": self.open, "events": self.read}


class AsyncWatching:
    """`Watching` for asyncio: `open_watch` is a coroutine function, its result an asynchronous iterator."""

    def __init__(self, loop, open_watch):
        self._loop = loop
        self._open = open_watch
        self._values = None

    def open(self, prefix):
        self._values = self._loop.run_until_complete(self._open(prefix.encode()))

    def read(self, count, stamped=False):
        return self._loop.run_until_complete(self._read(count, stamped))

    async def _read(self, count, stamped):
        if stamped:
            stamps = Stamps(count)
            async for value in self._values:
                if stamps.take(value):
                    return stamps.answer()
        async for _ in self._values:
            count -= 1
            if count <= 0:
                break
        return None

    def works(self):
        return {"watch": self.open, "events": self.read}


def ranges(read):
    """A work that reads a whole prefix: `read` returns how many keys it got."""

    def work(count, keys, prefix="range/"):
        for _ in range(count):
            found = read(prefix.encode())
            assert found == keys, f"{found} keys instead of {keys}"

    return work


def peak_memory():
    """The most memory this process ever used, bytes."""
    with open("/proc/self/status") as file:  # getrusage also counts what forked it
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024


def snapshots(save):
    """A work that writes a snapshot: `save` is called with the path.

    It tells by how much the peak of memory has grown since before the first snapshot.
    """
    before = []

    def work(path, count=1):
        before.append(peak_memory())
        save(path)
        size = os.path.getsize(path)
        os.unlink(path)
        return {"bytes": size, "grown": peak_memory() - before[0]}

    return work


def arguments():
    """Host and port of etcd, and the options given as ``name=value``."""
    host, port = sys.argv[1].rpartition("/")[2].split(":")
    return host, int(port), dict(each.split("=", 1) for each in sys.argv[2:])
