# SPDX-License-Identifier: Apache-2.0
"""A server that floods its client, and what that costs the client's process.

The server runs in a process of its own, so that its work and memory are not counted. It greets well,
lets the first write come, and then sends the same octets again and again until they are all sent or
the connection ends.

    python -m tests.conformance.hostile     # prints its port, then one line of JSON
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from purecd import errors
from tests.live.fronts import FrontUnderTest, Thread
from tests.support.answering import Answering

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


class Flood(NamedTuple):
    """What to send.

    Attributes:
        before: once.
        again: again and again.
        times: how often.
        reads: whether the server reads what the client answers.
        pause: seconds after each `again`.
    """

    before: bytes
    again: bytes
    times: int
    reads: bool = True
    pause: float = 0.0


class Cost(NamedTuple):
    """What a flood did.

    Attributes:
        sent: how often `again` left, as far as the server's kernel took it.
        ended: whether the client ended the connection, or was closed by the test.
        goaway: the code it gave, -1 for none.
        frames: of the client on that connection, by type.
        seconds: until the flood was over.
        growth: octets of memory in use more than before, at the most.
        kept: the same at the end, garbage collected.
        slowest: seconds that a call on a healthy connection took, at the most.
        error: what became of the write.
    """

    sent: int
    ended: bool
    goaway: int
    frames: dict[str, int]
    seconds: float
    growth: int
    kept: int
    slowest: float
    error: errors.EtcdError | None


def resident() -> int:
    """Octets of memory this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def flooding(flood: Flood) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server's endpoint, and its process."""
    told = {**flood._asdict(), "before": flood.before.hex(), "again": flood.again.hex()}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.conformance.hostile"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
        yield f"127.0.0.1:{int(process.stdout.readline())}", process
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def endure(
    front: FrontUnderTest, flood: Flood, *, timeout: float = 20.0, value: bytes = b"v", writes: int = 1
) -> Cost:
    """Let a client write to a server that floods it, while another calls a good server.

    Args:
        timeout: of each write.
        writes: how many there are, one after the other.
    """
    with Answering() as good, flooding(flood) as (endpoint, process):
        healthy = front.client(good.endpoint)
        client = front.client(endpoint, timeout=timeout)
        healthy.get("k")
        over = threading.Event()
        before = resident()
        peak = [before]
        slowest = [0.0]

        def watch() -> None:
            while not over.wait(0.01):
                started = time.monotonic()
                healthy.get("k")
                slowest.append(time.monotonic() - started)
                peak.append(resident())

        watcher = Thread(watch)
        started = time.monotonic()
        error = None
        for _ in range(writes):
            try:
                client.put("k", value)
            except errors.EtcdError as caught:
                error = caught
        over_after = time.monotonic() - started
        peak.append(resident())
        over.set()
        watcher.result()
        gc.collect()
        kept = resident() - before
        client.close()
        healthy.close()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"over\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())
        return Cost(
            told["sent"],
            told["ended"],
            told["goaway"],
            told["frames"],
            over_after,
            max(peak) - before,
            kept,
            max(slowest),
            error,
        )


def main() -> None:
    """The server's process."""
    import socket

    from tests.conformance.carriers import Connection
    from tests.conformance.script import REPLY
    from tests.wire import peer as octets

    told = json.loads(sys.stdin.buffer.readline())
    before, again = bytes.fromhex(told["before"]), bytes.fromhex(told["again"])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    print(listener.getsockname()[1], flush=True)
    client, _ = listener.accept()
    connection = Connection(client)
    client.sendall(octets.frame(octets.SETTINGS, 0, 0))
    while not [each for each in connection.frames if each.stream_id == 3]:
        known = len(connection.frames)
        if not connection.read():
            return
        for frame in connection.frames[known:]:
            if frame.stream_id == 1 and frame.flags & octets.END_STREAM:
                client.sendall(octets.answer(1, REPLY))
    connection.frames.clear()
    counts: dict[str, int] = {}
    goaway = [-1]

    def count() -> None:
        for frame in connection.frames:
            counts[str(frame.kind)] = counts.get(str(frame.kind), 0) + 1
            if frame.kind == octets.GOAWAY:
                goaway[0] = int.from_bytes(frame.payload[4:8], "big")
        connection.frames.clear()

    def read() -> None:
        while connection.read():
            count()

    reader = threading.Thread(target=read, daemon=True)
    if told["reads"]:
        reader.start()
    sent = 0
    piece = max(1, 65_536 // len(again)) if not told["pause"] else 1
    try:
        client.sendall(before)
        while sent < told["times"]:
            client.sendall(again * piece)
            sent += piece
            time.sleep(told["pause"])
    except OSError:
        pass
    sys.stdin.buffer.readline()
    if told["reads"]:
        reader.join(5)
    count()
    result = {"sent": sent, "ended": connection.ended, "goaway": goaway[0], "frames": counts}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
