# SPDX-License-Identifier: Apache-2.0
"""Users, roles, permissions and authentication against real servers."""

from __future__ import annotations

import logging
import time

import pytest

import purecd
from purecd import errors
from purecd.admin_types import Permission, PermissionType
from tests.live.fronts import take, timed

READ, WRITE, READWRITE = PermissionType.READ, PermissionType.WRITE, PermissionType.READWRITE
ROOT = {"user": "root", "password": "root-pw"}


def release(etcd):
    return tuple(map(int, etcd.version.split(".")))


@pytest.fixture
def guarded(front, start_server):
    """A server with auth on; ``make(user, password)`` a client of it, root's without arguments."""
    server = start_server()
    with purecd.Client(server.endpoint) as admin:
        admin.users.add("root", "root-pw")
        admin.roles.add("root")
        admin.users.grant_role("root", "root")
        admin.auth.enable()

    def make(user="root", password="root-pw", **options):
        return front.client(server.endpoint, user=user, password=password, **options)

    return make


def add_user(root, name, *permissions, **options):
    """A user of that name, with a role of that name; its password is the name and ``-pw``."""
    root.users.add(name, f"{name}-pw")
    root.roles.add(name)
    root.users.grant_role(name, name)
    for key, allow, how in permissions:
        root.roles.grant_permission(name, key, allow=allow, **how)


# Each call, with auth off.


def test_users(front, start_server):
    client = front.client(start_server().endpoint)
    assert client.users.list().users == ()
    client.users.add("ann", "secret")
    client.users.add("cert", no_password=True)
    assert client.users.list().users == ("ann", "cert")
    assert client.users.get("ann").roles == ()
    with pytest.raises(errors.UserAlreadyExist):
        client.users.add("ann", "other")
    client.roles.add("one")
    client.roles.add("two")
    client.users.grant_role("ann", "two")
    client.users.grant_role("ann", "one")
    assert client.users.get("ann").roles == ("one", "two")
    client.users.revoke_role("ann", "two")
    assert client.users.get("ann").roles == ("one",)
    with pytest.raises(errors.RoleNotGranted):
        client.users.revoke_role("ann", "two")
    with pytest.raises(errors.RoleNotFound):
        client.users.grant_role("ann", "three")
    client.users.change_password("ann", "better")
    client.users.delete("ann")
    assert client.users.list().users == ("cert",)
    for call in (
        lambda: client.users.get("ann"),
        lambda: client.users.delete("ann"),
        lambda: client.users.change_password("ann", "x"),
        lambda: client.users.grant_role("ann", "one"),
        lambda: client.users.revoke_role("ann", "one"),
    ):
        with pytest.raises(errors.UserNotFound) as caught:
            call()
        assert not caught.value.maybe_applied


def test_roles_and_permissions(front, start_server):
    client = front.client(start_server().endpoint)
    client.roles.add("r")
    with pytest.raises(errors.RoleAlreadyExist):
        client.roles.add("r")
    assert client.roles.list().roles == ("r",)
    client.roles.grant_permission("r", "key", allow="read")
    client.roles.grant_permission("r", "a", "c", allow="write")
    client.roles.grant_permission("r", "p/", prefix=True, allow="readwrite")
    client.roles.grant_permission("r", "z", from_key=True, allow=PermissionType.READ)
    assert set(client.roles.get("r").permissions) == {
        Permission(READ, b"key", b""),
        Permission(WRITE, b"a", b"c"),
        Permission(READWRITE, b"p/", b"p0"),
        Permission(READ, b"z", b"\0"),
    }
    client.roles.grant_permission("r", "key", allow="readwrite")
    assert Permission(READWRITE, b"key", b"") in client.roles.get("r").permissions, "replaced"
    assert len(client.roles.get("r").permissions) == 4
    with pytest.raises(errors.PermissionNotGranted):
        client.roles.revoke_permission("r", "a", "b")
    client.roles.revoke_permission("r", "a", "c")
    client.roles.revoke_permission("r", "p/", prefix=True)
    client.roles.revoke_permission("r", "z", from_key=True)
    client.roles.revoke_permission("r", "key")
    assert client.roles.get("r").permissions == ()
    client.roles.delete("r")
    assert client.roles.list().roles == ()
    for call in (
        lambda: client.roles.get("r"),
        lambda: client.roles.delete("r"),
        lambda: client.roles.grant_permission("r", "k", allow="read"),
        lambda: client.roles.revoke_permission("r", "k"),
    ):
        with pytest.raises(errors.RoleNotFound):
            call()


