# SPDX-License-Identifier: Apache-2.0
"""Reads that never go back in time, whichever member answers them.

A `serializable` read may be answered by a member that is behind. Within an `Ordering` an answer
older than what was seen before is not believed: another member is asked, after a while the same
one again, and in the end there is an error.

It works on effects, like `purecd.core.namespace`.

Source: etcd client/v3/ordering/{kv,util}.go.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, TypeVar

from purecd import errors
from purecd.core import methods
from purecd.core.op import Call, Elsewhere, Op, Sleep

T = TypeVar("T")

MAX_VIOLATIONS = 10
FIRST_PAUSE = 0.025
MAX_PAUSE = 1.0

_ORDERED = (methods.RANGE, methods.PUT, methods.DELETE_RANGE, methods.TXN, methods.TXN_READ)


class Ordering:
    """The highest revision seen, and the rule that no answer may be older.

    Args:
        guard: held for the moment in which the revision changes; a lock where threads share it.
    """

    __slots__ = ("_guard", "_revision")

    def __init__(self, guard: AbstractContextManager[Any]) -> None:
        self._guard = guard
        self._revision = 0

    @property
    def revision(self) -> int:
        """The highest revision of the store that an answer told of."""
        return self._revision

    def run(self, op: Op[T]) -> Op[T]:
        """The same operation, in order."""
        try:
            effect = op.send(None)
            while True:
                try:
                    if isinstance(effect, Call) and effect.method in _ORDERED:
                        result = yield from self._ask(effect)
                    else:
                        result = yield effect
                except BaseException as error:
                    effect = op.throw(error)
                else:
                    effect = op.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def _ask(self, call: Call) -> Op[Any]:
        violations = 0
        request = call.request  # a namespace around this writes its own into the call
        while True:
            reply = yield call
            revision = reply.header.revision
            if self._saw(revision) or call.method.policy is not methods.Policy.READ:
                return reply
            violations += 1
            if violations == MAX_VIOLATIONS:
                raise self._too_old(call, revision)
            yield Elsewhere(call)
            yield Sleep(min(FIRST_PAUSE * 1.6**violations, MAX_PAUSE))
            call = _again(call, request)

    def _too_old(self, call: Call, revision: int) -> errors.EtcdError:
        error = errors.NoGreaterRevision(
            f"no member that answers is at revision {self._revision} or beyond, the last is at {revision}",
            method=call.method.path,
            endpoint=call.link.name if call.link is not None else "",
        )
        error.final = True
        return error

    def _saw(self, revision: int) -> bool:
        """Note the revision of an answer; False if it is older than another one."""
        with self._guard:
            if revision < self._revision:
                return False
            self._revision = revision
            return True


def _again(call: Call, request: Any) -> Call:
    """A fresh attempt of the same request."""
    return Call(
        call.method,
        request,
        require_leader=call.require_leader,
        endpoint=call.endpoint,
        metadata=call.metadata,
    )
