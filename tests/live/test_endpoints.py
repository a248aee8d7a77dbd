# SPDX-License-Identifier: Apache-2.0
"""Endpoints that change while a client lives, and what is refused when it begins."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager

import pytest

import purecd
from purecd import errors
from purecd.testing import EtcdServer
from tests.live import etcds
from tests.live.etcds import QUICK
from tests.live.fronts import SLACK, Thread, take, timed
from tests.support.peers import Silent, refused_endpoint
from tests.support.proxy import FaultProxy


def set_endpoints(front, client, endpoints):
    """Assign the endpoints where the client lives."""
    if front.name == "threads":
        client.endpoints = endpoints
    else:
        front.get(setattr, client.wrapped, "endpoints", endpoints)


def entered(front, client):
    """The client, as a ``with`` statement has it."""
    return client.__enter__() if front.name == "threads" else front.run(client.wrapped.__aenter__())


def eventually(condition, timeout=8.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def nothing_comes(watch):
    """Read a watch for a moment; a blocking client does its work while somebody waits."""
    with pytest.raises(TimeoutError):
        watch.next(timeout=0.05)
    return True


@pytest.fixture
def cluster(start_cluster):
    return start_cluster(3, args=QUICK)


# Changed by hand.


def test_calls_and_watches_move(front, cluster, prefix):
    one, two = cluster.followers()
    with FaultProxy(one.endpoint) as old, FaultProxy(two.endpoint) as new:
        client = front.client(old.endpoint)
        with client.watch(prefix, prefix=True) as watch:
            client.put(prefix + "k", "1")
            assert take(watch, 1)[0].value == b"1"
            set_endpoints(front, client, [new.endpoint])
            assert tuple(client.endpoints) == (new.endpoint,)
            client.put(prefix + "k", "2")
            client.put(prefix + "k", "3")
            assert [event.value for event in take(watch, 2)] == [b"2", b"3"]
            eventually(lambda: nothing_comes(watch) and not old.open_connections)
            passed = old.transferred["tx"]
            one.kill()
            client.put(prefix + "k", "4")
            assert take(watch, 1)[0].value == b"4"
            assert old.transferred["tx"] == passed, "nothing goes to an endpoint that was removed"


def test_a_call_in_flight_ends_where_it_is(front, server, start_server, prefix):
    with FaultProxy(server.endpoint) as slow, FaultProxy(server.endpoint) as quick:
        client = front.client(slow.endpoint)
        client.get(prefix)
        slow.delay(0.3)
        put = Thread(client.put, prefix + "k", "v")
        time.sleep(0.1)
        set_endpoints(front, client, [quick.endpoint])
        started = time.monotonic()
        assert client.get(prefix + "other").header.revision
        assert time.monotonic() - started < 0.3, "new calls take the new endpoint"
        assert put.result(5).header.revision
        eventually(lambda: not slow.open_connections)


def test_a_call_that_waits_takes_the_new_endpoint(front, server):
    client = front.client(refused_endpoint())
    waiting = Thread(client.get, "k")
    time.sleep(0.1)
    set_endpoints(front, client, [server.endpoint])
    assert waiting.result(2).header.revision


def test_an_endpoint_that_stays_keeps_its_connection(front, cluster):
    one, two, _ = cluster.endpoints
    client = front.client(one)
    client.get("k")
    with FaultProxy(two) as proxy:
        set_endpoints(front, client, [proxy.endpoint, one])
        for _ in range(5):
            client.get("k")
        assert not proxy.transferred["tx"]


def test_a_member_of_another_cluster_is_refused(front, server, start_server, prefix):
    other = start_server(args=["--initial-cluster-token=other"])
    client = front.client(server.endpoint)
    client.get(prefix)
    set_endpoints(front, client, [other.endpoint])
    error, took = timed(lambda: client.put(prefix + "k", "v", timeout=1))
    print(f"{took:.2f} s: {error}")
    assert "cluster" in str(error)
    assert not error.maybe_applied
    assert took < 1 + SLACK
    assert front.client(other.endpoint).get(prefix + "k").kv is None
    set_endpoints(front, client, [server.endpoint])
    assert client.put(prefix + "k", "v").header.revision


def test_a_token_goes_to_no_removed_endpoint(front, start_server):
    server = start_server()
    admin = front.client(server.endpoint)
    admin.users.add("root", "pass")
    admin.users.grant_role("root", "root")
    admin.auth.enable()
    with FaultProxy(server.endpoint) as old:
        client = front.client(old.endpoint, user="root", password="pass")
        with client.watch("k") as watch:
            client.put("k", "v")
            assert watch.next(5).value == b"v"
            set_endpoints(front, client, [server.endpoint])
            client.put("k", "w")
            assert watch.next(5).value == b"w"
            eventually(lambda: nothing_comes(watch) and not old.open_connections)
        passed = old.transferred["tx"]
        client.put("k", "x")
        assert old.transferred["tx"] == passed


# Synchronised.


def test_endpoints_from_the_member_list(front, cluster):
    client = front.client(cluster.endpoints[0])
    assert sorted(client.sync_endpoints()) == sorted(cluster.endpoints)
    assert sorted(client.endpoints) == sorted(cluster.endpoints)
    cluster.followers()[0].kill()
    assert client.put("k", "v", timeout=10, idempotent=True).header.revision


def test_endpoints_are_followed(front, cluster):
    client = front.client(cluster.endpoints[0], auto_sync_interval=0.1)
    client.get("k")
    eventually(lambda: sorted(client.endpoints) == sorted(cluster.endpoints))
    client.close()


def test_following_goes_on_when_nobody_answers(front, start_server, caplog):
    server = start_server()
    proxied = refused_endpoint()
    with caplog.at_level(logging.WARNING, "purecd"):
        client = front.client([proxied], auto_sync_interval=0.1)
        with pytest.raises(errors.DeadlineExceeded):
            client.get("k", timeout=0.1)
        eventually(lambda: "endpoints not synchronised" in caplog.text)
        set_endpoints(front, client, [proxied, server.endpoint])
        eventually(lambda: tuple(client.endpoints) == (server.endpoint,))
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 1


def test_a_client_that_follows_is_closed_while_it_asks(front):
    with Silent() as peer:
        client = front.client(peer.endpoint, auto_sync_interval=0.05)
        with pytest.raises(errors.DeadlineExceeded):
            client.get("k", timeout=0.3)
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 1


def test_a_member_list_never_talks_a_client_out_of_tls(front, start_server, tmp_path):
    from tests.support.certificates import Authority

    authority = Authority(tmp_path)
    plain = "http://127.0.0.1:1"
    server = start_server(tls=authority.server(), args=[f"--advertise-client-urls={plain}"])
    client = front.client(server.endpoint, tls=purecd.Tls(authority.ca_file))
    with pytest.raises(LookupError):
        client.sync_endpoints()
    assert tuple(client.endpoints) == (server.endpoint,)
    # With a secure one beside it, that one is taken alone.
    mixed = start_server(tls=authority.server())
    mixed.stop()
    mixed.args = [f"--advertise-client-urls={plain},{mixed.endpoint}"]
    mixed.start()
    client = front.client(mixed.endpoint, tls=purecd.Tls(authority.ca_file))
    assert tuple(client.sync_endpoints()) == (mixed.endpoint,)


# Learners.


@contextmanager
def learner_of(server, client):
    """A learner that joined the cluster of one."""
    with_name = EtcdServer("learner", binary=server.binary)
    try:
        with_name.initial_cluster = {**server.initial_cluster, **with_name.initial_cluster}
        with_name.initial_cluster_state = "existing"
        client.members.add([with_name.peer_url], is_learner=True)
        with_name.start(wait=False)
        eventually(lambda: any(m.is_learner and m.name for m in client.members.list().members))
        yield with_name
    finally:
        with_name.close()


@pytest.mark.every_etcd
def test_a_learner_among_the_endpoints(front, start_server, prefix):
    server = start_server()
    admin = front.client(server.endpoint)
    with learner_of(server, admin) as learner:
        for endpoints in ([learner.endpoint, server.endpoint], [server.endpoint, learner.endpoint]):
            client = front.client(endpoints)
            for index in range(5):
                client.put(f"{prefix}{index}", "v", timeout=5)
                assert client.get(f"{prefix}{index}", timeout=5).value == b"v"
            with client.watch(prefix, prefix=True) as watch:
                client.put(prefix + "k", "v")
                assert watch.next(5).value == b"v"
        assert tuple(admin.sync_endpoints()) == (server.endpoint,), "it does not serve everything"
        alone = front.client(learner.endpoint)
        error, took = timed(lambda: alone.put(prefix, "v", timeout=5))
        assert type(error) is errors.NotSupportedForLearner
        assert took < 1 + SLACK
        assert not error.maybe_applied


# Versions.


def test_a_cluster_that_is_too_old(front, server):
    with pytest.raises(errors.OldCluster, match="older than 99.0"):
        client = front.client(server.endpoint, min_server_version="99.0")
        entered(front, client)
    assert front.client(server.endpoint).check_versions("3.4")
    with pytest.raises(errors.OldCluster) as caught:
        front.client(server.endpoint).check_versions("99.0")
    assert caught.value.endpoint == server.endpoint


def test_one_old_member_among_new_ones_is_found(front):
    # R-B8, TestRejectOldCluster. etcd's own client asks all of its endpoints, too.
    versions = {etcds.number_of(each)[:2]: each for each in etcds.present()}
    if (3, 4) not in versions or (3, 5) not in versions:
        pytest.skip("needs etcd 3.4 and 3.5 (make etcds fetches them)")
    with EtcdServer(binary=versions[3, 4].path) as old, EtcdServer(binary=versions[3, 5].path) as new:
        for endpoints in ([old.endpoint], [new.endpoint, old.endpoint], [old.endpoint, new.endpoint]):
            for minimum in ("3.5", "3.4.99"):
                with pytest.raises(errors.OldCluster, match=r"runs etcd 3\.4\.") as caught:
                    entered(front, front.client(endpoints, min_server_version=minimum))
                assert caught.value.endpoint == old.endpoint
            entered(front, front.client(endpoints, min_server_version="3.4"))
        entered(front, front.client(new.endpoint, min_server_version=versions[3, 5].version))
        with pytest.raises(errors.OldCluster):
            entered(front, front.client(new.endpoint, min_server_version="3.5.999"))


def test_a_cluster_that_is_new_enough(front, server):
    client = front.client(server.endpoint, min_server_version="3.3")
    entered(front, client)
    assert client.get("k").header.revision


def test_a_member_that_does_not_say_its_version(front, server):
    started = time.monotonic()
    with pytest.raises(errors.EtcdError):
        client = front.client(
            [server.endpoint, refused_endpoint()], min_server_version="3.3", dial_timeout=0.3
        )
        entered(front, client)
    assert time.monotonic() - started < 0.6 + SLACK


@pytest.mark.parametrize("text", ["three", "", "3", "3.x"])
def test_what_is_no_version(front, server, text):
    with pytest.raises(ValueError, match="version"):
        front.client(server.endpoint, min_server_version=text)
