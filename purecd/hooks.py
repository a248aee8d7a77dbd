# SPDX-License-Identifier: Apache-2.0
"""Hooks: being told of every call and of what happens to connections and watches.

Metrics and tracing are built on these; `purecd.contrib` has adapters for Prometheus and
OpenTelemetry. Of calls and watches a hook is told on the caller's own thread or event loop, of
connections on whichever thread serves them at the moment. It must be quick and must not use the
client; what it raises is logged and goes no further. Several hooks are called in the order in
which they were given, and ended in reverse.

No hook is ever given a key, a value, a token or a password.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from purecd.errors import EtcdError, StatusCode
from purecd.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from purecd.core.op import Call

logger = logging.getLogger("purecd")


class CallEvent(NamedTuple):
    """One attempt of one call.

    Attributes:
        method: path of the RPC, such as ``/etcdserverpb.KV/Put``.
        attempt: 1 for the first, more for repetitions.
        endpoint: where it was sent, as given in the options; "" if it was not.
        code: how it ended; ``StatusCode.OK`` or that of the error, None where the error has none.
        error: the error, None when it was answered.
        seconds: from its start to its end.
        request_bytes, reply_bytes: sizes of the messages.
    """

    method: str
    attempt: int
    endpoint: str
    code: StatusCode | None
    error: BaseException | None
    seconds: float
    request_bytes: int
    reply_bytes: int


class Hook:
    """Override what you want to know."""

    def call_started(self, method: str, attempt: int) -> Any:
        """An attempt begins; what this returns is given to `call_ended`."""

    def call_ended(self, state: Any, event: CallEvent) -> None:
        """The attempt ended.

        Args:
            state: what `call_started` returned for it.
            event: how it went.
        """

    def connection(self, event: str, endpoint: str, detail: str) -> None:
        """Something happened to a connection.

        Args:
            event: ``connect``, ``ready``, ``goaway``, ``turn`` (another endpoint is preferred),
                ``closed``, ``token`` (refreshed), ``auth-failed``, ``stream`` (opened) or
                ``stream-end``.
            endpoint: where, as given in the options.
            detail: why, for people; "" when there is nothing to say.
        """

    def watch(self, event: str, detail: str) -> None:
        """Something happened to a watch.

        Args:
            event: ``opened``, then once ``closed`` or ``failed``; one that cannot be opened only fails.
            detail: why it failed, for people.
        """


class Observed:
    """One attempt, seen by all hooks."""

    __slots__ = ("_call", "_hooks", "_started", "_states")

    def __init__(self, hooks: Sequence[Hook], call: Call) -> None:
        self._hooks = hooks
        self._call = call
        self._states = [each_safely(hook.call_started, call.method.path, call.attempt) for hook in hooks]
        self._started = time.perf_counter()

    def ended(self, message: bytes, error: BaseException | None) -> None:
        """Tell the hooks how it went."""
        call = self._call
        code = StatusCode.OK if error is None else error.code if isinstance(error, EtcdError) else None
        event = CallEvent(
            call.method.path,
            call.attempt,
            call.link.name if call.link is not None else "",
            code,
            error,
            time.perf_counter() - self._started,
            len(call.data),
            len(message),
        )
        for hook, state in zip(reversed(self._hooks), reversed(self._states)):
            each_safely(hook.call_ended, state, event)


def each_safely(function: Any, *arguments: Any) -> Any:
    """Call a hook's method; what it raises is logged."""
    try:
        return function(*arguments)
    except Exception:  # a hook must not change how a call ends
        logger.exception("a hook failed")
        return None
