# SPDX-License-Identifier: Apache-2.0
"""How many PINGs of a client a server puts up with.

1. A PING is a strike when it comes sooner after the one before than allowed: 5 s, or 2 h while the
   connection has no call.
2. Whatever HEADERS or DATA the server sends wipes the strikes out.
3. The third strike ends the connection.

Source: grpc-go internal/transport/http2_server.go; etcd server/embed/config.go (5 s).
"""

from __future__ import annotations

MOST_STRIKES = 2
IDLE_INTERVAL = 7200.0


class PingGuard:
    """Counts the PINGs of one connection.

    Args:
        interval: least seconds between two PINGs while there is a call; 0 allows everything.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last_at: float | None = None
        self._strikes = 0
        self._wiped = False

    def sent(self) -> None:
        """HEADERS or DATA went out."""
        self._wiped = True

    def received(self, now: float, *, idle: bool) -> bool:
        """Count a PING; whether that was one too many.

        Args:
            idle: the connection has no call.
        """
        before, self._last_at = self._last_at, now
        if self._wiped or not self._interval:
            self._wiped = False
            self._strikes = 0
            return False
        least = IDLE_INTERVAL if idle else self._interval
        if before is not None and now < before + least:
            self._strikes += 1
        return self._strikes > MOST_STRIKES
