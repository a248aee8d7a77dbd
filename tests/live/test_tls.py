# SPDX-License-Identifier: Apache-2.0
"""TLS with real etcd and with servers that do it wrong; certificates are made for each run."""

from __future__ import annotations

import datetime
import logging
import os
import socket
import ssl
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import purecd
from purecd import errors
from purecd.testing import TlsFiles
from tests.live.fronts import SLACK, Thread, take, timed, together
from tests.support.certificates import Authority
from tests.support.peers import Http1, Peer, Silent
from tests.support.proxy import FaultProxy

MOMENT = 1.0 + SLACK
"""Seconds within which a client that fails fast gives the reason."""


class TlsPeer(Peer):
    """A TLS server that takes what the client says and answers nothing.

    `received` has plain octets only, so it tells whether HTTP/2 began.

    Args:
        context: the server's side of TLS.
    """

    def __init__(self, context):
        super().__init__()
        self._context = context
        self.versions: list[str | None] = []
        self.names: list[str | None] = []
        context.sni_callback = lambda session, name, context: self.names.append(name)

    def talk(self, client):
        session = self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        with session:
            with self._lock:
                self._open.add(session)  # in the place of `client`, which it took the socket from
            session.do_handshake()
            self.versions.append(session.version())
            self._read_all(session)
        with self._lock:
            self._open.discard(session)


def server_context(files, *, alpn=("h2",), ciphers=None, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if ciphers:
        context.set_ciphers(ciphers)
    if version:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of old versions
            context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder):
    """An authority that nobody trusts."""
    return Authority(folder, "stranger")


@pytest.fixture
def tls(authority):
    return purecd.Tls(authority.ca_file)


# What works.


@pytest.mark.every_etcd
def test_server_certificate(front, start_server, authority, tls):
    server = start_server(tls=authority.server())
    for endpoint in (server.endpoint, f"https://localhost:{server.client_port}"):
        client = front.client(endpoint, tls=tls)
        client.put("k", "v")
        assert client.get("k").value == b"v"
    # Without a scheme, TLS is spoken because it is configured.
    assert front.client(f"127.0.0.1:{server.client_port}", tls=tls).get("k").value == b"v"


@pytest.mark.every_etcd
def test_client_certificate(front, start_server, authority):
    cert, key = authority.issue("client", "client.example", common_name="someone")
    server = start_server(tls=authority.server(client_ca=True))
    client = front.client(server.endpoint, tls=purecd.Tls(authority.ca_file, cert, key))
    client.put("k", "v")
    assert client.get("k").value == b"v"


@pytest.mark.every_etcd
def test_the_common_name_is_who_one_is(front, start_server, authority):
    def client_of(name):
        cert, key = authority.issue(f"cn-{name}", "client.example", common_name=name)
        return front.client(server.endpoint, tls=purecd.Tls(authority.ca_file, cert, key))

    server = start_server(tls=authority.server(client_ca=True))
    root = client_of("root")
    root.users.add("root", no_password=True)
    root.roles.add("root")
    root.users.grant_role("root", "root")
    root.users.add("alice", no_password=True)
    root.roles.add("reader")
    root.roles.grant_permission("reader", "a/", prefix=True, allow="read")
    root.users.grant_role("alice", "reader")
    root.auth.enable()
    try:
        root.put("a/k", "v")
        alice = client_of("alice")
        assert alice.get("a/k").value == b"v"
        with pytest.raises(errors.PermissionDenied):
            alice.put("a/k", "w")
        with alice.watch("a/", prefix=True) as watch:
            root.put("a/k", "x")
            assert watch.next(5).value == b"x"
        with pytest.raises(errors.PermissionDenied):
            with client_of("nobody").watch("a/k") as denied:
                denied.next(5)
    finally:
        root.auth.disable()


def test_a_key_with_a_passphrase(front, start_server, authority):
    cert, key = authority.issue("locked", "client.example", common_name="someone", password="opens it")
    server = start_server(tls=authority.server(client_ca=True))
    good = purecd.Tls(authority.ca_file, cert, key, key_password="opens it")
    assert front.client(server.endpoint, tls=good).get("k").header.revision
    for wrong in (None, "opens nothing"):
        bad = purecd.Tls(authority.ca_file, cert, key, key_password=wrong)
        text = refusal(front, server.endpoint, bad)
        assert key in text
        assert "opens" not in text


