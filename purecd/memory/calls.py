# SPDX-License-Identifier: Apache-2.0
"""What a connection and a member say to each other about one RPC.

1. A connection starts each call at the member, `Service.start`, and tells the `Handler` it gets what the
   client does: messages, half-close, and in the end possibly that the client is gone.
2. The member answers whenever it likes, `ServerCall.reply` and `ServerCall.finish`, at once or much later.
3. A call ends once: by `finish`, or with the client. After that nothing reaches the other side any more.

Nothing here knows HTTP/2 or etcd's state, so that a member can be tested without a connection and a
connection without a member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from purecd.pb.messages import Message


class Status(Exception):
    """How a call ends when it does not end well.

    Args:
        code: gRPC status code, 1 to 16.
        text: the message as the client sees it, such as ``etcdserver: permission denied``.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"status {self.code}: {self.text}"


class Outlet(Protocol):
    """Where the answers to a call go: its stream, or what a test puts in its place."""

    @property
    def backlog(self) -> int:
        """Octets of replies that wait to be sent."""
        ...

    def send(self, message: Message) -> None:
        """Take one reply; it may be changed by the caller afterwards."""
        ...

    def end(self, status: Status | None) -> None:
        """End the call; None is OK. Called at most once."""
        ...


class Handler(Protocol):
    """What answers one call. After `cancel`, and after the call is finished, none of this is called."""

    def receive(self, message: Any, now: float) -> None:
        """A request message arrived, of the method's class; one in a unary call. May raise `Status`."""
        ...

    def half_close(self, now: float) -> None:
        """The client sends no more messages. May raise `Status`."""
        ...

    def cancel(self, now: float) -> None:
        """The call is over without `finish`: reset, past its deadline, or its connection is lost."""
        ...


class ServerCall:
    """One RPC as a member sees it.

    Args:
        path: as in ``:path``, such as ``/etcdserverpb.KV/Range``.
        metadata: what the client sent with the call, by lower-case name: ``token``, ``hasleader`` …
        deadline: absolute monotonic seconds, None without limit.
        common_name: of the verified client certificate, empty without one.
        outlet: takes what is answered.

    Attributes:
        finished: the member finished it, or the client is gone; look before doing late work.
        handler: what the member answers with, set by whoever started the call.
    """

    def __init__(
        self,
        path: str,
        outlet: Outlet,
        *,
        metadata: Mapping[str, str] | None = None,
        deadline: float | None = None,
        common_name: str = "",
    ) -> None:
        self.path = path
        self.metadata: dict[str, str] = dict(metadata or {})
        self.deadline = deadline
        self.common_name = common_name
        self.finished = False
        self.handler: Handler | None = None
        self._outlet = outlet

    def __repr__(self) -> str:
        return f"<ServerCall {self.path}{' finished' if self.finished else ''}>"

    @property
    def backlog(self) -> int:
        """Octets of replies that wait for the client to read; 0 when the call has ended."""
        return 0 if self.finished else self._outlet.backlog

    def reply(self, message: Message) -> None:
        """Queue one response message; ignored when the call has ended."""
        if not self.finished:
            self._outlet.send(message)

    def finish(self, status: Status | None = None) -> None:
        """End the call after the replies so far; None is OK. Ignored when it has ended."""
        if not self.finished:
            self.finished = True
            self._outlet.end(status)

    def cancel(self, now: float) -> None:
        """The client is gone: tell the handler, once. For the connection, not for members."""
        if not self.finished:
            self.finished = True
            if self.handler is not None:
                self.handler.cancel(now)


class Service(Protocol):
    """What a connection needs of a member."""

    def start(self, call: ServerCall, now: float) -> Handler:
        """Begin to answer a call. May raise `Status`."""
        ...

    def request_class(self, path: str) -> type[Message]:
        """The class of the request messages of a method. Raises `Status` (UNIMPLEMENTED) for unknown ones."""
        ...
