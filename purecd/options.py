# SPDX-License-Identifier: Apache-2.0
"""Options: what a client is told once, validated before anything is opened.

Source: etcd client/v3/config.go for the fields and their defaults, except where a comment
says why ours differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Optional

from purecd.records import NamedTuple

if TYPE_CHECKING:
    import ssl

Timeout = Optional[float]
"""Seconds for a whole command, retries included; None means no limit."""


class _DefaultTimeout(float):
    """Stands for the client's own timeout in signatures."""

    def __repr__(self) -> str:
        return "<the client's timeout>"


DEFAULT_TIMEOUT: float = _DefaultTimeout("nan")


def deadline_after(timeout: Timeout, now: float) -> float | None:
    """When a timeout that begins now is over; None for no limit. What is over already may be asked for, too.

    Raises:
        TypeError, ValueError: it is no number of seconds.
    """
    if timeout is None:
        return None
    try:
        deadline = now + timeout
    except TypeError:
        raise TypeError(f"timeout must be a number, not {type(timeout).__name__}") from None
    if deadline != deadline:
        raise ValueError("timeout must be a number of seconds, not nan")
    return deadline


MAX_SEND_SIZE = 2 * 1024 * 1024
MAX_RECEIVE_SIZE = 256 * 1024 * 1024
"""Bytes. clientv3 takes 2^31-1; a bad server shall not have a client hold so much, and more once decoded."""
LARGEST_MESSAGE = 2**31 - 1
MIN_KEEPALIVE_TIME = 10.0
"""Seconds. etcd answers more than two PINGs less than 5 s apart with GOAWAY; grpc-go's floor is the same."""
MAX_ENDPOINTS = 64


def _seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")


def _shown(values: Any, hidden: tuple[str, ...] = ()) -> str:
    """A named tuple as `repr` shows it, without what is secret."""
    fields = [f"{name}={value!r}" for name, value in values._asdict().items() if name not in hidden]
    return f"{type(values).__name__}({', '.join(fields)})"


# Named tuples whose makers check: as dataclasses, these three took a sixth of the time to import a client
# (benchmarks/startup.py).


class _Tls(NamedTuple):
    ca_cert: str | None
    cert: str | None
    key: str | None
    key_password: str | None
    server_name: str | None
    insecure_skip_verify: bool
    context: ssl.SSLContext | None


