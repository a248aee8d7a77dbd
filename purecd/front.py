# SPDX-License-Identifier: Apache-2.0
"""What both clients are made of: their options, and the channels that follow from them.

Used by `sync` and `aio` alike; it hands the channels the randomness that `core` may not have.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from purecd.core.channel import Channel
from purecd.core.endpoints import Address, parse_endpoint
from purecd.core.op import DEFAULT_RETRY
from purecd.hooks import Hook, each_safely
from purecd.options import MAX_RECEIVE_SIZE, MAX_SEND_SIZE, Options, Retry, Timeout, Tls, as_endpoints

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("purecd")
logger.addHandler(logging.NullHandler())

API_VERSION = b"3.8"
"""The level of etcd's API that this client implements, major.minor; etcd counts clients by it."""


class Front:
    """Options and channels of a client.

    Args:
        endpoints: where etcd listens: one, several, or several in one string with commas;
            ``host:port``, ``http://``, ``https://``, ``unix:///path``, ``unixs:///path``.
        timeout: seconds for each command unless it is given its own, None for no limit.
        dial_timeout: seconds for one attempt to connect, greeting included.
        keepalive_time: seconds of silence on a connection in use before it is checked by a
            PING, at least 10; None for never.
        keepalive_timeout: seconds to wait for the answer.
        user, password: log in with these; tokens are fetched and refreshed as needed.
        token: a token of the caller's own (a JWT), instead of user and password.
        tls: certificates and checks; without it ``https://`` trusts the system's authorities.
        require_tls_for_auth: refuse to send credentials over plain TCP to another machine.
        max_send_size, max_receive_size: limits of one message, bytes, up to 2^31-1. A larger reply ends
            the call with `MessageTooLarge`; ranges of any size come in pages (`scan`), snapshots in pieces.
        health_check: have members tell by ``grpc.health.v1`` whether they serve, and turn from one that does
            not; etcd says so of itself while it defragments, if started with
            ``--feature-gates=StopGRPCServiceOnDefrag=true``. Costs one stream on each connection.
        fail_fast: raise as soon as every endpoint failed once, instead of trying until the deadline.
        retry: how often and how quickly requests are sent again where that is safe.
        watch_buffer_events, watch_buffer_bytes: how much one watch may hold unread.
        require_leader: have a member that knows no leader refuse every call at once.
        auto_sync_interval: seconds between looks at the member list for new endpoints, None for never.
        min_server_version: refuse, with `OldCluster`, a cluster with an older member: ``"3.5"``, ``"3.5.2"``.
        hooks: told of every call and of what happens to connections; see `purecd.hooks`.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = "127.0.0.1:2379",
        *,
        timeout: Timeout = 10.0,
        dial_timeout: float = 5.0,
        keepalive_time: float | None = 10.0,
        keepalive_timeout: float = 5.0,
        user: str = "",
        password: str | None = None,
        token: str = "",
        tls: Tls | None = None,
        require_tls_for_auth: bool = False,
        max_send_size: int = MAX_SEND_SIZE,
        max_receive_size: int = MAX_RECEIVE_SIZE,
        fail_fast: bool = False,
        health_check: bool = False,
        retry: Retry = DEFAULT_RETRY,
        watch_buffer_events: int = 10_000,
        watch_buffer_bytes: int = 64 * 1024 * 1024,
        require_leader: bool = False,
        auto_sync_interval: float | None = None,
        min_server_version: str | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self._options = Options(
            as_endpoints(endpoints),
            timeout=timeout,
            dial_timeout=dial_timeout,
            keepalive_time=keepalive_time,
            keepalive_timeout=keepalive_timeout,
            user=user,
            password=password,
            token=token,
            tls=tls,
            require_tls_for_auth=require_tls_for_auth,
            max_send_size=max_send_size,
            max_receive_size=max_receive_size,
            fail_fast=fail_fast,
            health_check=health_check,
            retry=retry,
            watch_buffer_events=watch_buffer_events,
            watch_buffer_bytes=watch_buffer_bytes,
            require_leader=require_leader,
            auto_sync_interval=auto_sync_interval,
            min_server_version=min_server_version,
        )
        self._lease_channel = ""
        self.max_send_size = max_send_size
        self.fail_fast = fail_fast
        self.retry = retry
        self.hooks = tuple(hooks)
        self._addresses: list[Address] = [address_of(each) for each in self._options.endpoints]
        check_secrecy(self._options, self._addresses)
        if min_server_version is not None:
            from purecd.core.membership import version_of

            version_of(min_server_version)
        if tls is not None:
            from purecd.core.contexts import warn_of

            warn_of(tls)
        self._start()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Self:
        """A client configured by ``ETCDCTL_*`` variables, as etcdctl reads them.

        Args:
            environ: the variables, those of this process when None.
            arguments: arguments of the client; they win over variables, credentials as a whole.

        Raises:
            ValueError: a variable cannot be understood; the text names it.
        """
        import os

        from purecd.config import from_env

        return cls(**from_env(os.environ if environ is None else environ, arguments))

    def _start(self) -> None:
        """Prepare what the front keeps; nothing is opened yet."""

    def _channel_for_leases(self, calls: Channel | None) -> str:
        """Name of the channel on which leases are kept alive, decided once.

        They share one with the watches, except where servers take so few streams that a watch could keep
        the renewals from being sent.
        """
        if not self._lease_channel:
            self._lease_channel = "leases" if calls is not None and calls.few_streams else "streams"
        return self._lease_channel

    def _new_channel(self, endpoint: str | None) -> Channel:
        """A channel to all endpoints, or to the given one only."""
        options = self._options if endpoint is None else self._options.at(endpoint)
        addresses = self._addresses if endpoint is None else [address_of(endpoint)]
        metadata = ((b"client-api-version", API_VERSION),)
        return Channel(options, list(addresses), random.Random(), _agent(), metadata)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where etcd is looked for; assign a new list at any time. Removed ones finish their calls."""
        return self._options.endpoints

    @endpoints.setter
    def endpoints(self, endpoints: str | Sequence[str]) -> None:
        options = Options(**{**self._options._asdict(), "endpoints": as_endpoints(endpoints)})
        addresses = [address_of(each) for each in options.endpoints]
        check_secrecy(options, addresses)
        self._options, self._addresses = options, addresses
        self._endpoints_changed(addresses)

    def _endpoints_changed(self, addresses: list[Address]) -> None:
        """Tell the channels."""

    def _tell(self, event: str, endpoint: str, detail: str) -> None:
        """Log what happened to a connection, and tell the hooks."""
        tell(event, endpoint, detail)
        for hook in self.hooks:
            each_safely(hook.connection, event, endpoint, detail)

    def _tell_watch(self, event: str, detail: str) -> None:
        logger.debug("watch %s%s", event, f": {detail}" if detail else "")
        for hook in self.hooks:
            each_safely(hook.watch, event, detail)

    def __repr__(self) -> str:
        return f"<purecd.{type(self).__name__} {', '.join(self._options.endpoints)}>"

    def __reduce__(self) -> str:
        raise TypeError("a client cannot be copied or pickled: it holds credentials and connections")


