# SPDX-License-Identifier: Apache-2.0
"""A cluster of three: members end, calls and watches go on."""

from __future__ import annotations

import threading
import time

import pytest

from purecd import errors
from tests.live import etcds
from tests.live.fronts import Thread, take
from tests.support.recorder import ConnectionLog


@pytest.mark.parametrize("who", [pytest.param("leader", marks=pytest.mark.faults), "follower"])
def test_calls_and_a_watch_go_on_when_a_member_is_killed(front, start_cluster, prefix, who):
    # etcd gives up a request in 5 s and two elections.
    cluster = start_cluster(args=["--heartbeat-interval=25", "--election-timeout=250"])
    leader = cluster.leader()
    victim = leader if who == "leader" else cluster.followers()[0]
    # It is connected to the victim first, then has to look for another.
    endpoints = [victim.endpoint, *(each for each in cluster.endpoints if each != victim.endpoint)]
    writer, reader = front.client(endpoints, timeout=15), front.client(endpoints, timeout=15)
    with reader.watch(prefix, prefix=True) as watch:
        writer.put(prefix + "0", "v")
        victim.kill()
        started = time.monotonic()
        revision = 0
        for i in range(1, 20):
            while True:
                try:
                    revision = writer.put(prefix + str(i), "v").header.revision
                    break
                except errors.EtcdError as error:
                    # Nothing but an outcome that cannot be known; writing it again is harmless here.
                    assert error.maybe_applied, error
        print(f"19 puts done {time.monotonic() - started:.2f} s after the {who} was killed")
        assert reader.get(prefix, prefix=True, count_only=True).count == 20
        keys = []
        while not keys or watch.resume_revision <= revision:
            keys.append(take(watch, 1)[0].key.decode()[len(prefix) :])
        assert sorted(set(keys), key=int) == [str(i) for i in range(20)]
        assert keys == sorted(keys, key=int)


def test_a_rolling_restart(front, start_cluster, prefix):
    cluster = start_cluster()
    writer, reader = (front.client(cluster.endpoints, timeout=15) for _ in range(2))
    over = threading.Event()
    written = []

    def write():
        while not over.is_set():
            number = len(written)
            try:
                writer.put(prefix + "k", str(number))
                written.append(True)
            except errors.EtcdError as error:
                assert error.maybe_applied, error
                written.append(False)
            time.sleep(0.005)

    with reader.watch(prefix, prefix=True) as watch:
        thread = Thread(write)
        for _ in cluster.rolling_restart():
            assert not thread.done
        over.set()
        thread.result()
        writer.put(prefix + "k", "end")
        values = []
        while not values or values[-1] != b"end":
            values.append(watch.next(timeout=15).value)
    seen = [int(value) for value in values[:-1]]
    assert seen == sorted(set(seen)), "in order, each once"
    assert {number for number, certain in enumerate(written) if certain} <= set(seen), "none is missing"
    print(f"{len(seen)} events over a rolling restart, {written.count(False)} puts of unknown outcome")


def test_a_member_that_says_that_it_does_not_serve_is_turned_from(front, start_cluster, prefix):
    # R-B9. While it defragments, a member says so, if it was started with this flag.
    newest = max(etcds.present(), key=etcds.number_of)
    if etcds.number_of(newest) < (3, 6):
        pytest.skip("needs etcd 3.6 (make etcds fetches it)")
    cluster = start_cluster(2, binary=newest.path, args=["--feature-gates=StopGRPCServiceOnDefrag=true"])
    log = ConnectionLog()
    client = front.client(cluster.endpoints, health_check=True, hooks=[log])
    admin = front.client(cluster.endpoints)
    for number in range(20):
        client.put(prefix + str(number), "x" * 1_000_000)
    (used,) = {endpoint for _, event, endpoint, _ in log.events if event == "ready"}
    deadline = time.monotonic() + 20
    defragmenting = Thread(lambda: admin.maintenance.defragment(endpoint=used, timeout=20))
    while not defragmenting.done:
        client.put(prefix + "k", "v")
        assert time.monotonic() < deadline
    defragmenting.result()
    turns = [(endpoint, why) for _, event, endpoint, why in log.events if event == "turn"]
    assert turns[:1] == [(used, "says that it does not serve")]


@pytest.mark.faults
def test_without_a_majority(front, start_cluster, prefix):
    cluster = start_cluster()
    survivor, *others = cluster.members
    client = front.client(cluster.endpoints)
    client.put(prefix + "k", "v")
    for member in others:
        member.kill()
    started = time.monotonic()
    with pytest.raises(errors.EtcdError) as caught:
        client.get(prefix + "k", timeout=1.5)
    assert time.monotonic() - started < 2
    assert not caught.value.maybe_applied
    alone = front.client(survivor.endpoint)
    assert alone.get(prefix + "k", serializable=True, timeout=5).value == b"v"
    with pytest.raises(errors.EtcdError):
        alone.put(prefix + "k", "w", timeout=1)
    for member in others:
        member.start(wait=False)
    for member in others:
        member.wait_ready()
    assert client.put(prefix + "k", "x", timeout=15).header.revision
    assert client.get(prefix + "k").value == b"x"


def test_an_endpoint_of_another_cluster_is_not_talked_to(front, start_server, prefix):
    first, second = start_server(), start_server()
    client = front.client([first.endpoint, second.endpoint])
    client.put(prefix + "k", "v")
    home, other = (
        (first, second) if front.client(first.endpoint).get(prefix + "k").value == b"v" else (second, first)
    )
    home.kill()
    time.sleep(0.1)  # so long that the end of the connection is looked for before a call is sent
    with pytest.raises(errors.EtcdError) as caught:
        client.put(prefix + "k", "w", timeout=1)
    assert not caught.value.maybe_applied
    assert front.client(other.endpoint).get(prefix + "k").kv is None
