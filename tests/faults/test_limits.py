# SPDX-License-Identifier: Apache-2.0
"""Servers at their limits: full databases, compactions, few streams, defragmentation."""

from __future__ import annotations

import json
import threading
import time

import pytest

import purecd
from purecd import errors
from purecd.testing import etcd_version
from tests.live.fronts import Thread, together
from tests.support.load import PREFIX, PREFIX_END, WatchReader
from tests.support.observer import Observer
from tests.support.proxy import FaultProxy
from tests.support.watchcheck import WatchRecord, check_watch

QUOTA = 4 << 20


def figures(name, **values):
    print(f"FIGURES {json.dumps({'test': name, **values})}")


def test_f13_the_database_is_full_and_is_freed_under_load(trial, start_cluster):
    cluster = start_cluster(args=[f"--quota-backend-bytes={QUOTA}"])
    live = Observer(cluster.endpoints).start()
    run = trial(cluster.endpoints)
    run.warm_up()
    run.fault()
    client = run.clients[0]
    told = set()
    with pytest.raises(errors.NoSpace) as caught:
        for number in range(200):
            client.put(f"fat/{number}", "x" * 100_000)
    told.add(caught.value.maybe_applied)
    assert told == {True}, "etcd checks the quota after it wrote"
    run.run(2)
    # Reads and deletes go on; no put does.
    recent = run.load.recorder.between(time.monotonic() - 1, time.monotonic())
    by_name = {
        name: {type(each.error) for each in recent if each.name == name} for name in ("get", "put", "delete")
    }
    assert by_name == {"get": {type(None)}, "put": {errors.NoSpace}, "delete": {type(None)}}
    client.delete("fat/", prefix=True)
    client.compact(client.get("k").header.revision)
    for member in cluster.members:
        client.maintenance.defragment(endpoint=member.endpoint)
    client.maintenance.disarm()
    run.heal()
    run.wind_down(cluster.members[0].endpoint, live=live)
    measured = run.report()
    run.check()
    assert set(measured["errors"]) == {"NoSpace"}
    assert measured["failed"] == 0


def test_f14_compactions_overtake_watches_that_are_away(trial, start_cluster):
    cluster = start_cluster()
    live = Observer(cluster.endpoints).start()
    run = trial(cluster.endpoints, watches=0)
    over = threading.Event()
    compactions = []

    def compact():
        client = run.clients[0]
        while not over.wait(0.1):
            try:
                compactions.append(client.compact(max(1, client.get("k").header.revision - 10)))
            except errors.Compacted:
                pass

    with FaultProxy(cluster.endpoints[0]) as proxy:
        watchers = [client_of(run, index, proxy.endpoint) for index in (0, 1)]
        run.warm_up(1.0)
        readers = [open_reader(watchers[number % 2], 1) for number in range(6)]
        ended = []
        compactor = Thread(compact)
        run.fault()
        for _ in range(4):
            proxy.refuse()
            proxy.reset()
            run.run(1.0)
            proxy.heal()
            run.run(1.0)
            ended += reopen(readers, watchers)
        over.set()
        compactor.result()
        run.run(2.0)  # those that were away learn of the last compactions
        ended += reopen(readers, watchers)
        run.load.readers.extend(readers)
        run.wind_down(cluster.members[0].endpoint, live=live)
    run.report(compactions=len(compactions), compacted_watches=len(ended))
    run.check()
    for reader in ended:
        assert not check_watch(reader.record, run.changes)
    assert ended, "no watch met a compaction"


def client_of(run, index, endpoint):
    return run.fronts[index].client(endpoint)


def reopen(readers, clients):
    """Go on where a compaction ended a watch; those that ended."""
    ended = [reader for reader in readers if reader.error is not None]
    for reader in ended:
        assert isinstance(reader.error, errors.Compacted), reader.error
        index = readers.index(reader)
        readers[index] = open_reader(clients[index % 2], reader.error.compact_revision)
    return ended


def open_reader(client, start):
    while True:
        try:
            return WatchReader(client, WatchRecord(PREFIX, PREFIX_END, start))
        except errors.Compacted as error:
            start = error.compact_revision


@pytest.mark.parametrize("streams", [1, 2])
def test_f26_few_streams_and_a_hundred_callers(front, start_server, streams):
    server = start_server(args=[f"--max-concurrent-streams={streams}"])
    client = front.client(server.endpoint, timeout=20)
    kinds = [False, True][:streams]  # each needs a stream of its own
    watches = [client.watch(f"k{number}", require_leader=kinds[number % streams]) for number in range(5)]
    lease = client.lease(2)
    started = time.monotonic()
    replies = together(100, lambda number: client.put(f"k{number}", "v"))
    took = time.monotonic() - started
    assert len({reply.header.revision for reply in replies}) == 100
    assert [watch.next(timeout=5).value for watch in watches] == [b"v"] * 5
    time.sleep(3)
    assert not lease.lost, "keep-alives have a stream"
    figures(f"test_f26[{front.name}-{streams}]", seconds=round(took, 2))
    for watch in watches:
        watch.close()


def wait_for_revision(observer, revision, timeout=90.0):
    """Wait until an observer has read as far; 200 MB of JSON at once would be too much for it."""
    deadline = time.monotonic() + timeout
    while observer.revision < revision:
        assert time.monotonic() < deadline, (observer.revision, revision)
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["as it is", "health checks"])
def test_r_b9_members_are_defragmented_in_turn(trial, start_cluster, binary, how):
    checked = how == "health checks"
    args = ["--experimental-stop-grpc-service-on-defrag"] if checked else []
    if checked and etcd_version(binary) >= (3, 6):
        args = ["--feature-gates=StopGRPCServiceOnDefrag=true"]
    cluster = start_cluster(args=args)
    live = Observer(cluster.endpoints).start()
    # With a timeout below what it takes, who cannot tell loses what is in flight each time.
    options = {"timeout": 1.5, "client_options": {"health_check": True}} if checked else {"timeout": 30.0}
    # While the leader defragments no lease can be renewed, whoever is asked.
    run = trial(cluster.endpoints, lease_ttl=30, **options)
    with purecd.Client(cluster.endpoints, timeout=30) as client:
        for number in range(200):
            reply = client.put(f"fat/{number}", "x" * 1_000_000)
            if number % 10 == 9:
                wait_for_revision(live, reply.header.revision)
        run.warm_up()
        run.fault()
        pauses = []
        for member in cluster.members:
            started = time.monotonic()
            client.maintenance.defragment(endpoint=member.endpoint, timeout=60)
            pauses.append(round(time.monotonic() - started, 2))
            run.run(0.5)
    run.wind_down(cluster.members[0].endpoint, live=live)
    measured = run.report(defragmented_s=pauses)
    run.check()
    # Without checks calls wait; etcd itself gives up a write after 7 s.
    assert measured["unknown"] + measured["failed"] <= 0.01 * measured["calls"]
    assert not run.load.lost_leases(cluster.members[0].endpoint)
