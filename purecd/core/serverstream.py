# SPDX-License-Identifier: Apache-2.0
"""A streamed reply: one request, any number of messages, then a status."""

from __future__ import annotations

from collections import deque
from typing import Any

from purecd.core.methods import Method
from purecd.core.op import Call


class ServerStream(Call):
    """A source whose items are the message bytes of a server-streaming RPC.

    The window of its stream opens only as items are taken, so a slow reader slows the server
    down instead of filling memory.

    Args:
        half_close: end the request side at once; a grpc-proxy cancels a keep-alive that does.

    Attributes:
        inbox: messages not yet taken.
        closed: nothing more comes once the inbox is empty; `error` says why if not normally.
    """

    __slots__ = ("closed", "half_close", "inbox")

    channel = "calls"

    def __init__(self, method: Method, request: Any, *, half_close: bool = True, **options: Any) -> None:
        super().__init__(method, request, **options)
        self.inbox: deque[bytes] = deque()
        self.closed = False
        self.half_close = half_close

    def take(self) -> bytes | None:
        """The next message, None when there is none at the moment."""
        return self.inbox.popleft() if self.inbox else None
