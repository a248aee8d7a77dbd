# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: it ends a wait at once and leaves the client usable."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.fronts import SLACK

ROOT = Path(__file__).resolve().parents[2]

# Tells when it is about to wait, is interrupted, and goes on with the same client once told to.
SYNC = """
import json, signal, sys, time, threading, purecd
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts with `&`
client = purecd.Client(sys.argv[1])
client.put("ctrl-c", "1")
watch = client.watch("ctrl-c")
def wait_get(): client.get("ctrl-c", timeout=30)
def wait_put(): client.put("elsewhere", "2", timeout=30)  # may be applied at any time after
def wait_watch(): watch.next(timeout=30)
def wait_open(): client.watch("other", timeout=30)
def wait_behind():
    threading.Thread(target=lambda: client.get("ctrl-c", timeout=30), daemon=True).start()
    time.sleep(0.2)
    client.get("ctrl-c", timeout=30)
print("waiting", flush=True)
assert sys.stdin.readline()
print("waiting", flush=True)
try:
    globals()["wait_" + sys.argv[2]]()
except KeyboardInterrupt:
    ended = time.time()
print(json.dumps(ended), flush=True)
assert sys.stdin.readline()
client.put("ctrl-c", "3")
assert client.get("ctrl-c").value == b"3"
while watch.next(timeout=5).value != b"3": pass
print("usable", threading.active_count(), flush=True)
client.close()
"""

AIO = """
import asyncio, json, sys, time, threading, purecd
async def main():
    client = purecd.AsyncClient(sys.argv[1])
    await client.put("ctrl-c", "1")
    watch = await client.watch("ctrl-c").open()
    def wait():
        if sys.argv[2] == "get": return client.get("ctrl-c", timeout=30)
        if sys.argv[2] == "put": return client.put("elsewhere", "2", timeout=30)
        return watch.next(timeout=30)
    print("waiting", flush=True)
    assert sys.stdin.readline()
    task = asyncio.ensure_future(wait())
    asyncio.get_running_loop().add_signal_handler(2, task.cancel)
    await asyncio.sleep(0)
    print("waiting", flush=True)
    try:
        await task
    except asyncio.CancelledError:
        ended = time.time()
    print(json.dumps(ended), flush=True)
    assert sys.stdin.readline()
    await client.put("ctrl-c", "3")
    assert (await client.get("ctrl-c")).value == b"3"
    while (await watch.next(timeout=5)).value != b"3": pass
    print("usable", threading.active_count(), flush=True)
    await client.close()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("program", "call"),
    [
        *((SYNC, call) for call in ("get", "put", "watch", "open", "behind")),
        *((AIO, call) for call in ("get", "put", "watch")),
    ],
    ids=lambda value: value if len(value) < 9 else "aio" if "async" in value else "threads",
)
def test_a_wait_is_interrupted(server, program, call):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, server.endpoint, call],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        server.pause()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.5)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        took = json.loads(process.stdout.readline()) - sent
        print(f"ended {took * 1000:.1f} ms after the signal")
        assert took < SLACK
        server.resume()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("usable")
        assert process.wait(10) == 0
    finally:
        server.resume()
        process.kill()
        process.communicate()


STORM = """
import random, signal, sys, threading, time, purecd
client = purecd.Client(sys.argv[1], timeout=10)
client.put("storm", "0")
over = time.monotonic() + 4
slowest, finished = [], []
def other():
    while time.monotonic() < over + 0.5:
        started = time.monotonic()
        client.get("storm")
        slowest.append(time.monotonic() - started)
    slowest.sort()
    print(f"{len(slowest)} calls of the other thread, at most {slowest[-1]:.3f} s", end=", ")
    finished.append(True)
thread = threading.Thread(target=other)
thread.start()
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
rng = random.Random(1)
calls = interrupts = 0
while time.monotonic() < over:
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.002))
        while True:
            client.put("storm", "1")
            calls += 1
    except Stop:
        interrupts += 1
        time.sleep(0.01)
thread.join(15)
assert finished, "a call of the other thread failed or hangs"
assert slowest[-2] < 1, slowest[-3:]
client.put("storm", "2")
assert client.get("storm").value == b"2"
client.close()
print(calls, "calls", interrupts, "interrupts")
assert interrupts > 50
"""


@pytest.mark.slow
def test_interrupts_at_any_moment_leave_the_client_usable(server):
    # They hit between any two instructions of the driver, hundreds of times, while another
    # thread goes on with its calls.
    done = subprocess.run(
        [sys.executable, "-c", STORM, server.endpoint],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
    )
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
