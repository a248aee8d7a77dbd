# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.admin_types."""

import inspect
import pickle

import pytest

from purecd import admin_types
from purecd.admin_types import (
    AlarmType,
    HealthStatus,
    LeaseTimeToLiveReply,
    Member,
    Permission,
    PermissionType,
    StatusReply,
)
from purecd.pb import descriptor_pool
from purecd.types import EMPTY_HEADER, Header

TYPES = [
    each
    for _, each in inspect.getmembers(admin_types, inspect.isclass)
    if each.__module__ == admin_types.__name__ and issubclass(each, tuple)
]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_values_are_immutable_hashable_and_survive_pickling(kind):
    value = kind()
    assert pickle.loads(pickle.dumps(value)) == value
    hash(value)
    with pytest.raises(AttributeError):
        setattr(value, kind._fields[0], None)
    with pytest.raises(AttributeError):
        value.other = None


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_values_stand_for_an_answer_without_any_field(kind):
    value = kind()
    if "header" in kind._fields:
        assert value.header is EMPTY_HEADER
    assert all(not field for name, field in zip(kind._fields, value) if name not in ("header", "member"))


def test_a_lease_with_no_seconds_left_is_still_alive():
    assert LeaseTimeToLiveReply(ttl=0).is_alive
    assert not LeaseTimeToLiveReply(ttl=-1).is_alive


def test_a_member_without_a_name_has_not_started():
    assert Member(name="m1").is_started
    assert not Member(id=1).is_started


def test_a_member_without_a_leader_is_not_the_leader():
    assert StatusReply(Header(member_id=5), leader=5).is_leader
    assert not StatusReply(Header(member_id=5), leader=6).is_leader
    assert not StatusReply(EMPTY_HEADER, leader=0).is_leader


def test_a_long_key_is_not_shown_whole():
    shown = repr(Permission(PermissionType.WRITE, b"k" * 1000, b"l"))
    assert len(shown) < 300
    assert "WRITE" in shown


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (AlarmType, "etcdserverpb.AlarmType"),
        (PermissionType, "authpb.Permission.Type"),
        (HealthStatus, "grpc.health.v1.HealthCheckResponse.ServingStatus"),
    ],
)
def test_numbers_are_those_of_the_wire(kind, name):
    numbers = descriptor_pool().FindEnumTypeByName(name).values_by_name
    assert {each.name: each.value for each in kind} == {key: value.number for key, value in numbers.items()}
