# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.roles."""

import pytest

from purecd.admin_types import Done, Permission, PermissionType, RoleReply, RolesReply
from purecd.core import methods, roles
from purecd.pb import messages
from purecd.types import Header
from tests.core.steps import Stepper, first_call

HEADER = Header(1, 2, 3, 4)
ON_WIRE = messages.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)


@pytest.mark.parametrize(
    ("operation", "method", "expected", "reply"),
    [
        (
            roles.add("r"),
            methods.ROLE_ADD,
            messages.AuthRoleAddRequest(name="r"),
            messages.AuthRoleAddResponse,
        ),
        (
            roles.delete("r"),
            methods.ROLE_DELETE,
            messages.AuthRoleDeleteRequest(role="r"),
            messages.AuthRoleDeleteResponse,
        ),
        (
            roles.revoke_permission("r", "a", "b"),
            methods.ROLE_REVOKE_PERMISSION,
            messages.AuthRoleRevokePermissionRequest(role="r", key=b"a", range_end=b"b"),
            messages.AuthRoleRevokePermissionResponse,
        ),
        (
            roles.revoke_permission("r", "a", prefix=True),
            methods.ROLE_REVOKE_PERMISSION,
            messages.AuthRoleRevokePermissionRequest(role="r", key=b"a", range_end=b"b"),
            messages.AuthRoleRevokePermissionResponse,
        ),
    ],
)
def test_changes(operation, method, expected, reply):
    world = Stepper(reply(header=ON_WIRE))
    assert world.run(operation) == Done(HEADER)
    assert world.calls[0].method is method
    assert world.calls[0].request == expected


@pytest.mark.parametrize(
    ("allow", "number"),
    [("read", 0), ("write", 1), ("readwrite", 2), ("READ", 0), (PermissionType.WRITE, 1)],
)
@pytest.mark.parametrize(
    ("options", "key", "range_end"),
    [
        ({"key": "a"}, b"a", b""),
        ({"key": b"a", "range_end": b"c"}, b"a", b"c"),
        ({"key": "a", "range_end": b"\0"}, b"a", b"\0"),
        ({"key": "a/", "prefix": True}, b"a/", b"a0"),
        ({"key": "a", "from_key": True}, b"a", b"\0"),
        ({"key": "", "prefix": True}, b"\0", b"\0"),
    ],
)
def test_granting(allow, number, options, key, range_end):
    world = Stepper(messages.AuthRoleGrantPermissionResponse(header=ON_WIRE))
    assert world.run(roles.grant_permission("r", allow=allow, **options)) == Done(HEADER)
    (call,) = world.calls
    assert call.request == messages.AuthRoleGrantPermissionRequest(
        name="r", perm=messages.Permission(permType=number, key=key, range_end=range_end)
    )


def test_a_permission_is_never_missing():
    # An etcd before 3.4.25 crashes without one; READ on a message of defaults would be left out otherwise.
    assert first_call(roles.grant_permission("r", "a", allow="read")).request.HasField("perm")


def test_the_permissions_of_a_role():
    answer = messages.AuthRoleGetResponse(
        header=ON_WIRE,
        perm=[
            messages.Permission(permType=2, key=b"a", range_end=b"b"),
            messages.Permission(permType=9, key=b"c"),
        ],
    )
    world = Stepper(answer)
    expected = (Permission(PermissionType.READWRITE, b"a", b"b"), Permission(9, b"c", b""))
    assert world.run(roles.get("r")) == RoleReply(HEADER, expected)
    assert world.calls[0].request == messages.AuthRoleGetRequest(role="r")


def test_all_roles():
    world = Stepper(messages.AuthRoleListResponse(header=ON_WIRE, roles=["r", "root"]))
    assert world.run(roles.list_all()) == RolesReply(HEADER, ("r", "root"))
    assert world.calls[0].method is methods.ROLE_LIST


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda: roles.add(""), ValueError),
        (lambda: roles.get(""), ValueError),
        (lambda: roles.delete(None), TypeError),  # type: ignore[arg-type]
        (lambda: roles.grant_permission("", "a", allow="read"), ValueError),
        (lambda: roles.grant_permission("r", "", allow="read"), ValueError),
        (lambda: roles.grant_permission("r", "b", "b", allow="read"), ValueError),
        (lambda: roles.grant_permission("r", "b", "a", allow="read"), ValueError),
        (lambda: roles.grant_permission("r", "b", "c", prefix=True, allow="read"), ValueError),
        (lambda: roles.grant_permission("r", "a", allow="execute"), ValueError),
        (lambda: roles.grant_permission("r", "a", allow=None), ValueError),  # type: ignore[arg-type]
        (lambda: roles.grant_permission("r", "a", allow=0), ValueError),  # type: ignore[arg-type]
        (lambda: roles.revoke_permission("", "a"), ValueError),
        (lambda: roles.revoke_permission("r", ""), ValueError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(operation, error):
    with pytest.raises(error):
        next(operation())