def address_of(endpoint: str) -> Address:
    """Where an endpoint is that can be connected to.

    Raises:
        ValueError: it is none, or names no port.
    """
    address = parse_endpoint(endpoint)
    if not address.path and address.port is None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        scheme = endpoint.partition("://")[0] + "://" if "://" in endpoint else ""
        raise ValueError(
            f"endpoint {endpoint!r} has no port; etcd's own is 2379: write {f'{scheme}{host}:2379'!r}"
        )
    return address


def check_secrecy(options: Options, addresses: Sequence[Address]) -> None:
    """See to it that credentials do not cross a network in the clear unnoticed.

    Raises:
        ValueError: they would, and `require_tls_for_auth` is set.
    """
    if options.auth_mode not in ("password", "static"):
        return
    for address in addresses:
        uses_tls = options.tls is not None if address.tls is None else address.tls
        if uses_tls or address.path or is_loopback(address.host):
            continue
        if options.require_tls_for_auth:
            raise ValueError(f"endpoint {address.text} would get credentials without TLS")
        logger.warning("credentials go to %s without TLS", address.text)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address literal alone."""
    return host == "localhost" or host == "::1" or (host.startswith("127.") and host.count(".") == 3)


def _agent() -> str:
    from purecd import __version__

    return f"purecd/{__version__}"


def tell(event: str, endpoint: str, detail: str) -> None:
    """Log what happened to a connection."""
    level = logging.INFO if event in ("ready", "goaway", "turn") else logging.DEBUG
    if event == "auth-failed" or (event == "closed" and detail):
        level = logging.WARNING
    logger.log(level, "%s %s%s", event, endpoint, f": {detail}" if detail else "")
