# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import admin, statuses
from purecd.pb import messages as pb
from tests.memory.asking import AUTH, MAINTENANCE, Alone


@pytest.fixture
def alone():
    return Alone()


def ask_alarm(alone, action, kind, member_id=5):
    request = pb.AlarmRequest(action=action, alarm=kind, memberID=member_id)
    return [(each.memberID, each.alarm) for each in alone.ask(MAINTENANCE + "Alarm", request).alarms]


def test_alarms(alone):
    assert ask_alarm(alone, admin.GET, 0) == []
    assert ask_alarm(alone, admin.ACTIVATE, 1) == [(5, 1)]
    assert ask_alarm(alone, admin.ACTIVATE, 1) == [(5, 1)]
    assert ask_alarm(alone, admin.ACTIVATE, 1, 6) == [(6, 1)]
    assert ask_alarm(alone, admin.ACTIVATE, 0) == []
    assert ask_alarm(alone, admin.GET, 2) == []
    assert ask_alarm(alone, admin.GET, 0) == [(5, 1), (6, 1)]
    assert ask_alarm(alone, admin.DEACTIVATE, 1, 9) == []
    assert ask_alarm(alone, admin.DEACTIVATE, 1) == [(5, 1)]
    assert alone.member.state.mode == 1
    assert ask_alarm(alone, admin.DEACTIVATE, 1, 6) == [(6, 1)]
    assert alone.member.state.mode == 0


@pytest.mark.parametrize("name", sorted(admin.FOR_ADMINISTRATORS))
def test_administration_is_for_administrators(alone, name):
    root = alone.with_auth()
    alice = alone.login("alice", "a")
    method = name.removeprefix("Auth").removesuffix("Request")
    method = f"Auth{method}" if method in ("Enable", "Disable", "Status") else method
    request = getattr(pb, name)()
    assert alone.refusal(AUTH + method, request) == statuses.USER_EMPTY
    assert alone.refusal(AUTH + method, request, token=alice) == statuses.PERMISSION_DENIED
    asked = alone.begin(AUTH + method, request, token=root)
    refused = asked.status
    assert refused is None or (refused.code, refused.text) != statuses.PERMISSION_DENIED


def test_everybody_may_look_at_oneself(alone):
    alone.with_auth()
    alice = alone.login("alice", "a")
    get_user, get_role = AUTH + "UserGet", AUTH + "RoleGet"
    assert list(alone.ask(get_user, pb.AuthUserGetRequest(name="alice"), token=alice).roles) == ["reader"]
    other = pb.AuthUserGetRequest(name="root")
    assert alone.refusal(get_user, other, token=alice) == statuses.PERMISSION_DENIED
    (permission,) = alone.ask(get_role, pb.AuthRoleGetRequest(role="reader"), token=alice).perm
    assert (permission.key, permission.range_end) == (b"a", b"c")
    root = pb.AuthRoleGetRequest(role="root")
    assert alone.refusal(get_role, root, token=alice) == statuses.PERMISSION_DENIED


def test_lists_are_sorted_and_the_revision_is_shown(alone):
    root = alone.with_auth()
    alone.ask(AUTH + "UserAdd", pb.AuthUserAddRequest(name="Bob", password="b"), token=root)
    alone.ask(AUTH + "RoleAdd", pb.AuthRoleAddRequest(name="a"), token=root)
    assert list(alone.ask(AUTH + "UserList", pb.AuthUserListRequest(), token=root).users) == [
        "Bob",
        "alice",
        "root",
    ]
    assert list(alone.ask(AUTH + "RoleList", pb.AuthRoleListRequest(), token=root).roles) == ["a", "reader"]
    status = alone.ask(AUTH + "AuthStatus", pb.AuthStatusRequest(), token=root)
    assert (status.enabled, status.authRevision) == (True, 9)
    missing = pb.AuthRoleGrantPermissionRequest(name="a")
    refused = alone.refusal(AUTH + "RoleGrantPermission", missing, token=root)
    assert refused == statuses.PERMISSION_NOT_GIVEN


def test_tokens_end_with_what_they_stand_for(alone):
    root = alone.with_auth()
    for method, request in (
        ("UserChangePassword", pb.AuthUserChangePasswordRequest(name="alice", password="a")),
        ("UserDelete", pb.AuthUserDeleteRequest(name="alice")),
    ):
        alice = alone.login("alice", "a")
        alone.ask(AUTH + "UserGet", pb.AuthUserGetRequest(name="alice"), token=alice)
        alone.ask(AUTH + method, request, token=root)
        refused = alone.refusal(AUTH + "UserGet", pb.AuthUserGetRequest(name="alice"), token=alice)
        assert refused == statuses.INVALID_AUTH_TOKEN
    alone.ask(AUTH + "AuthDisable", pb.AuthDisableRequest(), token=root)
    alone.ask(AUTH + "AuthEnable", pb.AuthEnableRequest(), token="any")
    refused = alone.refusal(AUTH + "UserList", pb.AuthUserListRequest(), token=root)
    assert refused == statuses.INVALID_AUTH_TOKEN
