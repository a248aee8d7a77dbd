# SPDX-License-Identifier: Apache-2.0
"""Large requests and large replies, and the limits on both sides."""

from __future__ import annotations

import time

import pytest

from purecd import Get, Put, errors
from tests.live import etcds
from tests.live.fronts import together

MIB = 1 << 20
VALUE = bytes(range(256)) * (14 * MIB // 10 // 256)  # 1.4 MiB; etcd takes requests up to 1.5 MiB


@pytest.mark.every_etcd
def test_a_large_value_goes_and_comes(client, prefix):
    client.put(prefix + "k", VALUE)
    assert client.get(prefix + "k").value == VALUE
    assert client.delete(prefix + "k", prev_kv=True).prev_kvs[0].value == VALUE


@pytest.mark.every_etcd
def test_what_the_server_refuses_as_too_large(client, prefix):
    with pytest.raises(errors.RequestTooLarge) as caught:
        client.put(prefix + "k", bytes(16 * MIB // 10))
    assert not caught.value.maybe_applied
    assert client.get(prefix + "k").kv is None, "the connection works on"


def test_what_is_over_the_send_limit_is_not_sent(client, prefix, server):
    received = server.metric("etcd_network_client_grpc_received_bytes_total")
    with pytest.raises(errors.MessageTooLarge) as caught:
        client.put(prefix + "k", bytes(2 * MIB))
    assert (caught.value.maybe_applied, caught.value.method) == (False, "/etcdserverpb.KV/Put")
    assert server.metric("etcd_network_client_grpc_received_bytes_total") - received < MIB


def test_the_receive_limit(front, server, prefix):
    client = front.client(server.endpoint, max_send_size=MIB // 8, max_receive_size=MIB // 4)
    for name in "abc":
        client.put(prefix + name, bytes(MIB // 10))
    with pytest.raises(errors.MessageTooLarge):
        client.get(prefix, prefix=True, timeout=2)
    with pytest.raises(errors.MessageTooLarge) as caught:
        client.txn(success=[Put(prefix + "d", "v"), Get(prefix, prefix=True)])
    assert caught.value.maybe_applied
    assert client.get(prefix + "d").value == b"v"


def test_several_large_values_at_once(client, prefix):
    def roundtrip(index):
        key = f"{prefix}{index}"
        value = bytes([index]) * MIB
        client.put(key, value)
        return client.get(key).value == value

    assert all(together(8, roundtrip))
    client.delete(prefix, prefix=True)


@pytest.mark.slow
def test_a_range_of_100_000_keys(client):
    count = 100_000
    if client.get("100000/", prefix=True, count_only=True).count != count:
        for first in range(0, count, 100):
            client.txn(success=[Put(f"100000/{i:06}", f"value {i}") for i in range(first, first + 100)])
    started = time.perf_counter()
    reply = client.get("100000/", prefix=True, timeout=30)
    print(f"100,000 keys in {time.perf_counter() - started:.2f} s")
    assert len(reply.kvs) == reply.count == count
    assert reply.kvs[31_416].value == b"value 31416"
    assert [kv.key for kv in reply.kvs] == sorted(kv.key for kv in reply.kvs)


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "first"), [(1, "watch"), (2, "lease")])
def test_leases_are_kept_where_the_server_takes_few_streams(front, start_server, prefix, streams, first):
    newest = max(etcds.present(), key=etcds.number_of)
    if etcds.number_of(newest) < (3, 5, 5):
        pytest.skip("needs an etcd with the flag (make etcds fetches one)")
    server = start_server(binary=newest.path, args=[f"--max-concurrent-streams={streams}"])
    client = front.client(server.endpoint)
    lease = client.lease(2) if first == "lease" else None
    watches = [client.watch(prefix, prefix=True, require_leader=bool(kind)) for kind in range(streams)]
    lease = lease or client.lease(2)
    client.put(prefix + "k", "v", lease=lease)
    assert [watch.next(timeout=5).value for watch in watches] == [b"v"] * streams
    assert not lease.wait(3.5)
    assert not lease.lost
    assert client.leases.time_to_live(lease.id).ttl > 0
    for watch in watches:
        watch.close()
    lease.close()
