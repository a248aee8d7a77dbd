# SPDX-License-Identifier: Apache-2.0
"""Ranges of any size, all of one revision, streamed where the server can."""

from __future__ import annotations

import threading
import time

import pytest

import purecd
from purecd import errors
from tests.live.fronts import Thread


def streams(etcd):
    """Whether this release has RangeStream."""
    return tuple(map(int, etcd.version.split("."))) >= (3, 7, 0)


def fill(endpoint, count, prefix="s/", value="old"):
    """So many keys, each with the value; the revision then."""
    with purecd.Client(endpoint) as client:
        for first in range(0, count, 100):
            names = [f"{prefix}{number:06}" for number in range(first, min(first + 100, count))]
            reply = client.txn(success=[purecd.Put(name, value) for name in names])
    return reply.header.revision


def calls(server, name):
    return server.metric("grpc_server_started_total", grpc_method=name)


@pytest.mark.every_etcd
def test_pages_and_streams(front, start_server, etcd):
    server = start_server()
    fill(server.endpoint, 2500)
    client = front.client(server.endpoint)
    client.get("s/000000")
    before = calls(server, "Range")
    seen = [kv.key for kv in client.scan("s/", prefix=True)]
    assert seen == [b"s/%06d" % number for number in range(2500)]
    pages = calls(server, "Range") - before
    if streams(etcd):
        assert (calls(server, "RangeStream"), pages) == (1, 1)
    else:
        assert pages == 3
    assert len(list(client.scan("s/", prefix=True, page=2500))) == 2500
    assert len(list(client.scan("s/", prefix=True, page=10**6))) == 2500


def test_what_to_go_through(front, start_server, prefix):
    client = front.client(start_server().endpoint)  # it also goes through all there is
    first = client.put(prefix + "a", "1").header.revision
    for name in ("b", "c", "d"):
        client.put(prefix + name, "1")
    client.put(prefix + "a", "2")

    def names(*args, **options):
        return b"".join(kv.key[len(prefix) :] for kv in client.scan(*args, page=2, **options))

    assert names(prefix, prefix=True) == b"abcd"
    assert names(prefix + "b", prefix + "d") == b"bc"
    assert names(prefix + "c") == b"c"
    assert names(prefix + "c", prefix + "z") == b"cd"
    assert names(prefix + "none", prefix=True) == b""
    assert names(prefix, prefix=True, revision=first) == b"a"
    assert [kv.value for kv in client.scan(prefix, prefix=True, revision=first)] == [b"1"]
    assert [kv.value for kv in client.scan(prefix, prefix=True, page=1)] == [b"2", b"1", b"1", b"1"]
    assert {kv.value for kv in client.scan(prefix, prefix=True, keys_only=True, page=1)} == {b""}
    assert names(prefix, prefix=True, serializable=True) == b"abcd"
    everything = [kv.key for kv in client.scan(page=3)]
    assert everything == sorted(everything)
    assert (prefix + "a").encode() in everything
    from_here = [kv.key for kv in client.scan(prefix + "c", from_key=True, page=1)]
    assert from_here == [key for key in everything if key >= (prefix + "c").encode()]
    with pytest.raises(ValueError, match="page"):
        list(client.scan(prefix, prefix=True, page=0))
    with pytest.raises(errors.FutureRev):
        list(client.scan(prefix, prefix=True, revision=2**40))


@pytest.mark.every_etcd
def test_keys_of_one_revision_while_others_write(front, start_server, etcd):
    scan_while_others_write(front, start_server(), 10_000)


@pytest.mark.slow
def test_100000_keys_of_one_revision_while_others_write(front, start_server, etcd):
    scan_while_others_write(front, start_server(), 100_000)


def scan_while_others_write(front, server, count):
    fill(server.endpoint, count)
    client = front.client(server.endpoint)
    over = threading.Event()
    written = []

    def write():
        with purecd.Client(server.endpoint) as writer:
            while not over.is_set():
                number = len(written) * 7919 % count
                writer.put(f"s/{number:06}", "new")
                writer.put(f"s/{number:06}a", "added")
                writer.delete(f"s/{(number + 1) % count:06}")
                written.append(number)

    started = time.monotonic()
    revision = client.get("s/", prefix=True, count_only=True).header.revision
    writer = Thread(write)
    try:
        while not written:
            time.sleep(0.01)
        seen = list(client.scan("s/", prefix=True, revision=revision, timeout=30))
        current = list(client.scan("s/", prefix=True, timeout=30))
    finally:
        over.set()
        writer.result()
    print(f"two scans in {time.monotonic() - started:.1f} s, {len(written)} changes meanwhile")
    assert [kv.key for kv in seen] == [b"s/%06d" % number for number in range(count)]
    assert {kv.value for kv in seen} == {b"old"}
    keys = [kv.key for kv in current]
    assert keys == sorted(set(keys))
    # The second one is of one revision, too: what a plain read says of the last change it saw.
    last = max(kv.mod_revision for kv in current)
    expected = client.get("s/", prefix=True, revision=last, count_only=True, timeout=30)
    assert abs(expected.count - len(keys)) <= 1, "the change after it may have deleted or not"


@pytest.mark.every_etcd
def test_a_revision_compacted_meanwhile_is_an_error_and_never_a_short_result(front, start_server):
    server = start_server()
    revision = fill(server.endpoint, 3000)
    client = front.client(server.endpoint)
    client.put("other", "")
    client.put("other", "")
    scan = client.scan("s/", prefix=True, page=10, revision=revision)
    seen = [next(scan).key for _ in range(15)]
    client.compact(revision + 1, physical=True)
    try:
        seen.extend(kv.key for kv in scan)
    except errors.Compacted:
        assert len(seen) < 3000
    else:
        assert seen == [b"s/%06d" % number for number in range(3000)]
    with pytest.raises(errors.Compacted):
        list(client.scan("s/", prefix=True, revision=revision))


@pytest.mark.every_etcd
def test_stopping_early_releases_the_stream(front, start_server, etcd):
    server = start_server()
    fill(server.endpoint, 20_000)
    client = front.client(server.endpoint)
    for _ in range(5):
        scan = client.scan("s/", prefix=True, page=10)
        assert [next(scan).key for _ in range(12)][-1] == b"s/000011"
        scan.close()
    assert client.get("s/000000").value == b"old"
    if streams(etcd):
        deadline = time.monotonic() + 5
        while server.metric("grpc_server_handled_total", grpc_method="RangeStream") < 5:
            assert time.monotonic() < deadline, "the server still sends"
            time.sleep(0.02)


def test_a_restart_in_between_loses_and_repeats_nothing(front, start_server):
    server = start_server()
    fill(server.endpoint, 2000)
    client = front.client(server.endpoint)
    scan = client.scan("s/", prefix=True, page=100, timeout=20)
    seen = [next(scan).key for _ in range(150)]
    server.kill()
    server.start()
    seen.extend(kv.key for kv in scan)
    assert seen == [b"s/%06d" % number for number in range(2000)]


@pytest.mark.every_etcd
def test_closing_the_client_ends_a_scan(front, start_server):
    server = start_server()
    fill(server.endpoint, 3000, value="1 KiB" + 1019 * ".")  # not all fits into the window of the stream
    client = front.client(server.endpoint)
    scan = client.scan("s/", prefix=True, page=10)
    for _ in range(15):
        next(scan)
    client.close()
    with pytest.raises(errors.ClientClosed):
        list(scan)
