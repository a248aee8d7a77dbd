# SPDX-License-Identifier: Apache-2.0
"""What a server was asked lately, for the report of a test that failed.

Passwords are not shown, nor long values.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from purecd.memory.calls import ServerCall, Status
    from purecd.pb.messages import Message

KEPT = 1000  # lines
LONGEST = 4096  # octets of a message whose fields are shown
SECRET = frozenset(("password", "hashedPassword", "token"))
_SHOWN = 60  # octets of one field


class Journal:
    """The newest requests and how they ended; formatted when somebody reads it."""

    def __init__(self) -> None:
        self._lines: deque[tuple[float, str, Any]] = deque(maxlen=KEPT)
        self._began: float | None = None

    def add(self, now: float, text: str, detail: Any = None) -> None:
        """Note something; `detail` is a message or text."""
        if self._began is None:
            self._began = now
        self._lines.append((now, text, detail))

    def request(self, call: ServerCall, message: Message, now: float) -> None:
        """A request message arrived."""
        size = message.ByteSize()
        self.add(now, method_of(call.path), message if size <= LONGEST else f"({size} octets)")

    def ended(self, call: ServerCall, status: Status | None, now: float) -> None:
        """A call ended; only what did not end well is noted."""
        if status is not None:
            self.add(now, f"{method_of(call.path)} -> {status.code}", status.text)

    def gone(self, call: ServerCall, now: float) -> None:
        """The client of a call is gone, or reset it."""
        self.add(now, f"{method_of(call.path)} -> gone")

    def tail(self, lines: int) -> str:
        """The last lines, oldest first, times in seconds since the first."""
        began = self._began or 0.0
        kept = list(self._lines)[-lines:] if lines > 0 else []
        return "\n".join(f"{at - began:9.3f}  {text} {shown(detail)}".rstrip() for at, text, detail in kept)


def method_of(path: str) -> str:
    """``KV/Range`` for ``/etcdserverpb.KV/Range``."""
    return path.rpartition(".")[2]


def shown(detail: Any) -> str:
    """A message's fields in one line."""
    if detail is None or isinstance(detail, str):
        return detail or ""
    return " ".join(f"{field.name}={_value(field.name, value)}" for field, value in detail.ListFields())


def _value(name: str, value: Any) -> str:
    if name in SECRET:
        return "***"
    if isinstance(value, bytes):
        return repr(value) if len(value) <= _SHOWN else f"({len(value)} octets)"
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    if hasattr(value, "ListFields"):
        return f"({shown(value)})"
    if hasattr(value, "__len__"):
        return "[" + ", ".join(_value(name, each) for each in value) + "]"
    return str(value)
