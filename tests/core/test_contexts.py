# SPDX-License-Identifier: Apache-2.0
"""TLS contexts: what they allow, and what they say of files."""

from __future__ import annotations

import logging
import os
import ssl

import pytest

from purecd import Tls
from purecd.core.contexts import make_context, warn_of
from purecd.errors import TlsError
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("contexts"))


@pytest.mark.parametrize("tls", [None, Tls(server_name="a.test")])
def test_the_defaults_verify(tls):
    context = make_context(tls)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_cipher_suites():
    # RFC 9113 §9.2.2: under TLS 1.2 ephemeral keys and authenticated encryption only.
    for suite in make_context(None).get_ciphers():
        assert suite["aead"], suite["name"]
        assert suite["name"].startswith(("ECDHE-", "DHE-", "TLS_")), suite["name"]


def test_only_the_given_authorities_are_trusted(authority):
    assert make_context(Tls(authority.ca_file)).cert_store_stats()["x509_ca"] == 1


def test_verification_switched_off():
    context = make_context(Tls(insecure_skip_verify=True))
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_a_context_of_the_callers_own_is_left_as_it_is():
    own = ssl.create_default_context()
    own.minimum_version = ssl.TLSVersion.TLSv1_3
    flags = own.verify_flags
    assert make_context(Tls(context=own)) is own
    assert (own.minimum_version, own.verify_flags) == (ssl.TLSVersion.TLSv1_3, flags)


def test_each_context_is_new(authority):
    cert, key = authority.issue("new", "client.example")
    tls = Tls(authority.ca_file, cert, key)
    assert make_context(tls) is not make_context(tls)


@pytest.mark.parametrize("content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nhalf of"])
def test_a_broken_file_is_named(authority, tmp_path, content):
    broken = tmp_path / "broken.pem"
    broken.write_bytes(content)
    cert, key = authority.issue("good", "client.example")
    for tls in (
        Tls(str(broken)),
        Tls(authority.ca_file, str(broken), key),
        Tls(authority.ca_file, cert, str(broken)),
    ):
        with pytest.raises(TlsError) as caught:
            make_context(tls)
        assert str(broken) in str(caught.value)
        assert "_ssl.c" not in str(caught.value)
        assert isinstance(caught.value.__cause__, (OSError, ssl.SSLError))


def test_a_key_of_another_certificate(authority):
    cert, _ = authority.issue("one", "client.example")
    _, key = authority.issue("other", "client.example")
    with pytest.raises(TlsError, match="key values mismatch"):
        make_context(Tls(authority.ca_file, cert, key))


def test_a_locked_key_asks_nobody(authority):
    cert, key = authority.issue("locked", "client.example", password="opens it")
    assert make_context(Tls(authority.ca_file, cert, key, key_password="opens it"))
    for wrong in (None, "", "opens nothing"):
        with pytest.raises(TlsError, match="locked-key.pem"):
            make_context(Tls(authority.ca_file, cert, key, key_password=wrong))


def test_a_missing_file(tmp_path):
    with pytest.raises(TlsError, match="No such file") as caught:
        make_context(Tls(str(tmp_path / "ca.pem")))
    assert "ca.pem" in str(caught.value)


@pytest.mark.parametrize("mode, warned", [(0o600, False), (0o640, False), (0o644, True)])
def test_a_key_that_everybody_may_read(authority, caplog, mode, warned):
    cert, key = authority.issue(f"mode{mode:o}", "client.example")
    os.chmod(key, mode)
    with caplog.at_level(logging.DEBUG, "purecd"):
        warn_of(Tls(authority.ca_file, cert, key))
    assert (key in caplog.text) == warned


def test_nothing_is_said_of_good_files(authority, caplog):
    cert, key = authority.issue("fine", "client.example")
    with caplog.at_level(logging.DEBUG, "purecd"):
        warn_of(Tls(authority.ca_file, cert, key))
        warn_of(Tls(authority.ca_file))
        warn_of(Tls(authority.ca_file, cert, "not there yet"))
    assert not caplog.records
