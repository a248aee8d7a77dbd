# SPDX-License-Identifier: Apache-2.0
"""The waiting threads, and the lead: which of them waits on the sockets.

A signal's handler may raise between any two lines. So the lead is not a state that has to be undone: it
belongs to a waiter, and counts only while that waiter's lock `here` is held by a ``with`` statement around
all that it does. However that is left, the lead is free.
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
    """A thread that waits for one thing.

    Args:
        mends: how often the channel had been mended before the thing was begun.

    Attributes:
        fired: what is waited for happened.
        here: held while its thread waits or leads.
    """

    __slots__ = ("fired", "here", "lock", "mends")

    def __init__(self, mends: int = 0) -> None:
        self.fired = False
        self.mends = mends
        self.here = threading.Lock()
        self.lock: threading.Lock | None = None

    def fire(self) -> None:
        """What is waited for happened. Called with the driver's `_state` held."""
        self.fired = True
        lock = self.lock
        if lock is not None:
            self.lock = None
            lock.release()

    def wake(self) -> None:
        """Let the thread look again."""
        lock = self.lock
        if lock is not None:
            self.lock = None
            lock.release()


class Lead:
    """Held by one at a time; taking it never blocks."""

    def __init__(self) -> None:
        self._by: dict[str, Waiter] = {}
        self._change = threading.Lock()  # held while the lead of one who is gone is passed on

    def take(self, who: Waiter) -> bool:
        """Take it, unless somebody has it; whether `who` has it now. Its lock `here` must be held."""
        holder = self._by.setdefault("who", who)
        if holder is who:
            return True
        if holder.here.locked():
            return False
        with self._change:  # it left without a word
            if self._by.get("who") is holder:
                self._by["who"] = who
        return self._by.setdefault("who", who) is who

    def leave(self, who: Waiter) -> None:
        """Let others have it; nothing happens when `who` has it not."""
        if self._by.get("who") is who:
            del self._by["who"]

    def taken(self) -> bool:
        """Whether somebody has it."""
        holder = self._by.get("who")
        return holder is not None and holder.here.locked()
