# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.auth import ANYBODY, NO_PASSWORD_USER, AuthStore, Identity, hashed
from purecd.memory.calls import Status
from purecd.pb import messages as pb

READ, WRITE, READ_WRITE = 0, 1, 2


def refusal(function, *args):
    try:
        function(*args)
    except Status as status:
        return status.code, status.text
    return None


@pytest.fixture
def auth():
    """Auth is on; root administers, alice has the role r, bob has none."""
    auth = AuthStore()
    for name in ("root", "alice", "bob"):
        auth.add_user(name, hashed(name, "salt"), True)
    auth.grant_role("root", "root")
    auth.add_role("r")
    auth.grant_role("alice", "r")
    auth.enable()
    return auth


def grant(auth, kind, key, end=b"", role="r"):
    auth.grant_permission(role, pb.Permission(permType=kind, key=key, range_end=end))


def who(auth, name="alice"):
    return Identity(name, auth.revision)


def can_read(auth, key, end=b""):
    return refusal(auth.check_read, who(auth), key, end) is None


def test_enabling_needs_root():
    auth = AuthStore()
    assert refusal(auth.enable) == statuses.ROOT_USER_NOT_EXIST
    auth.add_user("root", "", True)
    assert refusal(auth.enable) == statuses.ROOT_ROLE_NOT_EXIST
    auth.grant_role("root", "root")
    auth.enable()
    revision = auth.revision
    auth.enable()
    auth.disable()
    assert auth.revision == revision + 1
    auth.disable()
    assert auth.revision == revision + 1


def test_users():
    auth = AuthStore()
    assert refusal(auth.add_user, "", "", True) == statuses.USER_EMPTY
    auth.add_user("alice", "x", True)
    assert refusal(auth.add_user, "alice", "x", True) == statuses.USER_ALREADY_EXIST
    for missing in (auth.delete_user, auth.user):
        assert refusal(missing, "bob") == statuses.USER_NOT_FOUND
    assert refusal(auth.grant_role, "bob", "r") == statuses.USER_NOT_FOUND
    assert refusal(auth.grant_role, "alice", "r") == statuses.ROLE_NOT_FOUND
    assert refusal(auth.revoke_role, "alice", "r") == statuses.ROLE_NOT_GRANTED
    auth.add_role("r")
    auth.add_role("a")
    auth.grant_role("alice", "r")
    auth.grant_role("alice", "root")
    auth.grant_role("alice", "a")
    revision = auth.revision
    auth.grant_role("alice", "a")
    assert (auth.user("alice").roles, auth.revision) == (("a", "r", "root"), revision)
    auth.delete_role("a")
    auth.revoke_role("alice", "root")
    assert auth.user("alice").roles == ("r",)
    auth.delete_user("alice")
    assert refusal(auth.user, "alice") == statuses.USER_NOT_FOUND


def test_roles():
    auth = AuthStore()
    assert refusal(auth.add_role, "") == statuses.ROLE_EMPTY
    auth.add_role("r")
    assert refusal(auth.add_role, "r") == statuses.ROLE_ALREADY_EXIST
    assert refusal(auth.role, "x") == statuses.ROLE_NOT_FOUND
    assert refusal(auth.delete_role, "x") == statuses.ROLE_NOT_FOUND
    assert refusal(grant, auth, READ, b"k", b"", "x") == statuses.ROLE_NOT_FOUND
    for key, end in ((b"", b""), (b"k", b"k"), (b"k", b"a")):
        assert refusal(grant, auth, READ, key, end) == statuses.INVALID_AUTH_MGMT
    grant(auth, READ, b"k", b"\0")
    grant(auth, READ, b"b")
    grant(auth, WRITE, b"b")
    assert [(each.key, each.range_end, each.permType) for each in auth.role("r")] == [
        (b"b", b"", WRITE),
        (b"k", b"\0", READ),
    ]
    assert refusal(auth.revoke_permission, "r", b"k", b"") == statuses.PERMISSION_NOT_GRANTED
    auth.revoke_permission("r", b"k", b"\0")
    assert len(auth.role("r")) == 1


