# SPDX-License-Identifier: Apache-2.0
"""Message classes by name, from a pool that no other library shares."""

from __future__ import annotations

import functools
import threading

import pytest
from google.protobuf import descriptor_pool

from purecd import pb
from purecd.pb import messages


def test_a_message_by_its_short_name():
    assert messages.LeaseGrantRequest(TTL=5).SerializeToString() == b"\x08\x05"
    by_full_name: object = pb.message_class("etcdserverpb.LeaseGrantRequest")
    assert messages.LeaseGrantRequest is by_full_name


@pytest.mark.parametrize(
    ("name", "full_name"),
    [
        ("KeyValue", "mvccpb.KeyValue"),
        ("Permission", "authpb.Permission"),
        ("LockRequest", "v3lockpb.LockRequest"),
        ("LeaderKey", "v3electionpb.LeaderKey"),
        ("HealthCheckRequest", "grpc.health.v1.HealthCheckRequest"),
    ],
)
def test_messages_of_every_package(name, full_name):
    assert getattr(messages, name).DESCRIPTOR.full_name == full_name


def test_short_names_are_unique():
    pool = pb.descriptor_pool()
    names = []
    for file in ("kv", "auth", "rpc", "v3lock", "v3election", "health"):
        found = pool.FindFileByName(f"{file}.proto")
        names += [*found.message_types_by_name, *found.enum_types_by_name]
    assert len(names) == len(set(names)) == 117 + 2 + 1
    for name in names:
        assert getattr(messages, name)


def test_enums():
    assert messages.AlarmType.Name(1) == "NOSPACE"
    assert messages.AlarmType.Value("CORRUPT") == messages.AlarmType.CORRUPT == 2
    assert messages.RangeRequest.DESCEND == 2
    assert messages.HealthCheckResponse.SERVING == 1


@pytest.mark.parametrize("name", ["NoSuchMessage", "rangeRequest", "_Private", "__path__", "KV"])
def test_other_names(name):
    with pytest.raises(AttributeError, match=name):
        getattr(messages, name)


def test_an_unknown_full_name():
    with pytest.raises(KeyError):
        pb.message_class("etcdserverpb.NoSuchMessage")


def test_unknown_fields_and_enum_numbers_survive():
    data = b"\x18\x63\xa2\x06\x01x"  # alarm 99, field 100 "x"
    alarm = messages.AlarmRequest.FromString(data)
    assert alarm.alarm == 99
    assert alarm.SerializeToString() == data


def test_other_libraries_may_own_the_same_names():
    # The default pool of the process takes a file name once, so ours must not be in it.
    for file in ("rpc.proto", "kv.proto", "auth.proto"):
        assert pb.descriptor_pool().FindFileByName(file)
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindFileByName(file)


def test_threads_build_one_pool(monkeypatch):
    monkeypatch.setattr(pb, "_build", functools.cache(pb._build.__wrapped__))
    barrier = threading.Barrier(8)
    pools = []

    def build() -> None:
        barrier.wait()
        pools.append(pb.descriptor_pool())

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pools) == 8
    assert len({id(pool) for pool in pools}) == 1
