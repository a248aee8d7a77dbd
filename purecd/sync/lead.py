# SPDX-License-Identifier: Apache-2.0
"""The waiting threads, and the lead: which of them waits on the sockets.

The lead is taken and left in single steps that say by whom, so a signal that is handled between any
two lines leaves no doubt: whoever gives up waiting calls `leave`, whether it had the lead or not.
"""

from __future__ import annotations

import threading
from typing import Callable

Tell = Callable[[str, str, str], None]
"""Takes what happened to a connection: event, endpoint, detail."""
IDLE = 0.05
"""Seconds of silence after which a link is looked at before it gets a call: it may be closed."""
LOOK_AGAIN = 1.0
"""Seconds after which a follower looks whether anybody leads: a signal may have cut a hand-over short."""
TEND_EVERY = 1.0
"""Seconds between looks at a neighbour on which nobody waits. A member that shuts down waits 5 s for
an answer on each connection, and its own keepalive PINGs want one, too."""


class Waiter:
    """A thread that waits for one thing."""

    __slots__ = ("fired", "lock")

    def __init__(self) -> None:
        self.fired = False
        self.lock: threading.Lock | None = None

    def fire(self) -> None:
        """What is waited for happened. Called with the driver's `_state` held."""
        self.fired = True
        self.wake()

    def wake(self) -> None:
        """Let the thread look again."""
        lock = self.lock
        if lock is not None:
            self.lock = None
            lock.release()


class Lead:
    """Held by one at a time; taking it never blocks."""

    def __init__(self) -> None:
        self._by: dict[str, object] = {}

    def take(self, who: object) -> bool:
        """Take it, unless somebody has it; whether `who` has it now."""
        return self._by.setdefault("who", who) is who

    def leave(self, who: object) -> None:
        """Let others have it; nothing happens when `who` has it not."""
        if self._by.get("who") is who:
            del self._by["who"]

    def taken(self) -> bool:
        """Whether somebody has it."""
        return bool(self._by)
