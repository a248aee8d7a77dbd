# SPDX-License-Identifier: Apache-2.0
"""Requests: what arguments mean, and which are refused before anything is sent."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import pytest

from purecd.requests import (
    INT64_MAX,
    MAX_TXN_DEPTH,
    Compare,
    Delete,
    Get,
    Put,
    Txn,
    create_revision,
    lease,
    mod_revision,
    prefix_end,
    range_of,
    value,
    version,
)


class Lease:
    id = 77


# For calls with types that a checker would refuse.
any_get: Any = Get
any_delete: Any = Delete


# Ranges.


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"foo", b"fop"),
        (b"a\xff", b"b"),
        (b"\xff\xff", b"\0"),
        (b"a/", b"a0"),
        (b"a\xff\xfe\xff", b"a\xff\xff"),
        (b"\0", b"\x01"),
    ],
)
def test_prefix_end(prefix, end):
    assert prefix_end(prefix) == end


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"key": b"k"}, (b"k", b"")),
        ({"key": "schlüssel"}, ("schlüssel".encode(), b"")),
        ({"key": bytearray(b"k")}, (b"k", b"")),
        ({"key": memoryview(b"k")}, (b"k", b"")),
        ({"key": b"a", "range_end": "c"}, (b"a", b"c")),
        ({"key": b"a", "range_end": b""}, (b"a", b"")),
        ({"key": b"a", "range_end": b"\0"}, (b"a", b"\0")),
        ({"key": "a/", "prefix": True}, (b"a/", b"a0")),
        ({"key": b"\xff", "prefix": True}, (b"\xff", b"\0")),
        ({"key": b"", "prefix": True}, (b"\0", b"\0")),
        ({"key": "b", "from_key": True}, (b"b", b"\0")),
        ({"key": "", "from_key": True}, (b"\0", b"\0")),
    ],
)
def test_ranges(arguments, expected):
    key, end = range_of(**arguments)
    assert (key, end) == expected
    assert type(key) is type(end) is bytes
    for request in (Get(**arguments), Delete(**arguments)):
        assert (request.key, request.range_end) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"key": b""}, ValueError, "key is empty"),
        ({"key": ""}, ValueError, "key is empty"),
        ({"key": b"", "range_end": b"z"}, ValueError, "key is empty"),
        ({"key": b"k", "prefix": True, "from_key": True}, ValueError, "only one of"),
        ({"key": b"k", "range_end": b"z", "prefix": True}, ValueError, "only one of"),
        ({"key": b"k", "range_end": b"z", "from_key": True}, ValueError, "only one of"),
        ({"key": 5}, TypeError, "key must be str or bytes, not int"),
        ({"key": None}, TypeError, "key must be str or bytes"),
        ({"key": b"k", "range_end": 5}, TypeError, "range_end must be str or bytes"),
        ({"key": b"k", "prefix": 1}, TypeError, "prefix must be True or False, not 1"),
        ({"key": b"k", "from_key": "yes"}, TypeError, "from_key must be True or False"),
        ({"key": "\ud800"}, ValueError, "surrogates"),
    ],
)
def test_wrong_ranges(arguments, error, text):
    for make in (range_of, Get, Delete):
        with pytest.raises(error, match=text):
            make(**arguments)


# Get, Put, Delete.


def test_get_fields():
    assert Get(b"k")._asdict() == {
        "key": b"k",
        "range_end": b"",
        "limit": 0,
        "revision": 0,
        "sort_by": None,
        "descending": False,
        "serializable": False,
        "keys_only": False,
        "count_only": False,
        "min_mod_revision": 0,
        "max_mod_revision": 0,
        "min_create_revision": 0,
        "max_create_revision": 0,
    }
    details = {
        "limit": 1,
        "revision": INT64_MAX,
        "sort_by": "value",
        "descending": True,
        "serializable": True,
        "keys_only": True,
        "count_only": True,
        "min_mod_revision": 2,
        "max_mod_revision": 3,
        "min_create_revision": 4,
        "max_create_revision": 5,
    }
    assert any_get("k", "l", **details)._asdict() == {"key": b"k", "range_end": b"l", **details}


@pytest.mark.parametrize(
    "name",
    [
        "limit",
        "revision",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
    ],
)
def test_numbers_of_get(name):
    assert getattr(any_get(b"k", **{name: INT64_MAX}), name) == INT64_MAX
    for number in (-1, INT64_MAX + 1):
        with pytest.raises(ValueError, match=f"{name} must be between 0 and"):
            any_get(b"k", **{name: number})
    for wrong in (None, "1", 1.5, True):
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            any_get(b"k", **{name: wrong})


@pytest.mark.parametrize("name", ["descending", "serializable", "keys_only", "count_only"])
def test_flags_of_get(name):
    assert getattr(any_get(b"k", **{name: True}), name) is True
    for wrong in (1, "yes", None):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            any_get(b"k", **{name: wrong})


@pytest.mark.parametrize("sort_by", ["key", "version", "create_revision", "mod_revision", "value"])
def test_sorting_by(sort_by):
    assert Get(b"k", sort_by=sort_by).sort_by == sort_by


@pytest.mark.parametrize("sort_by", ["lease", "", "KEY", 7, b"key"])
def test_sorting_by_anything_else_is_refused(sort_by):
    # A sort target outside of the enum kills members of etcd 3.4 and 3.5.
    with pytest.raises(ValueError, match="sort_by must be one of key, version"):
        any_get(b"k", sort_by=sort_by)


def test_put_fields():
    assert Put(b"k", b"v") == (b"k", b"v", 0, False, False, False)
    assert Put("k") == (b"k", b"", 0, False, False, False)
    assert Put("k", "ü", lease=5, prev_kv=True) == (b"k", "ü".encode(), 5, True, False, False)
    assert Put("k", lease=Lease(), ignore_value=True) == (b"k", b"", 77, False, True, False)
    assert Put("k", bytearray(b"v"), ignore_lease=True) == (b"k", b"v", 0, False, False, True)
    assert type(Put("k", bytearray(b"v")).value) is bytes
    assert Put(b"k", lease=-1).lease == -1
    assert Put(b"k").range_end == b""


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"key": b""}, ValueError, "key is empty"),
        ({"key": ""}, ValueError, "key is empty"),
        ({"key": 1}, TypeError, "key must be str or bytes, not int"),
        ({"key": b"k", "value": None}, TypeError, "value must be str or bytes, not NoneType"),
        ({"key": b"k", "value": 1}, TypeError, "value must be str or bytes, not int"),
        ({"key": b"k", "lease": "7"}, TypeError, "lease must be an int, not str"),
        ({"key": b"k", "lease": None}, TypeError, "lease must be an int"),
        ({"key": b"k", "lease": True}, TypeError, "lease must be an int, not bool"),
        ({"key": b"k", "lease": INT64_MAX + 1}, ValueError, "lease must be between"),
        ({"key": b"k", "prev_kv": 1}, TypeError, "prev_kv must be True or False"),
        ({"key": b"k", "ignore_value": None}, TypeError, "ignore_value must be True or False"),
        ({"key": b"k", "value": b"v", "ignore_value": True}, ValueError, "together with ignore_value"),
        ({"key": b"k", "lease": 7, "ignore_lease": True}, ValueError, "together with ignore_lease"),
    ],
)
def test_wrong_puts(arguments, error, text):
    with pytest.raises(error, match=text):
        Put(**arguments)


def test_delete_fields():
    assert Delete("k") == (b"k", b"", False)
    assert Delete("k", prefix=True, prev_kv=True) == (b"k", b"l", True)
    with pytest.raises(TypeError, match="prev_kv must be True or False"):
        any_delete("k", prev_kv=1)


def test_details_are_keyword_only():
    for kind, arguments in [(Get, (b"a", b"b", True)), (Put, (b"a", b"b", 7)), (Delete, (b"a", b"b", True))]:
        with pytest.raises(TypeError, match="positional"):
            kind(*arguments)


# Compare.


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (version("k") == 0, ("version", "==", b"k", b"", 0)),
        (version("k") != 1, ("version", "!=", b"k", b"", 1)),
        (create_revision("k") < 2, ("create_revision", "<", b"k", b"", 2)),
        (mod_revision(b"k") > -3, ("mod_revision", ">", b"k", b"", -3)),
        (operator.lt(3, mod_revision(b"k")), ("mod_revision", ">", b"k", b"", 3)),
        (operator.eq(0, version("k")), ("version", "==", b"k", b"", 0)),
        (value("k") == "ü", ("value", "==", b"k", b"", "ü".encode())),
        (value("k") > b"", ("value", ">", b"k", b"", b"")),
        (lease("k") == 9, ("lease", "==", b"k", b"", 9)),
        (lease("k") == Lease(), ("lease", "==", b"k", b"", 77)),
        (version("jobs/", prefix=True) == 0, ("version", "==", b"jobs/", b"jobs0", 0)),
        (version("a", range_end="c") == 0, ("version", "==", b"a", b"c", 0)),
        (version("", prefix=True) == 0, ("version", "==", b"\0", b"\0", 0)),
    ],
)
def test_compares(compare, expected):
    assert type(compare) is Compare
    assert tuple(compare) == expected


@pytest.mark.parametrize("make", [version, create_revision, mod_revision, value, lease])
def test_compares_check_their_operand_and_key(make):
    for wrong in (None, 1.5, [1]) + ((5,) if make is value else ("5", b"5", True)):
        with pytest.raises(TypeError, match=r"must be"):
            bool(make("k") == wrong)
    if make is not value:
        with pytest.raises(ValueError, match="must be between"):
            bool(make("k") > INT64_MAX + 1)
    with pytest.raises(ValueError, match="key is empty"):
        make("")
    with pytest.raises(ValueError, match="only one of"):
        make("a", range_end="b", prefix=True)


def test_compares_have_no_truth():
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(version("k") == 0)
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(1 < version("k") < 5)
    with pytest.raises(TypeError, match="must be compared"):
        bool(version("k"))
    for compare in (operator.le, operator.ge):
        with pytest.raises(TypeError, match="not supported"):
            compare(version("k"), 1)


def test_compares_are_values():
    first, second = version("k") == 0, version("k") == 0
    assert first.__eq__(second) is True
    assert len({first, second, version("k") == 1}) == 2
    assert first in [second]
    with pytest.raises(TypeError, match="unhashable"):
        hash(version("k"))


# Txn.


def test_txn_fields():
    txn = Txn([version("k") == 0], [Put("k", "v")], iter([Get("k"), Txn()]))
    assert txn.compare == (version("k") == 0,)
    assert txn.success == (Put("k", "v"),)
    assert txn.failure == (Get("k"), Txn())
    assert Txn() == ((), (), (), False, 1)


@pytest.mark.parametrize(
    ("txn", "is_write", "depth"),
    [
        (Txn(success=[Get("k")]), False, 1),
        (Txn(success=[Put("k")]), True, 1),
        (Txn(failure=[Delete("k")]), True, 1),
        (Txn(success=[Txn(failure=[Txn(success=[Get("k")])])]), False, 3),
        (Txn(success=[Get("k"), Txn(failure=[Put("k")])], failure=[Txn()]), True, 2),
    ],
)
def test_txn_knows_its_writes_and_depth(txn, is_write, depth):
    assert (txn.is_write, txn.depth) == (is_write, depth)


def test_txn_depth_is_limited():
    txn = Txn()
    for _ in range(MAX_TXN_DEPTH - 1):
        txn = Txn(failure=[txn])
    assert txn.depth == MAX_TXN_DEPTH
    with pytest.raises(ValueError, match="nested over 32 levels"):
        Txn(success=[txn])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"compare": version("k") == 0}, "compare must be a list; put the one Compare in brackets"),
        ({"success": Put("k")}, "success must be a list; put the one Put in brackets"),
        ({"failure": Txn()}, "failure must be a list; put the one Txn in brackets"),
        ({"compare": [version("k")]}, "compare takes Compare, not Comparable; compare it first"),
        ({"compare": [True]}, "compare takes Compare, not bool"),
        ({"compare": [Put("k")]}, "compare takes Compare, not Put"),
        ({"success": [version("k") == 0]}, "success takes Get, Put, Delete, Txn, not Compare"),
        ({"failure": [b"k"]}, "failure takes Get, Put, Delete, Txn, not bytes"),
        ({"success": None}, "not iterable"),
    ],
)
def test_wrong_txns(arguments, text):
    with pytest.raises(TypeError, match=text):
        Txn(**arguments)


# What all of them share.

ALL = [
    Get("k", limit=4, sort_by="version"),
    Put("k", "v", lease=4),
    Delete("k", prefix=True),
    version("k", prefix=True) == 0,
    Txn([value("k") == b"v"], [Put("k")], [Txn(failure=[Get("k")])]),
]


@pytest.mark.parametrize("request_", ALL, ids=lambda each: type(each).__name__)
def test_requests_are_immutable_values(request_):
    with pytest.raises(AttributeError):
        request_.key = b"other"
    with pytest.raises(AttributeError):
        request_.extra = 1
    for twin in (copy.copy(request_), copy.deepcopy(request_), pickle.loads(pickle.dumps(request_))):
        assert (type(twin), tuple(twin)) == (type(request_), tuple(request_))
        assert hash(twin) == hash(request_)


@pytest.mark.parametrize("request_", [each for each in ALL if not isinstance(each, (Txn, Put))])
def test_another_range(request_):
    moved = request_.with_key_range(b"ns/k", b"ns/l")
    assert type(moved) is type(request_)
    assert moved._asdict() == {**request_._asdict(), "key": b"ns/k", "range_end": b"ns/l"}
    assert request_.key == b"k"


def test_another_key_for_a_put():
    put = Put("k", "v", lease=4)
    assert put.with_key_range(b"ns/k", b"") == Put("ns/k", "v", lease=4)
    assert put.with_key_range(b"ns/k") == Put("ns/k", "v", lease=4)
    with pytest.raises(ValueError, match="no range_end"):
        put.with_key_range(b"a", b"b")


def test_which_requests_write():
    assert [each.is_write for each in (Get("k"), Put("k"), Delete("k"))] == [False, True, True]


def test_repr():
    assert repr(version("k") == 0) == "<version(b'k') == 0>"
    assert repr(value("k", prefix=True) != b"v") == "<value(b'k', range_end=b'l') != b'v'>"
    assert repr(lease("k")) == "<lease(b'k') to be compared>"
    assert repr(Delete("k")) == "Delete(key=b'k', range_end=b'', prev_kv=False)"
    assert repr(Put("k", "v")) == (
        "Put(key=b'k', value=b'v', lease=0, prev_kv=False, ignore_value=False, ignore_lease=False)"
    )
    assert repr(Txn(success=[Txn()])) == (
        "Txn(compare=(), success=(Txn(compare=(), success=(), failure=()),), failure=())"
    )
    secret = b"s" * 5000
    assert "s" * 65 not in repr(Txn([value("k") == secret], [Put("k", secret)]))
