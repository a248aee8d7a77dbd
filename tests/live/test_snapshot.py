# SPDX-License-Identifier: Apache-2.0
"""Snapshots of real members: whole files or none, in constant memory."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import purecd
from purecd import errors
from tests.live.fronts import timed
from tests.support.proxy import FaultProxy

ROOT = Path(__file__).resolve().parents[2]
PAGE_MAGIC = 0xED0CDAED  # of a bolt database, in its two meta pages


def fill(endpoint, count, size=500_000):
    with purecd.Client(endpoint) as client:
        for number in range(count):
            client.put(f"fill/{number}", os.urandom(1) * size)


def check_file(path, info):
    """The file is a bolt database with its checksum behind it."""
    data = path.read_bytes()
    assert len(data) == info.size
    assert len(data) % 512 == 32
    assert hashlib.sha256(data[:-32]).digest() == data[-32:] == info.sha256
    assert int.from_bytes(data[16:20], "little") == PAGE_MAGIC
    return data


@pytest.mark.every_etcd
def test_a_snapshot_is_saved(front, start_server, etcd, tmp_path):
    server = start_server()
    client = front.client(server.endpoint)
    fill(server.endpoint, 4)
    client.put("wanted", "a value to be found in the file")
    told = []
    path = tmp_path / "copy.db"
    info = client.maintenance.snapshot(path, progress=lambda *sizes: told.append(sizes))
    data = check_file(path, info)
    assert b"a value to be found in the file" in data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["copy.db"]
    received, totals = zip(*told)
    assert list(received) == sorted(set(received))
    assert set(totals) == {info.size}
    assert received[-1] == info.size
    assert len(told) >= 2_000_000 // 32_768
    assert info.version == ("{}.{}.0".format(*etcd.version.split(".")) if etcd.version >= "3.6" else "")

    # The target is replaced as a whole.
    client.put("later", "another value")
    again = client.maintenance.snapshot(str(path), endpoint=server.endpoint)
    assert b"another value" in check_file(path, again)
    assert os.listdir(tmp_path) == ["copy.db"]


def test_the_pieces_are_the_file(front, start_server, tmp_path):
    server = start_server()
    client = front.client(server.endpoint)
    fill(server.endpoint, 2)
    data = b"".join(client.maintenance.snapshot_chunks())
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    info = client.maintenance.snapshot(tmp_path / "copy.db")
    assert len(data) == info.size


def test_reading_may_stop_early(front, start_server):
    server = start_server()
    client = front.client(server.endpoint)
    fill(server.endpoint, 10)
    client.get("fill/1")
    for _ in range(3):
        pieces = client.maintenance.snapshot_chunks()
        assert len(next(pieces)) == 32_768
        pieces.close()
    labels = {"grpc_method": "Snapshot"}
    deadline = time.monotonic() + 5
    while server.metric("grpc_server_handled_total", **labels) < 3:
        assert time.monotonic() < deadline, "the server still sends"
        time.sleep(0.02)
    assert server.metric("grpc_server_handled_total", grpc_code="OK", **labels) == 0
    assert client.get("fill/1").kv is not None


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_connection_that_breaks_midway_leaves_nothing(front, start_server, tmp_path, ending):
    server = start_server()
    fill(server.endpoint, 8)
    path = tmp_path / "copy.db"
    path.write_bytes(b"the one before")
    with FaultProxy(server.endpoint) as proxy:
        proxy.cut_after(2_000_000, "rx", ending)
        client = front.client(proxy.endpoint)
        told = []
        error, _ = timed(
            lambda: client.maintenance.snapshot(path, progress=lambda *sizes: told.append(sizes))
        )
        assert isinstance(error, errors.Unavailable)
        assert not error.maybe_applied
        assert 1_000_000 < told[-1][0] < 2_000_000 < told[-1][1]
        assert path.read_bytes() == b"the one before"
        assert os.listdir(tmp_path) == ["copy.db"]
        with pytest.raises(errors.Unavailable):
            list(client.maintenance.snapshot_chunks())
        proxy.heal()
        check_file(path, client.maintenance.snapshot(path))


def test_silence_midway_ends_with_the_timeout(front, start_server, tmp_path):
    server = start_server()
    fill(server.endpoint, 8)
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(proxy.endpoint)

        def stop_at_1_mb(received, total):
            if received > 1_000_000:
                proxy.blackhole()

        path = tmp_path / "copy.db"
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            client.maintenance.snapshot(path, progress=stop_at_1_mb, timeout=0.5)
        assert time.monotonic() - started < 5
        assert os.listdir(tmp_path) == []


def test_a_killed_server_leaves_nothing(front, start_server, tmp_path):
    server = start_server()
    fill(server.endpoint, 8)
    client = front.client(server.endpoint)
    with pytest.raises(errors.Unavailable):
        client.maintenance.snapshot(
            tmp_path / "copy.db", progress=lambda *_: server.kill() if server.running else None
        )
    assert os.listdir(tmp_path) == []


def test_closing_the_client_ends_a_snapshot(front, start_server, tmp_path):
    server = start_server()
    fill(server.endpoint, 8)
    client = front.client(server.endpoint)
    pieces = client.maintenance.snapshot_chunks()
    next(pieces)
    client.close()
    with pytest.raises(errors.ClientClosed):
        list(pieces)


def test_a_callback_that_fails_leaves_nothing(front, start_server, tmp_path):
    server = start_server()
    fill(server.endpoint, 2)
    client = front.client(server.endpoint)

    def fail(received, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.maintenance.snapshot(tmp_path / "copy.db", progress=fail)
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        client.maintenance.snapshot(tmp_path / "missing" / "copy.db")
    assert client.get("fill/0").kv is not None


@pytest.mark.every_etcd
def test_only_root_may(front, start_server, tmp_path):
    server = start_server()
    with purecd.Client(server.endpoint) as admin:
        for name in ("root", "ann"):
            admin.users.add(name, f"{name}-pw")
        admin.users.grant_role("root", "root")
        admin.auth.enable()
    ann = front.client(server.endpoint, user="ann", password="ann-pw")
    with pytest.raises(errors.PermissionDenied):
        ann.maintenance.snapshot(tmp_path / "copy.db")
    assert os.listdir(tmp_path) == []
    root = front.client(server.endpoint, user="root", password="root-pw")
    path = tmp_path / "copy.db"
    check_file(path, root.maintenance.snapshot(path))


MEASURED = {
    "threads": """
