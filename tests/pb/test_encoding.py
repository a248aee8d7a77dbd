# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes: worked out by hand, and understood by protobuf."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from purecd.pb import messages
from purecd.pb.encoding import (
    encode_compact,
    encode_delete,
    encode_keepalive,
    encode_put,
    encode_range,
    encode_txn,
    encode_watch_cancel,
    encode_watch_create,
    encode_watch_progress,
    varint,
)
from purecd.requests import (
    INT64_MAX,
    MAX_TXN_DEPTH,
    Compare,
    Delete,
    Get,
    Op,
    Put,
    Txn,
    create_revision,
    lease,
    mod_revision,
    value,
    version,
)


@pytest.mark.parametrize(
    ("get", "expected"),
    [
        (Get("k"), "0a016b"),
        (Get("k", prefix=True), "0a016b 12016c"),
        (Get("k", limit=5, revision=300), "0a016b 1805 20ac02"),
        (Get("k", sort_by="key"), "0a016b"),  # the server's own order is not asked for
        (Get("k", descending=True), "0a016b 2802"),
        (Get("k", sort_by="key", descending=True), "0a016b 2802"),
        # Any other target needs an order: with NONE servers sort only after the limit.
        (Get("k", sort_by="version"), "0a016b 2801 3001"),
        (Get("k", sort_by="create_revision"), "0a016b 2801 3002"),
        (Get("k", sort_by="mod_revision", descending=True), "0a016b 2802 3003"),
        (Get("k", sort_by="value"), "0a016b 2801 3004"),
        (Get("k", serializable=True, keys_only=True, count_only=True), "0a016b 3801 4001 4801"),
        (
            Get("k", min_mod_revision=1, max_mod_revision=2, min_create_revision=3, max_create_revision=4),
            "0a016b 5001 5802 6003 6804",
        ),
        (Get("k", max_create_revision=INT64_MAX), "0a016b 68ffffffffffffffff7f"),
    ],
)
def test_get(get, expected):
    assert encode_range(get) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("put", "expected"),
    [
        (Put("k"), "0a016b"),
        (Put("k", "v"), "0a016b 120176"),
        (Put("k", "v", lease=300), "0a016b 120176 18ac02"),
        (Put("k", lease=-1), "0a016b 18ffffffffffffffffff01"),
        (Put("k", "v", prev_kv=True), "0a016b 120176 2001"),
        (Put("k", prev_kv=True, ignore_value=True, ignore_lease=True), "0a016b 2001 2801 3001"),
    ],
)
def test_put(put, expected):
    assert encode_put(put) == bytes.fromhex(expected)


@pytest.mark.parametrize("length", [127, 128, 16383, 16384, 1_000_000])
def test_lengths(length):
    data = bytes(length)
    for put in (Put(data, data), Put(data, data, prev_kv=True)):
        request = messages.PutRequest.FromString(encode_put(put))
        assert (request.key, request.value) == (data, data)
    assert messages.RangeRequest.FromString(encode_range(Get(data, data))).range_end == data
    assert messages.DeleteRangeRequest.FromString(encode_delete(Delete(data, data))).range_end == data


def test_delete():
    assert encode_delete(Delete("k")) == bytes.fromhex("0a016b")
    assert encode_delete(Delete("k", "l", prev_kv=True)) == bytes.fromhex("0a016b 12016c 1801")


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        # The operand is there also when it is 0 or empty.
        (version("k") == 0, "1a016b 2000"),
        (version("k") > 1, "0801 1a016b 2001"),
        (create_revision("k") < 2, "0802 1001 1a016b 2802"),
        (mod_revision("k") != 0, "0803 1002 1a016b 3000"),
        (value("k") == "", "1003 1a016b 3a00"),
        (value("k") == "v", "1003 1a016b 3a0176"),
        (lease("k") == 9, "1004 1a016b 4009"),
        (version("k", prefix=True) == -1, "1a016b 20ffffffffffffffffff01 8204016c"),
    ],
)
def test_compare(compare, expected):
    data = bytes.fromhex(expected)
    assert encode_txn(Txn([compare])) == b"\x0a" + bytes((len(data),)) + data


def test_txn():
    assert encode_txn(Txn()) == b""
    txn = Txn(success=[Get("k"), Put("k")], failure=[Delete("k"), Txn()])
    assert encode_txn(txn) == bytes.fromhex("1205 0a03 0a016b  1205 1203 0a016b  1a05 1a03 0a016b  1a02 2200")


def test_compact():
    assert encode_compact(300) == bytes.fromhex("08ac02")
    assert encode_compact(300, True) == bytes.fromhex("08ac02 1001")
    assert encode_compact(0) == b""


