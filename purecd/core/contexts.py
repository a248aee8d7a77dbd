# SPDX-License-Identifier: Apache-2.0
"""TLS contexts from options; certificate files are read anew for each connection."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from purecd.errors import TlsError

if TYPE_CHECKING:
    import ssl

    from purecd.options import Tls

logger = logging.getLogger("purecd")


def warn_of(tls: Tls) -> None:
    """Log, once for a client, what makes its TLS weaker than it looks."""
    if tls.insecure_skip_verify:
        logger.warning(
            "insecure_skip_verify: the server's certificate is not checked, anybody can be the server"
        )
    if tls.key is not None:
        try:
            mode = os.stat(tls.key).st_mode
        except OSError:
            return  # told when a connection needs it
        if os.name == "posix" and mode & 0o004:
            logger.warning("client key %s is readable by everybody on this machine", tls.key)


def make_context(tls: Tls | None) -> ssl.SSLContext:
    """A client context that verifies, speaks TLS 1.2 or later and offers ALPN ``h2``.

    Raises:
        TlsError: a file cannot be read or holds no certificate or key; the text names it.

    Source: RFC 9113 §9.2; etcd client/pkg/transport.
    """
    import ssl

    if tls is not None and tls.context is not None:
        tls.context.set_alpn_protocols(["h2"])
        return tls.context
    context = _trusting(tls.ca_cert if tls is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9113 §9.2.2: only ephemeral key exchange with authenticated encryption under TLS 1.2.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM")
    context.set_alpn_protocols(["h2"])
    if tls is None:
        return context
    if tls.cert is not None:
        _load_certificate(context, tls.cert, tls.key, tls.key_password)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trusting(ca_cert: str | None) -> ssl.SSLContext:
    """A verifying context that trusts the authorities of a PEM file, or the system's without one."""
    import ssl

    try:
        # Given a file, create_default_context leaves the system's authorities out.
        context = ssl.create_default_context(cafile=ca_cert)
    except ssl.SSLError as error:
        raise TlsError(
            f"CA file {ca_cert} holds no certificate, or half of one ({_reason(error)})"
        ) from error
    except OSError as error:
        raise TlsError(f"CA file {ca_cert}: {error.strerror or error}") from error
    if ca_cert is not None and not context.cert_store_stats()["x509"]:  # only revocation lists, say
        raise TlsError(f"CA file {ca_cert} holds no certificate")
    return context


def _load_certificate(context: ssl.SSLContext, cert: str, key: str | None, password: str | None) -> None:
    import ssl

    try:
        # Without a password OpenSSL would ask on the terminal; an empty one makes it fail instead.
        context.load_cert_chain(cert, key, password=password if password is not None else "")
    except ssl.SSLError as error:
        raise TlsError(f"client certificate {cert} with key {key}: {_reason(error)}") from error
    except OSError as error:
        raise TlsError(f"client certificate {cert} with key {key}: {error.strerror or error}") from error


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's word for it, without the place in Python's source; "" is a wrong passphrase's."""
    reason = (error.reason or "").replace("_", " ").lower()
    return reason or "cannot be read; the passphrase may be missing or wrong"
