# SPDX-License-Identifier: Apache-2.0
"""TLS against Python's own server side, in memory."""

from __future__ import annotations

import datetime
import ssl
import subprocess
import sys

import pytest

from purecd.errors import TlsError, Unavailable
from purecd.wire.tls import TlsPipe

trustme = pytest.importorskip("trustme")


class Server:
    """The server's end of a session, on memory buffers."""

    def __init__(self, certificate, alpn=("h2",), client_ca=None, versions=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if client_ca is not None:
            client_ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        if versions:
            context.minimum_version = context.maximum_version = versions
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.done = False
        self.names: list[str | None] = []
        context.sni_callback = lambda session, name, context: self.names.append(name)
        self.plain = b""
        self.error = None

    def receive(self, cipher):
        self.incoming.write(cipher)
        try:
            if not self.done:
                self.session.do_handshake()
                self.done = True
            while True:
                octets = self.session.read(65536)
                if not octets:
                    return
                self.plain += octets
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error


def carry(pipe, server, cut=1 << 20):
    """Carry octets both ways until nothing moves; returns what the client got."""
    got = b""
    while True:
        out = pipe.data_to_send()
        if out:
            server.receive(out)
        back = server.outgoing.read()
        for at in range(0, len(back), cut):
            got += pipe.receive_data(back[at : at + cut])
        if not out and not back:
            return got


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("etcd.example", "127.0.0.1", "::1")


def client_context(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("cut", [1 << 20, 1])
@pytest.mark.parametrize("name", ["etcd.example", "127.0.0.1", "::1"])
def test_octets_both_ways(authority, certificate, name, cut):
    pipe, server = TlsPipe(client_context(authority), name), Server(certificate)
    assert not pipe.handshake_done
    assert carry(pipe, server, cut) == b""
    assert pipe.handshake_done
    assert server.names == [name if name == "etcd.example" else None]
    pipe.send(b"request" * 10_000)
    server.session.write(b"reply" * 10_000)
    assert carry(pipe, server, cut) == b"reply" * 10_000
    assert server.plain == b"request" * 10_000


def test_what_is_sent_early_follows_the_handshake(authority, certificate):
    pipe, server = TlsPipe(client_context(authority), "etcd.example"), Server(certificate)
    pipe.send(b"early")
    carry(pipe, server)
    assert server.plain == b"early"


@pytest.mark.parametrize("alpn, found", [((), "chose nothing"), (("http/1.1",), "chose nothing")])
def test_alpn_must_be_h2(authority, certificate, alpn, found):
    # C3, K14: Python itself goes on in both cases.
    pipe, server = TlsPipe(client_context(authority), "etcd.example"), Server(certificate, alpn)
    pipe.send(b"secret")
    with pytest.raises(TlsError, match="ALPN") as caught:
        carry(pipe, server)
    assert not pipe.handshake_done
    server.receive(pipe.data_to_send())
    assert server.plain == b""
    assert found in str(caught.value) or "does not offer h2" in str(caught.value)


def failure(pipe, server):
    with pytest.raises(TlsError) as caught:
        carry(pipe, server)
    assert isinstance(caught.value, Unavailable)
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert not pipe.handshake_done
    return str(caught.value)


def test_wrong_name(authority, certificate):
    text = failure(TlsPipe(client_context(authority), "other.example"), Server(certificate))
    assert "certificate check failed: host name" in text
    assert "other.example" in text


def test_wrong_address(authority, certificate):
    text = failure(TlsPipe(client_context(authority), "127.0.0.2"), Server(certificate))
    assert "certificate check failed: IP address" in text


def test_unknown_authority(certificate):
    text = failure(TlsPipe(ssl.create_default_context(), "etcd.example"), Server(certificate))
    assert "certificate check failed: trusted CA" in text


def test_expired(authority):
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    expired = authority.issue_cert("etcd.example", not_after=yesterday)
    text = failure(TlsPipe(client_context(authority), "etcd.example"), Server(expired))
    assert "validity period: the certificate has expired" in text


def test_server_wants_a_client_certificate(authority, certificate):
    pipe = TlsPipe(client_context(authority), "etcd.example")
    server = Server(certificate, client_ca=authority)
    with pytest.raises(TlsError, match="client certificate"):
        carry(pipe, server)
    server = Server(certificate, client_ca=authority, versions=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(TlsError, match="client certificate"):
        carry(TlsPipe(client_context(authority), "etcd.example"), server)


def test_client_certificate(authority, certificate):
    context = client_context(authority)
    authority.issue_cert("client").configure_cert(context)
    pipe, server = TlsPipe(context, "etcd.example"), Server(certificate, client_ca=authority)
    carry(pipe, server)
    assert pipe.handshake_done
    assert server.error is None


def test_plaintext_server(authority):
    for octets in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"):
        pipe = TlsPipe(client_context(authority), "etcd.example")
        with pytest.raises(TlsError, match="TLS handshake failed: the server does not speak TLS"):
            pipe.receive_data(octets)


def test_end_of_file_in_the_handshake(authority):
    pipe = TlsPipe(client_context(authority), "etcd.example")
    with pytest.raises(TlsError, match="closed the connection"):
        pipe.receive_eof()


def test_end_of_file_later_is_no_error(authority, certificate):
    pipe, server = TlsPipe(client_context(authority), "etcd.example"), Server(certificate)
    carry(pipe, server)
    pipe.receive_eof()


def test_damaged_record(authority, certificate):
    pipe, server = TlsPipe(client_context(authority), "etcd.example"), Server(certificate)
    carry(pipe, server)
    server.session.write(b"reply")
    record = bytearray(server.outgoing.read())
    record[-1] ^= 1
    with pytest.raises(TlsError, match="TLS session failed"):
        pipe.receive_data(bytes(record))


def test_close_notify_both_ways(authority, certificate):
    pipe, server = TlsPipe(client_context(authority), "etcd.example"), Server(certificate)
    carry(pipe, server)
    server.session.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        server.session.unwrap()
    assert pipe.receive_data(server.outgoing.read()) == b"last"
    assert pipe.ended
    pipe.close()
    server.incoming.write(pipe.data_to_send())
    server.session.unwrap()


def test_close_before_the_handshake(authority):
    pipe = TlsPipe(client_context(authority), "etcd.example")
    pipe.close()


def test_impossible_name(authority):
    with pytest.raises(TlsError, match="cannot start"):
        TlsPipe(client_context(authority), "")


def test_strict_checks_name_their_switch(authority):
    # C8: what Python 3.13 says of a leaf without that extension.
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 85, "Missing Authority Key Identifier"
    text = TlsPipe(client_context(authority), "etcd.example")._explain(error)
    assert "Missing Authority Key Identifier" in text
    assert "VERIFY_X509_STRICT" in text


def test_ssl_is_imported_only_when_used():
    code = "import sys, purecd.wire.tls, purecd.wire.http2, purecd.wire.grpc; sys.exit('ssl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
