# SPDX-License-Identifier: Apache-2.0
"""Simple tokens: who logged in at this member, each for some time since the token was last used.

Every member assigns a token when it applies the login, and counts its time by itself. Tokens are gone
when auth is switched off, their user is deleted or gets another password, and with the process.

Source: etcd server/auth/simple_token.go.
"""

from __future__ import annotations


class Tokens:
    """The tokens of one member.

    Args:
        ttl: seconds a token lives without being used.
    """

    def __init__(self, ttl: float = 300.0) -> None:
        self._ttl = ttl
        self._users: dict[str, str] = {}
        self._ends_at: dict[str, float] = {}

    def assign(self, token: str, username: str, now: float) -> None:
        """Note a new token."""
        self._users[token] = username
        self._ends_at[token] = now + self._ttl

    def use(self, token: str, now: float) -> str | None:
        """Whose token it is, and let it live anew; None when it is unknown or too old."""
        username = self._users.get(token)
        if username is None:
            return None
        if self._ends_at[token] <= now:
            self._forget(token)
            return None
        self._ends_at[token] = now + self._ttl
        return username

    def _forget(self, token: str) -> None:
        del self._users[token], self._ends_at[token]

    def drop_user(self, username: str) -> None:
        """Forget the tokens of one user."""
        for token in [token for token, name in self._users.items() if name == username]:
            self._forget(token)

    def clear(self) -> None:
        """Forget all tokens."""
        self._users.clear()
        self._ends_at.clear()


def index_of(token: str) -> int | None:
    """The index in the log at which a token was assigned; None when it has not the form of one."""
    parts = token.split(".")
    if len(parts) != 2 or not (parts[1].isascii() and parts[1].isdigit()):
        return None
    index = int(parts[1])
    return index if index < 1 << 64 else None
