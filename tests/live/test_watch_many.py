# SPDX-License-Identifier: Apache-2.0
"""Many watches on one client, large batches, and progress reports by the clock."""

from __future__ import annotations

import time

import pytest

from purecd import Put
from tests.live.fronts import Thread, take, together

MIB = 1 << 20


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_server_has_each_watch_once_on_one_stream(front, start_server, prefix):
    server = start_server()
    client = front.client(server.endpoint)
    watches = [client.watch(f"{prefix}{i}") for i in range(20)]
    client.put(prefix + "7", "v")
    assert watches[7].next(timeout=5).value == b"v"
    assert server.metric("etcd_debugging_mvcc_watch_stream_total") == 1
    assert server.metric("etcd_debugging_mvcc_watcher_total") == 20
    for watch in watches[:19]:
        watch.close()
    wait_for(lambda: server.metric("etcd_debugging_mvcc_watcher_total") == 1)
    watches[19].close()
    wait_for(lambda: server.metric("etcd_debugging_mvcc_watcher_total") == 0)


def test_a_thousand_watches(client, prefix):
    started = time.monotonic()
    watches = [client.watch(f"{prefix}{i:03}") for i in range(1000)]
    opened = time.monotonic()
    for first in range(0, 1000, 100):
        client.txn(success=[Put(f"{prefix}{i:03}", str(i)) for i in range(first, first + 100)])
    for index, watch in enumerate(watches):
        assert watch.next(timeout=10).value == str(index).encode()
    delivered = time.monotonic()
    print(
        f"1000 watches: {opened - started:.2f} s to open, {delivered - opened:.2f} s until all had an event"
    )
    for watch in watches:
        watch.close()
    assert client.put(prefix + "000", "after")


@pytest.mark.slow
def test_a_thousand_watches_opened_and_read_by_many(client, prefix):
    def one(index):
        watches = [client.watch(f"{prefix}{index}/{i}") for i in range(40)]
        for i in range(40):
            client.put(f"{prefix}{index}/{i}", "v")
        values = [watch.next(timeout=20).value for watch in watches]
        for watch in watches:
            watch.close()
        return values

    assert together(25, one) == [[b"v"] * 40] * 25


@pytest.mark.every_etcd
@pytest.mark.parametrize("fragment", [True, False])
def test_a_batch_of_10_mib(client, prefix, fragment):
    # Puts of a watcher's past are read from the store together, so they come as one batch.
    values = [bytes([i]) * MIB for i in range(10)]
    first = client.put(prefix + "0", values[0]).header.revision
    for i in range(1, 10):
        client.put(f"{prefix}{i}", values[i])
    started = time.monotonic()
    with client.watch(prefix, prefix=True, start_revision=first, fragment=fragment) as watch:
        response = next(iter(watch.responses(timeout=10)))
    print(f"10 MiB in {time.monotonic() - started:.2f} s")
    assert [event.value for event in response.events] == values
    client.delete(prefix, prefix=True)


def test_progress_by_the_clock(front, start_server, prefix, etcd):
    flag = "watch-progress-notify-interval"
    if tuple(map(int, etcd.version.split("."))) < (3, 6, 0):
        flag = f"experimental-{flag}"
    server = start_server(args=[f"--{flag}=100ms"])
    client = front.client(server.endpoint)
    with client.watch(prefix, prefix=True, progress_notify=True) as told, client.watch(prefix) as untold:
        revision = client.put("elsewhere", "v").header.revision
        for response in told.responses(timeout=5):
            assert response.is_progress
            if response.header.revision >= revision:
                break
        assert told.resume_revision == revision + 1
        with pytest.raises(TimeoutError):
            next(iter(untold.responses(timeout=0.3)))


def test_a_slow_reader_gets_everything(front, server, prefix):
    client = front.client(server.endpoint, watch_buffer_events=100)
    with client.watch(prefix, prefix=True) as slow, client.watch(prefix, prefix=True) as quick:
        reader = Thread(lambda: take(quick, 1000))
        for i in range(1000):
            client.put(f"{prefix}k", str(i))
        assert [event.value for event in reader.result()] == [str(i).encode() for i in range(1000)]
        assert [event.value for event in take(slow, 1000)] == [str(i).encode() for i in range(1000)]
        with pytest.raises(TimeoutError):
            slow.next(timeout=0.1)