def test_watch():
    assert encode_watch_create(b"k") == bytes.fromhex("0a03 0a016b")
    assert encode_watch_create(b"k", b"l", 300, True, (0, 1), True, 5, True) == bytes.fromhex(
        "0a15 0a016b 12016c 18ac02 2001 2a020001 3001 3805 4001"
    )
    assert encode_watch_create(b"") == b"\x0a\x00"  # the oneof is there also when it is empty
    assert encode_watch_create(b"k", filters=iter([1])) == bytes.fromhex("0a06 0a016b 2a0101")
    assert encode_watch_cancel(5) == bytes.fromhex("1202 0805")
    assert encode_watch_cancel(0) == bytes.fromhex("1200")
    assert encode_watch_progress() == bytes.fromhex("1a00")
    for data, kind in [
        (encode_watch_create(b""), "create_request"),
        (encode_watch_cancel(0), "cancel_request"),
        (encode_watch_progress(), "progress_request"),
    ]:
        assert messages.WatchRequest.FromString(data).WhichOneof("request_union") == kind


def test_keepalive():
    assert encode_keepalive(300) == bytes.fromhex("08ac02")
    assert encode_keepalive(-1) == bytes.fromhex("08ffffffffffffffffff01")
    assert encode_keepalive(0) == b""


# Random requests, as protobuf reads them.

TARGETS = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}
SORTS = {"key": 0, "version": 1, "create_revision": 2, "mod_revision": 3, "value": 4}


def expected_message(op: Op) -> Any:
    if isinstance(op, Get):
        fields = op._asdict()
        sort_by, descending = fields.pop("sort_by") or "key", fields.pop("descending")
        fields["sort_order"] = 2 if descending else 0 if sort_by == "key" else 1
        return messages.RangeRequest(**fields, sort_target=SORTS[sort_by])
    if isinstance(op, Put):
        return messages.PutRequest(**op._asdict())
    if isinstance(op, Delete):
        return messages.DeleteRangeRequest(**op._asdict())
    return messages.TxnRequest(
        compare=[expected_compare(each) for each in op.compare],
        success=[expected_op(each) for each in op.success],
        failure=[expected_op(each) for each in op.failure],
    )


def expected_op(op: Op) -> messages.RequestOp:
    names = {"Get": "range", "Put": "put", "Delete": "delete_range", "Txn": "txn"}
    fields: dict[str, Any] = {f"request_{names[type(op).__name__]}": expected_message(op)}
    return messages.RequestOp(**fields)


def expected_compare(compare: Compare) -> messages.Compare:
    fields: dict[str, Any] = {compare.target: compare.operand}
    return messages.Compare(
        target=TARGETS[compare.target],
        result={"==": 0, ">": 1, "<": 2, "!=": 3}[compare.operator],
        key=compare.key,
        range_end=compare.range_end,
        **fields,
    )


def random_op(rng: Random, depth: int = 0) -> Op:
    def data() -> bytes:
        return bytes(rng.getrandbits(8) for _ in range(rng.choice([1, 2, 9, 127, 128, 200])))

    def number() -> int:
        return rng.choice([0, 0, 1, 127, 128, 2**40, INT64_MAX])

    def flag() -> bool:
        return rng.random() < 0.3

    kind = rng.randrange(4 if depth < 3 else 3)
    end = rng.choice([None, data()])
    if kind == 0:
        names = ["limit", "revision"]
        names += [f"{end}_{what}_revision" for end in ("min", "max") for what in ("mod", "create")]
        numbers: dict[str, Any] = {name: number() for name in names}
        flags: dict[str, Any] = {
            name: flag() for name in ("descending", "serializable", "keys_only", "count_only")
        }
        return Get(data(), end, sort_by=rng.choice([None, *SORTS]), **numbers, **flags)
    if kind == 1:
        text = rng.choice([b"", data()])
        lease_id = rng.choice([0, -1, number()])
        return Put(
            data(),
            text,
            lease=lease_id,
            prev_kv=flag(),
            ignore_value=not text and flag(),
            ignore_lease=not lease_id and flag(),
        )
    if kind == 2:
        return Delete(data(), end, prev_kv=flag())
    begins = [version, create_revision, mod_revision, lease]
    compares = [rng.choice(begins)(data(), range_end=end) < number() for _ in range(rng.randrange(3))]
    compares += [value(data()) != rng.choice([b"", data()]) for _ in range(rng.randrange(2))]
    branches = [[random_op(rng, depth + 1) for _ in range(rng.randrange(3))] for _ in range(2)]
    return Txn(compares, *branches)


@pytest.mark.parametrize("part", range(4))
def test_protobuf_reads_what_was_meant(part):
    for seed in range(part * 250, part * 250 + 250):
        op = random_op(Random(seed))
        data = encode_txn(Txn(success=[op]))
        request = messages.TxnRequest.FromString(data)
        assert request == expected_message(Txn(success=[op])), f"seed {seed}"
        # Nothing is written that protobuf would leave out, or in a longer form.
        assert len(data) == request.ByteSize(), f"seed {seed}"


def test_the_deepest_txn_is_read_by_protobuf():
    txn = Txn(success=[Get("k")])
    for _ in range(MAX_TXN_DEPTH - 1):
        txn = Txn(failure=[txn])
    assert messages.TxnRequest.FromString(encode_txn(txn)) == expected_message(txn)


def test_varint():
    assert varint(0) == b"\0"
    assert varint(-(2**63)) == b"\x80" * 9 + b"\x01"