def test_a_context_of_the_callers_own(front, start_server, authority):
    context = ssl.create_default_context(cafile=authority.ca_file)
    context.load_cert_chain(*authority.issue("own", "client.example", common_name="someone"))
    context.set_alpn_protocols(["http/1.1"])  # the one thing that is not left as it is
    server = start_server(tls=authority.server(client_ca=True))
    assert front.client(server.endpoint, tls=purecd.Tls(context=context)).get("k").header.revision


def test_another_name_may_be_asked_for(front, start_server, authority):
    server = start_server(tls=authority.server("etcd.example"))
    text = refusal(front, server.endpoint, purecd.Tls(authority.ca_file))
    assert "IP address" in text
    named = purecd.Tls(authority.ca_file, server_name="etcd.example")
    assert front.client(server.endpoint, tls=named).get("k").header.revision


def test_names_are_sent_and_addresses_are_not(front, authority, tls):
    with TlsPeer(server_context(authority.server())) as peer:
        for host in ("localhost", "127.0.0.1"):
            endpoint = f"https://{host}:{peer.port}"
            with pytest.raises(errors.DeadlineExceeded):
                front.client(endpoint, tls=tls, dial_timeout=0.3).get("k", timeout=0.2)
        assert set(peer.names) == {"localhost", None}
        assert set(peer.versions) == {"TLSv1.3"}


def test_verification_can_be_switched_off_and_that_is_logged_once(front, start_server, stranger, caplog):
    server = start_server(tls=stranger.server("wrong.example"))
    with caplog.at_level(logging.WARNING, "purecd"):
        client = front.client(server.endpoint, tls=purecd.Tls(insecure_skip_verify=True))
        for _ in range(2):
            assert client.get("k").header.revision
        with client.watch("k"):
            pass
    warned = [each for each in caplog.messages if "insecure_skip_verify" in each]
    assert len(warned) == 1
    assert caplog.records[0].levelno == logging.WARNING


def test_a_key_that_others_may_read_is_told(front, authority, caplog):
    cert, key = authority.issue("open", "client.example", common_name="someone")
    os.chmod(key, 0o644)
    with caplog.at_level(logging.WARNING, "purecd"):
        front.client("https://127.0.0.1:1", tls=purecd.Tls(authority.ca_file, cert, key))
    assert [each for each in caplog.messages if key in each and "readable" in each]


# What is refused.


def refusal(front, endpoint, tls=None):
    """The text with which a client that fails fast refuses to talk to an endpoint."""
    client = front.client(endpoint, tls=tls, fail_fast=True)
    error, took = timed(lambda: client.get("k", timeout=5))
    print(f"{took * 1000:.0f} ms: {error}")
    assert type(error) is errors.TlsError, error
    assert took < MOMENT
    assert not error.maybe_applied
    return str(error)


def certificates(authority, stranger):
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "wrong name": (lambda: authority.server("other.example", "127.0.0.1"), "localhost", "host name"),
        "wrong address": (lambda: authority.server("localhost", "127.0.0.2"), "127.0.0.1", "IP address"),
        "expired": (lambda: authority.server(not_after=now - day), "localhost", "has expired"),
        "unknown": (stranger.server, "localhost", "trusted CA"),
    }


@pytest.mark.parametrize("kind", ["wrong name", "wrong address", "expired", "unknown"])
def test_a_wrong_certificate(front, authority, stranger, tls, kind):
    make, host, check = certificates(authority, stranger)[kind]
    with TlsPeer(server_context(make())) as peer:
        text = refusal(front, f"https://{host}:{peer.port}", tls)
        assert "certificate check failed" in text
        assert check in text
        assert peer.received == b"", "not an octet of HTTP/2"


def test_a_self_signed_certificate(front, start_server):
    server = start_server(tls=True)  # etcd makes one for itself
    assert "self-signed" in refusal(front, server.endpoint)
    client = front.client(server.endpoint, tls=purecd.Tls(str(server.ca_file)))
    try:
        assert client.get("k", timeout=5).header.revision
    except errors.EtcdError as error:  # Python 3.13 checks more, and says which switch that is
        assert "VERIFY_X509_STRICT" in str(error)


