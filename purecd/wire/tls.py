# SPDX-License-Identifier: Apache-2.0
"""TLS between two byte buffers, with ALPN enforced.

`ssl` is imported only when a connection uses TLS: a client of plaintext endpoints never pays
for loading OpenSSL.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import TlsError

if TYPE_CHECKING:
    import ssl

PROTOCOL = "h2"
_READ_SIZE = 65_536

# OpenSSL's X509_V_ERR_* numbers (x509_vfy.h) and which check each of them is.
_CHECKS = {
    9: "validity period: the certificate is not yet valid",
    10: "validity period: the certificate has expired",
    18: "trusted CA: the server's certificate is self-signed",
    19: "trusted CA: the chain ends in an unknown self-signed certificate",
    20: "trusted CA: the issuer is unknown",
    21: "trusted CA: the server did not send its whole chain",
    23: "revocation: the certificate is revoked",
    26: "certificate purpose: not a server certificate",
    3: "revocation: no CRL for the issuer",
    62: "host name",
    64: "IP address",
}

# Reasons of OpenSSL that say little to people, and what they mean here.
_REASONS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port",
    "HTTP_REQUEST": "the server does not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "protocol version: no TLS version in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "protocol version: the server refuses ours",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refuses our ciphers or lacks a client certificate",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "ALPN: the server does not offer h2",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "client certificate: the server requires one",
    "SSLV3_ALERT_BAD_CERTIFICATE": "client certificate: the server refuses it, or requires one",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "client certificate: the server says it has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "client certificate: the server refuses it",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "client certificate: the server refuses its kind or purpose",
    "TLSV1_ALERT_UNKNOWN_CA": "client certificate: the server does not trust its issuer",
    "TLSV1_UNRECOGNIZED_NAME": "server name: the server does not know it",
}


class TlsPipe:
    """The client's end of one TLS session, without a socket.

    Every method may leave octets in `data_to_send`, also one that raises: an alert that tells
    the server why.

    Args:
        context: verification and certificates; its ALPN list is set to h2, all else is used
            as it is.
        server_hostname: name or IP address the server's certificate must carry, also sent as
            SNI when it is a name.

    Attributes:
        handshake_done: the handshake succeeded and the server chose h2.
        ended: the server closed the session properly (close_notify).
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        import ssl

        # RFC 9113 §3.2: HTTP/2 over TLS is chosen by ALPN.
        context.set_alpn_protocols([PROTOCOL])
        self.handshake_done = False
        self.ended = False
        self._ssl = ssl
        self._received = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._early = bytearray()  # what `send` got before the handshake was done
        self._host = server_hostname
        try:
            self._session = context.wrap_bio(self._received, self._outgoing, server_hostname=server_hostname)
        except ValueError as error:
            raise TlsError(f"TLS cannot start for {server_hostname!r}: {error}") from error
        self._shake_hands()

    def receive_data(self, cipher: bytes) -> bytes:
        """Take octets from the socket; returns the plain octets in them.

        Raises:
            TlsError: the handshake or the session failed; the text names the check.
        """
        self._received.write(cipher)
        if not self.handshake_done and not self._shake_hands():
            return b""
        ssl = self._ssl
        received, session = self._received, self._session
        pieces = []
        try:
            while not self.ended:
                piece = session.read(_READ_SIZE)
                pieces.append(piece)
                if not piece:
                    self.ended = True
                elif not received.pending and not session.pending():
                    break  # to be told so by an exception takes longer than all the rest
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise TlsError(f"TLS session failed: {self._explain(error)}") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def receive_eof(self) -> None:
        """Tell that the connection is gone.

        Raises:
            TlsError: that was in the middle of the handshake.
        """
        if not self.handshake_done:
            raise TlsError(
                "TLS handshake failed: the server closed the connection; "
                "it may not speak TLS on this port or may require a client certificate"
            )

    def send(self, plain: bytes) -> None:
        """Encrypt octets for the server; what comes before the handshake is done, after it."""
        if not self.handshake_done:
            self._early += plain
        elif plain:
            try:
                self._session.write(plain)
            except self._ssl.SSLError as error:
                raise TlsError(f"TLS session failed: {self._explain(error)}") from error

    def data_to_send(self) -> bytes:
        """All octets for the socket since the last call, b"" if none."""
        return self._outgoing.read()

    def close(self) -> None:
        """Queue close_notify; the server's answer is not waited for."""
        # It raises when the server's close_notify has not come, or when there is no session yet.
        with suppress(self._ssl.SSLError, ValueError):
            self._session.unwrap()

    def _shake_hands(self) -> bool:
        try:
            self._session.do_handshake()
        except self._ssl.SSLWantReadError:
            return False
        except self._ssl.SSLError as error:
            raise TlsError(f"TLS handshake failed: {self._explain(error)}") from error
        # Python goes on without ALPN as if nothing were wrong.
        chosen = self._session.selected_alpn_protocol()
        if chosen != PROTOCOL:
            found = f"chose {chosen!r}" if chosen else "chose nothing"
            raise TlsError(f"TLS handshake failed: ALPN: the server {found} instead of {PROTOCOL!r}")
        self.handshake_done = True
        if self._early:
            self._session.write(self._early)
            self._early.clear()
        return True

    def _explain(self, error: ssl.SSLError) -> str:
        if isinstance(error, self._ssl.SSLCertVerificationError):
            detail = error.verify_message.rstrip(".")
            if "Authority Key Identifier" in detail or "key usage" in detail.lower():
                detail += " (a rule of ssl.VERIFY_X509_STRICT, on by default since Python 3.13)"
            check = _CHECKS.get(error.verify_code)
            if check in ("host name", "IP address"):
                return f"certificate check failed: {check}: {detail}"
            return (
                f"certificate check failed: {check} ({detail})"
                if check
                else f"certificate check failed: {detail}"
            )
        reason = error.reason or ""
        meaning = _REASONS.get(reason)
        return f"{meaning} ({reason})" if meaning else reason or str(error)
