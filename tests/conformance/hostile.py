# SPDX-License-Identifier: Apache-2.0
"""A server that floods its client, and what that costs the client's process.

The server runs in a process of its own, so that its work and memory are not counted; one serves all
floods of a module. It greets well, lets the first write come, and then sends the same octets again and
again until they are all sent or the connection ends.

    python -m tests.conformance.hostile     # a flood in one line, its port, the end in a line, what was seen
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from purecd import errors
from tests.conformance.carriers import Connection
from tests.conformance.script import REPLY
from tests.live.fronts import FrontUnderTest, Thread
from tests.support.answering import Answering
from tests.support.proxy import close_with_reset
from tests.wire import peer as octets

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
        patience: seconds in which nothing leaves after which it resets the connection, 0 for no limit; for
            one that does not read.
    """

    before: bytes
    again: bytes
    times: int
    reads: bool = True
    pause: float = 0.0
    patience: float = 0.0


class Cost(NamedTuple):
    """What a flood did.

    Attributes:
        sent: how often `again` left, as far as the server's kernel took it.
        stalled: the server's patience ended.
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
    stalled: bool
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


def give_back() -> None:
    """Return to the system what is not in use: garbage, and what the C library keeps for later."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library keeps less, or has another name for it
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Hostile:
    """The server's process, started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def flood(self, flood: Flood) -> Iterator[str]:
        """The endpoint where the next client is flooded; what the server saw is `seen`."""
        told = {**flood._asdict(), "before": flood.before.hex(), "again": flood.again.hex()}
        try:
            self._tell(json.dumps(told))
            yield f"127.0.0.1:{int(self._hear())}"
        except BaseException:
            self.close()  # it may be anywhere in the story
            raise

    def seen(self) -> dict[str, Any]:
        """What the server saw, when the client is closed."""
        self._tell("over")
        seen: dict[str, Any] = json.loads(self._hear())
        return seen

    def close(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _tell(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.conformance.hostile"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _hear(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def endure(
    front: FrontUnderTest,
    hostile: Hostile,
    flood: Flood,
    *,
    timeout: float = 20.0,
    value: bytes = b"v",
    writes: int = 1,
) -> Cost:
    """Let a client write to a server that floods it, while another calls a good server.

    Args:
        timeout: of each write.
        writes: how many there are, one after the other.
    """
    with Answering() as good, hostile.flood(flood) as endpoint:
        healthy = front.client(good.endpoint)
        client = front.client(endpoint, timeout=timeout)
        healthy.get("k")
        give_back()
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
        give_back()
        kept = resident() - before
        client.close()
        healthy.close()
        told = hostile.seen()
        return Cost(
            told["sent"],
            told["stalled"],
            told["ended"],
            told["goaway"],
            told["frames"],
            over_after,
            max(peak) - before,
            kept,
            max(slowest),
            error,
        )


def serve(told: dict[str, Any]) -> dict[str, Any] | None:
    """Flood one client; what was seen of it, None when it went away before."""
    before, again = bytes.fromhex(told["before"]), bytes.fromhex(told["again"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        print(listener.getsockname()[1], flush=True)
        client, _ = listener.accept()
    with client:
        connection = Connection(client)
        if not greet(connection):
            return None
        frames: Counter[str] = Counter()
        goaway = -1

        def read() -> None:
            nonlocal goaway
            while connection.read():
                for frame in connection.frames:
                    frames[str(frame.kind)] += 1
                    if frame.kind == octets.GOAWAY:
                        goaway = int.from_bytes(frame.payload[4:8], "big")
                connection.frames.clear()

        reader = threading.Thread(target=read, daemon=True)
        if told["reads"]:
            reader.start()
        sent, stalled = 0, False
        if told["patience"]:
            client.settimeout(told["patience"])
        piece = max(1, 65_536 // len(again)) if not told["pause"] else 1
        try:
            client.sendall(before)
            while sent < told["times"]:
                count = min(piece, told["times"] - sent)
                client.sendall(again * count)
                sent += count
                time.sleep(told["pause"])
        except socket.timeout:
            stalled = True
            close_with_reset(client)
        except OSError:
            pass
        sys.stdin.buffer.readline()
        if told["reads"]:
            reader.join(5)
    return {"sent": sent, "stalled": stalled, "ended": connection.ended, "goaway": goaway, "frames": frames}


def greet(connection: Connection) -> bool:
    """Answer the greeting and wait for the beginning of a call."""
    client = connection.client
    client.sendall(octets.frame(octets.SETTINGS, 0, 0))
    while not [each for each in connection.frames if each.stream_id == 3]:
        known = len(connection.frames)
        if not connection.read():
            return False
        for frame in connection.frames[known:]:
            if frame.stream_id == 1 and frame.flags & octets.END_STREAM:
                client.sendall(octets.answer(1, REPLY))
    connection.frames.clear()
    return True


def main() -> None:
    """The server's process."""
    for line in iter(sys.stdin.buffer.readline, b""):
        seen = serve(json.loads(line))
        if seen is None:
            return
        print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
