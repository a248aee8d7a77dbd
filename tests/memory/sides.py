# SPDX-License-Identifier: Apache-2.0
"""The two etcds that get the same requests: the member in memory, and a real one.

Ids and tokens that an etcd makes up differ between the two. Each side learns its own under a name, and
replies are compared with the names in their place.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Any

from purecd.memory.calls import ServerCall, Status
from purecd.memory.member import Member, MemberOptions
from tests.support.rawclient import Answer, RawClient

Plain = Any  # a message as nested lists and dicts


class Side:
    """One etcd: its connection, and what it made up.

    Attributes:
        ids: made up by it, by name.
        tokens: by user.
    """

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.tokens: dict[str, str] = {}

    def id(self, name: str) -> int:
        """The id of that name, 0 when there is none."""
        return self.ids.get(name, 0)

    def call(self, path: str, request: Any, token: str = "") -> Answer:
        """Make a call that ends by itself."""
        raise NotImplementedError  # each side says how

    def open(self, path: str, token: str = "") -> Any:
        """Begin a call: something with `send`, `next` and `replies`."""
        raise NotImplementedError  # each side says how

    def plain(self, message: Any) -> Plain:
        """A message as plain values, with names in the place of ids that this side made up."""
        names = {value: f"<{name}>" for name, value in self.ids.items()}
        return _plain(message, names)


def _plain(value: Any, names: dict[int, str]) -> Plain:
    if type(value) is int:
        return names.get(value, value)
    if isinstance(value, (bool, float, str, bytes)):
        return value
    if hasattr(value, "ListFields"):
        return {field.name: _plain(each, names) for field, each in value.ListFields()}
    return [_plain(each, names) for each in value]


class Real(Side):
    """A real etcd."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self._client = RawClient(address)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def call(self, path: str, request: Any, token: str = "") -> Answer:
        return self._client.call(path, request, token=token)

    def open(self, path: str, token: str = "") -> Any:
        return self._client.open(path, token=token)


class Memory(Side):
    """A member in memory, in the real time."""

    def __init__(self, options: MemberOptions) -> None:
        super().__init__()
        self.member = Member(rng=random.Random(1), options=options)

    @property
    def now(self) -> float:
        return time.monotonic()

    def tick(self) -> None:
        """Do what is due now, and what unsynced watchers wait for."""
        self.member.handle_timer(self.now)

    def call(self, path: str, request: Any, token: str = "") -> Answer:
        stream = self.open(path, token)
        stream.send(request, last=True)
        return stream.finish()

    def open(self, path: str, token: str = "") -> MemoryStream:
        return MemoryStream(self, path, token)


class MemoryStream:
    """One call in progress."""

    def __init__(self, side: Memory, path: str, token: str) -> None:
        self.replies: list[Any] = []
        self._side = side
        self._outlet = _Outlet()
        self.call = ServerCall(path, self._outlet, metadata={"token": token} if token else {})
        try:
            side.member.start(self.call, side.now)
        except Status as refused:
            self.call.finish(refused)

    def send(self, request: Any, last: bool = False) -> None:
        """Send one request message."""
        now = self._side.now
        for tell in (lambda handler: handler.receive(request, now), lambda handler: handler.half_close(now)):
            if self.call.finished or self.call.handler is None:
                return
            try:
                tell(self.call.handler)
            except Status as refused:
                self.call.finish(refused)
            if not last:
                return

    def reset(self) -> None:
        """Give the call up."""
        self.call.cancel(self._side.now)

    def next(self, within: float = 0.0) -> Any:
        """The next reply; None when there is none, or none more."""
        if not self._outlet.queue:
            self._side.tick()
        if not self._outlet.queue:
            return None
        self.replies.append(self._outlet.queue.popleft())
        return self.replies[-1]

    def finish(self) -> Answer:
        """What the call ended with."""
        while self.next() is not None:
            pass
        status = self._outlet.status
        if not self.call.finished:
            raise TimeoutError("the call did not end")
        return Answer(self.replies, status.code if status else 0, status.text if status else "")


class _Outlet:
    """Takes what a call is answered."""

    backlog = 0

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.status: Status | None = None

    def send(self, message: Any) -> None:
        self.queue.append(type(message).FromString(message.SerializeToString()))

    def end(self, status: Status | None) -> None:
        self.status = status
