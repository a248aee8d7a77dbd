# SPDX-License-Identifier: Apache-2.0
"""The revision-order checker finds planted faults, each of them, and nothing where nothing is."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.support.history import Change, Condition, Operation, Step, check

KEYS = ["a", "b", "c"]


class Store:
    """A store with revisions, to make histories with."""

    def __init__(self):
        self.revision = 1
        self.changes = []
        self.past: list[dict] = [
            {}
        ]  # state by revision - 1: key to (value, create_revision, version, mod_revision)

    def run(self, operation):
        """Apply it; (revision, succeeded, results)."""
        state = dict(self.past[-1])
        succeeded = all(holds(each, state) for each in operation.conditions)
        next_revision = self.revision + 1
        results: list = []
        changed = False
        for step in operation.success if succeeded else operation.failure:
            old = state.get(step.key)
            if step.kind == "put":
                _, created, version, _ = old or ("", next_revision, 0, 0)
                state[step.key] = (step.value, created, version + 1, next_revision)
                self.changes.append(Change(next_revision, step.key, step.value, created, version + 1))
                results.append(None)
                changed = True
            elif step.kind == "get":
                results.append(old and old[0])
            else:
                results.append(int(old is not None))
                if old:
                    del state[step.key]
                    self.changes.append(Change(next_revision, step.key, None))
                    changed = True
        if changed:
            self.revision = next_revision
            self.past.append(state)
        return self.revision, succeeded, tuple(results)


def holds(condition, state):
    value, created, version, modified = state.get(condition.key, (None, 0, 0, 0))
    actual = {"value": value, "create_revision": created, "version": version, "mod_revision": modified}[
        condition.field
    ]
    if actual is None:
        return False
    return {
        "==": actual == condition.operand,
        "!=": actual != condition.operand,
        "<": actual < condition.operand,
        ">": actual > condition.operand,
    }[condition.relation]


def make(rng, number):
    key, other = rng.sample(KEYS, 2)
    kind = rng.choice(["put", "put", "get", "get", "delete", "txn", "txn"])
    if kind == "put":
        return Operation("put", (Step("put", key, f"v{number}"),))
    if kind == "txn":
        condition = Condition(
            key,
            rng.choice(["mod_revision", "create_revision", "version"]),
            rng.choice(["==", "!=", "<", ">"]),
            rng.randrange(6),
        )
        success = (Step("get", key), Step("put", key, f"v{number}"), Step("delete", other))
        return Operation("txn", success, (Step("put", other, f"w{number}"), Step("get", key)), (condition,))
    return Operation(kind, (Step(kind, key),), serializable=kind == "get" and rng.random() < 0.2)


def history(seed, size=120, clients=6):
    """Operations of concurrent clients, and the log. Each is applied at a moment within its call."""
    rng = random.Random(seed)
    store = Store()
    free_at = [0.0] * clients
    operations = []
    for number in range(size):
        client = min(range(clients), key=free_at.__getitem__)
        operation = make(rng, number)
        operation.called_at = free_at[client] + rng.random() * 0.1
        operation.returned_at = operation.called_at + 0.1 + rng.random()
        free_at[client] = operation.returned_at
        operations.append(operation)
    moments = sorted(
        (rng.uniform(each.called_at, each.returned_at), index) for index, each in enumerate(operations)
    )
    for _, index in moments:
        operation = operations[index]
        fate = rng.random()
        if fate < 0.05:
            operation.outcome = "failed"
            continue
        if fate < 0.15:
            operation.outcome = "unknown"
            operation.returned_at = float("inf")
            if fate < 0.10:
                store.run(operation)
            continue
        operation.outcome = "ok"
        operation.revision, operation.succeeded, operation.results = store.run(operation)
    return operations, store


def chosen(seed, operations, outcome, *names):
    """One of the operations with an outcome that changed or read something."""
    found = [each for each in operations if each.outcome == outcome and each.name in names]
    return random.Random(seed).choice(found)


SEEDS = pytest.mark.parametrize("seed", range(30))


@SEEDS
def test_nothing_is_found_where_nothing_is(seed):
    operations, store = history(seed)
    assert check(operations, store.changes) == []


@SEEDS
def test_a_double_apply_is_found(seed):
    operations, store = history(seed)
    again = chosen(seed, operations, "ok", "put")
    store.run(again)
    assert any("applied twice" in each for each in check(operations, store.changes))


@SEEDS
def test_a_double_apply_of_a_transaction_is_found(seed):
    operations, store = history(seed)
    again = chosen(seed, operations, "ok", "txn")
    store.run(replace(again, conditions=()) if again.succeeded else replace(again, success=again.failure))
    assert check(operations, store.changes)


@SEEDS
def test_a_double_apply_of_a_delete_is_found(seed):
    operations, store = history(seed)
    again = chosen(seed, operations, "ok", "delete")
    store.run(Operation("put", (Step("put", again.success[0].key, "between"),)))
    between = Operation("put", (Step("put", again.success[0].key, "between"),), called_at=1e6)
    between.outcome, between.returned_at, between.revision, between.results = (
        "ok", 1e6, store.revision, (None,)
    )  # fmt: skip
    store.run(again)
    unknown = [each for each in operations if each.outcome == "unknown" and each.name == "delete"]
    wrong = check([each for each in [*operations, between] if each not in unknown], store.changes)
    assert any("nobody deleted" in each for each in wrong)


@SEEDS
@pytest.mark.parametrize("name", ["put", "txn"])
def test_a_lost_acknowledgement_is_found(seed, name):
    operations, store = history(seed)
    lost = chosen(seed, operations, "ok", name)
    changes = [each for each in store.changes if each.revision != lost.revision]
    assert any("lost or elsewhere" in each for each in check(operations, changes))


@SEEDS
def test_a_lost_delete_is_found(seed):
    operations, store = history(seed)
    deletes = [each for each in operations if each.name == "delete" and each.results == (1,)]
    lost = random.Random(seed).choice(deletes)
    changes = [each for each in store.changes if each.revision != lost.revision]
    assert any("lost or elsewhere" in each for each in check(operations, changes))


@SEEDS
@pytest.mark.parametrize("name", ["put", "txn"])
def test_an_applied_failure_is_found(seed, name):
    operations, store = history(seed)
    operation = chosen(seed, operations, "ok", name)
    operation.outcome = "failed"
    assert any("definite failure" in each for each in check(operations, store.changes))


@SEEDS
def test_an_applied_failure_of_a_delete_is_found(seed):
    operations, store = history(seed)
    deletes = [each for each in operations if each.name == "delete" and each.results == (1,)]
    operation = random.Random(seed).choice(deletes)
    operation.outcome = "failed"
    # One of unknown outcome could have done it.
    clear = [each for each in operations if each.outcome != "unknown" or each.name != "delete"]
    assert any("nobody deleted" in each for each in check(clear, store.changes))


@SEEDS
def test_a_stale_read_is_found(seed):
    operations, store = history(seed)
    reads = [
        (each, older)
        for each in operations
        if each.name == "get" and each.outcome == "ok" and not each.serializable
        for older in latest_before(operations, each)
    ]
    read, older = random.Random(seed).choice(reads)
    read.revision = older
    read.results = (store.past[older - 1].get(read.success[0].key, (None,))[0],)
    assert any("real time" in each for each in check(operations, store.changes))


def latest_before(operations, read):
    """The revision before the highest one that had been answered when `read` was called, if any."""
    before = [
        each.revision
        for each in operations
        if each.outcome == "ok" and not each.serializable and each.returned_at < read.called_at
    ]
    return [max(before) - 1] if before and max(before) > 2 else []


@SEEDS
def test_a_read_with_a_value_of_another_revision_is_found(seed):
    operations, store = history(seed)
    read = chosen(seed, operations, "ok", "get")
    others = {state.get(read.success[0].key, (None,))[0] for state in store.past} - set(read.results)
    read.results = (random.Random(seed).choice(sorted(others, key=str)),)
    assert any("read does not fit" in each for each in check(operations, store.changes))


@SEEDS
def test_the_wrong_branch_is_found(seed):
    operations, store = history(seed)
    txn = chosen(seed, operations, "ok", "txn")
    condition = txn.conditions[0]
    opposite = {"==": "!=", "!=": "=="}.get(condition.relation)
    if opposite is None:
        txn.conditions = (
            condition._replace(field="version", operand=-1 if condition.relation == "<" else 99),
        )
        txn.conditions = txn.conditions if txn.succeeded else (condition._replace(relation="!=", operand=-1),)
    else:
        txn.conditions = (condition._replace(relation=opposite),)
    assert any("branch does not fit" in each for each in check(operations, store.changes))


@SEEDS
def test_a_torn_transaction_is_found(seed):
    operations, store = history(seed)
    torn = [
        each
        for each in operations
        if each.name == "txn" and each.outcome == "ok" and each.succeeded and each.results[2]
    ]
    txn = random.Random(seed).choice(torn)
    txn.outcome = "unknown"
    changes = [each for each in store.changes if each.value is not None or each.revision != txn.revision]
    assert check(operations, changes)


@SEEDS
def test_a_change_by_nobody_is_found(seed):
    operations, store = history(seed)
    store.run(Operation("put", (Step("put", "a", "stranger"),)))
    assert check(operations, store.changes) == [f"nobody wrote 'stranger' of [({store.revision}, 'a')]"]
