# SPDX-License-Identifier: Apache-2.0
"""Configuration from where etcd's own tools take it: environment variables and DNS.

Source: etcd etcdctl/ctlv3/command/global.go (``ETCDCTL_*``), client/pkg/srv (SRV records).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from purecd.options import Tls

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


def seconds(text: str) -> float:
    """A duration as Go writes it, such as ``1m30s`` or ``500ms``, in seconds.

    Raises:
        ValueError: it is none.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration such as 5s, 500ms or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def boolean(text: str) -> bool:
    """A truth value as Go's ParseBool reads it."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def from_env(environ: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a client that ``ETCDCTL_*`` variables amount to.

    Args:
        environ: usually ``os.environ``; empty variables count as unset.

    Raises:
        ValueError: a variable cannot be understood; the text names it, without its value where
            that is secret.
    """
    settings = _Settings(environ)
    arguments: dict[str, Any] = {}
    for name, argument, read in (
        ("ENDPOINTS", "endpoints", str),
        ("DIAL_TIMEOUT", "dial_timeout", seconds),
        ("COMMAND_TIMEOUT", "timeout", seconds),
        ("KEEPALIVE_TIME", "keepalive_time", seconds),
        ("KEEPALIVE_TIMEOUT", "keepalive_timeout", seconds),
        ("MAX_REQUEST_BYTES", "max_send_size", int),
        ("MAX_RECV_BYTES", "max_receive_size", int),
    ):
        value = settings.read(name, read)
        if value:  # 0 means the default, as for etcdctl
            arguments[argument] = value
    _credentials(settings, arguments)
    tls = _tls(settings)
    domain = settings.read("DISCOVERY_SRV", str)
    if domain:
        insecure = settings.read("INSECURE_DISCOVERY", boolean)
        found = discover(
            domain, settings.read("DISCOVERY_SRV_NAME", str) or "", insecure=insecure is not False
        )
        if found:
            arguments["endpoints"] = found
        if insecure is False and (tls is None or not tls.server_name):
            given = tls or Tls()
            tls = Tls(
                given.ca_cert,
                given.cert,
                given.key,
                server_name=domain,
                insecure_skip_verify=given.insecure_skip_verify,
            )
    if tls is not None:
        arguments["tls"] = tls
    return arguments


class _Settings:
    """The variables, read one by one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def read(self, name: str, convert: Any) -> Any:
        """The value of ``ETCDCTL_<name>``, None when it is unset or empty."""
        text = self._environ.get(f"ETCDCTL_{name}", "")
        if not text:
            return None
        try:
            return convert(text)
        except ValueError as error:
            raise ValueError(f"ETCDCTL_{name}: {error}") from None


def _credentials(settings: _Settings, arguments: dict[str, Any]) -> None:
    token = settings.read("AUTH_JWT_TOKEN", str)
    if token:  # wins over user and password, as for etcdctl
        arguments["token"] = token
        return
    user = settings.read("USER", str)
    password = settings.read("PASSWORD", str)
    if user and password is None:
        user, colon, password = user.partition(":")
        if not colon:
            raise ValueError("ETCDCTL_USER has no password; give it as name:password or in ETCDCTL_PASSWORD")
    if user:
        arguments["user"], arguments["password"] = user, password


def _tls(settings: _Settings) -> Tls | None:
    ca_cert, cert, key = (settings.read(name, str) for name in ("CACERT", "CERT", "KEY"))
    skip = bool(settings.read("INSECURE_SKIP_TLS_VERIFY", boolean))
    insecure = settings.read("INSECURE_TRANSPORT", boolean)
    if (cert is None) != (key is None):
        raise ValueError("ETCDCTL_CERT and ETCDCTL_KEY must be given together")
    if ca_cert or cert or skip or insecure is False:
        return Tls(ca_cert, cert, key, insecure_skip_verify=skip)
    return None


def discover(
    domain: str,
    service_name: str = "",
    *,
    insecure: bool = True,
    nameservers: Sequence[str] = (),
    port: int = 53,
    timeout: float = 5.0,
) -> list[str]:
    """Endpoints from the SRV records of a domain.

    Args:
        domain: where the records ``_etcd-client-ssl._tcp`` and ``_etcd-client._tcp`` are.
        service_name: appended to the service, for several clusters in one domain.
        insecure: take plaintext endpoints as well.
        nameservers, port: ask these instead of the system's.
        timeout: seconds for each question.

    Returns:
        TLS endpoints first; each group by priority, and by weight within one priority.

    Raises:
        RuntimeError: the package for DNS is not installed.
        LookupError: neither record exists.

    Source: etcd client/pkg/srv/srv.go; RFC 2782.
    """
    try:
        import dns.exception
        import dns.resolver
    except ImportError as error:
        raise RuntimeError("DNS discovery needs the extra: pip install purecd[srv]") from error
    resolver = dns.resolver.Resolver(configure=not nameservers)
    if nameservers:
        resolver.nameservers = list(nameservers)
        resolver.port = port
    resolver.lifetime = timeout
    suffix = f"-{service_name}" if service_name else ""
    endpoints: list[str] = []
    failures = []
    for service, scheme in (("etcd-client-ssl", "https"), ("etcd-client", "http")):
        name = f"_{service}{suffix}._tcp.{domain}"
        try:
            answer = resolver.resolve(name, "SRV")
        except dns.exception.DNSException as error:
            failures.append(f"{name}: {error}")
            continue
        if scheme == "https" or insecure:
            records = sorted(answer, key=lambda record: (record.priority, -record.weight))
            # Without its trailing dot a name fits the certificates that are issued for it.
            endpoints.extend(f"{scheme}://{str(each.target).rstrip('.')}:{each.port}" for each in records)
    if len(failures) == 2:
        raise LookupError(f"no SRV records: {'; '.join(failures)}")
    return endpoints