def test_a_certificate_that_python_3_13_refuses(front, start_server, authority):
    server = start_server(tls=TlsFiles(*authority.issue_old_style("old", "localhost")))
    endpoint = f"https://localhost:{server.client_port}"
    if sys.version_info >= (3, 13):
        assert "VERIFY_X509_STRICT" in refusal(front, endpoint, purecd.Tls(authority.ca_file))
    context = ssl.create_default_context(cafile=authority.ca_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    assert front.client(endpoint, tls=purecd.Tls(context=context)).get("k").header.revision


def test_the_reason_is_in_the_text_when_the_deadline_passes(front, authority, stranger, tls):
    with TlsPeer(server_context(stranger.server())) as peer:
        client = front.client(f"https://127.0.0.1:{peer.port}", tls=tls)
        error, took = timed(lambda: client.get("k", timeout=0.5))
        assert type(error) is errors.DeadlineExceeded
        assert "trusted CA: the issuer is unknown" in str(error)
        assert isinstance(error.__cause__, errors.TlsError)
        assert took < 0.5 + SLACK
        # A watch does not end for it: the certificate may be replaced at any moment.
        error, _ = timed(lambda: client.watch("k", timeout=0.5))
        assert "trusted CA" in str(error)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)], ids=["none", "http/1.1"])
def test_without_h2_in_alpn(front, authority, tls, alpn):
    with TlsPeer(server_context(authority.server(), alpn=alpn)) as peer:
        assert "ALPN" in refusal(front, f"https://localhost:{peer.port}", tls)
        assert peer.received == b""


def test_tls_1_1(front, authority, tls):
    context = server_context(authority.server(), ciphers="ALL:@SECLEVEL=0", version=ssl.TLSVersion.TLSv1_1)
    with TlsPeer(context) as peer:
        assert "protocol version" in refusal(front, f"https://localhost:{peer.port}", tls)
        assert not peer.versions


def test_cipher_suites_without_authentication(front, authority, tls):
    # RFC 9113 §9.2.2: CBC suites are on its list of prohibited ones.
    context = server_context(
        authority.server(), ciphers="ECDHE+AES+SHA256:ECDHE+AES+SHA:!AESGCM", version=ssl.TLSVersion.TLSv1_2
    )
    with TlsPeer(context) as peer:
        assert "ciphers" in refusal(front, f"https://localhost:{peer.port}", tls)
        assert not peer.versions


