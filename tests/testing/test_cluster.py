# SPDX-License-Identifier: Apache-2.0
"""A real etcd cluster: its members, its leader, its restarts."""

from __future__ import annotations

import os
import socket

import pytest

from purecd.testing import EtcdCluster
from purecd.testing import etcd as server_module
from tests.live import etcds
from tests.live.etcds import QUICK

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def shared():
    with EtcdCluster(3, args=QUICK) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """Three members, all running."""
    shared.start()
    return shared


def test_three_members_serve_and_one_leads(cluster):
    assert len(set(cluster.endpoints)) == 3
    leader = cluster.leader()
    assert leader in cluster.members
    assert cluster.followers() == [member for member in cluster.members if member is not leader]


@pytest.mark.parametrize("way", ["kill", "stop", "pause"])
def test_another_one_leads_when_the_leader_is_gone(cluster, way):
    old = cluster.leader()
    getattr(old, way)()
    new = cluster.leader()
    assert new is not old
    assert new.running
    if way == "pause":
        old.resume()
    else:
        old.start()
    assert cluster.leader() in cluster.members


def test_without_a_majority_nobody_leads(cluster):
    first, second = cluster.followers()
    first.kill()
    second.kill()
    with pytest.raises(TimeoutError, match=r"0 leaders after 0.5 s; .*is down"):
        # The leader notices after an election timeout that nobody follows.
        while True:
            cluster.leader(timeout=0.5)


def test_a_rolling_restart_replaces_every_process_in_turn(cluster):
    before = [member.pid for member in cluster.members]
    for index, member in enumerate(cluster.rolling_restart()):
        assert member is cluster.members[index]
        assert [m.pid == pid for m, pid in zip(cluster.members, before)].count(False) == index + 1
        assert member.is_ready()


def test_all_may_stop_and_come_back(cluster):
    endpoints = cluster.endpoints
    cluster.stop()
    assert not any(member.running for member in cluster.members)
    cluster.start()
    assert cluster.endpoints == endpoints
    cluster.kill()
    assert not any(member.running for member in cluster.members)


def test_nothing_is_left_after_the_block():
    with EtcdCluster(2, args=QUICK) as cluster:
        pids = [member.pid for member in cluster.members]
        folders = [member.log_path.parent for member in cluster.members]
    assert not any(folder.exists() for folder in folders)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("port", ["client_port", "peer_port"])
def test_a_port_lost_before_the_first_start_moves_the_cluster(port):
    cluster = EtcdCluster(2, args=QUICK)
    lost = getattr(cluster.members[1], port)
    with socket.create_server(("127.0.0.1", lost)), cluster:
        assert getattr(cluster.members[1], port) != lost
        assert cluster.leader().running


def test_a_port_lost_later_is_an_error(cluster, monkeypatch):
    monkeypatch.setattr("purecd.testing.cluster.BIND_ATTEMPTS", 1)
    member = cluster.members[0]
    member.kill()
    with socket.create_server(("127.0.0.1", member.client_port)):
        with pytest.raises(server_module.AddressInUse):
            cluster.start()
    cluster.start()


def test_a_member_that_cannot_start_fails_the_cluster_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="(?s)member[012] .*no-such-flag"):
        with EtcdCluster(3, args=["--no-such-flag"]):
            pass
    assert len(list(tmp_path.glob("*/etcd.log"))) == 3


def test_a_cluster_has_members():
    with pytest.raises(ValueError, match="at least one member"):
        EtcdCluster(0)


@pytest.mark.parametrize("etcd", etcds.present()[1:], ids=lambda etcd: etcd.version)
def test_every_version_elects_and_survives_its_leader(etcd):
    with EtcdCluster(3, binary=etcd.path, args=QUICK) as cluster:
        old = cluster.leader()
        old.kill()
        assert cluster.leader() is not old
        old.start()
