# SPDX-License-Identifier: Apache-2.0
"""Is what clients were told consistent with what the store did? By revision order.

etcd's revisions give the total order of all changes, so nothing has to be searched for: the log
says what happened at which revision, and each answer is held against the state there. Values of
puts are unique in a history; that is how an operation finds its changes in the log.

Found are: an operation applied twice, an acknowledged one missing or elsewhere, a definite failure
that was applied, an answer that does not fit the state at its revision, a transaction torn apart or
on the wrong branch, a change nobody asked for, and an order that contradicts real time.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Outcome = Literal["ok", "failed", "unknown"]


class Change(NamedTuple):
    """One event of the log.

    Attributes:
        value: ``None`` for a deletion.
        create_revision, version: of the key after the change, 0 for a deletion.
    """

    revision: int
    key: str
    value: str | None
    create_revision: int = 0
    version: int = 0


class Step(NamedTuple):
    """One operation of a branch; `value` is for ``put`` alone and unique in the history."""

    kind: Literal["put", "get", "delete"]
    key: str
    value: str = ""


class Condition(NamedTuple):
    """``field`` of `key` compared with `operand`; a missing key has numbers 0 and no value."""

    key: str
    field: Literal["value", "mod_revision", "create_revision", "version"]
    relation: Literal["==", "!=", "<", ">"]
    operand: Any


@dataclass(eq=False)
class Operation:
    """One call: conditions, two branches, and what its caller was told.

    Attributes:
        name: ``put``, ``get``, ``delete`` or ``txn``; all are transactions to the checker.
        called_at, returned_at: seconds of one clock.
        outcome: ``failed`` means certainly not applied, ``unknown`` that it may have been.
        revision: from the header of the answer.
        results: for each step of the branch that ran: a put None, a get the value or None,
            a delete the count of deleted keys.
        serializable: the answer may be old, so real time does not bind it.
    """

    name: str
    success: tuple[Step, ...]
    failure: tuple[Step, ...] = ()
    conditions: tuple[Condition, ...] = ()
    serializable: bool = False
    called_at: float = 0.0
    returned_at: float = math.inf
    outcome: Outcome = "unknown"
    revision: int = 0
    succeeded: bool = True
    results: tuple[Any, ...] = ()
    timeout: float = math.inf
    error: BaseException | None = None
    caller: int = 0


class State(NamedTuple):
    """A key after the change at `revision`."""

    revision: int
    value: str | None
    create_revision: int
    version: int


_ABSENT = State(0, None, 0, 0)


class Log:
    """The changes of a store, to be asked what was where and when."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.changes = sorted(changes, key=lambda each: each.revision)
        self.keys: defaultdict[str, list[State]] = defaultdict(list)
        self.puts: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        self.deletions: set[tuple[int, str]] = set()
        for revision, key, value, create_revision, version in self.changes:
            self.keys[key].append(State(revision, value, create_revision, version))
            if value is None:
                self.deletions.add((revision, key))
            else:
                self.puts[value].append((revision, key))

    def at(self, key: str, revision: int) -> State:
        """The key as of a revision."""
        states = self.keys.get(key, [])
        # Python 3.9's bisect takes no key; a tuple of one sorts before the state of the same revision.
        index = bisect.bisect_left(states, (revision + 1,))
        return states[index - 1] if index and states[index - 1].value is not None else _ABSENT


def check(operations: Sequence[Operation], changes: Iterable[Change]) -> list[str]:
    """What is wrong with a history, in words; empty when nothing is.

    Args:
        operations: everything that clients did to the keys of the log.
        changes: every event from the first revision on, from somebody independent.
    """
    return _Checker(operations, Log(changes)).run()


