# SPDX-License-Identifier: Apache-2.0
"""Endpoints: how they are written, and which one to try next.

1. An endpoint that failed waits before it is tried again: 0.1 s, growing by 1.6 to 1 s, each
   up to a fifth longer or shorter. (grpc-go grows to 120 s; then a cluster that was away for
   minutes stays unreachable long after it is back. Ours is found within 1.2 s.) One that
   answered since and was lost again waits 0.4 s at most: the network fails, not the endpoint.
2. Endpoints that are not waiting are tried in rotation from a random start.
3. A sole endpoint, and the whole list when all of it is waiting, is tried again as soon as the
   first wait is over; one that comes back ends the longer waits of all others.
4. An endpoint that answers, but badly (no leader, a learner, calls that time out), stays
   connected to until a better one is: it is *demoted* for a while.

Source: etcd client/v3/internal/endpoint and doc of gRPC connection backoff.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from purecd.records import NamedTuple

FIRST_WAIT = 0.1
WAIT_FACTOR = 1.6
MAX_WAIT = 1.0
FAILURES_AFTER_ANSWER = 3
WAIT_JITTER = 0.2
DEMOTED_FOR = 3.0  # seconds; members are often taken out of service one after the other

_AT = re.compile("[@\uff20\ufe6b]")  # and its compatibility forms, which become one
_PATH_BEGINS = re.compile("[/?#]")


class Random(Protocol):
    """What is used of a `random.Random`."""

    def random(self) -> float: ...


class Address(NamedTuple):
    """Where an endpoint is and how to talk to it.

    Attributes:
        text: the endpoint as the user wrote it; errors and logs show this.
        host: name or IP literal without brackets; "" for a unix socket.
        port: TCP port; None when the endpoint named none.
        path: path of the unix socket, "" for TCP.
        tls: True for https and unixs, False for http, None when the endpoint does not say.
        authority: what ``:authority`` carries, ASCII.
    """

    text: str
    host: str
    port: int | None
    path: str
    tls: bool | None
    authority: str

    @property
    def verify_name(self) -> str:
        """The name that the server's certificate must carry."""
        return self.host or _split_port(_file_name(self.path))[0]


def parse_endpoint(text: str) -> Address:
    """Read one endpoint as etcd writes them.

    Args:
        text: ``host:port``, ``http://``, ``https://``, ``unix:``, ``unixs:`` and their ``//`` forms.

    Raises:
        ValueError: with the endpoint in its text (credentials in it are not repeated).

    Source: etcd client/v3/internal/endpoint/endpoint.go.
    """
    for prefix, tls in (("unixs:", True), ("unix:", None)):
        if text.startswith(prefix):
            return _unix(text, text[len(prefix) :], tls)
    # A resolver may drop some of these, and so lead to another host than the one written.
    if any(char <= " " or char == "\x7f" for char in text):
        raise ValueError(f"endpoint {_shown(text)!r}: spaces and control characters belong in no endpoint")
    if "://" not in text:
        return _tcp(text, text, None)
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError(f"endpoint {_shown(text)}: the scheme is none of http, https, unix, unixs")
    if _AT.search(rest.partition("/")[0]):
        raise ValueError(f"endpoint {_shown(text)}: credentials belong in user= and password=")
    return _tcp(text, _PATH_BEGINS.split(rest, maxsplit=1)[0], scheme == "https")


def _shown(text: str) -> str:
    """The endpoint without what may be credentials: all before the last @."""
    *before, rest = _AT.split(text)
    scheme = before[0].partition("://")[0].lower() if before else ""
    return f"{scheme}://{rest}" if scheme in ("http", "https") else rest


def _unix(text: str, rest: str, tls: bool | None) -> Address:
    path = rest[2:] if rest.startswith("//") else rest
    if not path or "\0" in path:
        raise ValueError(f"endpoint {text!r}: no socket path")
    if len(path.encode()) > 107:
        raise ValueError(f"endpoint {text}: a socket path has at most 107 bytes")
    from urllib.parse import quote  # 2 ms that no other endpoint should wait for

    return Address(text, "", None, path, tls, quote(_file_name(path), safe="!$&'()*+,;=:@[]"))


def _file_name(path: str) -> str:
    return path.rpartition("/")[2] or path


def _tcp(text: str, netloc: str, tls: bool | None) -> Address:
    if not netloc or _AT.search(netloc) or any(char.isspace() or char in "/?#" for char in netloc):
        raise ValueError(f"endpoint {_shown(text)!r} is not host:port")
    host, port_text = _split_port(netloc)
    if not host or any(char in "[]" for char in host):
        raise ValueError(
            f"endpoint {_shown(text)!r}: no host, or an address that is not written as [v6]:port"
        )
    port: int | None = None
    if port_text is not None:
        if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65536:
            raise ValueError(f"endpoint {_shown(text)!r}: {port_text!r} is not a port from 1 to 65535")
        port = int(port_text)
    try:
        authority = netloc if netloc.isascii() else _ascii_name(netloc, host)
    except UnicodeError as error:
        raise ValueError(f"endpoint {_shown(text)!r}: {host!r} is no host name: {error}") from error
    return Address(text, host, port, "", tls, authority)