import resource, sys, time
import purecd

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

with purecd.Client(sys.argv[1]) as client:
    client.get("k")
    next(client.maintenance.snapshot_chunks())
    before = peak()
    info = client.maintenance.snapshot(sys.argv[2])
    pieces = client.maintenance.snapshot_chunks()
    for number, piece in enumerate(pieces):
        if number == 10:
            time.sleep(1)  # a reader that is slower than the server
        if number == 1000:
            break
    pieces.close()
    print(info.size, peak() - before)
""",
    "aio": """
import asyncio, resource, sys
import purecd

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    async with purecd.AsyncClient(sys.argv[1]) as client:
        await client.get("k")
        pieces = client.maintenance.snapshot_chunks()
        await pieces.__anext__()
        await pieces.aclose()
        before = peak()
        info = await client.maintenance.snapshot(sys.argv[2])
        pieces = client.maintenance.snapshot_chunks()
        number = 0
        async for piece in pieces:
            number += 1
            if number == 10:
                await asyncio.sleep(1)  # a reader that is slower than the server
            if number == 1000:
                break
        await pieces.aclose()
        print(info.size, peak() - before)

asyncio.run(main())
""",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_stays_constant(front, start_server, tmp_path):
    server = start_server()
    fill(server.endpoint, 150, 1_400_000)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED[front.name], server.endpoint, str(tmp_path / "copy.db")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=50,
        check=True,
    )
    size, grown = map(int, done.stdout.split())
    print(f"{size >> 20} MiB, the process grew by {grown} MiB")
    assert size > 200_000_000
    assert grown < 24
