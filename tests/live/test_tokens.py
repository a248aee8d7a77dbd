# SPDX-License-Identifier: Apache-2.0
"""Tokens of the caller's own (JWT), clusters that restart one by one, and no credentials at all."""

from __future__ import annotations

import time

import pytest

import purecd
from purecd import errors
from tests.live.etcds import QUICK
from tests.live.fronts import take
from tests.live.test_seed_case import BOB, ROOT, give_out_rights
from tests.support.proxy import FaultProxy


@pytest.fixture
def jwt_flags(tmp_path):
    """Flags for JWT tokens that live so many seconds."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )

    def flags(seconds):
        return ["--auth-token", f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl={seconds}s"]

    return flags


def token_of(server, credentials):
    """A token as somebody else would hand it to a program."""
    with purecd.Client(server.endpoint, **credentials) as client:
        client.get("b/")
        link = client._drivers["calls"].channel.current
        assert link is not None
        return link.token.decode()


def test_a_jwt_of_the_callers_own(front, start_server, jwt_flags):
    server = start_server(args=jwt_flags(600))
    give_out_rights(server)
    token = token_of(server, BOB)
    bob = front.client(server.endpoint, token=token)
    bob.put("b/1", "1")
    with bob.watch("b/", prefix=True) as watch:
        bob.put("b/1", "2")
        assert [event.value for event in take(watch, 1)] == [b"2"]
        with pytest.raises(errors.PermissionDenied):
            bob.get("forbidden")
        server.restart()  # a JWT outlives it
        bob.put("b/1", "3")
        assert [event.value for event in take(watch, 1)] == [b"3"]


def test_an_expired_jwt_is_an_error_while_auth_is_on_and_none_while_it_is_off(front, start_server, jwt_flags):
    server = start_server(args=jwt_flags(3))
    give_out_rights(server)
    root = purecd.Client(server.endpoint, **ROOT)
    bob = front.client(server.endpoint, token=token_of(server, BOB))
    with root, bob.watch("b/1") as first:
        time.sleep(4)
        with pytest.raises((errors.InvalidAuthToken, errors.PermissionDenied)):
            bob.watch("b/2")
        with pytest.raises(errors.InvalidAuthToken):
            bob.get("b/1")
        root.put("b/1", "the first one lives")
        assert [event.value for event in take(first, 1)] == [b"the first one lives"]
        root.auth.disable()
        with bob.watch("b/2") as second:
            bob.put("b/2", "no token needed")
            assert [event.value for event in take(second, 1)] == [b"no token needed"]
            root.put("b/1", "still")
            assert [event.value for event in take(first, 1)] == [b"still"]


def test_a_jwt_older_than_a_change_of_users(front, start_server, jwt_flags):
    server = start_server(args=jwt_flags(600))
    give_out_rights(server)
    root = purecd.Client(server.endpoint, **ROOT)
    fixed = front.client(server.endpoint, token=token_of(server, BOB))
    renewing = front.client(server.endpoint, **BOB)
    with root:
        renewing.put("b/1", "1")
        root.users.add("eve", "eve-pw")
        with pytest.raises(errors.AuthOldRevision):
            fixed.get("b/1")
        assert renewing.get("b/1").value == b"1", "with a password a newer token is fetched"
        with renewing.watch("b/1") as watch:
            root.users.delete("eve")
            with renewing.watch("b/2") as second:
                renewing.put("b/1", "2")
                renewing.put("b/2", "2")
                assert [event.value for event in take(watch, 1)] == [b"2"]
                assert [event.value for event in take(second, 1)] == [b"2"]


@pytest.mark.slow
def test_a_rolling_restart_of_three_members_with_tokens(front, start_cluster):
    cluster = start_cluster(3)
    give_out_rights(cluster.members[0])
    root = purecd.Client(cluster.endpoints, **ROOT, timeout=20)
    bob = front.client(cluster.endpoints, **BOB, timeout=20)
    with root, bob.watch("b/", prefix=True) as watch:
        number = 0
        for disabled in (False, True):
            if disabled:
                root.auth.disable()
            for member in cluster.rolling_restart():
                number += 1
                last = root.put("b/n", str(number), idempotent=True).header.revision
                seen: list[purecd.Event] = []
                while not seen or seen[-1].kv.mod_revision < last:
                    seen.append(watch.next(timeout=15))
                assert [event.value for event in seen] == [b"%d" % number], member
        assert bob.get("b/n").value == b"6"


def test_a_token_of_a_restored_cluster_does_not_hang_the_client(front, start_server):
    """Its raft index lies in the future: members wait for it, without end, before they answer."""
    server = start_server()
    give_out_rights(server)
    bob = front.client(server.endpoint, token="abcdefghijklmnop.99999999", timeout=2)
    started = time.monotonic()
    with pytest.raises(errors.EtcdError):
        bob.get("b/1")
    assert time.monotonic() - started < 6


@pytest.mark.slow
def test_a_new_connection_reads_by_itself_while_nobody_can_log_in(front, start_cluster, prefix):
    # Authenticate goes through the log: without a quorum it is answered after 7 s. The last token, which
    # every member knows, will do for reads that need none.
    cluster = start_cluster(3, args=QUICK)
    survivor, *others = cluster.members
    with purecd.Client(cluster.endpoints) as admin:
        admin.put(prefix, "v")
        admin.users.add("root", "secret")
        admin.users.grant_role("root", "root")
        admin.auth.enable()
    with FaultProxy(survivor.endpoint) as proxy:
        client = front.client(proxy.endpoint, user="root", password="secret", dial_timeout=3.0)
        assert client.get(prefix).value == b"v"
        for member in others:
            member.kill()
        proxy.reset()
        started = time.monotonic()
        assert client.get(prefix, serializable=True, timeout=10).value == b"v"
        took = time.monotonic() - started
        assert took < 1.5 + 2
        print(f"read on a new connection without a quorum after {took:.2f} s")
        for member in others:
            member.start(wait=False)
        assert client.put(prefix, "w", timeout=20).header.revision
