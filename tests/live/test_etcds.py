# SPDX-License-Identifier: Apache-2.0
"""The choice of etcd programs, and the fixtures made from it."""

from __future__ import annotations

import pytest

from tests.live import etcds

look = etcds.look.__wrapped__  # without the cache


def program(path, version):
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho etcd Version: {version}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose default etcd is 3.5.1, with nothing else."""
    monkeypatch.setattr(etcds, "ROOT", tmp_path)
    monkeypatch.setenv("PURECD_ETCD", str(program(tmp_path / "default" / "etcd", "3.5.1")))
    monkeypatch.delenv("PURECD_ETCDS", raising=False)
    return tmp_path


def test_the_default_comes_first_and_the_others_from_old_to_new(machine, monkeypatch):
    program(machine / ".cache" / "etcd" / "3.6.9" / "etcd", "3.6.9")
    program(machine / ".cache" / "etcd" / "3.10.0" / "etcd", "3.10.0")
    named = program(machine / "named" / "etcd", "3.4.23")
    monkeypatch.setenv("PURECD_ETCDS", str(named))
    present, skipped = look()
    assert [etcd.version for etcd in present] == ["3.5.1", "3.4.23", "3.6.9", "3.10.0"]
    assert present[1].path == named
    assert [reason[:6] for reason in skipped] == ["no 3.7"]


def test_a_version_is_there_once(machine):
    program(machine / ".cache" / "etcd" / "3.5.1" / "etcd", "3.5.1")
    present, _ = look()
    assert [etcd.path for etcd in present] == [machine / "default" / "etcd"]


def test_what_does_not_run_is_said(machine):
    broken = program(machine / ".cache" / "etcd" / "3.6.9" / "etcd", "nonsense")
    present, skipped = look()
    assert len(present) == 1
    assert skipped[0].startswith(f"{broken} does not run: ")


def test_no_default_is_said(machine, monkeypatch):
    monkeypatch.setenv("PURECD_ETCD", str(machine / "missing"))
    present, skipped = look()
    assert present == []
    assert "missing is not a program" in skipped[0]


def test_a_server_is_shared_and_started_again_when_a_test_ended_it(server, etcd):
    assert server.running
    assert server.binary == etcd.path == etcds.present()[0].path
    server.kill()


def test_the_shared_server_runs_again(server):
    assert server.metric("etcd_server_is_leader") == 1


@pytest.mark.every_etcd
def test_every_version_gets_a_server_of_its_own(etcd, start_server):
    server = start_server(args=etcds.QUICK)
    assert ".".join(map(str, server.version)) == etcd.version


def test_a_cluster_of_ones_own(start_cluster, prefix):
    cluster = start_cluster(2, args=etcds.QUICK)
    assert len(cluster.members) == 2
    assert prefix.endswith("test_a_cluster_of_ones_own[" + etcds.present()[0].version + "]/")
