# SPDX-License-Identifier: Apache-2.0
"""A link: one connection to one endpoint, from dialling to its end.

    CONNECTING --opened--> STARTING --TLS, SETTINGS--> GREETING --answered--> READY
         |                    |                           |                     |
         +--------------------+------------+--------------+                     | GOAWAY, close
                                           v                                    v
                                        CLOSED <-----last stream ended----- DRAINING

1. While GREETING one call of ours runs: `Authenticate` where a password is configured, else a
   serializable read of nothing. Its answer carries the cluster id, so a member of another
   cluster is found out before any request of the user's reaches it.
2. Up to READY everything must happen within the dial timeout.
3. A PING goes out when a stream is open and nothing was received for the keepalive time; the
   link is dead when nothing at all arrives within the keepalive timeout after that.
4. A link whose call timed out without a sign of life is *suspect*: it gets a PING at once (at
   most one in 5 s, etcd counts them) and no new calls until something arrives.
5. A link that drains is tested in the same way, after 30 s of silence if PINGs are switched off.
6. The token belongs to the link: it was issued by the member at the other end, which therefore
   knows it. A refresh gives the link a new `generation`.

Source: RFC 9113 §6.7; grpc-go keepalive; etcd --grpc-keepalive-min-time.
"""

from __future__ import annotations

import enum
from math import ceil
from typing import TYPE_CHECKING, Any

from purecd.errors import EtcdError, TlsError
from purecd.wire.headers import RequestHeaders
from purecd.wire.http2 import Http2Connection
from purecd.wire.status import encode_timeout

if TYPE_CHECKING:
    from purecd.core.endpoints import Endpoint
    from purecd.core.methods import Method
    from purecd.options import Options
    from purecd.wire.tls import TlsPipe

MIN_PING_GAP = 5.0
PROBE_TIMEOUT = 2.0
DRAIN_SILENCE = 30.0
KEPT_HEADS = 64
# RFC 8446 §5.1: what a TLS server says to a client that does not speak TLS: alert (21), version 3.x.
TLS_ALERT = b"\x15\x03"
_PING = b"purecd\0\0"


class LinkState(enum.IntEnum):
    """Where a link is between dialling and its end."""

    CONNECTING = 0
    STARTING = 1
    GREETING = 2
    READY = 3
    DRAINING = 4
    CLOSED = 5


