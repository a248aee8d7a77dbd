# SPDX-License-Identifier: Apache-2.0
"""What may be sent again: one RPC with the whole retry rule.

1. An attempt that was certainly not applied is repeated until the deadline, whatever it does.
2. An attempt whose outcome is unknown is repeated only when the method changes nothing, or
   when doing it twice is the same as doing it once, or when the caller said so.
3. A refusal that another try cannot change is raised at once.
4. A rejected token is refreshed, at most three times for one call; attempts to log in that fail
   for a passing reason do not count. Nor is the attempt one of `Retry.max_attempts`.
5. A stream that is reset for no reason of its own, by a proxy say, leaves the outcome unknown. It is
   sent again at most five times: the same answer may be what breaks it each time.
6. The first repetition follows at once, the later ones after 25 ms growing to 1 s, unless the
   client was told otherwise (`purecd.Retry`).

Source: Table E of the project's failure rules (docs/failures.md); etcd
client/v3/retry_interceptor.go where it agrees.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.methods import AUTHENTICATE, Method, Policy
from purecd.core.op import Call, Effect, Metadata, Op, Refresh, Sleep
from purecd.errors import EtcdError, StatusCode
from purecd.requests import check_flags
from purecd.wire.status import STREAM_RESET

if TYPE_CHECKING:
    from purecd.options import Retry

MAX_REFRESHES = 3
MAX_RESETS = 5

# Answered before the request reaches the log, so no attempt of this kind was applied.
_REFUSED_EARLY = (errors.NoLeader, errors.TooManyRequests)
# What a member that is up may say for a while; another member, or the same one later, may answer.
_PASSING_CODES = frozenset(
    (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED, StatusCode.UNKNOWN)
)


class OneCall(Generator[Effect, Any, Any]):
    """An operation that is one RPC with the whole retry rule, as most commands are.

    It is like any other operation. But a driver that knows it may perform `first` itself, and goes on with
    the operation only where that fails, with `failed`: for the usual call nobody has to tell a story.

    Attributes:
        first: the first attempt.
    """

    __slots__ = ("_idempotent", "_request", "_story", "first")

    def __init__(self, first: Call, idempotent: bool) -> None:
        self.first = first
        self._request = first.request  # a namespace puts another one into each attempt
        self._idempotent = idempotent
        self._story: Op[Any] | None = None

    def _begun(self) -> Op[Any]:
        if self._story is None:
            self._story = _attempts(self.first, self._request, self._idempotent)
        return self._story

    def send(self, value: Any) -> Effect:
        return self._begun().send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Effect:
        return self._begun().throw(typ) if val is None and tb is None else self._begun().throw(typ, val, tb)

    def failed(self, error: BaseException) -> Effect:
        """Go on after `first` failed, performed by somebody else: the next effect."""
        story = self._begun()
        story.send(None)
        return story.throw(error)


def call(
    method: Method,
    request: Any,
    *,
    require_leader: bool = False,
    idempotent: bool = False,
    endpoint: str | None = None,
    metadata: Metadata = (),
    undo: Call | None = None,
) -> Op[Any]:
    """Send one RPC, again where that is safe, until it is answered or the deadline passes.

    Args:
        method: the RPC.
        request: what ``method.encode`` takes.
        require_leader: have a member without a leader refuse instead of waiting.
        idempotent: the caller's word that applying the request twice is harmless.
        endpoint: ask just this endpoint.
        undo: what to send, without waiting for it, when the caller gives up on an attempt under way.

    Raises:
        EtcdError: with `attempts`, and `maybe_applied` true to what is known.

    Sends: the RPC, and what the driver needs for a fresh token.
    """
    if idempotent is not False:
        check_flags(idempotent=idempotent)
    first = Call(method, request, require_leader, endpoint, metadata)
    if undo is not None:
        first.undo = undo
    return OneCall(first, idempotent)


def _attempts(attempt: Call, request: Any, idempotent: bool) -> Op[Any]:
    method = attempt.method
    attempts = 0
    refreshes = resets = 0
    ambiguous = False
    while True:
        try:
            return (yield attempt)
        except EtcdError as error:
            attempts += 1
            if method.policy is not Policy.READ:
                # An earlier attempt may have been applied even if this one was not.
                ambiguous = ambiguous or error.maybe_applied
            error.attempts, error.maybe_applied = attempts, ambiguous
            last = error
            refreshed = Refreshed.LATER
            if errors.is_stale_token(error):
                if refreshes == MAX_REFRESHES:
                    raise
                refreshed = yield from _refresh(attempt, error)
                if refreshed is Refreshed.NEWER:
                    refreshes += 1
                if refreshed is Refreshed.NONE:
                    raise
            elif not may_repeat(method, error, idempotent):
                raise
            elif _was_reset(error):
                resets += 1
                if resets > MAX_RESETS:
                    raise
        if refreshed is not Refreshed.NEWER:
            yield from _pause(attempt.retry, attempts, attempts - refreshes, last)
        attempt = attempt.again(request, attempts + 1)


def _pause(rule: Retry, attempts: int, counted: int, last: EtcdError) -> Op[None]:
    """Wait before the next attempt. Raises `last` where there is none."""
    if counted == rule.max_attempts:
        raise last
    pause = rule.pause(attempts)
    if pause:
        try:
            yield Sleep(pause, jitter=rule.jitter)
        except EtcdError as late:
            raise _on_behalf(late, last) from last


class Refreshed(enum.Enum):
    """What came of asking for a newer token."""

    NEWER = "there is one, or none is needed any more"
    NONE = "there is none to be had"
    LATER = "nobody can tell at the moment"


def _refresh(attempt: Call, rejection: EtcdError) -> Op[Refreshed]:
    """Get a newer token than the rejected one. Raises why logging in is refused."""
    try:
        again: bool = yield Refresh(attempt)
    except EtcdError as refusal:
        if may_repeat(AUTHENTICATE, refusal):
            return Refreshed.LATER
        raise _on_behalf(refusal, rejection) from rejection
    return Refreshed.NEWER if again else Refreshed.NONE


def _on_behalf(error: EtcdError, last: EtcdError) -> EtcdError:
    """An error that ends a call between two attempts tells what is known of the last one."""
    error.method = error.method or last.method
    error.endpoint = error.endpoint or last.endpoint
    error.attempts, error.maybe_applied = last.attempts, last.maybe_applied
    return error


def may_repeat(method: Method, error: EtcdError, idempotent: bool = False) -> bool:
    """Whether the request may be sent again after `error`."""
    if error.final or isinstance(error, (errors.ClientClosed, errors.MessageTooLarge)):
        return False
    if isinstance(error, _REFUSED_EARLY):
        return True
    if isinstance(error, errors.NotSupportedForLearner):
        # A learner refuses before it executes anything; the channel turned to another endpoint.
        return error.elsewhere
    repeatable = idempotent or method.policy is not Policy.WRITE
    if isinstance(error, errors.ProtocolError):
        return False
    if not isinstance(error, errors.RpcError):
        return repeatable or not error.maybe_applied
    return repeatable and _passing(error)


def _passing(error: errors.RpcError) -> bool:
    """Whether the same question may be answered differently a moment later."""
    if isinstance(error, errors.NotCapable):
        return False
    if error.code is StatusCode.UNKNOWN:
        # A member that was the leader a moment ago says so of leases, without a code.
        return error.message == "not a primary lessor"
    return error.code in _PASSING_CODES or _was_reset(error)


def _was_reset(error: EtcdError) -> bool:
    """Whether the stream was reset without a status, with a code that gives no reason."""
    return error.code is StatusCode.INTERNAL and error.message.startswith(STREAM_RESET)
