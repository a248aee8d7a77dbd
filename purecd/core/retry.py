# SPDX-License-Identifier: Apache-2.0
"""What may be sent again: one RPC with the whole retry rule.

1. An attempt that was certainly not applied is repeated until the deadline, whatever it does.
2. An attempt whose outcome is unknown is repeated only when the method changes nothing, or
   when doing it twice is the same as doing it once, or when the caller said so.
3. A refusal that another try cannot change is raised at once.
4. A rejected token is refreshed, at most three times for one call.
5. The first repetition follows at once, the later ones after 25 ms growing to 1 s.

Source: Table E of the project's failure rules (docs/failures.md); etcd
client/v3/retry_interceptor.go where it agrees.
"""

from __future__ import annotations

from typing import Any

from purecd import errors
from purecd.core.methods import AUTHENTICATE, Method, Policy
from purecd.core.op import Call, Metadata, Op, Refresh, Sleep
from purecd.errors import EtcdError, StatusCode

MAX_REFRESHES = 3
FIRST_PAUSE = 0.025
MAX_PAUSE = 1.0

# Answered before the request reaches the log, so no attempt of this kind was applied.
_REFUSED_EARLY = (errors.NoLeader, errors.TooManyRequests)
# What a member that is up may say for a while; another member, or the same one later, may answer.
_PASSING_CODES = frozenset(
    (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED, StatusCode.UNKNOWN)
)


def call(
    method: Method,
    request: Any,
    *,
    require_leader: bool = False,
    idempotent: bool = False,
    endpoint: str | None = None,
    metadata: Metadata = (),
) -> Op[Any]:
    """Send one RPC, again where that is safe, until it is answered or the deadline passes.

    Args:
        method: the RPC.
        request: what ``method.encode`` takes.
        require_leader: have a member without a leader refuse instead of waiting.
        idempotent: the caller's word that applying the request twice is harmless.
        endpoint: ask just this endpoint.

    Raises:
        EtcdError: with `attempts`, and `maybe_applied` true to what is known.

    Sends: the RPC, and what the driver needs for a fresh token.
    """
    attempts = 0
    refreshes = 0
    ambiguous = False
    last: EtcdError
    while True:
        attempt = Call(method, request, require_leader=require_leader, endpoint=endpoint, metadata=metadata)
        attempt.attempt = attempts + 1
        try:
            return (yield attempt)
        except EtcdError as error:
            attempts += 1
            error.attempts = attempts
            if method.policy is Policy.READ:
                error.maybe_applied = False
            ambiguous = ambiguous or error.maybe_applied
            if errors.is_stale_token(error):
                refreshes += 1
                error.maybe_applied = ambiguous
                if refreshes > MAX_REFRESHES or not (yield from _refresh(attempt, error)):
                    raise
                continue
            if not may_repeat(method, error, idempotent):
                # An earlier attempt of a repeatable write may have been applied even if this one was not.
                error.maybe_applied = ambiguous
                raise
            last = error
        if attempts > 1:
            try:
                yield Sleep(min(FIRST_PAUSE * 1.6 ** (attempts - 2), MAX_PAUSE), jitter=0.2)
            except EtcdError as late:
                late.method, late.endpoint, late.attempts = method.path, last.endpoint, attempts
                late.maybe_applied = ambiguous
                raise late from last


def _refresh(attempt: Call, rejection: EtcdError) -> Op[bool]:
    """Get a newer token; whether to try again. Raises why logging in is refused."""
    try:
        again: bool = yield Refresh(attempt)
    except EtcdError as error:
        error.maybe_applied = rejection.maybe_applied
        if error.final or not may_repeat(AUTHENTICATE, error):
            raise error from rejection
        yield Sleep(FIRST_PAUSE)
        return True
    return again


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
        # 3.4 and 3.5.1 report the end of their own patience without a code.
        return error.message in ("context deadline exceeded", "context canceled", "not a primary lessor")
    return error.code in _PASSING_CODES
