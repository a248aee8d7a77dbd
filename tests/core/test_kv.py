# SPDX-License-Identifier: Apache-2.0
"""Commands on keys: what they send, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from purecd import errors, value, version
from purecd.core import kv, methods
from purecd.core.methods import Policy
from purecd.core.op import Call
from purecd.requests import Delete, Get, Put, Txn


def call_of(operation) -> Call:
    call = next(operation)
    assert type(call) is Call
    return call


def repeated(operation) -> bool:
    """Whether an attempt of unknown outcome is followed by another."""
    next(operation)
    try:
        return type(operation.throw(errors.Unavailable("lost", maybe_applied=True))) is Call
    except errors.Unavailable:
        return False


def test_get():
    call = call_of(
        kv.get(
            "k",
            "z",
            limit=3,
            revision=9,
            sort_by="value",
            descending=True,
            serializable=True,
            keys_only=True,
            min_mod_revision=1,
            max_mod_revision=2,
            min_create_revision=3,
            max_create_revision=4,
        )
    )
    assert call.method is methods.RANGE
    expected = Get(
        "k",
        "z",
        limit=3,
        revision=9,
        sort_by="value",
        descending=True,
        serializable=True,
        keys_only=True,
        min_mod_revision=1,
        max_mod_revision=2,
        min_create_revision=3,
        max_create_revision=4,
    )
    assert methods.RANGE.encode(call.request) == methods.RANGE.encode(expected)


@pytest.mark.parametrize("option", ["prefix", "from_key", "count_only"])
def test_get_of_ranges(option):
    told: dict[str, Any] = {option: True}
    call = call_of(kv.get("k", **told))
    assert methods.RANGE.encode(call.request) == methods.RANGE.encode(Get("k", **told))
    assert methods.RANGE.encode(call.request) != methods.RANGE.encode(Get("k"))


def test_put():
    call = call_of(kv.put("k", "v", lease=7, prev_kv=True))
    assert call.method is methods.PUT
    assert methods.PUT.encode(call.request) == methods.PUT.encode(Put("k", "v", lease=7, prev_kv=True))


@pytest.mark.parametrize("option", ["ignore_value", "ignore_lease"])
def test_put_of_a_part(option):
    told: dict[str, Any] = {option: True}
    call = call_of(kv.put("k", **told))
    assert methods.PUT.encode(call.request) == methods.PUT.encode(Put("k", **told))
    assert methods.PUT.encode(call.request) != methods.PUT.encode(Put("k"))


@pytest.mark.parametrize(
    "options", [{"range_end": "z"}, {"prefix": True}, {"from_key": True}, {"prev_kv": True}]
)
def test_delete(options):
    call = call_of(kv.delete("k", **options))
    assert call.method is methods.DELETE_RANGE
    assert methods.DELETE_RANGE.encode(call.request) == methods.DELETE_RANGE.encode(Delete("k", **options))


def test_txn():
    compare, success, failure = [version("k") == 0], [Put("k", "v")], [Get("k")]
    call = call_of(kv.txn(compare, success, failure))
    assert call.method is methods.TXN
    assert methods.TXN.encode(call.request) == methods.TXN.encode(Txn(compare, success, failure))


@pytest.mark.parametrize(
    ("success", "failure", "policy"),
    [
        ([], [], Policy.READ),
        ([Get("k")], [Get("j")], Policy.READ),
        ([Txn(success=[Get("k")])], [], Policy.READ),
        ([Put("k", "v")], [], Policy.WRITE),
        ([], [Delete("k")], Policy.WRITE),
        ([Txn(failure=[Put("k", "v")])], [], Policy.WRITE),
    ],
)
def test_a_txn_that_only_reads_is_repeatable(success, failure, policy):
    operation = kv.txn([value("k") == b"v"], success, failure)
    assert call_of(operation).method.policy is policy
    assert repeated(kv.txn((), success, failure)) is (policy is Policy.READ)


@pytest.mark.parametrize(
    ("revision", "physical", "sent"),
    [(0, False, (0, False)), (7, True, (7, True)), (2**63 - 1, True, (2**63 - 1, True))],
)
def test_compact(revision, physical, sent):
    call = call_of(kv.compact(revision, physical=physical))
    assert (call.method, call.request) == (methods.COMPACT, sent)


@pytest.mark.parametrize(
    ("revision", "kind"), [(-1, ValueError), (2**63, ValueError), ("7", TypeError), (True, TypeError)]
)
def test_a_revision_is_checked_before_anything_is_sent(revision, kind):
    with pytest.raises(kind, match="revision"):
        kv.compact(revision)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kv.get(""),
        lambda: kv.put("", "v"),
        lambda: kv.delete(""),
        lambda: kv.get("k", limit=-1),
        lambda: kv.get("k", "z", prefix=True),
    ],
)
def test_arguments_are_checked_when_the_command_is_made(make):
    with pytest.raises(ValueError, match="."):
        make()


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (lambda: kv.get("k"), True),
        (lambda: kv.put("k", "v"), False),
        (lambda: kv.put("k", "v", idempotent=True), True),
        (lambda: kv.delete("k"), False),
        (lambda: kv.delete("k", idempotent=True), True),
        (lambda: kv.txn(success=[Put("k", "v")]), False),
        (lambda: kv.txn(success=[Put("k", "v")], idempotent=True), True),
        (lambda: kv.compact(7), False),
    ],
)
def test_what_is_repeated_when_the_outcome_is_unknown(make, again):
    assert repeated(make()) is again
