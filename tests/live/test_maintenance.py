# SPDX-License-Identifier: Apache-2.0
"""The state of members: status, alarms, hashes, space, leadership, downgrades, health."""

from __future__ import annotations

import time

import pytest

from purecd import errors
from purecd.admin_types import Alarm, AlarmType, HealthStatus
from tests.live.etcds import QUICK
from tests.live.fronts import Thread, take, timed

NOSPACE, CORRUPT = AlarmType.NOSPACE, AlarmType.CORRUPT


def release(etcd):
    return tuple(map(int, etcd.version.split(".")))


@pytest.mark.every_etcd
def test_status(client, server, etcd):
    client.put("status/k", "v")
    status = client.maintenance.status()
    assert status.version == etcd.version
    assert status.leader == status.header.member_id
    assert status.is_leader
    assert not status.is_learner
    assert 0 < status.db_size_in_use <= status.db_size
    assert 0 < status.raft_applied_index <= status.raft_index
    assert status.raft_term == status.header.raft_term
    assert status.errors == ()
    if release(etcd) >= (3, 6, 0):
        assert status.storage_version == "{}.{}.0".format(*release(etcd))
        assert status.downgrade is not None
        assert not status.downgrade.enabled
    else:
        assert (status.storage_version, status.db_size_quota, status.downgrade) == ("", 0, None)
    assert client.maintenance.status(endpoint=server.endpoint).header.member_id == status.leader


def test_health(client, server):
    assert client.maintenance.health() is HealthStatus.SERVING
    assert client.maintenance.health(endpoint=server.endpoint) is HealthStatus.SERVING
    with pytest.raises(errors.RpcError) as caught:
        client.maintenance.health("of something else")
    assert caught.value.code is errors.StatusCode.NOT_FOUND


@pytest.mark.every_etcd
def test_hashes(front, start_cluster, etcd):
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    first = client.put("k", "1").header.revision
    last = client.put("k", "2").header.revision
    for each in cluster.endpoints:
        front.client(each).get("k")  # linearizable: the member has come as far
    hashes = [client.maintenance.hash_kv(revision=last, endpoint=each) for each in cluster.endpoints]
    assert len({(each.hash, each.compact_revision) for each in hashes}) == 1
    assert len({each.header.member_id for each in hashes}) == 3
    older = client.maintenance.hash_kv(revision=first, endpoint=cluster.endpoints[0])
    assert older.hash != hashes[0].hash
    assert older.hash_revision == (first if release(etcd) >= (3, 6, 0) else 0)
    assert client.maintenance.hash_kv().header.revision == last
    client.compact(last)
    with pytest.raises(errors.Compacted):
        client.maintenance.hash_kv(revision=first)
    with pytest.raises(errors.FutureRev):
        client.maintenance.hash_kv(revision=last + 1000)
    assert client.maintenance.hash().hash != 0
    with pytest.raises(ValueError, match="revision"):
        client.maintenance.hash_kv(revision=-1)


def test_defragment_gives_space_back(front, start_server):
    server = start_server()
    client = front.client(server.endpoint)
    for number in range(8):
        client.put(f"k{number}", b"x" * 500_000)
    last = client.delete("k", prefix=True).header.revision
    client.compact(last, physical=True)
    before = client.maintenance.status()
    assert before.db_size > 4_000_000
    client.maintenance.defragment(endpoint=server.endpoint, timeout=30)
    client.maintenance.defragment(timeout=30)
    assert client.maintenance.status().db_size < before.db_size / 4


@pytest.mark.every_etcd
def test_alarms_are_raised_listed_and_disarmed(front, start_server):
    client = front.client(start_server().endpoint)
    client.put("k", "v")
    number = client.maintenance.status().header.member_id
    assert client.maintenance.alarms().alarms == ()
    assert client.maintenance.raise_alarm("nospace", number).alarms == (Alarm(number, NOSPACE),)
    assert client.maintenance.alarms().alarms == (Alarm(number, NOSPACE),)
    assert any("NOSPACE" in each for each in client.maintenance.status().errors)
    for write in (lambda: client.put("k", "2"), lambda: client.leases.grant(60)):
        error, took = timed(write)
        assert isinstance(error, errors.NoSpace)
        assert error.maybe_applied, "E13: the write that raises the alarm is applied, and looks the same"
        assert took < 2
    assert client.get("k").value == b"v"
    client.delete("k")
    assert client.maintenance.disarm(number, "nospace").alarms == (Alarm(number, NOSPACE),)
    assert client.maintenance.disarm(number, "nospace").alarms == ()
    client.put("k", "3")

    client.maintenance.raise_alarm(CORRUPT, number)
    client.maintenance.raise_alarm(NOSPACE, number)
    error, _ = timed(lambda: client.put("k", "4"))
    assert isinstance(error, (errors.Corrupt, errors.NoSpace))
    assert client.get("k").value == b"3"
    assert set(client.maintenance.disarm().alarms) == {Alarm(number, CORRUPT), Alarm(number, NOSPACE)}
    assert client.maintenance.disarm().alarms == ()
    client.put("k", "5")