def test_tls_1_2_with_a_good_cipher_suite(front, start_server, authority, tls):
    server = start_server(
        tls=authority.server(), args=["--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    )
    assert front.client(server.endpoint, tls=tls).get("k").header.revision


def test_a_handshake_that_does_not_end(front, tls):
    with Silent() as peer:
        client = front.client(f"https://{peer.endpoint}", tls=tls, dial_timeout=0.3, fail_fast=True)
        error, took = timed(lambda: client.get("k", timeout=5))
        assert "dial timeout" in str(error)
        assert 0.25 < took < 0.3 + SLACK


def test_no_client_certificate_where_one_is_wanted(front, start_server, authority, stranger):
    server = start_server(tls=authority.server(client_ca=True))
    assert "client certificate" in refusal(front, server.endpoint, purecd.Tls(authority.ca_file))
    cert, key = stranger.issue("client", "client.example", common_name="someone")
    # TLS 1.3 has Go refuse only after its own end of the handshake.
    assert "client certificate" in refusal(front, server.endpoint, purecd.Tls(authority.ca_file, cert, key))


@pytest.mark.every_etcd
def test_tls_where_there_is_none(front, server, tls):
    endpoint = server.endpoint.replace("http://", "https://")
    assert "may not speak TLS" in refusal(front, endpoint, tls)


def test_tls_where_http1_is_spoken(front, tls):
    with Http1() as peer:
        assert "does not speak TLS" in refusal(front, f"https://{peer.endpoint}", tls)


@pytest.mark.every_etcd
def test_no_tls_where_there_is_some(front, start_server, authority):
    server = start_server(tls=authority.server())
    client = front.client(server.endpoint.replace("https://", "http://"), fail_fast=True)
    error, took = timed(lambda: client.get("k", timeout=5))
    assert "https://" in str(error).replace(server.endpoint, "")
    assert isinstance(error, errors.Unavailable)
    assert took < MOMENT


def test_no_tls_where_a_strict_server_has_some(front, authority):
    # Python's server, like many, answers with an alert.
    with TlsPeer(server_context(authority.server())) as peer:
        client = front.client(f"http://localhost:{peer.port}", fail_fast=True)
        error, _ = timed(lambda: client.get("k", timeout=5))
        assert "TLS" in str(error)
        assert "https://" in str(error)


def test_https_never_becomes_http(front, start_server, authority, tls):
    plain = start_server()
    secure = f"https://127.0.0.1:{plain.client_port}"
    client = front.client(secure, tls=tls)
    with pytest.raises(errors.DeadlineExceeded):
        client.put("k", "v", timeout=0.5)
    assert front.client(plain.endpoint).get("k").kv is None


def test_each_endpoint_has_its_own_scheme(front, start_server, authority, tls):
    secure, plain = start_server(tls=authority.server()), start_server()
    with FaultProxy(secure.endpoint) as proxy:
        for endpoints in (
            [secure.endpoint, plain.endpoint],
            [plain.endpoint, secure.endpoint],
            [f"http://127.0.0.1:{secure.client_port}", f"https://{proxy.endpoint.rpartition('/')[2]}"],
        ):
            client = front.client(endpoints, tls=tls)
            assert client.get("k", timeout=5).header.revision


# Files that change.


def test_certificates_are_read_again_for_each_connection(front, start_server, authority, stranger, tmp_path):
    def install(pair):
        for path, name in zip(pair, ("c.pem", "k.pem")):
            fresh = tmp_path / "fresh"
            fresh.write_bytes(Path(path).read_bytes())
            fresh.replace(tmp_path / name)

    good = authority.issue("rotating", "client.example", common_name="someone")
    server = start_server(tls=authority.server(client_ca=True))
    install(good)
    files = (authority.ca_file, str(tmp_path / "c.pem"), str(tmp_path / "k.pem"))
    with FaultProxy(server.endpoint) as proxy:
        client = front.client(f"https://127.0.0.1:{proxy.port}", tls=purecd.Tls(*files), fail_fast=True)
        client.put("k", "1")
        install(stranger.issue("rotating", "client.example", common_name="someone"))
        assert client.get("k").value == b"1", "a connection that is up goes on"
        proxy.drop()
        error, _ = timed(lambda: [client.get("k", timeout=1) for _ in range(20)])
        assert "client certificate" in str(error)
        # Half of a pair: the text names the file.
        (tmp_path / "k.pem").write_bytes(Path(good[1]).read_bytes()[:100])
        error, _ = timed(lambda: [client.get("k", timeout=1) for _ in range(20)])
        assert str(tmp_path / "k.pem") in str(error)
        install(good)
        deadline = time.monotonic() + 8
        while True:
            try:
                assert client.get("k", timeout=5).value == b"1"
                break
            except errors.EtcdError:
                assert time.monotonic() < deadline


def test_half_written_files_are_waited_for(front, start_server, authority, tmp_path):
    cert, key = (Path(each) for each in authority.issue("late", "client.example", common_name="someone"))
    whole = key.read_bytes()
    key.write_bytes(whole[:50])
    server = start_server(tls=authority.server(client_ca=True))
    client = front.client(server.endpoint, tls=purecd.Tls(authority.ca_file, str(cert), str(key)))
    reader = Thread(client.get, "k")
    time.sleep(0.3)
    assert not reader.done
    key.write_bytes(whole)
    assert reader.result(8).header.revision


def test_files_that_are_not_there(front, server, tmp_path, authority):
    nowhere = str(tmp_path / "nowhere.pem")
    cert, key = authority.issue("there", "client.example", common_name="someone")
    endpoint = server.endpoint.replace("http://", "https://")
    for tls in (purecd.Tls(nowhere), purecd.Tls(authority.ca_file, cert, nowhere)):
        text = refusal(front, endpoint, tls)
        assert nowhere in text
        assert "No such file" in text
    text = refusal(front, endpoint, purecd.Tls(key))
    assert f"{key} holds no certificate" in text


# Life over TLS.


@pytest.mark.every_etcd
def test_a_watch_over_tls_when_the_member_restarts(front, start_server, authority, tls, prefix):
    # On this listener a stopping etcd ends streams without trailers.
    server = start_server(tls=authority.server())
    client = front.client(server.endpoint, tls=tls)
    with client.watch(prefix, prefix=True) as watch:
        for ending in ("terminate", "kill"):
            client.put(prefix + "k", ending + "1")
            assert take(watch, 1)[0].value.decode() == ending + "1"
            getattr(server, ending)()
            server.kill()
            server.start()
            client.put(prefix + "k", ending + "2")
            assert take(watch, 1)[0].value.decode() == ending + "2"


@pytest.mark.every_etcd
def test_more_calls_than_streams(front, start_server, authority, tls, prefix):
    # 3.5.1 has 250 streams for one connection over TLS, and breaks the calls above that.
    server = start_server(tls=authority.server())
    client = front.client(server.endpoint, tls=tls)
    watches = [client.watch(f"{prefix}{index}") for index in range(5)]
    replies = together(300, lambda index: client.put(f"{prefix}{index}", str(index), timeout=20))
    assert len({reply.header.revision for reply in replies}) == 300
    for index, watch in enumerate(watches):
        assert watch.next(5).value == str(index).encode()
        watch.close()


def test_large_messages_over_tls(front, start_server, authority, tls, prefix):
    server = start_server(tls=authority.server())
    client = front.client(server.endpoint, tls=tls)
    value = os.urandom(1_200_000)
    for index in range(4):
        client.put(f"{prefix}{index}", value)
    assert [kv.value for kv in client.get(prefix, prefix=True).kvs] == [value] * 4


# Unix sockets.


@pytest.fixture
def short_folder(tmp_path_factory):
    """A folder whose path leaves room for the name of a socket."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="u") as name:
        yield Path(name)


class UnixDoor:
    """Carries connections from a unix socket to a TCP port, until the ``with`` block ends."""

    def __init__(self, path, port):
        self._path, self._port = path, port
        self._sockets = []

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

    def _accept(self):
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            outside = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [inside, outside]
            for source, target in ((inside, outside), (outside, inside)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source, target):
        with source:
            try:
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the other side has ended


def test_unix_socket(front, server, short_folder, prefix):
    path = short_folder / "etcd:0"
    with UnixDoor(path, server.client_port):
        client = front.client(f"unix://{path}")
        written = client.put(prefix + "k", "v").header.revision
        with client.watch(prefix, prefix=True, start_revision=written) as watch:
            assert watch.next(5).value == b"v"
        client.close()


def test_unix_socket_with_tls(front, start_server, authority, tls, short_folder):
    # The name in the certificate is the socket's, without what looks like a port.
    path = short_folder / "localhost:0"
    server = start_server(tls=authority.server())
    with UnixDoor(path, server.client_port):
        client = front.client(f"unixs://{path}", tls=tls)
        assert client.get("k").header.revision
        client.close()
        wrong = short_folder / "other:0"
        path.rename(wrong)
        assert "host name" in refusal(front, f"unixs://{wrong}", tls)


def test_unix_socket_that_is_not_there(front, short_folder):
    client = front.client(f"unix://{short_folder}/none", fail_fast=True)
    error, _ = timed(lambda: client.get("k", timeout=5))
    assert type(error) is errors.Unavailable
    assert "No such file" in str(error)


@pytest.mark.every_etcd
def test_unix_socket_of_etcd_itself(front, etcd, start_server, short_folder):
    path = short_folder / "s:0"
    if tuple(map(int, etcd.version.split(".")[:2])) < (3, 7):
        pytest.skip("etcd before 3.7 does not serve its API on unix sockets")
    server = start_server(args=[f"--listen-client-urls=unix://{path}"])
    client = front.client(f"unix://{path}")
    client.put("k", "v")
    assert client.get("k").value == b"v"
    client.close()
    assert server.running
