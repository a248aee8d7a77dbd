# SPDX-License-Identifier: Apache-2.0
"""TLS contexts made from options, and what is said about files that do not do."""

from __future__ import annotations

import ssl
import sys

import pytest

from purecd.core.contexts import make_context, warn_of
from purecd.errors import TlsError
from purecd.options import Tls

trustme = pytest.importorskip("trustme")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An authority, a client certificate of its, and its key, plain and encrypted."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "client.pem")
    certificate.private_key_pem.write_to_path(folder / "client.key")
    (folder / "encrypted.key").write_bytes(encrypted(certificate.private_key_pem.bytes()))
    (folder / "empty.pem").write_bytes(b"")
    (folder / "client.key").chmod(0o600)
    return folder


def encrypted(key_pem):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(key_pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hidden"),
    )


def test_without_options_the_server_is_checked_against_the_systems_authorities():
    context = make_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_only_ciphers_that_http2_allows():
    # RFC 9113 §9.2.2 and Appendix A; TLS 1.3 names begin with TLS_.
    for cipher in make_context(None).get_ciphers():
        assert cipher["name"].startswith(("TLS_", "ECDHE-", "DHE-")), cipher["name"]
        assert cipher["aead"], cipher["name"]


def test_an_authority_replaces_those_of_the_system(files):
    context = make_context(Tls(ca_cert=str(files / "ca.pem")))
    (authority,) = context.get_ca_certs()
    assert authority["issuer"] == authority["subject"]
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_client_certificate(files):
    make_context(Tls(cert=str(files / "client.pem"), key=str(files / "client.key")))
    make_context(Tls(cert=str(files / "client.pem"), key=str(files / "encrypted.key"), key_password="hidden"))


def test_a_server_may_go_unchecked_on_demand():
    context = make_context(Tls(insecure_skip_verify=True))
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_a_context_of_the_callers_is_used_as_it_is():
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.maximum_version = ssl.TLSVersion.TLSv1_2
    assert make_context(Tls(context=own)) is own
    assert own.maximum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.pem", "No such file or directory"),
        ("empty.pem", "holds no certificate"),
        ("client.key", "holds no certificate"),
    ],
)
def test_a_bad_authority_is_named(files, name, reason):
    with pytest.raises(TlsError, match=reason) as caught:
        make_context(Tls(ca_cert=str(files / name)))
    assert str(caught.value).startswith(f"CA file {files / name}")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("cert", "key", "password", "reason"),
    [
        ("nowhere.pem", "client.key", None, "No such file or directory"),
        ("client.pem", "nowhere.key", None, "No such file or directory"),
        ("client.pem", "client.pem", None, "lib|pem|key"),
        ("client.pem", "encrypted.key", None, "passphrase|decrypt|password"),
        ("client.pem", "encrypted.key", "wrong", "passphrase|decrypt|password"),
    ],
)
def test_a_bad_client_certificate_is_named(files, cert, key, password, reason):
    with pytest.raises(TlsError, match=reason) as caught:
        make_context(Tls(cert=str(files / cert), key=str(files / key), key_password=password))
    assert str(caught.value).startswith(f"client certificate {files / cert} with key {files / key}: ")
    assert "wrong" not in str(caught.value).replace("missing or wrong", "")


def test_files_are_read_anew_for_each_connection(files, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes((files / "ca.pem").read_bytes())
    first = make_context(Tls(ca_cert=str(path))).get_ca_certs()
    trustme.CA().cert_pem.write_to_path(path)
    assert make_context(Tls(ca_cert=str(path))).get_ca_certs() != first


def test_what_makes_tls_weak_is_logged(caplog, files):
    warn_of(Tls(ca_cert=str(files / "ca.pem"), cert="c.pem", key=str(files / "client.key")))
    warn_of(Tls(cert="c.pem", key="/nowhere/client.key"))
    assert caplog.messages == []
    warn_of(Tls(insecure_skip_verify=True))
    assert "is not checked" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are of another kind there")
def test_a_key_that_everybody_can_read_is_logged(caplog, files, tmp_path):
    key = tmp_path / "client.key"
    key.write_bytes((files / "client.key").read_bytes())
    key.chmod(0o644)
    warn_of(Tls(cert="c.pem", key=str(key)))
    assert caplog.messages == [f"client key {key} is readable by everybody on this machine"]
