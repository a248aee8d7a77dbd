# SPDX-License-Identifier: Apache-2.0
"""Tokens that die under running watches: auth disabled, members restarted, tokens expired.

An etcd without the server-side fix (3.5.1, say) answers a new watch of a client that still sends
its dead token with PermissionDenied. What each release answers is table 6.7.1 of the behaviour
notes, what must come of it 6.7.4: permitted watches live on, forbidden ones fail, and a burst of
rejections costs one Authenticate. With ``--all-etcds`` all of it runs on every release present.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import purecd
from purecd import errors
from tests.live.fronts import Thread, take

ROOT: dict[str, Any] = {"user": "root", "password": "root-pw"}
BOB: dict[str, Any] = {"user": "bob", "password": "bob-pw"}


def give_out_rights(server, permissions=(("b/", "readwrite"),)):
    """Users root and bob; bob may use what lies below the given prefixes."""
    admin = purecd.Client(server.endpoint)
    admin.users.add("root", ROOT["password"])
    admin.roles.add("root")
    admin.users.grant_role("root", "root")
    admin.users.add("bob", BOB["password"])
    admin.roles.add("bobs")
    for prefix, allow in permissions:
        admin.roles.grant_permission("bobs", prefix, prefix=True, allow=allow)
    admin.users.grant_role("bob", "bobs")
    admin.auth.enable()
    admin.close()


@pytest.fixture
def guarded(start_server):
    """A server with auth on, and a client of its root user."""
    made = []

    def make(**options):
        server = start_server(**options)
        give_out_rights(server)
        root = purecd.Client(server.endpoint, **ROOT)
        made.append(root)
        return server, root

    yield make
    for client in made:
        client.close()


def authenticates(server):
    """How many Authenticate calls the member has got since it started."""
    return server.metric("grpc_server_started_total", grpc_method="Authenticate")


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_watch_survives_auth_disabled_and_a_restart(front, guarded, ending):
    server, root = guarded()
    bob = front.client(server.endpoint, **BOB)
    with bob.watch("b/", prefix=True) as watch:
        root.put("b/1", "before")
        assert [event.value for event in take(watch, 1)] == [b"before"]
        root.auth.disable()
        root.put("b/1", "disabled")
        assert [event.value for event in take(watch, 1)] == [b"disabled"]
        getattr(server, ending)()
        server.start()
        root.put("b/1", "after")
        assert [event.value for event in take(watch, 1)] == [b"after"]
        with pytest.raises(TimeoutError):
            watch.next(timeout=0.3)


@pytest.mark.every_etcd
def test_a_second_watch_on_the_live_stream_after_auth_was_disabled(front, guarded):
    server, root = guarded()
    bob = front.client(server.endpoint, **BOB)
    with bob.watch("b/1") as first:
        root.auth.disable()
        before = authenticates(server)
        started = time.monotonic()
        with bob.watch("b/2") as second:
            assert time.monotonic() - started < 5
            root.put("b/1", "one")
            root.put("b/2", "two")
            assert [event.value for event in take(first, 1)] == [b"one"]
            assert [event.value for event in take(second, 1)] == [b"two"]
        # Root's own client may log in again, too.
        assert authenticates(server) - before <= 2


def test_a_token_expires_while_a_watch_lives(front, guarded):
    server, root = guarded(args=["--auth-token-ttl", "2"])
    bob = front.client(server.endpoint, **BOB)
    with bob.watch("b/1") as first:
        time.sleep(3.5)
        before = authenticates(server)
        with bob.watch("b/2") as second:
            assert authenticates(server) - before == 1
            root.put("b/1", "one")
            root.put("b/2", "two")
            assert [event.value for event in take(first, 1)] == [b"one"]
            assert [event.value for event in take(second, 1)] == [b"two"]


def test_a_forbidden_watch_fails_and_the_others_live(front, guarded):
    server, root = guarded()
    bob = front.client(server.endpoint, **BOB)
    with bob.watch("b/1") as watch:
        before = authenticates(server)
        for _ in range(5):
            with pytest.raises(errors.PermissionDenied):
                bob.watch("forbidden")
        assert authenticates(server) == before
        root.put("b/1", "alive")
        assert [event.value for event in take(watch, 1)] == [b"alive"]


def test_a_permission_that_was_revoked_ends_that_watch_alone(front, start_server):
    server = start_server()
    give_out_rights(server, [("b/", "readwrite"), ("c/", "read")])
    root = purecd.Client(server.endpoint, **ROOT)
    bob = front.client(server.endpoint, **BOB)
    with root, bob.watch("b/", prefix=True) as kept, bob.watch("c/", prefix=True) as lost:
        root.roles.revoke_permission("bobs", "c/", prefix=True)
        server.restart()
        with pytest.raises(errors.PermissionDenied):
            lost.next(timeout=10)
        root.put("b/1", "kept")
        assert [event.value for event in take(kept, 1)] == [b"kept"]


def test_a_changed_password_ends_the_watch_without_a_loop(front, guarded):
    server, root = guarded()
    bob = front.client(server.endpoint, **BOB)
    with bob.watch("b/", prefix=True) as watch:
        root.users.change_password("bob", "another")
        server.restart()
        with pytest.raises(errors.AuthFailed):
            watch.next(timeout=10)
        time.sleep(0.5)
        assert authenticates(server) <= 5


def test_auth_disabled_and_enabled_again_under_a_watch(front, guarded):
    server, root = guarded()
    bob = front.client(server.endpoint, **BOB)
    with bob.watch("b/1") as first:
        root.auth.disable()
        with bob.watch("b/2") as second:
            root.auth.enable()
            with bob.watch("b/3") as third:
                for number, watch in ((1, first), (2, second), (3, third)):
                    root.put(f"b/{number}", "on again")
                    assert [event.key for event in take(watch, 1)] == [b"b/%d" % number]
                with pytest.raises(errors.PermissionDenied):
                    bob.watch("forbidden")


def test_calls_of_many_threads_share_one_refresh(front, guarded):
    server, _ = guarded(args=["--auth-token-ttl", "2"])
    bob = front.client(server.endpoint, **BOB)
    bob.put("b/n", "0")
    time.sleep(3.5)
    before = authenticates(server)
    readers = [Thread(bob.get, "b/n") for _ in range(32)]
    assert {reader.result().value for reader in readers} == {b"0"}
    assert authenticates(server) - before == 1


def test_calls_when_auth_is_disabled_and_enabled(front, guarded):
    server, root = guarded()
    bob = front.client(server.endpoint, **BOB)
    assert bob.put("b/n", "1").header.revision
    root.auth.disable()
    assert bob.get("b/n").value == b"1"
    bob.put("b/n", "2")
    root.auth.enable()
    bob.put("b/n", "3")
    assert bob.get("b/n").value == b"3"
    with pytest.raises(errors.PermissionDenied):
        bob.get("forbidden")
    server.restart()
    assert bob.get("b/n").value == b"3"


def test_auth_enabled_while_a_client_without_credentials_lives(front, start_server):
    server = start_server()
    anybody = front.client(server.endpoint)
    anybody.put("b/1", "0")
    with anybody.watch("b/1") as watch:
        give_out_rights(server)
        with pytest.raises(errors.UserEmpty):
            anybody.get("b/1")
        # 3.5.1 calls it PermissionDenied, the others UserEmpty.
        with pytest.raises((errors.UserEmpty, errors.PermissionDenied)):
            anybody.watch("b/2")
        with purecd.Client(server.endpoint, **ROOT) as root:
            root.put("b/1", "still seen")
        assert [event.value for event in take(watch, 1)] == [b"still seen"]


@pytest.mark.slow
def test_nothing_is_lost_or_repeated_while_auth_flips_and_members_restart(front, start_server, etcd):
    """25 s of auth switched off and on, restarts, puts and new watches, with tokens of 2 s."""
    seconds = 12.0
    server = start_server(args=["--auth-token-ttl", "2"])
    give_out_rights(server)
    root = purecd.Client(server.endpoint, **ROOT, timeout=20)
    bob = front.client(server.endpoint, **BOB, timeout=20)
    watches = [bob.watch("b/", prefix=True)]
    over = threading.Event()
    written: list[tuple[bytes, int | None]] = []

    def write():
        number = 0
        while not over.is_set():
            number += 1
            value = b"%d" % number
            try:
                reply = root.put("b/n", value)
            except errors.EtcdError as error:
                if error.maybe_applied:
                    written.append((value, None))
                continue
            written.append((value, reply.header.revision))
            time.sleep(0.01)

    writer = Thread(write)
    until = time.monotonic() + seconds
    step = 0
    while time.monotonic() < until:
        step += 1
        if step % 3 == 1:
            root.auth.disable()
        elif step % 3 == 2:
            watches.append(bob.watch("b/", prefix=True))
            server.restart()
        else:
            root.auth.enable()
            watches.append(bob.watch("b/", prefix=True))
        time.sleep(0.3)
    root.auth.enable()
    over.set()
    writer.result()
    last = root.put("b/n", "end").header.revision
    for watch in watches:
        seen: list[purecd.Event] = []
        while not seen or seen[-1].kv.mod_revision < last:
            seen.append(watch.next(timeout=15))
        revisions = [event.kv.mod_revision for event in seen]
        assert revisions == sorted(set(revisions)), "in order, each once"
        sure = {value: revision for value, revision in written if revision is not None}
        got = {event.kv.mod_revision for event in seen}
        first = revisions[0]
        missing = [revision for revision in sure.values() if revision >= first and revision not in got]
        assert not missing
        watch.close()
    root.close()
    print(f"{etcd.version}: {len(watches)} watches, {len(written)} puts, {step} steps")
