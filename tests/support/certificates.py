# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, in PEM files, made by trustme.

authority = Authority(folder)
server = EtcdServer(tls=authority.server())
client = purecd.Client(server.endpoint, tls=purecd.Tls(authority.ca_file))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from purecd.testing import TlsFiles

trustme = pytest.importorskip("trustme")


class Authority:
    """A certificate authority that writes what it issues into a folder.

    Attributes:
        ca_file: PEM file by which its certificates are trusted.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._folder = folder / name
        self._folder.mkdir()
        self.ca_file = str(self._folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, *names: str, password: str | None = None, **options: Any) -> tuple[str, str]:
        """Paths of a new certificate chain and of its key.

        Args:
            name: of the files.
            names: host names and addresses in it.
            password: the key is encrypted with it.
            options: of ``trustme.CA.issue_cert``.
        """
        issued = self._ca.issue_cert(*names, **options)
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.touch(0o600)
        octets = issued.private_key_pem.bytes()
        key.write_bytes(octets if password is None else _encrypted(octets, password))
        return str(cert), str(key)

    def issue_old_style(self, name: str, host: str) -> tuple[str, str]:
        """A certificate without Authority Key Identifier, which Python 3.13 takes exception to."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives import serialization as forms
        from cryptography.hazmat.primitives.asymmetric import ec

        authority = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        signer: Any = forms.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        private = ec.generate_private_key(ec.SECP256R1())
        issued = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)]))
            .issuer_name(authority.subject)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(authority.not_valid_before_utc)
            .not_valid_after(authority.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(signer, hashes.SHA256())
        )
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        cert.write_bytes(issued.public_bytes(forms.Encoding.PEM))
        key.touch(0o600)
        key.write_bytes(
            private.private_bytes(
                forms.Encoding.PEM, forms.PrivateFormat.TraditionalOpenSSL, forms.NoEncryption()
            )
        )
        return str(cert), str(key)

    def server(self, *names: str, client_ca: bool = False, **options: Any) -> TlsFiles:
        """Files for a server at ``localhost`` and 127.0.0.1, or with other names.

        Args:
            client_ca: clients must show a certificate of this authority.
        """
        cert, key = self.issue("server", *(names or ("localhost", "127.0.0.1")), **options)
        return TlsFiles(cert, key, self.ca_file if client_ca else None)


def _encrypted(key: bytes, password: str) -> bytes:
    from cryptography.hazmat.primitives import serialization as forms

    private = forms.load_pem_private_key(key, None)
    protection = forms.BestAvailableEncryption(password.encode())
    octets: bytes = private.private_bytes(
        forms.Encoding.PEM, forms.PrivateFormat.TraditionalOpenSSL, protection
    )
    return octets