def test_a_role_for_all_keys(guarded):
    root = guarded()
    add_user(root, "all", ("", "readwrite", {"prefix": True}))
    client = guarded("all", "all-pw")
    client.put("anything", "1")
    assert client.get("", prefix=True).count == 1
    assert client.roles.get("all").permissions == (Permission(READWRITE, b"\0", b"\0"),)


# On and off.


@pytest.mark.every_etcd
def test_enable_and_disable(front, start_server, etcd):
    server = start_server()
    client = front.client(server.endpoint)
    with pytest.raises(errors.RootUserNotExist):
        client.auth.enable()
    client.users.add("root", "root-pw")
    with pytest.raises(errors.RootRoleNotExist):
        client.auth.enable()
    client.users.grant_role("root", "root")
    if release(etcd) >= (3, 5, 0):
        assert not client.auth.status().enabled
    client.auth.enable()
    with pytest.raises((errors.UserEmpty, errors.PermissionDenied)):
        client.put("k", "v", timeout=3)
    root = front.client(server.endpoint, **ROOT)
    root.auth.enable()
    if release(etcd) >= (3, 5, 0):
        status = root.auth.status()
        assert status.enabled
        root.roles.add("r")
        assert root.auth.status().auth_revision == status.auth_revision + 1
    else:
        with pytest.raises(errors.EtcdError) as caught:
            root.auth.status()
        assert caught.value.code is errors.StatusCode.UNIMPLEMENTED
    for call in (
        lambda: root.users.delete("root"),
        lambda: root.roles.delete("root"),
        lambda: root.users.revoke_role("root", "root"),
    ):
        with pytest.raises(errors.InvalidAuthMgmt):
            call()
    root.auth.disable()
    root.auth.disable()
    client.put("k", "v")


# Rights.


@pytest.mark.every_etcd
def test_what_a_user_may_and_may_not_do(guarded):
    root = guarded()
    add_user(
        root,
        "ann",
        ("key", "read", {}),
        ("drop", "write", {}),
        ("p/", "readwrite", {"prefix": True}),
        ("ra", "readwrite", {"range_end": "rc"}),
    )
    ann = guarded("ann", "ann-pw")
    root.put("key", "v")
    assert ann.get("key").value == b"v"
    ann.put("drop", "v")
    ann.put("p/1", "v")
    assert ann.get("p/", prefix=True).count == 1
    assert ann.delete("p/", prefix=True, prev_kv=True).deleted == 1
    ann.put("rb", "v")
    assert ann.get("ra", "rc").count == 1
    txn = ann.txn(
        compare=[purecd.version("p/1") == 0],
        success=[purecd.Put("p/1", "1"), purecd.Get("key")],
        failure=[],
    )
    assert txn.succeeded
    with ann.watch("p/", prefix=True) as watch:
        ann.put("p/2", "2")
        assert [event.key for event in take(watch, 1)] == [b"p/2"]
    for call in (
        lambda: ann.put("key", "v"),
        lambda: ann.delete("key"),
        lambda: ann.get("drop"),
        lambda: ann.put("drop", "v", prev_kv=True),
        lambda: ann.get("other"),
        lambda: ann.get("p", prefix=True),
        lambda: ann.get("p/", from_key=True),
        lambda: ann.get("rc"),
        lambda: ann.get("ra", "rd"),
        lambda: ann.delete("", prefix=True),
        lambda: ann.txn(success=[purecd.Get("p/1"), purecd.Put("other", "v")]),
        lambda: ann.txn(compare=[purecd.version("other") == 0], success=[purecd.Get("p/1")]),
        lambda: ann.users.list(),
        lambda: ann.users.get("root"),
        lambda: ann.users.add("eve", "eve-pw"),
        lambda: ann.roles.grant_permission("ann", "other", allow="read"),
        lambda: ann.auth.disable(),
        lambda: ann.maintenance.defragment(),
        lambda: list(ann.scan()),
    ):
        error, took = timed(call)
        assert isinstance(error, errors.PermissionDenied), error
        assert not error.maybe_applied
        assert took < 3
    assert ann.users.get("ann").roles == ("ann",)
    assert len(ann.roles.get("ann").permissions) == 4


