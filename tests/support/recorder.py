# SPDX-License-Identifier: Apache-2.0
"""Every call of a load, with when it began and ended and what its caller was told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable
from typing import Any

import purecd
from purecd.errors import EtcdError
from purecd.hooks import Hook
from tests.support.history import Condition, Operation, Outcome, Step

_FIELDS = {
    "value": purecd.value,
    "mod_revision": purecd.mod_revision,
    "create_revision": purecd.create_revision,
    "version": purecd.version,
}


class Recorder:
    """Runs operations on clients whose methods block, and keeps what came of each.

    Attributes:
        operations: all of them, those that still run as of unknown outcome.
        surprises: exceptions that no caller of purecd should see.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.surprises: list[str] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # guards the lists and the counter

    def unique(self) -> str:
        """A value that no other put of this recorder has."""
        with self._lock:
            return f"v{next(self._numbers)}"

    def perform(self, client: Any, operation: Operation) -> Operation:
        """Run one operation to its end."""
        with self._lock:
            self.operations.append(operation)
        operation.called_at = time.monotonic()
        try:
            reply = send(client, operation)
        except EtcdError as error:
            outcome: Outcome = "unknown" if error.maybe_applied else "failed"
            self._ended(operation, outcome, error)
        except BaseException as error:
            self._ended(operation, "unknown", error)
            self.surprises.append(f"{operation.name} raised {error!r}")
        else:
            keep_reply(operation, reply)
            self._ended(operation, "ok", None)
        return operation

    def _ended(self, operation: Operation, outcome: Outcome, error: BaseException | None) -> None:
        operation.returned_at = time.monotonic()
        operation.error = error
        operation.outcome = outcome

    def between(self, start: float, end: float) -> list[Operation]:
        """The operations called in a span of time."""
        return [each for each in self.operations if start <= each.called_at < end]


def send(client: Any, operation: Operation) -> Any:
    """Ask a client for an operation, in the way that a user would."""
    step = operation.success[0]
    timeout = operation.timeout
    if operation.name == "put":
        return client.put(step.key, step.value, timeout=timeout)
    if operation.name == "get":
        return client.get(step.key, serializable=operation.serializable, timeout=timeout)
    if operation.name == "delete":
        return client.delete(step.key, timeout=timeout)
    return client.txn(
        [_compare(each) for each in operation.conditions],
        [_request(each) for each in operation.success],
        [_request(each) for each in operation.failure],
        timeout=timeout,
    )


def _request(step: Step) -> purecd.Get | purecd.Put | purecd.Delete:
    if step.kind == "put":
        return purecd.Put(step.key, step.value)
    return purecd.Get(step.key) if step.kind == "get" else purecd.Delete(step.key)


def _compare(condition: Condition) -> Any:
    left = _FIELDS[condition.field](condition.key)
    if condition.relation == "==":
        return left == condition.operand
    if condition.relation == "!=":
        return left != condition.operand
    return left < condition.operand if condition.relation == "<" else left > condition.operand


def keep_reply(operation: Operation, reply: Any) -> None:
    """Note what a reply says."""
    operation.revision = reply.header.revision
    if operation.name == "txn":
        operation.succeeded = reply.succeeded
        operation.results = tuple(_result(each) for each in reply.responses)
    else:
        operation.results = (_result(reply),)


def _result(reply: Any) -> Any:
    if hasattr(reply, "kvs"):
        return reply.value and reply.value.decode()
    return getattr(reply, "deleted", None)


class ConnectionLog(Hook):
    """When connections were tried for, came up and ended."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str, str]] = []

    def connection(self, event: str, endpoint: str, detail: str) -> None:
        self.events.append((time.monotonic(), event, endpoint, detail))

    def times(self, event: str, since: float = 0.0) -> list[float]:
        """Moments of one kind of event."""
        return [moment for moment, name, _, _ in self.events if name == event and moment >= since]


def overshoot(operations: Iterable[Operation]) -> float:
    """By how many seconds the latest call ended after its deadline; 0 when none did."""
    return max(
        (each.returned_at - each.called_at - each.timeout for each in operations if each.error is not None),
        default=0.0,
    )


def longest_gap(operations: Iterable[Operation], start: float, end: float) -> float:
    """The longest span without any success of a linearizable call, within a span of time."""
    moments = [
        each.returned_at
        for each in operations
        if each.outcome == "ok" and not each.serializable and start <= each.returned_at <= end
    ]
    edges = [start, *sorted(moments), end]
    return max(after - before for before, after in zip(edges, edges[1:]))
