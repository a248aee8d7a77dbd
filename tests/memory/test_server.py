# SPDX-License-Identifier: Apache-2.0
"""The etcd in memory as its user meets it: over sockets, with both clients."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import purecd
from purecd import errors
from purecd.memory import MemberOptions, MemoryEtcd

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0


@pytest.fixture
def server():
    with MemoryEtcd(drain_timeout=0.2) as server:
        yield server


@pytest.fixture
def client(server):
    with purecd.Client(server.endpoint, timeout=PATIENCE) as client:
        yield client


def test_both_clients_at_once(server, client):
    async def meet() -> bytes | None:
        async with purecd.AsyncClient(server.endpoint) as other:
            await other.put("from", "asyncio")
            return (await other.get("to")).value

    with client.watch("from") as events:
        client.put("to", "asyncio")
        assert asyncio.run(meet()) == b"asyncio"
        assert events.next(timeout=PATIENCE).value == b"asyncio"


def test_what_it_says_of_itself(server, client):
    assert server.endpoint == f"http://127.0.0.1:{server.client_port}"
    assert server.endpoints == [server.endpoint]
    assert server.version == (3, 5, 30)
    status = client.maintenance.status()
    assert status.version == "3.5.30"
    (member,) = client.members.list().members
    assert (member.name, member.client_urls) == ("default", (server.endpoint,))
    assert member.id == status.leader == status.header.member_id
    assert repr(server) == f"<etcd in memory default at {server.endpoint}>"


def test_two_servers_are_two_clusters_and_a_seed_makes_them_alike():
    def ids(seed):
        with MemoryEtcd(seed=seed) as server, purecd.Client(server.endpoint) as client:
            header = client.get("k").header
            return header.cluster_id, header.member_id

    assert ids(None) != ids(None)
    assert ids(7) == ids(7)


def test_it_starts_and_ends_in_no_time():
    with MemoryEtcd():  # whatever is loaded at the first use
        pass
    began = time.perf_counter()
    for _ in range(20):
        with MemoryEtcd():
            pass
    assert time.perf_counter() - began < 5.0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_data_and_address_outlive_the_end(server, client, end):
    client.put("k", "v")
    term = client.get("k").header.raft_term
    endpoint = server.endpoint
    getattr(server, end)()
    assert not server.running
    with pytest.raises(errors.EtcdError):
        client.get("k", timeout=0.3)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.client_port))
        other.listen()
    server.start()
    assert server.endpoint == endpoint
    got = client.get("k")
    assert got.value == b"v"
    assert got.header.raft_term > term


def test_a_watch_and_a_lease_live_through_a_restart(server, client):
    with client.lease(60) as lease, client.watch("k") as events:
        client.put("k", "1", lease=lease)
        server.restart()
        client.put("k", "2", lease=lease)
        assert [events.next(timeout=PATIENCE).value for _ in range(2)] == [b"1", b"2"]
        assert lease.time_to_live(keys=True).keys == (b"k",)


def test_simple_tokens_do_not_live_through_a_restart(server, client):
    client.roles.add("root")
    client.users.add("root", "secret")
    client.users.grant_role("root", "root")
    client.auth.enable()
    with purecd.Client(server.endpoint, user="root", password="secret") as root:
        root.put("k", "1")
        server.restart()
        root.put("k", "2")
        assert root.get("k").value == b"2"
    assert server.log_tail(100).count("Authenticate") >= 2
    assert "secret" not in server.log_tail(100)


def test_a_wiped_server_knows_nothing(server, client):
    client.put("k", "v")
    with pytest.raises(RuntimeError, match="is running"):
        server.wipe()
    server.stop()
    server.wipe()
    server.start()
    with purecd.Client(server.endpoint) as other:
        assert other.get("k").kv is None
        assert other.get("k").header.revision == 1


def test_a_paused_server_answers_later(server, client):
    client.put("k", "v")
    server.pause()
    assert server.running
    with pytest.raises(errors.DeadlineExceeded):
        client.get("k", timeout=0.2)
    server.resume()
    assert client.get("k").value == b"v"
    server.pause()
    server.kill()
    assert not server.running


def test_a_paused_server_can_be_stopped(server, client):
    client.put("k", "v")
    server.pause()
    server.stop()
    assert not server.running
    with pytest.raises(RuntimeError, match="is not running"):
        server.pause()


def test_stopping_waits_for_watches_as_long_as_it_was_told(client, server):
    with client.watch("k"):
        server.drain_timeout = 1.0
        server.kill()
        server.start()
        client.get("k")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10.0
        assert not server.running
        server.start()


def test_stopping_gives_up_in_time():
    with MemoryEtcd(drain_timeout=60.0) as server, socket.socket() as nobody:
        nobody.connect(("127.0.0.1", server.client_port))
        deadline = time.monotonic() + PATIENCE
        while "start" not in server.log_tail(5) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(TimeoutError, match=r"after it was told to stop"):
            server.stop(timeout=0.2)
        assert not server.running


def test_starting_and_ending_twice(server):
    with pytest.raises(RuntimeError, match="is running"):
        server.start()
    server.stop()
    server.stop()
    server.kill()
    server.terminate()
    server.resume()
    server.close()
    server.close()
    with pytest.raises(RuntimeError, match="is closed"):
        server.start()


def test_it_leaves_no_thread_and_no_socket():
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not tell which files are open")
    with MemoryEtcd():
        pass
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    for _ in range(3):
        with MemoryEtcd() as server, purecd.Client(server.endpoint) as client:
            client.get("k")
            server.restart()
    assert threading.active_count() == threads
    assert set(os.listdir("/proc/self/fd")) == before


def test_leases_expire_by_themselves(server, client):
    granted = client.leases.grant(2)
    client.put("k", "v", lease=granted.id)
    with client.watch("k") as events:
        event = events.next(timeout=PATIENCE)
        assert event.type is purecd.EventType.DELETE


def test_a_unix_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a path of a socket is short
    with MemoryEtcd(unix_path="e.sock", drain_timeout=0.1) as server:
        assert server.endpoint == f"unix://{os.path.abspath('e.sock')}"
        with purecd.Client("unix:e.sock") as client:
            client.put("k", "v")
            server.restart()
            assert client.get("k").value == b"v"
            server.kill()
            with pytest.raises(errors.EtcdError):
                client.get("k", timeout=0.2)
    assert not os.path.exists("e.sock")


def test_it_removes_no_file_that_is_no_socket(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(FileExistsError, match="is no socket"):
        MemoryEtcd(unix_path=tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "data"


def test_another_version_with_other_options():
    options = MemberOptions(version="3.4.23", max_txn_ops=1)
    with MemoryEtcd(options=options) as server, purecd.Client(server.endpoint) as client:
        assert server.version == (3, 4, 23)
        assert client.maintenance.status().version == "3.4.23"
        with pytest.raises(errors.TooManyOps):
            client.txn(success=[purecd.Put("a", "1"), purecd.Put("b", "1")])


def test_too_large_requests_are_refused_as_etcd_does(server, client):
    client.put("k", b"v" * 1_572_800)
    with pytest.raises(errors.RequestTooLarge):
        client.put("k", b"v" * 1_572_864)
    assert len(client.get("k").value) == 1_572_800


def test_an_error_of_its_own_ends_it_and_is_told(server, client, monkeypatch):
    client.put("k", "v")

    def broken(now: float) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(server.member.watchers, "handle_timer", broken)
    monkeypatch.setattr(server.member, "next_timer", lambda: 0.0)
    with pytest.raises(errors.EtcdError):
        while True:
            client.get("k", timeout=0.5)
    with pytest.raises(RuntimeError, match="came to grief") as caught:
        server.stop()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_forked_child_leaves_it_alone(server, client):
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    client.put("k", "v")
    child = os.fork()
    if not child:
        server.close()
        os._exit(0 if not server.running else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.get("k").value == b"v"


def test_importing_it_loads_nothing_until_it_is_used():
    script = (
        "import sys, purecd, purecd.memory; assert not {'h2', 'socket', 'google.protobuf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Etcd'"):
        _ = purecd.memory.Etcd
