# SPDX-License-Identifier: Apache-2.0
"""Sockets, with TLS and without, of clients that are slow or no clients at all."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl

import pytest

import purecd
from purecd import errors
from purecd.memory import MemoryEtcd
from purecd.memory.connection import ServerConnection
from purecd.memory.frames import PREFACE
from purecd.memory.sockets import MOST_UNSENT, SocketPeer
from tests.memory.echoing import Echo
from tests.memory.test_connection import request
from tests.wire import peer

PATIENCE = 20.0
SETTINGS = peer.frame(peer.SETTINGS, 0, 0)
PING = peer.frame(peer.PING, 0, 0, b"12345678")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    from tests.support.certificates import Authority

    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", "127.0.0.1"))
    return context


def test_tls(authority, context):
    with MemoryEtcd(tls=context) as server:
        assert server.endpoint.startswith("https://")
        with purecd.Client(server.endpoint, tls=purecd.Tls(authority.ca_file)) as client:
            client.put("k", b"v" * 1_000_000)
            assert client.get("k").value == b"v" * 1_000_000


def test_the_common_name_of_a_client_is_its_user(authority, context):
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_file)
    tls = {
        name: purecd.Tls(authority.ca_file, *authority.issue(name, f"{name}.example", common_name=name))
        for name in ("root", "bob")
    }
    with MemoryEtcd(tls=context) as server:
        with purecd.Client(server.endpoint, tls=tls["root"]) as root:
            root.roles.add("root")
            root.users.add("root", no_password=True)
            root.users.grant_role("root", "root")
            root.auth.enable()
            root.put("k", "v")
            with (
                purecd.Client(server.endpoint, tls=tls["bob"]) as bob,
                pytest.raises(errors.PermissionDenied),
            ):
                bob.get("k")
        with pytest.raises(errors.EtcdError):
            with purecd.Client(server.endpoint, tls=purecd.Tls(authority.ca_file)) as nobody:
                nobody.get("k", timeout=1.0)


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_who_does_not_ask_for_http2_is_not_served(authority, context, alpn):
    with MemoryEtcd(tls=context) as server:
        asking = ssl.create_default_context(cafile=authority.ca_file)
        if alpn:
            asking.set_alpn_protocols([alpn])
        with socket.create_connection(("127.0.0.1", server.client_port), timeout=PATIENCE) as plain:
            try:
                with asking.wrap_socket(plain, server_hostname="127.0.0.1") as session:
                    assert session.recv(100) == b""
            except (ssl.SSLError, ConnectionError):
                pass  # the other way to be turned away
        with purecd.Client(server.endpoint, tls=purecd.Tls(authority.ca_file)) as client:
            assert client.get("k").count == 0


def test_a_tls_client_that_says_nonsense(authority, context):
    with MemoryEtcd(tls=context) as server:
        with socket.create_connection(("127.0.0.1", server.client_port), timeout=PATIENCE) as plain:
            plain.sendall(PREFACE)
            until_eof(plain)
        with purecd.Client(server.endpoint, tls=purecd.Tls(authority.ca_file)) as client:
            assert client.get("k").count == 0


@pytest.fixture
def server():
    with MemoryEtcd() as server:
        yield server


def connect(server):
    sock = socket.create_connection(("127.0.0.1", server.client_port), timeout=PATIENCE)
    sock.sendall(PREFACE + SETTINGS)
    return sock


def until_eof(sock):
    found = b""
    try:
        while data := sock.recv(65_536):
            found += data
    except ConnectionResetError:
        pass
    return found


def test_who_does_not_speak_http2_is_closed(server):
    with socket.create_connection(("127.0.0.1", server.client_port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert [each.kind for each in peer.parse(until_eof(sock))] == [peer.SETTINGS]


def test_too_many_pings_end_with_goaway(server):
    with connect(server) as sock:
        sock.sendall(PING * 4)
        kinds = [each.kind for each in peer.parse(until_eof(sock))]
        assert kinds[-1] == peer.GOAWAY
        assert kinds.count(peer.PING) == 4


def test_a_client_that_never_reads_stalls_nobody_else(server):
    """It opens its windows wide and asks again and again for a big value."""
    with purecd.Client(server.endpoint, timeout=PATIENCE) as client:
        client.put("big", b"v" * 1_000_000)
        wide = peer.frame(peer.SETTINGS, 0, 0, peer.setting(4, 2**31 - 1))
        wide += peer.frame(peer.WINDOW_UPDATE, 0, 0, peer.u32(2**31 - 65_536))
        message = b"\0\0\0\0\5\x0a\3big"
        with connect(server) as sock:
            sock.sendall(wide + b"".join(request(each, message) for each in range(1, 61, 2)))
            for _ in range(20):
                assert client.get("big").count == 1
            assert len(read_replies(sock, 30)) > 30_000_000


def read_replies(sock, count):
    """Octets up to the end of so many calls."""
    found = bytearray()
    seen = at = 0
    while seen < count:
        data = sock.recv(1 << 20)
        assert data
        found += data
        while len(found) >= at + 9 and len(found) >= at + 9 + int.from_bytes(found[at : at + 3], "big"):
            head = found[at : at + 9]
            seen += head[3] == peer.HEADERS and bool(head[4] & peer.END_STREAM)
            at += 9 + int.from_bytes(head[:3], "big")
    return bytes(found[:at])


def test_who_provokes_replies_and_reads_none_is_not_read_from():
    """Each SETTINGS is answered; with nobody reading, the server stops taking them in."""
    near, far = socket.socketpair()
    with far:
        for each in (near, far):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        far.setblocking(False)
        peer_of = SocketPeer(near, None, lambda name, told: ServerConnection(Echo()), lambda peer: None)
        far.send(PREFACE)
        for _ in range(1000):
            with contextlib.suppress(BlockingIOError):
                while True:
                    far.send(SETTINGS * 400)
            peer_of.receive(0.0)
            peer_of.flush(0.0)
            if not peer_of.wants & selectors.EVENT_READ:
                break
        assert peer_of.wants == selectors.EVENT_WRITE
        assert MOST_UNSENT < peer_of.connection.unsent < 2 * MOST_UNSENT + 100
        with contextlib.suppress(BlockingIOError):
            while far.recv(65_536):
                peer_of.flush(0.0)
        assert peer_of.wants == selectors.EVENT_READ
        peer_of.close()


def test_a_socket_that_broke_ends():
    near, far = socket.socketpair()
    peer_of = SocketPeer(near, None, lambda name, told: ServerConnection(Echo()), lambda peer: None)
    far.close()
    peer_of.flush(0.0)
    peer_of.receive(0.0)
    peer_of.flush(0.0)
    assert peer_of.ended
    assert peer_of.connection.closed
    peer_of.close()
