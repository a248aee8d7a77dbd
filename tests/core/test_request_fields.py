# SPDX-License-Identifier: Apache-2.0
"""Every field of every request can be set by some option, or is left to the server for a reason."""

import itertools

import pytest

from purecd import requests
from purecd.core import auth_admin, kv, leases, maintenance, members, roles, scan, snapshot, users
from purecd.core.op import Attach, Call, Now, RandomId
from purecd.pb import codecs, descriptor_pool, message_class
from purecd.requests import Delete, Get, Put, Txn

# Not sent by this client, and why.
LEFT_OUT = {
    "etcdserverpb.AuthUserAddRequest.hashedPassword": "between servers only",
    "etcdserverpb.AuthUserChangePasswordRequest.hashedPassword": "between servers only",
    "etcdserverpb.AuthenticateRequest.name": "sent by the channel when it logs in",
    "etcdserverpb.AuthenticateRequest.password": "sent by the channel when it logs in",
}


def operations():
    """One operation per RPC, with all options set; more where options exclude each other."""
    return [
        kv.get(
            "k",
            "l",
            limit=1,
            revision=2,
            sort_by="value",
            descending=True,
            serializable=True,
            keys_only=True,
            count_only=True,
            min_mod_revision=3,
            max_mod_revision=4,
            min_create_revision=5,
            max_create_revision=6,
        ),
        kv.put("k", "v", lease=1, prev_kv=True),
        kv.put("k", ignore_value=True, ignore_lease=True),
        kv.delete("k", "l", prev_kv=True),
        kv.txn(
            [
                requests.version("k") > 1,
                requests.create_revision("k", range_end="l") < 2,
                requests.mod_revision("k") != 3,
                requests.value("k") == "v",
                requests.lease("k") == 5,
            ],
            [Get("k"), Put("k", "v"), Delete("k")],
            [Txn()],
        ),
        kv.compact(5, physical=True),
        leases.grant(5, lease_id=6),
        leases.revoke(5),
        leases.time_to_live(5, keys=True),
        leases.list_all(),
        leases.keep_alive_once(5),
        members.list_all(),
        members.add(["http://a:1"], is_learner=True),
        members.remove(5),
        members.update(5, ["http://a:1"]),
        members.promote(5),
        maintenance.alarms(),
        maintenance.raise_alarm("nospace", 5),
        maintenance.disarm(5, "corrupt"),
        maintenance.status(),
        maintenance.defragment(),
        maintenance.hash(),
        maintenance.hash_kv(revision=5),
        maintenance.move_leader(5),
        maintenance.downgrade("enable", "3.5"),
        maintenance.health("etcd"),
        snapshot.begin(),
        auth_admin.enable(),
        auth_admin.disable(),
        auth_admin.status(),
        users.add("u", "p"),
        users.add("u", no_password=True),
        users.get("u"),
        users.list_all(),
        users.delete("u"),
        users.change_password("u", "p"),
        users.grant_role("u", "r"),
        users.revoke_role("u", "r"),
        roles.add("r"),
        roles.get("r"),
        roles.list_all(),
        roles.delete("r"),
        roles.grant_permission("r", "k", "l", allow="readwrite"),
        roles.revoke_permission("r", "k", "l"),
    ]


WATCH_REQUESTS = [
    codecs.encode_watch_create(b"k", b"l", 5, True, (0, 1), True, 6, True),
    codecs.encode_watch_cancel(6),
    codecs.encode_watch_progress(),
]

SERVICES = ("KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth")


def method_descriptors():
    pool = descriptor_pool()
    names = [f"etcdserverpb.{name}" for name in SERVICES] + ["grpc.health.v1.Health"]
    return {
        f"/{name}/{method.name}": method for name in names for method in pool.FindServiceByName(name).methods
    }


def first_request(operation):
    """The path and the bytes of the request that an operation begins with."""
    effect = next(operation)
    while type(effect) in (Now, RandomId):
        effect = operation.send(1)
    call = effect.source if type(effect) is Attach else effect
    assert isinstance(call, Call)
    operation.close()
    return call.method.path, call.method.encode(call.request)


def set_fields(message):
    """Full names of the fields that are set, those of nested messages included."""
    for field, value in message.ListFields():
        yield field.full_name
        if field.message_type is not None:
            for each in value if isinstance(value, list) or hasattr(value, "add") else [value]:
                yield from set_fields(each)


def all_fields(descriptor, seen):
    for field in descriptor.fields:
        if field.full_name not in seen:
            seen.add(field.full_name)
            if field.message_type is not None:
                all_fields(field.message_type, seen)
    return seen


def sent_requests():
    yield from map(first_request, operations())
    yield from (("/etcdserverpb.Watch/Watch", data) for data in WATCH_REQUESTS)


@pytest.fixture(scope="module")
def sent():
    """Method paths and the full names of all fields that some request carried."""
    descriptors = method_descriptors()
    paths, fields = set(), set()
    for path, data in sent_requests():
        paths.add(path)
        message = message_class(descriptors[path].input_type.full_name).FromString(data)
        fields.update(set_fields(message))
    return paths, fields


def test_every_rpc_has_an_operation(sent):
    paths, _ = sent
    scanning = scan._RANGE_STREAM.path
    by_the_channel = {"/etcdserverpb.Auth/Authenticate", "/grpc.health.v1.Health/Watch"}
    assert set(method_descriptors()) - paths - {scanning} <= by_the_channel


def test_every_field_of_every_request_can_be_set(sent):
    _, fields = sent
    inputs = [method.input_type for method in method_descriptors().values()]
    wanted = set(itertools.chain.from_iterable(all_fields(each, set()) for each in inputs))
    assert wanted - fields - set(LEFT_OUT) == set()


def test_nothing_is_left_out_without_need(sent):
    _, fields = sent
    known = {
        name for method in method_descriptors().values() for name in all_fields(method.input_type, set())
    }
    assert set(LEFT_OUT) <= known - fields
