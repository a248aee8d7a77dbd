# SPDX-License-Identifier: Apache-2.0
"""Many threads, or tasks, on one client."""

from __future__ import annotations

import queue
import time

import pytest

import purecd
from purecd import Put
from tests.live.fronts import Thread, take, together


@pytest.mark.every_etcd
def test_64_on_one_client(client, server, prefix):
    def one(index):
        key = f"{prefix}{index}"
        for i in range(10):
            client.put(key, f"{index}.{i}")
            assert client.get(key).value == f"{index}.{i}".encode()
        return client.get(key).kv.version

    started = time.monotonic()
    assert together(64, one) == [10] * 64
    print(f"64 x 21 calls in {time.monotonic() - started:.2f} s")


def test_64_take_turns_at_a_counter(client, prefix):
    key = prefix + "counter"
    client.put(key, "0")

    def add(_):
        while True:
            kv = client.get(key).kv
            changed = client.txn(
                [purecd.mod_revision(key) == kv.mod_revision], [Put(key, str(int(kv.value) + 1))]
            )
            if changed.succeeded:
                return changed.header.revision

    assert len(set(together(64, add))) == 64
    assert client.get(key).value == b"64"


def test_each_with_a_watch_and_all_hear_all(client, prefix):
    ready: queue.Queue[None] = queue.Queue()

    def one(index):
        with client.watch(prefix, prefix=True) as watch:
            ready.put_nowait(None)
            return [event.value for event in take(watch, 100, timeout=20)]

    readers = [Thread(one, index) for index in range(16)]
    for _ in readers:
        ready.get(timeout=10)
    for i in range(100):
        client.put(prefix + str(i % 7), str(i))
    expected = [str(i).encode() for i in range(100)]
    assert all(reader.result(20) == expected for reader in readers)
