# SPDX-License-Identifier: Apache-2.0
"""F27: members of different releases in one cluster, while it is upgraded and downgraded under load."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from purecd import errors
from purecd.testing import EtcdServer
from tests.live import etcds
from tests.live.test_members import join

# etcd 3.6 gives up over entries of 3.4 that are left in its log, so snapshots come often.
ARGS = ["--snapshot-count=50"]


def minor_of(etcd):
    return etcds.number_of(etcd)[:2]


def last_of_each_minor():
    """The newest of each minor version, old to new."""
    newest = {}
    for etcd in sorted(etcds.present(), key=etcds.number_of):
        newest[minor_of(etcd)] = etcd
    return list(newest.values())


STEPS = last_of_each_minor()
PAIRS = [pair for pair in zip(STEPS, STEPS[1:]) if minor_of(pair[0])[1] + 1 == minor_of(pair[1])[1]]


def name_of(pair):
    return "-".join(each.version for each in pair)


def replace_binary(member, etcd):
    """Have a member go on as another release."""
    member.stop()
    member.binary = etcd.path
    member.version = etcds.number_of(etcd)
    member.start()


def again(action, timeout=25.0):
    """What an action comes to once etcd sees its members as they are; until then it refuses."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return action()
        except errors.EtcdError as error:
            assert not error.maybe_applied, error
            assert time.monotonic() < deadline, error
            time.sleep(0.3)


@pytest.mark.skipif(len(STEPS) < 2, reason="there is one minor version only (make etcds fetches more)")
def test_f27_a_cluster_is_upgraded_under_load(trial, start_cluster):
    cluster = start_cluster(binary=STEPS[0].path, args=ARGS)
    run = trial(cluster.endpoints, lease_ttl=10)
    run.warm_up()
    run.fault()
    for step in STEPS[1:]:
        for member in cluster.members:
            replace_binary(member, step)
            run.run(0.5)
    run.wind_down(cluster.members[0].endpoint)
    measured = run.report(versions=[step.version for step in STEPS])
    run.check()
    assert measured["failed"] == 0
    assert not run.load.lost_leases(cluster.members[0].endpoint)


@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_f27_a_learner_joins_members_of_two_releases_and_a_downgrade_begins(trial, start_cluster, pair):
    old, new = pair
    cluster = start_cluster(binary=old.path, args=[*ARGS, "--strict-reconfig-check=false"])
    run = trial(cluster.endpoints, lease_ttl=15)
    client = run.clients[0]
    run.warm_up()
    run.fault()
    replace_binary(cluster.members[0], new)
    run.run(1.0)
    with closing(EtcdServer("learner", binary=new.path, args=ARGS)) as learner:
        added = again(lambda: client.members.add([learner.peer_url], is_learner=True))
        join(learner, cluster)
        set_endpoints(run.clients, [learner.endpoint, *cluster.endpoints])
        run.run(2.0)
        assert client.maintenance.status(endpoint=learner.endpoint).is_learner
        client.members.remove(added.member.id)
        run.run(0.5)
    set_endpoints(run.clients, cluster.endpoints)
    for member in cluster.members[1:]:
        replace_binary(member, new)
        run.run(0.5)
    below = ".".join(map(str, minor_of(old)))
    again(lambda: client.maintenance.downgrade("validate", below, timeout=10))
    client.maintenance.downgrade("enable", below, timeout=15)
    run.run(1.0)
    with pytest.raises(errors.DowngradeInProcess):
        client.maintenance.downgrade("enable", below, timeout=15)
    client.maintenance.downgrade("cancel", timeout=15)
    run.run(0.5)
    run.wind_down(cluster.members[0].endpoint)
    measured = run.report(versions=[each.version for each in pair])
    run.check()
    assert measured["failed"] == 0, run.errors()[:3]
    assert measured["unknown"] <= 3 * run.load.callers  # three members stopped, each may have led
    assert not run.load.lost_leases(cluster.members[0].endpoint)


def set_endpoints(clients, endpoints):
    for client in clients:
        getattr(client, "client", client).endpoints = endpoints


@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_f27_a_cluster_is_downgraded_under_load(trial, start_cluster, pair):
    old, new = pair
    if minor_of(old) < (3, 5):
        pytest.skip("etcd 3.5 has no way back to 3.4 while it serves")
    cluster = start_cluster(binary=new.path, args=ARGS)
    run = trial(cluster.endpoints, lease_ttl=15)
    client = run.clients[0]
    run.warm_up()
    below = ".".join(map(str, minor_of(old)))
    again(lambda: client.maintenance.downgrade("enable", below, timeout=15))
    run.fault()
    run.run(5.0)  # the store is brought into the older form meanwhile
    for member in cluster.members:
        replace_binary(member, old)
        run.run(1.0)
    run.wind_down(cluster.members[0].endpoint)
    measured = run.report(versions=[new.version, old.version])
    run.check()
    assert client.maintenance.status().version == old.version
    assert measured["failed"] == 0
    assert not run.load.lost_leases(cluster.members[0].endpoint)
