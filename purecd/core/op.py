# SPDX-License-Identifier: Apache-2.0
"""Operations and their effects: what a command does, told step by step.

1. An operation is a generator. It yields effects and gets their results sent back, or the
   error thrown in; what it returns is the result of the command.
2. A driver runs it: it performs each effect with its own sockets and clock and decides
   nothing. It runs an operation to its end, also when the caller gives up: then the
   reason is thrown in, and the effects of the clean-up are still performed.
3. The deadline of the whole command is kept by the driver, which throws
   `DeadlineExceeded` in when it passes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union

if TYPE_CHECKING:
    from purecd.core.methods import Method
    from purecd.errors import EtcdError

from purecd.options import Retry

T = TypeVar("T")

DEFAULT_RETRY = Retry()

Metadata = Sequence[tuple[bytes, bytes]]


class Call:
    """One attempt of one unary RPC; also the record of how it went.

    The first group is what the operation asks for, the second is written by the channel,
    `waiter` belongs to the driver.

    Args:
        method: the RPC, from the method table.
        request: the value that ``method.encode`` takes.
        require_leader: send ``hasleader``, so a member without a leader refuses.
        endpoint: ask this endpoint instead of whichever serves the client, None for any.
        metadata: further metadata, names lower-case.

    Attributes:
        data: the length-prefixed request message.
        deadline: absolute monotonic seconds, None means no limit.
        message: the reply, once `done` without an error.
        error: why there is no reply, once `done`.
        generation: of the token that the attempt carried.
        attempt: 1 for the first one of the command's RPC.
        retry: how it may be repeated; the driver puts in what its client was told.
        sent_at: when the attempt was handed to a connection, monotonic seconds.
        undo: a call that takes back what this one did; it is sent, and nobody waits for it, when the
            caller gives up on an attempt that may have been applied.
    """

    __slots__ = (
        "attempt",
        "data",
        "deadline",
        "done",
        "endpoint",
        "error",
        "fail_fast",
        "generation",
        "link",
        "message",
        "metadata",
        "method",
        "request",
        "require_leader",
        "retry",
        "sent_at",
        "started_at",
        "stream",
        "undo",
        "waiter",
    )

    def __init__(
        self,
        method: Method,
        request: Any,
        require_leader: bool = False,
        endpoint: str | None = None,
        metadata: Metadata = (),
    ) -> None:
        self.method = method
        self.request = request
        self.require_leader = require_leader
        self.endpoint = endpoint
        self.metadata = metadata
        self.attempt = 1
        self.retry = DEFAULT_RETRY
        self.data = b""
        self.deadline: float | None = None
        self.fail_fast = False
        self.done = False
        self.message = b""
        self.error: EtcdError | None = None
        self.link: Any = None
        self.stream: Any = None
        self.generation = 0
        self.sent_at = 0.0
        self.started_at = 0.0
        self.undo: Call | None = None
        self.waiter: Any = None

    def again(self, request: Any, attempt: int) -> Call:
        """A further attempt of the same RPC, to be made after this one."""
        call = Call(self.method, request, self.require_leader, self.endpoint, self.metadata)
        call.undo = self.undo
        call.attempt = attempt
        return call


class Sleep:
    """Wait so many seconds, longer or shorter by up to the fraction `jitter`."""

    __slots__ = ("jitter", "seconds")

    def __init__(self, seconds: float, jitter: float = 0.1) -> None:
        self.seconds = seconds
        self.jitter = jitter


class Refresh:
    """Get a newer token than the failed call carried; the result says whether to try again.

    One refresh serves all that ask for it on the same connection.

    Attributes:
        again: whether another attempt makes sense, once `done` without an error.
    """

    __slots__ = ("again", "call", "done", "error", "waiter")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.again = False
        self.done = False
        self.error: EtcdError | None = None
        self.waiter: Any = None


class Elsewhere:
    """Prefer another endpoint than the one that answered a call, where there is one."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call


class Attach:
    """Begin a source: a watcher, a kept-alive lease or a streamed reply."""

    __slots__ = ("source",)

    def __init__(self, source: Any) -> None:
        self.source = source


class Next:
    """Wait for the next item of a source; None when it ended without an error.

    Args:
        source: what was attached.
        timeout: seconds to wait, None for no limit but the command's own deadline.
            When it passes `TimeoutError` is thrown in and the source lives on.
    """

    __slots__ = ("source", "timeout")

    def __init__(self, source: Any, timeout: float | None = None) -> None:
        self.source = source
        self.timeout = timeout


class Detach:
    """End a source; nothing of it is delivered afterwards."""

    __slots__ = ("source",)

    def __init__(self, source: Any) -> None:
        self.source = source


class Now:
    """The driver's monotonic clock, seconds."""

    __slots__ = ()


class RandomId:
    """A positive 63-bit number nobody can guess, for leases and locks."""

    __slots__ = ()


Effect = Union[Call, Sleep, Refresh, Elsewhere, Attach, Next, Detach, Now, RandomId]
Op = Generator[Effect, Any, T]


def sleep(seconds: float, jitter: float = 0.1) -> Op[None]:
    """Wait so many seconds."""
    yield Sleep(seconds, jitter)


def now() -> Op[float]:
    """The monotonic time, seconds."""
    moment: float = yield Now()
    return moment


def random_id() -> Op[int]:
    """A fresh id for a lease, 1 to 2^63-1."""
    number: int = yield RandomId()
    return number