def _ascii_name(netloc: str, host: str) -> str:
    """Host and port in the form that goes over the wire.

    Raises:
        UnicodeError: there is none: compatibility forms of delimiters and spaces would become such, and
            an address in brackets has digits only.

    Source: RFC 3490 §4.1, with UseSTD3ASCIIRules, which Python's codec leaves out.
    """
    name = host.encode("idna").decode("ascii")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or not netloc.startswith(host):
        raise UnicodeError(f"it would become {name!r}")
    return name + netloc[len(host) :]


def _split_port(netloc: str) -> tuple[str, str | None]:
    """Host without brackets, and port, None without one; a v6 address without brackets has none."""
    if netloc.startswith("["):
        host, bracket, rest = netloc[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "", None
        return host, rest[1:] if rest else None
    if netloc.count(":") != 1:
        return netloc, None
    host, _, port = netloc.partition(":")
    return host, port


class Endpoint:
    """One endpoint and how it behaved lately."""

    __slots__ = ("address", "demoted_until", "error", "failures", "retry_at")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.failures = 0
        self.retry_at = 0.0
        self.demoted_until = 0.0
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.address.text} failures={self.failures}>"


class Endpoints:
    """The endpoints of one channel: which to try next and when."""

    def __init__(self, addresses: Sequence[Address], rng: Random) -> None:
        self._rng = rng
        self._all: list[Endpoint] = []
        self._next = 0
        self.replace(addresses)
        self._next = int(rng.random() * len(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._all

    def replace(self, addresses: Sequence[Address]) -> None:
        """Take a new list; endpoints that stay keep their record."""
        if not addresses:
            raise ValueError("no available endpoints")
        known: dict[Address, Endpoint] = {each.address: each for each in self._all}
        self._all = [known.get(each) or Endpoint(each) for each in dict.fromkeys(addresses)]
        self._next %= len(self._all)

    def pick(self, now: float, busy: Sequence[Endpoint] = ()) -> Endpoint | None:
        """The endpoint to connect to now, or None while all of them wait.

        Args:
            now: monotonic seconds.
            busy: endpoints that are being connected to already.
        """
        size = len(self._all)
        turn = [self._all[(self._next + i) % size] for i in range(size)]
        ready = [each for each in turn if each.retry_at <= now and each not in busy]
        if not ready:
            return None
        chosen = next((each for each in ready if each.demoted_until <= now), ready[0])
        self._next = (self._all.index(chosen) + 1) % size
        return chosen

    def next_retry(self, busy: Sequence[Endpoint] = ()) -> float | None:
        """When the next waiting endpoint may be tried, monotonic seconds."""
        return min((each.retry_at for each in self._all if each not in busy), default=None)

    def better_than(self, endpoint: Endpoint, now: float) -> bool:
        """Whether another endpoint is worth trying instead of `endpoint`."""
        return any(
            each is not endpoint and each.demoted_until <= now and each.retry_at <= now for each in self._all
        )

    def failed(self, endpoint: Endpoint, error: BaseException | None, now: float) -> None:
        """A connection attempt failed, or a connection did not live long."""
        # The exponent is bounded: after hours of failures the power would overflow.
        wait = min(FIRST_WAIT * WAIT_FACTOR ** min(endpoint.failures, 10), MAX_WAIT)
        endpoint.retry_at = now + wait * (1 + WAIT_JITTER * (2 * self._rng.random() - 1))
        endpoint.failures += 1
        endpoint.error = error

    def succeeded(self, endpoint: Endpoint, now: float) -> None:
        """A connection is up. If its endpoint had failed, what kept the others away may be over as well."""
        recovered, endpoint.error = endpoint.error is not None, None
        endpoint.failures = min(endpoint.failures, FAILURES_AFTER_ANSWER)
        for each in self._all if recovered else ():
            # Shorter waits go on: where the network fails, they are what keeps attempts few.
            if each.failures > FAILURES_AFTER_ANSWER + 1:
                each.retry_at = min(each.retry_at, now)

    def lived(self, endpoint: Endpoint) -> None:
        """A connection was of use for a while: the next failure is the first one."""
        endpoint.failures = 0

    def demote(self, endpoint: Endpoint, now: float) -> None:
        """Prefer the others for a while."""
        endpoint.demoted_until = now + DEMOTED_FOR

    def restore(self, endpoint: Endpoint) -> None:
        """Prefer the others no longer."""
        endpoint.demoted_until = 0.0

    def all_failed(self) -> bool:
        """Whether the latest attempt at every endpoint failed."""
        return all(each.error is not None for each in self._all)

    def last_error(self) -> BaseException | None:
        """What kept an endpoint from being reached, if anything did."""
        return next((each.error for each in self._all if each.error is not None), None)