@pytest.mark.slow
def test_a_full_database_is_made_usable_again(front, start_server):
    # F13: under load, and without a restart.
    server = start_server(args=["--quota-backend-bytes=8000000"])
    client = front.client(server.endpoint)
    other = front.client(server.endpoint)
    with other.watch("k") as watch:

        def fill():
            for number in range(100):
                client.put("k", b"%03d" % number + b"x" * 300_000)

        writer = Thread(fill)
        with pytest.raises(errors.NoSpace) as caught:
            writer.result()
        assert caught.value.maybe_applied
        stored = client.get("k")
        assert stored.kv is not None, "reads go on"
        (alarm,) = client.maintenance.alarms().alarms
        assert alarm.alarm is NOSPACE
        # The one that raised the alarm was applied: its event tells it apart.
        values = [event.value[:3] for event in take(watch, stored.kv.version)]
        assert values == [b"%03d" % number for number in range(len(values))]
        client.delete("k")
        assert take(watch, 1)[0].is_delete, "deletes go on"
        client.compact(client.get("k").header.revision, physical=True)
        client.maintenance.defragment(timeout=30)
        assert client.maintenance.disarm().alarms == (alarm,)
        client.put("k", "again")
        assert take(watch, 1)[0].value == b"again"


def test_leadership_is_moved(front, start_cluster):
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    leader = cluster.leader()
    ids = {each.name: each.id for each in client.members.list().members}
    target = next(each for each in cluster.members if each is not leader)
    error, _ = timed(lambda: client.maintenance.move_leader(ids[target.name], endpoint=target.endpoint))
    assert isinstance(error, errors.NotLeader)
    assert not error.maybe_applied
    with pytest.raises(errors.BadLeaderTransferee):
        client.maintenance.move_leader(12345, endpoint=leader.endpoint)
    client.maintenance.move_leader(ids[target.name], endpoint=leader.endpoint)
    deadline = time.monotonic() + 5
    while client.maintenance.status(endpoint=target.endpoint).leader != ids[target.name]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert client.maintenance.status(endpoint=target.endpoint).is_leader
    client.put("k", "v")


def validated(client, version):
    """A new cluster knows its version only after a moment."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.maintenance.downgrade("validate", version)
        except errors.RpcError as error:
            assert time.monotonic() < deadline, error
            time.sleep(0.1)


@pytest.mark.every_etcd
def test_a_downgrade_is_validated(front, server, client, etcd):
    major, minor, _ = release(etcd)
    below = f"{major}.{minor - 1}"
    if (major, minor) == (3, 4):
        with pytest.raises(errors.RpcError) as caught:
            client.maintenance.downgrade("validate", below)
        assert caught.value.code is errors.StatusCode.UNIMPLEMENTED
        return
    assert validated(client, below).version == (f"{major}.{minor}.0" if minor == 5 else f"{major}.{minor}")
    with pytest.raises(errors.InvalidDowngradeTargetVersion):
        client.maintenance.downgrade("validate", f"{major}.{minor - 2}")
    with pytest.raises(errors.InvalidDowngradeTargetVersion) as refused:
        client.maintenance.downgrade("enable", f"{major}.{minor}")
    assert not refused.value.maybe_applied


@pytest.mark.faults  # every 3.5 server leaves each success without an answer for 7 s
@pytest.mark.every_etcd
def test_a_downgrade_begins_and_is_cancelled(front, start_server, etcd):
    major, minor, _ = release(etcd)
    if (major, minor) == (3, 4):
        pytest.skip("etcd 3.4 has no downgrades")
    client = front.client(start_server().endpoint, timeout=20)
    below = f"{major}.{minor - 1}"
    shown = validated(client, below).version
    assert client.maintenance.downgrade("enable", below + ".0").version == shown
    with pytest.raises(errors.DowngradeInProcess):
        client.maintenance.downgrade("enable", below)
    if minor >= 6:
        status = client.maintenance.status()
        assert status.downgrade is not None
        assert status.downgrade.enabled
        assert status.downgrade.target_version.startswith(below)
    assert client.maintenance.downgrade("cancel").version == shown
    assert client.maintenance.downgrade("validate", below).version == shown
    if minor == 5:
        with pytest.raises(errors.NoInflightDowngrade):
            client.maintenance.downgrade("cancel")
    else:
        assert client.maintenance.downgrade("cancel").version == shown, "later releases do not tell"


def test_one_member_of_several_is_asked(front, start_cluster):
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    ids = {each.name: each.id for each in client.members.list().members}
    for member in cluster.members:
        for _ in range(2):
            assert client.maintenance.status(endpoint=member.endpoint).header.member_id == ids[member.name]
    victim = cluster.members[1]
    victim.kill()
    error, took = timed(lambda: client.maintenance.status(endpoint=victim.endpoint, timeout=0.5))
    assert error.endpoint in ("", victim.endpoint)
    assert took < 1
    assert client.maintenance.status(timeout=5).version
