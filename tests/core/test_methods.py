# SPDX-License-Identifier: Apache-2.0
"""The table of RPCs against etcd's own service descriptors."""

from __future__ import annotations

import pytest

from purecd import pb
from purecd.core import methods
from purecd.core.methods import Method, Policy
from purecd.pb import messages
from purecd.requests import Get

TABLE = {name: value for name, value in vars(methods).items() if isinstance(value, Method)}
SERVICES = ("KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth")

# What changes the store or the cluster; everything else only reads.
WRITES = {
    "KV/Put",
    "KV/DeleteRange",
    "KV/Txn",
    "KV/Compact",
    "Lease/LeaseGrant",
    "Lease/LeaseRevoke",
    "Cluster/MemberAdd",
    "Cluster/MemberRemove",
    "Cluster/MemberUpdate",
    "Cluster/MemberPromote",
    "Maintenance/Alarm",
    "Maintenance/Defragment",
    "Maintenance/MoveLeader",
    "Maintenance/Downgrade",
    "Auth/AuthEnable",
    "Auth/AuthDisable",
    "Auth/UserAdd",
    "Auth/UserDelete",
    "Auth/UserChangePassword",
    "Auth/UserGrantRole",
    "Auth/UserRevokeRole",
    "Auth/RoleAdd",
    "Auth/RoleDelete",
    "Auth/RoleGrantPermission",
    "Auth/RoleRevokePermission",
}
IDEMPOTENT = {"Lease/LeaseGrant", "Lease/LeaseRevoke", "Maintenance/Alarm"}


def descriptor(method):
    _, service, name = method.path.split("/")
    return pb.descriptor_pool().FindServiceByName(service).methods_by_name[name]


def short(method):
    return method.path.rpartition(".")[2]


@pytest.mark.parametrize("name", TABLE)
def test_each_path_is_one_of_etcd(name):
    method = TABLE[name]
    assert descriptor(method).name == method.name
    assert method.raw_path == method.path.encode()
    assert repr(method) == f"<Method {method.path}>"


def test_every_rpc_of_etcd_is_in_the_table():
    pool = pb.descriptor_pool()
    paths = {
        f"/etcdserverpb.{service}/{name}"
        for service in SERVICES
        for name in pool.FindServiceByName(f"etcdserverpb.{service}").methods_by_name
    }
    assert paths <= {each.path for each in TABLE.values()}


@pytest.mark.parametrize("name", TABLE)
def test_an_empty_reply_is_of_the_right_type(name):
    method = TABLE[name]
    found = method.decode(b"")
    if hasattr(found, "DESCRIPTOR"):
        assert found.DESCRIPTOR.full_name == descriptor(method).output_type.full_name


@pytest.mark.parametrize("name", TABLE)
def test_requests_of_messages_are_serialized(name):
    method = TABLE[name]
    if hasattr(method.decode(b""), "DESCRIPTOR"):
        request = pb.message_class(descriptor(method).input_type.full_name)()
        assert method.encode(request) == b""


@pytest.mark.parametrize("name", TABLE)
def test_bytes_that_are_no_message_are_a_value_error(name):
    # A length-delimited field of 127 bytes, of which none follow.
    with pytest.raises(ValueError, match=".") as caught:
        TABLE[name].decode(b"\x0a\x7f")
    assert type(caught.value) is ValueError


def test_what_may_be_sent_again():
    for method in TABLE.values():
        name = short(method)
        if method is methods.TXN_READ:
            expected = Policy.READ
        elif name in IDEMPOTENT:
            expected = Policy.IDEMPOTENT
        else:
            expected = Policy.WRITE if name in WRITES else Policy.READ
        assert method.policy is expected, method


def test_only_logging_in_carries_no_token():
    assert [each.name for each in TABLE.values() if not each.authenticated] == ["Authenticate"]


def test_values_are_encoded_as_etcd_reads_them():
    read = messages.RangeRequest.FromString(methods.RANGE.encode(Get("k", limit=3)))
    assert (read.key, read.limit) == (b"k", 3)
    compaction = messages.CompactionRequest.FromString(methods.COMPACT.encode((7, True)))
    assert (compaction.revision, compaction.physical) == (7, True)
    granted = messages.LeaseGrantRequest.FromString(
        methods.LEASE_GRANT.encode(messages.LeaseGrantRequest(TTL=5, ID=6))
    )
    assert (granted.TTL, granted.ID) == (5, 6)


def test_replies_are_decoded():
    reply = messages.LeaseGrantResponse(ID=6, TTL=5).SerializeToString()
    assert methods.LEASE_GRANT.decode(reply).TTL == 5
    header = messages.ResponseHeader(revision=9)
    assert methods.PUT.decode(messages.PutResponse(header=header).SerializeToString()).header.revision == 9
