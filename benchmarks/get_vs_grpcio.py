# SPDX-License-Identifier: Apache-2.0
"""How does a `get` compare with the same call over grpcio? And many threads or tasks at once?

Both talk to the same etcd in alternating rounds. grpcio is given the bytes of the request and
asked for the bytes of the reply, which are then parsed by the same codec, so what differs is
HTTP/2, gRPC and the waiting. Prints microseconds per call and ratios. Needs grpcio.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
from typing import Callable

import grpc

import purecd
from purecd.pb import codecs
from purecd.requests import Get
from purecd.testing import EtcdServer


def measure(work: Callable[[], None], calls: int) -> tuple[float, float]:
    """Microseconds of wall and of CPU per call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6


def on_threads(one: Callable[[], object], threads: int, calls: int) -> Callable[[], None]:
    """`calls` calls of `one`, spread over threads."""

    def part() -> None:
        for _ in range(calls // threads):
            one()

    def work() -> None:
        workers = [threading.Thread(target=part) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return work if threads > 1 else part


def compare(name: str, ours: Callable[[], None], theirs: Callable[[], None], calls: int, rounds: int) -> None:
    """Run both in turn and print medians and ratios."""
    ours()
    theirs()
    pairs = [(measure(ours, calls), measure(theirs, calls)) for _ in range(rounds)]
    for what, at in (("wall", 0), ("cpu", 1)):
        mine = statistics.median(pair[0][at] for pair in pairs)
        other = statistics.median(pair[1][at] for pair in pairs)
        ratio = statistics.median(pair[0][at] / pair[1][at] for pair in pairs)
        print(f"{name}, {what}: purecd {mine:.1f} us, grpcio {other:.1f} us, ratio {ratio:.2f}")


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1600)
    options = parser.parse_args()
    request = codecs.encode_range(Get(b"greeting"))
    with EtcdServer() as server, purecd.Client(server.endpoint) as client:
        client.put("greeting", "hello")
        target = server.endpoint.rpartition("/")[2]
        with grpc.insecure_channel(target) as channel:
            call = channel.unary_unary("/etcdserverpb.KV/Range")

            def theirs() -> object:
                return codecs.decode_range(call(request, timeout=10))

            def ours() -> object:
                return client.get("greeting")

            for threads in (1, 8, 32):
                compare(
                    f"{threads} threads",
                    on_threads(ours, threads, options.calls),
                    on_threads(theirs, threads, options.calls),
                    options.calls,
                    options.rounds,
                )
        asyncio.run(on_tasks(server.endpoint, request, options.calls, options.rounds))


async def on_tasks(endpoint: str, request: bytes, calls: int, rounds: int) -> None:
    """The same from asyncio, one task and 32."""
    import grpc.aio

    async with purecd.AsyncClient(endpoint) as client:
        async with grpc.aio.insecure_channel(endpoint.rpartition("/")[2]) as channel:
            call = channel.unary_unary("/etcdserverpb.KV/Range")

            async def ours(count: int) -> None:
                for _ in range(count):
                    await client.get("greeting")

            async def theirs(count: int) -> None:
                for _ in range(count):
                    codecs.decode_range(await call(request, timeout=10))

            for tasks in (1, 32):
                pairs = []
                for _ in range(rounds):
                    pair = []
                    for one in (ours, theirs):
                        wall, cpu = time.perf_counter(), time.process_time()
                        await asyncio.gather(*[one(calls // tasks) for _ in range(tasks)])
                        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                        pair.append((wall / calls * 1e6, cpu / calls * 1e6))
                    pairs.append(pair)
                for what, at in (("wall", 0), ("cpu", 1)):
                    mine = statistics.median(pair[0][at] for pair in pairs)
                    other = statistics.median(pair[1][at] for pair in pairs)
                    ratio = statistics.median(pair[0][at] / pair[1][at] for pair in pairs)
                    print(
                        f"{tasks} tasks, {what}: purecd {mine:.1f} us, grpcio {other:.1f} us,"
                        f" ratio {ratio:.2f}"
                    )


if __name__ == "__main__":
    main()
