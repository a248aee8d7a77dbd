# SPDX-License-Identifier: Apache-2.0
"""R-C1, R-C2: locks of both fronts while members die and hang; who writes, and what is left behind."""

from __future__ import annotations

import json
import random
import threading
import time

import pytest

from purecd import Put, errors
from tests.live.fronts import Thread
from tests.support import observer

TTL = 3
CONTENDERS = 6
SECONDS = 12.0


class Contender:
    """Takes the lock, writes by guarded transactions, lets go; gives up now and then."""

    def __init__(self, front, endpoints, seed):
        self._client = front.client(endpoints, timeout=5)
        self._rng = random.Random(seed)
        self.tokens: list[int] = []
        self.waits: list[float] = []
        self.lost = self.given_up = self.failed = 0

    def run(self, over):
        """Until it is over."""
        lease = None
        while not over.is_set():
            if lease is None or lease.lost:
                lease = self._client.lease(TTL, timeout=20) if self._rng.random() < 0.5 else None
            began = time.monotonic()
            try:
                self._once(self._client.lock("lock", ttl=TTL, lease=lease), began)
            except errors.LockLost:
                self.lost += 1
            except errors.DeadlineExceeded:
                self.given_up += 1
            except errors.EtcdError:
                self.failed += 1
        if lease is not None:
            lease.close()
            if not lease.lost:
                lease.revoke(timeout=20)

    def _once(self, lock, began):
        lock.acquire(timeout=self._rng.choice((0.2, 20.0)))
        self.waits.append(time.monotonic() - began)
        self.tokens.append(lock.fencing_token)
        try:
            for _ in range(self._rng.randrange(4)):
                lock.txn(success=[Put("work", str(lock.fencing_token))])
                time.sleep(0.01)
        finally:
            lock.release()


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_locks_while_the_leader_is_away(fronts, start_cluster, seed, fault):
    cluster = start_cluster()
    made = [
        Contender(fronts[number % 2], cluster.endpoints, 10 * seed + number) for number in range(CONTENDERS)
    ]
    over = threading.Event()
    running = [Thread(each.run, over) for each in made]
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        time.sleep(1.0)
        leader = cluster.leader()
        getattr(leader, fault)()
        time.sleep(TTL)
        if fault == "kill":
            leader.start()
        else:
            leader.resume()
    mended_at = time.monotonic()
    before = [len(each.tokens) for each in made]
    while all(len(each.tokens) == count for each, count in zip(made, before)):
        assert time.monotonic() - mended_at < TTL + 5, "nobody gets the lock when all is well again"
        time.sleep(0.05)
    passed_on = time.monotonic() - mended_at
    time.sleep(2.0)
    over.set()
    for each in running:
        each.result(60)

    tokens = [token for each in made for token in each.tokens]
    assert len(tokens) == len(set(tokens)) > CONTENDERS
    client = fronts[0].client(cluster.endpoints)
    deadline = time.monotonic() + 4 * TTL  # a new leader grants each lease its whole time again
    while (left := client.get("lock/", prefix=True).kvs) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, "a key was left behind"
    changes = observer.read_log(cluster.members[0].endpoint, observer.put(cluster.endpoints[0], "end", "end"))
    work = [int(each.value or 0) for each in changes if each.key == "work"]
    assert work == sorted(work), "somebody wrote after another had the lock"
    assert set(work) <= set(tokens)
    figures = {
        "test": f"test_locks_{fault}",
        "acquired": len(tokens),
        "writes": len(work),
        "lost": sum(each.lost for each in made),
        "given_up": sum(each.given_up for each in made),
        "failed": sum(each.failed for each in made),
        "longest_wait_s": round(max(wait for each in made for wait in each.waits), 2),
        "passed_on_s": round(passed_on, 2),
    }
    print(f"FIGURES {json.dumps(figures)}")