def test_rights_of_several_roles_add_up(guarded):
    root = guarded()
    add_user(root, "ann", ("a", "readwrite", {"range_end": "b"}))
    ann = guarded("ann", "ann-pw")
    with pytest.raises(errors.PermissionDenied):
        ann.get("a", "c")
    root.roles.add("more")
    root.roles.grant_permission("more", "b", "c", allow="read")
    root.users.grant_role("ann", "more")
    assert ann.get("a", "c").kvs == [], "one range over two grants"
    root.users.revoke_role("ann", "more")
    with pytest.raises(errors.PermissionDenied):
        ann.get("a", "c")


# Logging in.


@pytest.mark.every_etcd
def test_wrong_credentials(guarded):
    root = guarded()
    root.users.add("cert", no_password=True)
    for user, password in (("root", "wrong"), ("nobody", "x"), ("cert", "x")):
        client = guarded(user, password)
        for call in (lambda: client.get("k"), lambda: client.watch("k"), lambda: client.lease(5)):  # noqa: B023 - called at once
            error, took = timed(call)
            assert isinstance(error, errors.AuthFailed), error
            assert took < 3


def test_a_changed_password(guarded):
    root = guarded()
    add_user(root, "ann", ("k", "readwrite", {}))
    ann = guarded("ann", "ann-pw")
    ann.put("k", "1")
    root.users.change_password("ann", "new")
    with pytest.raises(errors.AuthFailed):
        ann.put("k", "2")
    guarded("ann", "new").put("k", "3")
    assert root.get("k").value == b"3"


def test_a_deleted_user(guarded):
    root = guarded()
    add_user(root, "ann", ("k", "readwrite", {}))
    ann = guarded("ann", "ann-pw")
    ann.put("k", "1")
    lease = ann.lease(3)
    root.users.delete("ann")
    error, took = timed(lambda: ann.put("k", "2"))
    assert isinstance(error, errors.AuthFailed)
    assert took < 3, "no loop"
    with pytest.raises(errors.AuthFailed):
        ann.lease(3)
    lease.close()


def test_no_password_is_shown(guarded, caplog):
    root = guarded()
    with caplog.at_level(logging.DEBUG):
        root.users.add("ann", "quite-secret-1")
        root.users.change_password("ann", "quite-secret-2")
        ann = guarded("ann", "quite-secret-2")
        with pytest.raises(errors.PermissionDenied) as caught:
            ann.get("k")
        other = guarded("ann", "quite-secret-3")
        with pytest.raises(errors.AuthFailed) as refused:
            other.get("k")
    shown = " ".join(
        [
            caplog.text,
            repr(ann),
            repr(other),
            repr(caught.value),
            str(refused.value),
            repr(vars(refused.value)),
        ]
    )
    assert "quite-secret" not in shown
    for wrong in (lambda: root.users.add("x", ""), lambda: root.users.change_password("ann", "")):
        with pytest.raises(ValueError, match="password is empty"):
            wrong()


@pytest.mark.slow
def test_leases_of_a_user_are_renewed_while_auth_changes(guarded):
    # R-A1: the token dies with every change of its user, the lease does not.
    root = guarded()
    add_user(root, "ann", ("k", "readwrite", {}))
    ann = guarded("ann", "ann-pw")
    with ann.lease(3) as lease:
        ann.put("k", "1", lease=lease)
        for _ in range(3):
            root.auth.disable()
            time.sleep(0.7)
            root.auth.enable()
            time.sleep(0.7)
        lease.check()
        assert root.get("k").kv.lease == lease.id