class _Checker:
    def __init__(self, operations: Sequence[Operation], log: Log) -> None:
        self.operations = operations
        self.log = log
        self.wrong: list[str] = []
        self.place: dict[Operation, int] = {}  # revision at which it stands in the order
        self.wrote: set[Operation] = set()
        self.claimed: set[tuple[int, str]] = set()  # deletions that belong to an operation

    def run(self) -> list[str]:
        for operation in self.operations:
            self._check_values(operation)
            if operation.outcome == "ok":
                self._check_answer(operation)
            elif operation.outcome == "unknown":
                self._check_effect(operation)
        bounds = self._check_real_time()
        self._check_unclaimed(bounds)
        return self.wrong

    def _say(self, what: str, operation: Operation, *details: object) -> None:
        self.wrong.append(f"{what}: {operation} {' '.join(map(str, details))}".rstrip())

    def _check_values(self, operation: Operation) -> None:
        for step in (*operation.success, *operation.failure):
            if step.kind != "put":
                continue
            found = self.log.puts.get(step.value, [])
            if len(found) > 1:
                self._say("applied twice", operation, found)
            if any(key != step.key for _, key in found):
                self._say("written to another key", operation, found)
            if found and operation.outcome == "failed":
                self._say("a definite failure was applied", operation, found)

    def _check_answer(self, operation: Operation) -> None:
        branch, other = operation.success, operation.failure
        if not operation.succeeded:
            branch, other = other, branch
        revision = operation.revision
        puts = [step for step in branch if step.kind == "put"]
        deleted = [
            step.key for step, count in zip(branch, operation.results) if step.kind == "delete" and count
        ]
        self.place[operation] = revision
        base = revision
        if puts or deleted:
            self.wrote.add(operation)
            base = revision - 1
        for step in puts:
            if (revision, step.key) not in self.log.puts.get(step.value, []):
                self._say("acknowledged write lost or elsewhere", operation, self.log.puts.get(step.value))
        if any(self.log.puts.get(step.value) for step in other if step.kind == "put"):
            self._say("the other branch was applied", operation)
        for key in deleted:
            if (revision, key) in self.log.deletions:
                self.claimed.add((revision, key))
            else:
                self._say("acknowledged delete lost or elsewhere", operation)
        if self._holds(operation.conditions, base) != operation.succeeded:
            self._say("branch does not fit the state", operation)
        self._check_results(operation, branch, base)

    def _check_results(self, operation: Operation, branch: tuple[Step, ...], base: int) -> None:
        written: dict[str, str | None] = {}
        for step, result in zip(branch, operation.results):
            before = written.get(step.key, self.log.at(step.key, base).value)
            if step.kind == "put":
                written[step.key] = step.value
            elif step.kind == "get":
                if result != before:
                    self._say("read does not fit its revision", operation, f"there was {before!r}")
            else:
                if result != (before is not None):
                    self._say("count of a delete does not fit its revision", operation)
                written[step.key] = None

    def _check_effect(self, operation: Operation) -> None:
        """Of an operation whose outcome nobody was told: as a whole, on the right branch, or not."""
        for succeeded, branch in ((True, operation.success), (False, operation.failure)):
            puts = [step for step in branch if step.kind == "put"]
            found = {place for step in puts for place in self.log.puts.get(step.value, [])[:1]}
            if not found:
                continue
            revision = min(found)[0]
            self.place[operation] = revision
            self.wrote.add(operation)
            if found != {(revision, step.key) for step in puts}:
                self._say("torn apart", operation, sorted(found))
            if self._holds(operation.conditions, revision - 1) != succeeded:
                self._say("branch does not fit the state", operation)
            for step in branch:
                if step.kind == "delete" and self.log.at(step.key, revision - 1) is not _ABSENT:
                    if (revision, step.key) in self.log.deletions:
                        self.claimed.add((revision, step.key))
                    else:
                        self._say("torn apart", operation, "without its delete")

    def _holds(self, conditions: Iterable[Condition], revision: int) -> bool:
        return all(self._compare(each, revision) for each in conditions)

    def _compare(self, condition: Condition, revision: int) -> bool:
        state = self.log.at(condition.key, revision)
        if condition.field == "value":
            if state is _ABSENT:
                return False  # etcd: a missing key has no value to compare
            actual: Any = state.value
        else:
            name = "revision" if condition.field == "mod_revision" else condition.field
            actual = getattr(state, name)
        operand = condition.operand
        relation = condition.relation
        if relation in ("==", "!="):
            return bool((actual == operand) == (relation == "=="))
        return bool(actual < operand if relation == "<" else actual > operand)

    def _check_real_time(self) -> dict[Operation, int]:
        """Whoever was called after another one returned stands after it. Returns the lower bounds."""
        done = sorted(
            (each.returned_at, self.place[each])
            for each in self.operations
            if each.outcome == "ok" and not each.serializable
        )
        times = [returned_at for returned_at, _ in done]
        highest = []
        top = 0
        for _, revision in done:
            top = max(top, revision)
            highest.append(top)
        bounds = {}
        for operation in self.operations:
            index = bisect.bisect_left(times, operation.called_at) - 1
            bound = bounds[operation] = highest[index] if index >= 0 else 0
            place = self.place.get(operation)
            if place is None or operation.serializable:
                continue
            if place < bound or (place == bound and operation in self.wrote):
                self._say("real time contradicted", operation, f"revision {bound} was there before")
        return bounds

    def _check_unclaimed(self, bounds: dict[Operation, int]) -> None:
        """Changes that nobody was told of must belong to an operation of unknown outcome."""
        known = {
            step.value
            for operation in self.operations
            for step in (*operation.success, *operation.failure)
            if step.kind == "put"
        }
        self.wrong.extend(
            f"nobody wrote {value!r} of {at}" for value, at in self.log.puts.items() if value not in known
        )
        floating: defaultdict[str, list[int]] = defaultdict(list)
        for operation in self.operations:
            if operation.outcome == "unknown" and operation not in self.place:
                for branch in (operation.success, operation.failure):
                    # A branch that puts would have been seen by its value.
                    if not any(step.kind == "put" for step in branch):
                        for step in branch:
                            if step.kind == "delete":
                                floating[step.key].append(bounds[operation])
        for key in self.log.keys:
            left = sorted(rev for rev, name in self.log.deletions - self.claimed if name == key)
            takers = sorted(floating[key])
            for index, revision in enumerate(left):
                # Takers are nested: whoever may have caused one may have caused any later one.
                if bisect.bisect_left(takers, revision) <= index:
                    self.wrong.append(f"nobody deleted {key!r} at {revision}")
