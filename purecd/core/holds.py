# SPDX-License-Identifier: Apache-2.0
"""What the handles of locks and candidates tell of what they hold, in both fronts."""

from __future__ import annotations

from typing import Any

from purecd.core import line
from purecd.core.line import Place
from purecd.requests import Text
from purecd.types import brief


class Hold:
    """A place in line that was got, and the lease that it lives by.

    Args:
        name: of the line.
        given: a lease of the caller's, None for one of its own.
    """

    _kind = ""

    def __init__(self, name: Text, given: Any) -> None:
        self.name = line.line_of(name)
        self._given = given
        self._lease: Any = None
        self._place: Place | None = None

    def __repr__(self) -> str:
        state = "lost" if self.lost else "held" if self.held else "not held"
        return f"<{self._kind} {brief(self.name)} {state}>"

    @property
    def held(self) -> bool:
        """Whether it was got, not given up, and its lease certainly lives."""
        return self._place is not None and self._lease is not None and not self._lease.lost

    @property
    def lost(self) -> bool:
        """Whether it was got, not given up, and its lease may have ended."""
        return self._place is not None and not self.held

    @property
    def key(self) -> bytes:
        """The holder's key, b"" while it is not held."""
        return self._place.key if self._place is not None else b""

    @property
    def fencing_token(self) -> int:
        """The create revision of the holder's key, which grows from holder to holder; 0 while not held."""
        return self._place.create_revision if self._place is not None else 0

    def _held(self) -> Place:
        if self._place is None:
            raise RuntimeError(f"{self}: it was not got, or was given up")
        return self._place
