# SPDX-License-Identifier: Apache-2.0
"""What both clients are made of: their options, and the channels that follow from them.

Used by `sync` and `aio` alike; it hands the channels the randomness that `core` may not have.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from purecd.core.channel import Channel
from purecd.core.endpoints import Address, parse_endpoint
from purecd.options import MAX_RECEIVE_SIZE, MAX_SEND_SIZE, Options, Timeout, Tls, as_endpoints

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
        max_send_size, max_receive_size: limits of one message, bytes.
        fail_fast: raise as soon as every endpoint failed once, instead of trying until the deadline.
        watch_buffer_events, watch_buffer_bytes: how much one watch may hold unread.
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
        watch_buffer_events: int = 10_000,
        watch_buffer_bytes: int = 64 * 1024 * 1024,
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
            watch_buffer_events=watch_buffer_events,
            watch_buffer_bytes=watch_buffer_bytes,
        )
        self.max_send_size = max_send_size
        self.fail_fast = fail_fast
        self._addresses: list[Address] = [parse_endpoint(each) for each in self._options.endpoints]

        self._start()

    def _start(self) -> None:
        """Prepare what the front keeps; nothing is opened yet."""

    def _new_channel(self, endpoint: str | None) -> Channel:
        """A channel to all endpoints, or to the given one only."""
        options = self._options if endpoint is None else self._options.at(endpoint)
        addresses = self._addresses if endpoint is None else [parse_endpoint(endpoint)]
        metadata = ((b"client-api-version", API_VERSION),)
        return Channel(options, list(addresses), random.Random(), _agent(), metadata)

    def __repr__(self) -> str:
        return f"<purecd.{type(self).__name__} {', '.join(self._options.endpoints)}>"

    def __reduce__(self) -> str:
        raise TypeError("a client cannot be copied or pickled: it holds credentials and connections")


def _agent() -> str:
    from purecd import __version__

    return f"purecd/{__version__}"


def tell(event: str, endpoint: str, detail: str) -> None:
    """Log what happened to a connection."""
    level = logging.INFO if event in ("ready", "goaway", "turn") else logging.DEBUG
    if event == "auth-failed" or (event == "closed" and detail):
        level = logging.WARNING
    logger.log(level, "%s %s%s", event, endpoint, f": {detail}" if detail else "")
