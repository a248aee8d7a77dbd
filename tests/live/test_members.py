# SPDX-License-Identifier: Apache-2.0
"""The member list and its changes, with real members that come and go."""

from __future__ import annotations

import time

import pytest

from purecd import errors
from purecd.testing import EtcdServer
from tests.live.etcds import QUICK
from tests.live.fronts import timed


def release(etcd):
    return tuple(map(int, etcd.version.split(".")))


@pytest.fixture
def newcomer(etcd):
    """``newcomer()``: a member that is not started yet, and belongs to no cluster so far."""
    made = []

    def make(name="newcomer", args=QUICK):
        server = EtcdServer(name, binary=etcd.path, args=args)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


def join(server, cluster):
    """Start a member that the cluster was told of."""
    server.initial_cluster = {
        **{each.name: each.peer_url for each in cluster.members},
        server.name: server.peer_url,
    }
    server.initial_cluster_state = "existing"
    server.start()


def when_healthy(change):
    """What a change comes to once the members have been connected for 5 s, as etcd demands."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return change()
        except errors.Unhealthy as error:
            assert not error.maybe_applied
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_list(front, start_cluster):
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    for reply in (client.members.list(), client.members.list(serializable=True)):
        assert [each.id for each in reply.members] == sorted(each.id for each in reply.members)
        by_name = {each.name: each for each in reply.members}
        assert set(by_name) == {"member0", "member1", "member2"}
        for server in cluster.members:
            member = by_name[server.name]
            assert member.client_urls == (server.endpoint,)
            assert member.peer_urls == (server.peer_url,)
            assert member.is_started
            assert not member.is_learner
        assert reply.header.cluster_id
    assert sorted(client.sync_endpoints()) == sorted(cluster.endpoints)


@pytest.mark.slow
def test_without_a_quorum_only_the_local_list_is_to_be_had(front, start_cluster, etcd):
    cluster = start_cluster(3, args=QUICK)
    survivor = cluster.members[0]
    for other in cluster.members[1:]:
        other.kill()
    client = front.client(survivor.endpoint)
    assert len(client.members.list(serializable=True, timeout=3).members) == 3
    if release(etcd) >= (3, 5, 0):
        error, took = timed(lambda: client.members.list(timeout=1))
        assert isinstance(error, (errors.DeadlineExceeded, errors.NoLeader, errors.Timeout))
        assert not error.maybe_applied
        assert took < 1.5
    error, took = timed(lambda: client.members.remove(1, timeout=1))
    assert took < 1.5


@pytest.mark.every_etcd
def test_a_learner_joins_is_promoted_and_leaves(front, start_cluster, newcomer):
    cluster = start_cluster(1, args=QUICK)
    client = front.client(cluster.endpoints)
    client.put("k", "v")
    server = newcomer()
    added = client.members.add([server.peer_url], is_learner=True)
    assert added.member.is_learner
    assert not added.member.is_started
    assert added.member.peer_urls == (server.peer_url,)
    assert len(added.members) == 2
    number = added.member.id
    with pytest.raises((errors.PeerURLExist, errors.MemberExist)):  # the latter within the same second
        client.members.add([server.peer_url])
    with pytest.raises(errors.TooManyLearners):
        client.members.add(["http://127.0.0.1:1"], is_learner=True)
    with pytest.raises(errors.LearnerNotReady):
        client.members.promote(number)  # it does not even run
    join(server, cluster)

    # A learner answers few questions, and a client goes elsewhere for the others.
    learner = front.client(server.endpoint)
    assert learner.maintenance.status(timeout=5).is_learner
    with pytest.raises(errors.NotSupportedForLearner):
        learner.get("k", timeout=2)
    both = front.client([server.endpoint, *cluster.endpoints])
    assert both.get("k", timeout=5).value == b"v"
    assert both.sync_endpoints() == tuple(cluster.endpoints), "without the learner"

    deadline = time.monotonic() + 15
    while True:
        try:
            promoted = client.members.promote(number)
            break
        except errors.LearnerNotReady:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not next(each for each in promoted.members if each.id == number).is_learner
    with pytest.raises(errors.MemberNotLearner):
        client.members.promote(number)
    assert learner.get("k", timeout=5).value == b"v"
    assert sorted(both.sync_endpoints()) == sorted([*cluster.endpoints, server.endpoint])

    left = when_healthy(lambda: client.members.remove(number))
    assert [each.id for each in left.members] == [each.id for each in added.members if each.id != number]
    for call in (
        lambda: client.members.remove(number),
        lambda: client.members.promote(number),
        lambda: client.members.update(number, ["http://127.0.0.1:1"]),
    ):
        with pytest.raises(errors.MemberNotFound) as caught:
            when_healthy(call)
        assert not caught.value.maybe_applied
    assert client.get("k").value == b"v", "those that stay serve on"


def test_a_voter_joins(front, start_cluster, newcomer):
    cluster = start_cluster(1, args=QUICK)
    client = front.client(cluster.endpoints)
    server = newcomer()
    added = client.members.add([server.peer_url])
    assert not added.member.is_learner
    assert [each.is_started for each in client.members.list(serializable=True).members].count(False) == 1
    # One of two runs, which is no quorum.
    error, _ = timed(lambda: client.put("k", "v", timeout=1))
    assert isinstance(error, (errors.DeadlineExceeded, errors.NoLeader, errors.Timeout))
    join(server, cluster)
    client.put("k", "v", timeout=15)
    assert front.client(server.endpoint).get("k").value == b"v"


def test_peer_urls_are_changed(front, start_server):
    server = start_server()
    client = front.client(server.endpoint)
    (member,) = client.members.list().members
    added = client.members.add(["http://127.0.0.1:1", "http://127.0.0.1:2"], is_learner=True).member
    assert added.peer_urls == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    updated = client.members.update(member.id, [server.peer_url, "http://localhost:3"])
    found = next(each for each in updated.members if each.id == member.id)
    assert sorted(found.peer_urls) == sorted([server.peer_url, "http://localhost:3"])
    with pytest.raises(errors.PeerURLExist):
        client.members.update(member.id, ["http://127.0.0.1:1"])
    client.members.remove(added.id)
    with pytest.raises(errors.MemberNotFound):
        client.members.remove(added.id)


@pytest.mark.parametrize(
    "urls",
    [
        [],
        [""],
        ["127.0.0.1:2380"],
        ["http://127.0.0.1"],
        ["http://h:1/path"],
        ["ftp://h:1"],
        ["http://h:port"],
    ],
)
def test_bad_urls_are_refused_before_anything_is_sent(client, urls):
    before = client.members.list().members
    for call in (lambda: client.members.add(urls), lambda: client.members.update(before[0].id, urls)):
        with pytest.raises(ValueError, match=r"URL|peer_urls"):
            call()
    with pytest.raises(TypeError):
        client.members.add("http://127.0.0.1:2380")
    assert client.members.list().members == before


@pytest.mark.slow
def test_the_serving_member_is_removed(front, start_cluster):
    cluster = start_cluster(3, args=QUICK)
    client = front.client(cluster.endpoints)
    put = client.put("k", "v")
    # The watch may be with a member that lags behind.
    start = put.header.revision + 1
    with client.watch("k", start_revision=start) as watch, client.lease(5) as lease:
        number = client.get("k").header.member_id
        when_healthy(lambda: client.members.remove(number))
        client.put("k", "after", timeout=15, idempotent=True)
        assert watch.next(timeout=10).value == b"after"
        time.sleep(5)
        lease.check()
        assert client.get("k").header.member_id != number
