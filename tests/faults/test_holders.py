# SPDX-License-Identifier: Apache-2.0
"""F17: processes that hold a key by a lease, and are stopped for longer than the lease lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.fronts import Thread
from tests.support import observer

ROOT = Path(__file__).resolve().parents[2]
TTL = 2
TURNS = 4

# Takes the key, writes as long as it has it, and waits in line again. It asks for `lost` before each write
# and then writes in any case: what keeps it from doing harm is the compare.
PROGRAM = """
import asyncio, sys, time
import purecd
from purecd import Get, Put, create_revision, errors

endpoints, ttl = sys.argv[1].split(","), int(sys.argv[2])

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # one write, so that threads do not mix
    sys.stdout.flush()

def report(lease):
    say("told", time.monotonic(), lease.lost)

ASYNC def main():
    ASYNC with purecd.CLIENT(endpoints, timeout=5) as client:
        while True:
            lease = AWAIT client.lease(ttl, on_lost=report)
            taken = AWAIT client.txn([create_revision("key") == 0], [Put("key", "mine", lease=lease)], [])
            if not taken.succeeded:
                ASYNC with client.watch("key", start_revision=taken.header.revision + 1) as watch:
                    while (AWAIT watch.next()).type is not purecd.EventType.DELETE:
                        pass
                AWAIT lease.revoke()
                continue
            fence = taken.header.revision
            say("acquired", time.monotonic(), fence)
            wrote = True
            while wrote:
                before = time.monotonic()
                lost = lease.lost
                say("asked", before, lost)
                try:
                    done = AWAIT client.txn([create_revision("key") == fence], [Put("work", str(fence))], [])
                except errors.DeadlineExceeded:  # it was stopped in the middle
                    continue
                wrote = done.succeeded
                say("wrote" if wrote else "refused", time.monotonic(), lease.lost)
                SLEEP(0.001)

RUN
"""


def program(front):
    if front == "aio":
        words = {
            "ASYNC ": "async ",
            "AWAIT ": "await ",
            "CLIENT": "AsyncClient",
            "SLEEP": "await asyncio.sleep",
        }
        words["RUN"] = "asyncio.run(main())"
    else:
        words = {"ASYNC ": "", "AWAIT ": "", "CLIENT": "Client", "SLEEP": "time.sleep", "RUN": "main()"}
    text = PROGRAM
    for word, stands_for in words.items():
        text = text.replace(word, stands_for)
    return text


class Holder:
    """One process and what it says: (word, when, detail)."""

    def __init__(self, front, endpoints):
        self.process = subprocess.Popen(
            [sys.executable, "-c", program(front), ",".join(endpoints), str(TTL)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.said = []
        self._reader = Thread(self._read)

    def _read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):
                word, when, detail = line.split()
                self.said.append((word, float(when), detail))

    def newest_fence(self):
        return max(self.fences(), default=0)

    def wait_until_said(self, word, moment):
        until(lambda: word in [each for each, *_ in self.since(moment)])

    def wait_for_fence_above(self, fence):
        until(lambda: self.newest_fence() > fence)

    def fences(self):
        return [int(detail) for word, _, detail in list(self.said) if word == "acquired"]

    def since(self, moment):
        return [each for each in list(self.said) if each[1] > moment]

    def end(self):
        self.process.kill()
        self.process.wait()
        self._reader.result()
        self.process.stdout.close()


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="all processes must read the same clock")
def test_f17_a_holder_is_stopped_for_three_ttls(start_cluster, seed):
    cluster = start_cluster()
    holders = [Holder(front, cluster.endpoints) for front in ("threads", "aio")]
    taken_over, refused = [], 0
    try:
        until(lambda: any(each.fences() for each in holders))
        for _ in range(TURNS):
            stopped, other = sorted(holders, key=lambda each: -each.newest_fence())
            stopped.wait_until_said("wrote", time.monotonic() + 0.3)  # it has renewed, and the other waits
            stopped.process.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            other.wait_for_fence_above(stopped.newest_fence())
            taken_over.append(round(time.monotonic() - stopped_at, 2))
            time.sleep(max(0.0, stopped_at + 3 * TTL - time.monotonic()))
            woken_at = time.monotonic()
            stopped.process.send_signal(signal.SIGCONT)
            stopped.wait_until_said("refused", woken_at)
            stopped.wait_until_said("told", woken_at)
            # A write that was answered before the stop may be read of first.
            first = [word for word, *_ in stopped.since(woken_at)].index("refused")
            after = stopped.since(woken_at)[: first + 1]
            assert {detail for word, _, detail in after if word != "acquired"} == {"True"}, after
            words = [word for word, *_ in after if word != "told"]
            assert words in (["asked", "refused"], ["refused"], ["wrote", "asked", "refused"]), after
            refused += 1
    finally:
        for each in holders:
            each.end()
    fences = sorted(fence for each in holders for fence in each.fences())
    assert len(fences) == len(set(fences)) > TURNS
    changes = observer.read_log(cluster.members[0].endpoint, observer.put(cluster.endpoints[0], "end", "end"))
    work = [int(each.value or 0) for each in changes if each.key == "work"]
    assert work == sorted(work), "somebody wrote after another had taken over"
    assert set(work) <= set(fences)
    figures = {"test": "test_f17", "taken_over_s": taken_over, "refused": refused, "writes": len(work)}
    print(f"FIGURES {json.dumps(figures)}")