class Link:
    """One connection.

    Args:
        endpoint: where it goes.
        options: the client's.
        now: when it is dialled, monotonic seconds.
        keepalive_time: seconds of silence before a PING, None for none.
        agent: value of ``user-agent``.
        metadata: what every request carries besides.

    Attributes:
        transport: the driver's own record of the socket.
        heard: something arrived from the peer, be it nonsense.
        suspect: silent when it should not be; takes no new calls until something arrives.
        avoided: answers badly; takes no new calls while another link may be had.
        stalled_since: when the first call was sent of those that timed out since the last answer to
            any, monotonic seconds; None when none did.
        torn: a signal interrupted its use, so nothing more may leave: it might continue half a frame.
        token: what ``token`` metadata carries, b"" for none.
        generation: counts the tokens of this link.
        login: the greeting or refresh under way.
        waiting_refresh: who waits for that refresh.
        health: the stream on which the member tells whether it serves, None without one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: Options,
        now: float,
        keepalive_time: float | None,
        agent: str,
        metadata: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self.endpoint = endpoint
        self.address = endpoint.address
        self.name = endpoint.address.text
        self.state = LinkState.CONNECTING
        self.conn = Http2Connection()
        self.tls: TlsPipe | None = None
        self.heard = False
        self.uses_tls = _uses_tls(endpoint.address.tls, options)
        self.headers = RequestHeaders(
            "https" if self.uses_tls else "http",
            endpoint.address.authority,
            agent,
            metadata,
        )
        self.transport: Any = None
        self.token = b""
        self.generation = 0
        self.login: Any = None
        self.waiting_refresh: list[Any] = []
        self.health: Any = None
        self.refreshes_in_a_row = 0
        self.refreshed_at = float("-inf")
        self.refresh_at: float | None = None
        self.opened_at = now
        self.deadline = now + options.dial_timeout
        self.keepalive_time = keepalive_time
        self.keepalive_timeout = options.keepalive_timeout
        self.last_received = now
        self.ping_sent_at: float | None = None
        self.ping_timeout = options.keepalive_timeout
        self.last_ping_at = float("-inf")
        self.suspect = False
        self.avoided = False
        self.stalled_since: float | None = None
        self.torn = False
        self._options = options
        self._heads: dict[tuple[Any, ...], bytes] = {}  # header blocks by what they tell

    def __repr__(self) -> str:
        return f"<Link {self.name} {self.state.name}>"

    # Bytes.

    def opened(self, now: float) -> None:
        """The socket is connected."""
        self.state = LinkState.STARTING
        self.last_received = now
        if self.uses_tls:
            from purecd.core.contexts import make_context
            from purecd.wire.tls import TlsPipe

            tls = self._options.tls
            name = (tls.server_name if tls is not None else None) or self.address.verify_name
            self.tls = TlsPipe(make_context(tls), name)

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the socket, none to go on with what has come (`conn.more`). Raises `TlsError`."""
        self.last_received = now
        self.ping_sent_at = None
        self.suspect = False
        if not self.heard:
            self.heard = True
            if self.tls is None and data.startswith(TLS_ALERT):
                raise TlsError("the server speaks TLS on this port: write the endpoint with https://")
        if self.tls is not None and data:
            data = self.tls.receive_data(data)
            if not data:
                return
        self.conn.receive_data(data, now)

    def lost(self, error: EtcdError) -> EtcdError:
        """What the loss of the socket amounts to: before HTTP/2 is up, TLS is often the reason."""
        if self.state is LinkState.STARTING:
            try:
                if self.tls is not None:
                    self.tls.receive_eof()
                elif not self.heard:
                    error.message += " before it said anything; it may expect TLS (https://)"
            except TlsError as reason:
                reason.__cause__ = error
                return reason
        return error

    def data_to_send(self) -> bytes:
        """Bytes for the socket, handed over once."""
        if self.tls is None:
            return self.conn.data_to_send()
        if self.tls.handshake_done:
            plain = self.conn.data_to_send()
            if plain:
                self.tls.send(plain)
                # Encrypted bytes cannot be taken back, so what TLS took counts as sent.
                self.conn.data_written(len(plain))
        return self.tls.data_to_send()

    def leaving_data(self, waiting: int = 0) -> bytes:
        """`data_to_send`, and all of it counts as written, as do `waiting` bytes handed over before."""
        if self.tls is not None:
            return self.data_to_send()
        return self.conn.output.leave(waiting)

    def data_written(self, count: int) -> None:
        """So many of the handed-over bytes reached the kernel; below 0: so many did not, after all."""
        if self.tls is None:
            self.conn.data_written(count)

    def request_head(
        self, method: Method, remaining: float | None, extra: tuple[tuple[bytes, bytes], ...]
    ) -> bytes:
        """Header block of a request; the same octets for nearly every call, so they are kept.

        Args:
            remaining: seconds until the deadline, above 0, None for none. From 1 s on the server is told
                of up to a millisecond more.
            extra: further metadata.
        """
        if remaining is not None and remaining >= 1.0:
            remaining = ceil(remaining * 1e3) / 1e3
        token = self.token if method.authenticated else b""
        key = (method.raw_path, remaining, token, extra)
        head = self._heads.get(key)
        if head is None:
            timeout = b"" if remaining is None else encode_timeout(remaining)
            head = self.headers.block(method.raw_path, timeout, token, extra)
            if len(self._heads) == KEPT_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return head

    # Time.

    @property
    def usable(self) -> bool:
        """Whether a new call may go out on it."""
        return self.state is LinkState.READY and not self.suspect and not self.avoided

    def next_timer(self) -> float | None:
        """When `check` must be asked next, monotonic seconds."""
        if self.state < LinkState.READY:
            return self.deadline
        if self.ping_sent_at is not None:
            return self.ping_sent_at + self.ping_timeout
        if not self.conn.open_streams:
            return None
        if self.keepalive_time is not None:
            return self.last_received + self.keepalive_time
        return self.last_received + DRAIN_SILENCE if self.state is LinkState.DRAINING else None

    def check(self, now: float) -> str | None:
        """Send a PING if it is time; the reason when the link is dead, else None."""
        timer = self.next_timer()
        if timer is None or now < timer:
            return None
        if self.state < LinkState.READY:
            return f"no answer within the dial timeout ({self._options.dial_timeout:g} s)"
        if self.ping_sent_at is not None:
            return f"no answer to a PING within {self.ping_timeout:g} s"
        self._ping(now, self.keepalive_timeout)
        return None

    def probe(self, now: float) -> None:
        """A call timed out in silence: take no new calls until something arrives."""
        self.suspect = True
        if self.ping_sent_at is None and now - self.last_ping_at >= MIN_PING_GAP:
            self._ping(now, min(PROBE_TIMEOUT, self.keepalive_timeout))

    def stalled(self, sent_at: float, now: float) -> float:
        """A call timed out: for how long calls have done so without any answer between, seconds.

        Args:
            sent_at: when that call was sent, monotonic seconds.
        """
        if self.stalled_since is None or self.stalled_since > sent_at:
            self.stalled_since = sent_at
        return now - self.stalled_since

    def _ping(self, now: float, timeout: float) -> None:
        self.conn.ping(_PING)
        self.ping_sent_at = self.last_ping_at = now
        self.ping_timeout = timeout


def _uses_tls(told: bool | None, options: Options) -> bool:
    """Whether the endpoint is spoken to by TLS: its scheme decides, else whether TLS is configured."""
    return options.tls is not None if told is None else told