def test_root_is_protected_while_auth_is_on(auth):
    assert refusal(auth.delete_user, "root") == statuses.INVALID_AUTH_MGMT
    assert refusal(auth.delete_role, "root") == statuses.INVALID_AUTH_MGMT
    assert refusal(auth.revoke_role, "root", "root") == statuses.INVALID_AUTH_MGMT
    auth.disable()
    auth.revoke_role("root", "root")
    auth.delete_user("root")


def test_passwords(auth):
    assert auth.check_password("alice", "alice") == auth.revision
    assert refusal(auth.check_password, "alice", "wrong") == statuses.AUTH_FAILED
    assert refusal(auth.check_password, "nobody", "x") == statuses.AUTH_FAILED
    auth.add_user("silent", "", False)
    assert refusal(auth.check_password, "silent", "") == NO_PASSWORD_USER
    assert refusal(auth.check_login, "silent") == statuses.AUTH_FAILED
    auth.change_password("alice", "")
    assert refusal(auth.check_password, "alice", "") == statuses.AUTH_FAILED
    auth.change_password("alice", hashed("new", "pepper"))
    auth.check_password("alice", "new")
    auth.check_login("alice")
    auth.disable()
    assert refusal(auth.check_password, "alice", "new") == statuses.AUTH_NOT_ENABLED
    assert refusal(auth.check_login, "alice") == statuses.AUTH_NOT_ENABLED


def test_permissions_of_single_keys(auth):
    grant(auth, READ, b"a", b"c")
    grant(auth, WRITE, b"x")
    assert [can_read(auth, key) for key in (b"a", b"b\xff", b"c", b"x")] == [True, True, False, False]
    assert refusal(auth.check_write, who(auth), b"x") is None
    assert refusal(auth.check_write, who(auth), b"a") == statuses.PERMISSION_DENIED
    grant(auth, READ_WRITE, b"x")
    assert can_read(auth, b"x")


def test_permissions_of_ranges_are_taken_together(auth):
    for key, end in ((b"a", b"c"), (b"c", b"e"), (b"f", b"\0")):
        grant(auth, READ, key, end)
    assert can_read(auth, b"a", b"e")
    assert can_read(auth, b"b", b"d")
    assert not can_read(auth, b"a", b"f")
    assert not can_read(auth, b"a", b"\0")
    assert can_read(auth, b"g", b"\0")
    assert not can_read(auth, b"\0", b"b")


def test_who_asks(auth):
    grant(auth, READ, b"a")
    assert refusal(auth.check_read, None, b"a", b"") == statuses.USER_EMPTY
    assert refusal(auth.check_read, Identity("", 0), b"a", b"") == statuses.USER_EMPTY
    assert refusal(auth.check_read, who(auth, "nobody"), b"a", b"") == statuses.PERMISSION_DENIED
    assert refusal(auth.check_read, who(auth, "bob"), b"a", b"") == statuses.PERMISSION_DENIED
    assert refusal(auth.check_read, who(auth, "root"), b"any", b"\0") is None
    assert refusal(auth.check_read, ANYBODY, b"any", b"\0") is None
    early = who(auth)
    auth.add_role("new")
    assert refusal(auth.check_read, early, b"a", b"") == statuses.AUTH_OLD_REVISION
    assert can_read(auth, b"a")
    auth.disable()
    assert refusal(auth.check_read, None, b"any", b"\0") is None


def test_administrators(auth):
    assert refusal(auth.check_admin, None) == statuses.USER_EMPTY
    assert refusal(auth.check_admin, Identity("nobody", 1)) == statuses.USER_NOT_FOUND
    assert refusal(auth.check_admin, who(auth)) == statuses.PERMISSION_DENIED
    assert [auth.is_admin(each) for each in (who(auth), Identity("root", 1), ANYBODY)] == [False, True, True]


def test_a_copy_shares_nothing_that_changes(auth):
    grant(auth, READ, b"a")
    copy = AuthStore()
    copy.copy_from(auth)
    assert can_read(copy, b"a")
    copy.revoke_role("alice", "r")
    assert (can_read(copy, b"a"), can_read(auth, b"a")) == (False, True)