class Tls(_Tls):
    """How to speak TLS; the defaults verify the server against the system's authorities.

    Args:
        ca_cert: PEM file of the authorities to trust instead of the system's.
        cert: PEM file of the client certificate.
        key: PEM file of its key.
        key_password: opens an encrypted key.
        server_name: name to send and verify instead of the endpoint's host.
        insecure_skip_verify: accept any certificate; for tests only.
        context: a context made by the caller, used as it is but for ALPN.

    Files are read again for each connection, so renewed certificates are picked up.
    """

    __slots__ = ()

    def __new__(
        cls,
        ca_cert: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        key_password: str | None = None,
        server_name: str | None = None,
        insecure_skip_verify: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> Tls:
        if (cert is None) != (key is None):
            raise ValueError("tls: cert and key must be given together")
        if context is not None and (ca_cert or cert or insecure_skip_verify):
            raise ValueError("tls: give either a context or files, not both")
        return super().__new__(
            cls, ca_cert, cert, key, key_password, server_name, insecure_skip_verify, context
        )

    def __repr__(self) -> str:
        return _shown(self, hidden=("key_password",))


class _Retry(NamedTuple):
    max_attempts: int | None
    backoff: float
    max_backoff: float
    jitter: float


class Retry(_Retry):
    """How often, and how quickly, a request is sent again where that is safe.

    Which requests may be sent again is not a matter of taste and cannot be chosen here.

    Args:
        max_attempts: give up after so many attempts, the first included; None for as many as
            the timeout allows, 1 for no repetition. An attempt whose token was rejected does not count:
            the member did nothing, and with a fresh token it is made again, up to three times.
        backoff: seconds before the second repetition; the first follows at once.
        max_backoff: seconds that the pauses grow to, each 1.6 times the one before.
        jitter: fraction by which a pause may be longer or shorter, 0 to 1.
    """

    __slots__ = ()

    def __new__(
        cls,
        max_attempts: int | None = None,
        backoff: float = 0.025,
        max_backoff: float = 1.0,
        jitter: float = 0.2,
    ) -> Retry:
        if max_attempts is not None:
            _count("max_attempts", max_attempts)
        _seconds("backoff", backoff)
        _seconds("max_backoff", max_backoff)
        if not 0.0 <= jitter <= 1.0:
            raise ValueError("jitter is a fraction from 0 to 1")
        return super().__new__(cls, max_attempts, backoff, max_backoff, jitter)

    def pause(self, repetition: int) -> float:
        """Seconds before a repetition, jitter not applied.

        Args:
            repetition: 1 for the first.
        """
        if repetition == 1:
            return 0.0
        # The exponent is bounded: without a deadline the power would overflow some day.
        return min(self.backoff * 1.6 ** min(repetition - 2, 60), self.max_backoff)


class _Options(NamedTuple):
    endpoints: tuple[str, ...]
    timeout: Timeout = 10.0
    dial_timeout: float = 5.0
    keepalive_time: float | None = 10.0
    keepalive_timeout: float = 5.0
    max_send_size: int = MAX_SEND_SIZE
    max_receive_size: int = MAX_RECEIVE_SIZE
    tls: Tls | None = None
    user: str = ""
    password: str | None = None
    token: str = ""
    require_tls_for_auth: bool = False
    require_leader: bool = False
    fail_fast: bool = False
    auto_sync_interval: float | None = None
    min_server_version: str | None = None
    health_check: bool = False
    retry: Retry = Retry()
    watch_buffer_events: int = 10_000
    watch_buffer_bytes: int = 64 * 1024 * 1024


class Options(_Options):
    """Everything a client can be told; see `Client` for what each one means."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Options:
        self = super().__new__(cls, *args, **kwargs)
        _check_endpoints(self.endpoints)
        _check_credentials(self)
        for name in ("require_tls_for_auth", "require_leader", "fail_fast", "health_check"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")
        for name in ("dial_timeout", "keepalive_timeout"):
            _seconds(name, getattr(self, name))
        for name in ("timeout", "auto_sync_interval", "keepalive_time"):
            if getattr(self, name) is not None:
                _seconds(name, getattr(self, name))
        for name in ("max_send_size", "max_receive_size", "watch_buffer_events", "watch_buffer_bytes"):
            _count(name, getattr(self, name))
        if self.max_receive_size > LARGEST_MESSAGE or self.max_send_size > LARGEST_MESSAGE:
            raise ValueError("message sizes are at most 2147483647 bytes")
        if self.max_send_size > self.max_receive_size:
            raise ValueError(
                f"message recv limit ({self.max_receive_size} bytes) must be greater than "
                f"send limit ({self.max_send_size} bytes)"
            )
        if self.keepalive_time is None:
            return self
        # Below 10 s etcd takes the PINGs for abuse; grpc-go raises it the same way.
        least = max(self.keepalive_time, MIN_KEEPALIVE_TIME)
        # Not by `_replace`: in PyPy that comes back here.
        return super().__new__(cls, **{**self._asdict(), "keepalive_time": least})

    def __repr__(self) -> str:
        return _shown(self, hidden=("password", "token"))

    @property
    def auth_mode(self) -> str:
        """``password``, ``static`` (a token of the caller's), ``cn`` or ``none``."""
        if self.user:
            return "password"
        if self.token:
            return "static"
        if self.tls is not None and (self.tls.cert or self.tls.context):
            return "cn"
        return "none"

    def at(self, endpoint: str) -> Options:
        """The same, for a client of one endpoint."""
        return self._replace(endpoints=(endpoint,), auto_sync_interval=None)


def as_endpoints(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """One endpoint, a comma-separated list in one string, or a sequence, as a tuple."""
    if isinstance(endpoints, str):
        return tuple(part.strip() for part in endpoints.split(",") if part.strip())
    if isinstance(endpoints, bytes) or not isinstance(endpoints, Iterable):
        raise TypeError(
            f"endpoints are strings such as '127.0.0.1:2379', one or several, not {type(endpoints).__name__}"
        )
    listed = tuple(endpoints)
    for each in listed:
        if not isinstance(each, str):
            raise TypeError(
                f"endpoints are strings such as '127.0.0.1:2379', and one is {type(each).__name__}"
            )
        if "," in each and not each.startswith("unix"):
            raise ValueError(
                f"endpoint {each!r} holds a comma: several endpoints are several items of the list"
            )
    return tuple(each.strip() for each in listed)


def _check_endpoints(endpoints: tuple[str, ...]) -> None:
    if not endpoints:
        raise ValueError("no available endpoints: give at least one")
    if len(endpoints) > MAX_ENDPOINTS:
        raise ValueError(f"at most {MAX_ENDPOINTS} endpoints")


def _check_credentials(options: Options) -> None:
    for name in ("user", "password", "token"):
        value = getattr(options, name)
        if not isinstance(value, str) and (name != "password" or value is not None):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if bool(options.user) != (options.password is not None):
        raise ValueError("user and password must be given together")
    if options.user and options.token:
        raise ValueError("user/password and token are mutually exclusive")
    if options.token and not all(0x21 <= ord(char) <= 0x7E for char in options.token):
        raise ValueError("the token holds characters that no header can carry")
