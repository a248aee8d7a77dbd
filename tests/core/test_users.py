# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.users."""

import pytest

from purecd.admin_types import Done, UserReply, UsersReply
from purecd.core import methods, users
from purecd.pb import messages
from purecd.types import Header
from tests.core.steps import Stepper, first_call

HEADER = Header(1, 2, 3, 4)
ON_WIRE = messages.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)


@pytest.mark.parametrize(
    ("operation", "method", "expected", "reply"),
    [
        (
            users.add("ann", "secret"),
            methods.USER_ADD,
            messages.AuthUserAddRequest(
                name="ann", password="secret", options=messages.UserAddOptions(no_password=False)
            ),
            messages.AuthUserAddResponse,
        ),
        (
            users.add("ann", no_password=True),
            methods.USER_ADD,
            messages.AuthUserAddRequest(name="ann", options=messages.UserAddOptions(no_password=True)),
            messages.AuthUserAddResponse,
        ),
        (
            users.delete("ann"),
            methods.USER_DELETE,
            messages.AuthUserDeleteRequest(name="ann"),
            messages.AuthUserDeleteResponse,
        ),
        (
            users.change_password("ann", "other"),
            methods.USER_CHANGE_PASSWORD,
            messages.AuthUserChangePasswordRequest(name="ann", password="other"),
            messages.AuthUserChangePasswordResponse,
        ),
        (
            users.grant_role("ann", "reader"),
            methods.USER_GRANT_ROLE,
            messages.AuthUserGrantRoleRequest(user="ann", role="reader"),
            messages.AuthUserGrantRoleResponse,
        ),
        (
            users.revoke_role("ann", "reader"),
            methods.USER_REVOKE_ROLE,
            messages.AuthUserRevokeRoleRequest(name="ann", role="reader"),
            messages.AuthUserRevokeRoleResponse,
        ),
    ],
)
def test_changes(operation, method, expected, reply):
    world = Stepper(reply(header=ON_WIRE))
    assert world.run(operation) == Done(HEADER)
    assert world.calls[0].method is method
    assert world.calls[0].request == expected


def test_the_options_of_a_new_user_are_always_sent():
    assert first_call(users.add("ann", "secret")).request.HasField("options")


def test_the_roles_of_a_user():
    world = Stepper(messages.AuthUserGetResponse(header=ON_WIRE, roles=["reader", "root"]))
    assert world.run(users.get("ann")) == UserReply(HEADER, ("reader", "root"))
    assert world.calls[0].request == messages.AuthUserGetRequest(name="ann")


def test_all_users():
    world = Stepper(messages.AuthUserListResponse(header=ON_WIRE, users=["ann", "bob"]))
    assert world.run(users.list_all()) == UsersReply(HEADER, ("ann", "bob"))
    assert world.calls[0].method is methods.USER_LIST


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda: users.add(""), ValueError),
        (lambda: users.add("ann"), ValueError),
        (lambda: users.add("ann", ""), ValueError),
        (lambda: users.add("ann", "x", no_password=True), ValueError),
        (lambda: users.add("ann", "", no_password=True), ValueError),
        (lambda: users.add("ann", b"secret"), TypeError),  # type: ignore[arg-type]
        (lambda: users.add(b"ann", "secret"), TypeError),  # type: ignore[arg-type]
        (lambda: users.get(""), ValueError),
        (lambda: users.delete(""), ValueError),
        (lambda: users.change_password("ann", ""), ValueError),
        (lambda: users.change_password("ann", None), TypeError),  # type: ignore[arg-type]
        (lambda: users.change_password("", "x"), ValueError),
        (lambda: users.grant_role("ann", ""), ValueError),
        (lambda: users.revoke_role("", "reader"), ValueError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(operation, error):
    with pytest.raises(error):
        next(operation())


def test_a_password_of_the_wrong_type_is_not_shown():
    with pytest.raises(TypeError) as caught:
        users.add("ann", b"hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
