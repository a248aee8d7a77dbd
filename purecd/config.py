# SPDX-License-Identifier: Apache-2.0
"""Configuration from where etcd's own tools take it: environment variables and DNS.

| variable, after ``ETCDCTL_``                           | argument                                        |
| ------------------------------------------------------ | ----------------------------------------------- |
| ``ENDPOINTS``                                          | ``endpoints``                                   |
| ``DIAL_TIMEOUT``, ``COMMAND_TIMEOUT``                  | ``dial_timeout``, ``timeout``                   |
| ``KEEPALIVE_TIME``, ``KEEPALIVE_TIMEOUT``              | the same in lower case                          |
| ``MAX_REQUEST_BYTES``, ``MAX_RECV_BYTES``              | ``max_send_size``, ``max_receive_size``         |
| ``USER``, ``PASSWORD``                                 | ``user``, ``password``                          |
| ``AUTH_JWT_TOKEN``                                     | ``token``; it wins over the two                 |
| ``CACERT``, ``CERT``, ``KEY``                          | ``tls``                                         |
| ``INSECURE_TRANSPORT``                                 | ``tls`` with the defaults when it is false      |
| ``INSECURE_SKIP_TLS_VERIFY``                           | ``insecure_skip_verify`` of ``tls``             |
| ``DISCOVERY_SRV``, ``DISCOVERY_SRV_NAME``              | ``endpoints``, by DNS                           |
| ``INSECURE_DISCOVERY``                                 | when false, only endpoints with TLS are taken   |

Those for etcdctl's own output mean nothing here; of others there is a warning in the log.

Source: etcd etcdctl/ctlv3/command/global.go (``ETCDCTL_*``), client/pkg/srv (SRV records).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from purecd.core.endpoints import parse_endpoint
from purecd.options import LARGEST_MESSAGE, Tls, as_endpoints

logger = logging.getLogger("purecd")

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_OF_ETCDCTL_ALONE = frozenset(("API", "DEBUG", "HEX", "WATCH_KEY", "WATCH_RANGE_END", "WRITE_OUT"))


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


def size(text: str) -> int:
    """A number of bytes, 0 for the default.

    Raises:
        ValueError: it is none, or over what a message can have.
    """
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_MESSAGE):
        raise ValueError(f"{text!r} is no number of bytes from 0 to {LARGEST_MESSAGE}")
    return int(text)


def endpoint_list(text: str) -> str:
    """Endpoints with commas between them, as they were written.

    Raises:
        ValueError: one of them is no endpoint.
    """
    for each in as_endpoints(text):
        parse_endpoint(each)
    return text


def from_env(environ: Mapping[str, str], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of a client that ``ETCDCTL_*`` variables amount to.

    Args:
        environ: usually ``os.environ``; empty variables count as unset.
        given: arguments that win over variables; credentials do as a whole.

    Returns:
        Arguments for a client, those of `given` included.

    Raises:
        ValueError: a variable cannot be understood; the text names it, without its value where
            that is secret.
    """
    settings = _Settings(environ)
    arguments: dict[str, Any] = {}
    for name, argument, read in (
        ("ENDPOINTS", "endpoints", endpoint_list),
        ("DIAL_TIMEOUT", "dial_timeout", seconds),
        ("COMMAND_TIMEOUT", "timeout", seconds),
        ("KEEPALIVE_TIME", "keepalive_time", seconds),
        ("KEEPALIVE_TIMEOUT", "keepalive_timeout", seconds),
        ("MAX_REQUEST_BYTES", "max_send_size", size),
        ("MAX_RECV_BYTES", "max_receive_size", size),
    ):
        value = settings.read(name, read)
        if value:  # 0 means the default, as for etcdctl
            arguments[argument] = value
    given = given or {}
    credentials = _credentials(settings)
    if not any(name in given for name in ("user", "password", "token")):
        arguments.update(credentials)
    tls = _discovered(settings, arguments, _tls(settings))
    arguments.update(given)
    if tls == Tls(insecure_skip_verify=True) and settings.read("INSECURE_TRANSPORT", boolean) is not False:
        # It says how to speak TLS, not that it be spoken where no scheme asks for it.
        tls = tls if _any_secure(arguments.get("endpoints", ())) else None
    if tls is not None:
        arguments.setdefault("tls", tls)
    settings.warn_of_others()
    return arguments


class _Settings:
    """The variables, read one by one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: set[str] = set(_OF_ETCDCTL_ALONE)

    def read(self, name: str, convert: Any) -> Any:
        """The value of ``ETCDCTL_<name>``, None when it is unset or empty."""
        self._known.add(name)
        text = self._environ.get(f"ETCDCTL_{name}", "")
        if not text:
            return None
        try:
            return convert(text)
        except ValueError as error:
            raise ValueError(f"ETCDCTL_{name}: {error}") from None

    def warn_of_others(self) -> None:
        """Log which variables nobody asked for, without their values."""
        names = {name[len("ETCDCTL_") :] for name in self._environ if name.startswith("ETCDCTL_")}
        for name in sorted(names - self._known):
            logger.warning("ETCDCTL_%s is not known and not used", name)


def _credentials(settings: _Settings) -> dict[str, str]:
    token = settings.read("AUTH_JWT_TOKEN", str)
    user = settings.read("USER", str)
    password = settings.read("PASSWORD", str)
    if token:  # wins over user and password, as for etcdctl
        return {"token": token}
    if user and password is None:
        user, colon, password = user.partition(":")
        if not colon:
            raise ValueError("ETCDCTL_USER has no password; give it as name:password or in ETCDCTL_PASSWORD")
    return {"user": user, "password": password} if user else {}


def _tls(settings: _Settings) -> Tls | None:
    ca_cert, cert, key = (settings.read(name, str) for name in ("CACERT", "CERT", "KEY"))
    skip = bool(settings.read("INSECURE_SKIP_TLS_VERIFY", boolean))
    insecure = settings.read("INSECURE_TRANSPORT", boolean)
    if (cert is None) != (key is None):
        raise ValueError("ETCDCTL_CERT and ETCDCTL_KEY must be given together")
    if ca_cert or cert or skip or insecure is False:
        return Tls(ca_cert, cert, key, insecure_skip_verify=skip)
    return None


def _discovered(settings: _Settings, arguments: dict[str, Any], tls: Tls | None) -> Tls | None:
    """Replace the endpoints by those that DNS tells, if it is to be asked; how TLS is spoken then."""
    domain = settings.read("DISCOVERY_SRV", str)
    name = settings.read("DISCOVERY_SRV_NAME", str) or ""
    insecure = settings.read("INSECURE_DISCOVERY", boolean) is not False
    if not domain:
        return tls
    found = discover(domain, name, insecure=insecure)
    if found:
        arguments["endpoints"] = found
    if insecure:
        return tls
    # Who can forge DNS must not choose the name that is verified.
    return (tls or Tls())._replace(server_name=domain)


def _any_secure(endpoints: str | Sequence[str]) -> bool:
    """Whether an endpoint asks for TLS by its scheme."""
    return any(parse_endpoint(each).tls for each in as_endpoints(endpoints))


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
        if scheme == "http" and not insecure:
            logger.warning("endpoints without TLS that %s names are left out", name)
        else:
            records = sorted(answer, key=lambda record: (record.priority, -record.weight))
            # Without its trailing dot a name fits the certificates that are issued for it.
            endpoints.extend(f"{scheme}://{str(each.target).rstrip('.')}:{each.port}" for each in records)
    if len(failures) == 2:
        raise LookupError(f"no SRV records: {'; '.join(failures)}")
    return endpoints
