# SPDX-License-Identifier: Apache-2.0
"""A log that waits for the test."""

from __future__ import annotations

from typing import Any

from purecd.memory.calls import Status
from purecd.memory.log import Solo


class SlowLog(Solo):
    """Keeps all that is asked of it until `agree` or `refuse`."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, Any, Any, Any]] = []

    def propose(self, member: Any, command: Any, done: Any, now: float) -> None:
        self._waiting.append(("propose", member, command, done))

    def read_index(self, member: Any, done: Any, now: float) -> None:
        self._waiting.append(("read", member, None, done))

    def ask_leader(self, member: Any, question: Any, done: Any, now: float) -> None:
        self._waiting.append(("ask", member, question, done))

    def agree(self, now: float) -> None:
        """Apply what waits, in order, then answer the questions."""
        waiting, self._waiting = self._waiting, []
        for kind, member, what, done in waiting:
            if kind == "propose":
                done(member.apply(what, now))
            elif kind == "read":
                done(None)
            else:
                what(member, now, done)

    def refuse(self, status: Status) -> None:
        """Let all that waits come to nothing."""
        waiting, self._waiting = self._waiting, []
        for *_, done in waiting:
            done(status)
