# SPDX-License-Identifier: Apache-2.0
"""Errors: every text of the server reaches its class, and errors survive copies and pickles."""

from __future__ import annotations

import copy
import csv
import pickle
import re
from pathlib import Path

import pytest

from purecd import errors
from purecd.errors import EtcdError, RpcError, StatusCode, from_cancel_reason, from_status, is_stale_token

FACTS = Path(__file__).parent / "facts" / "rpctypes.tsv"

with FACTS.open(encoding="utf-8", newline="") as file:
    ROWS = [
        (row["go_name"], row["grpc_code"], row["message"]) for row in csv.DictReader(file, delimiter="\t")
    ]


def code_of(go_code: str) -> StatusCode:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", go_code).upper()
    return StatusCode["CANCELLED" if name == "CANCELED" else name]


def all_classes() -> list[type[EtcdError]]:
    found: list[type[EtcdError]] = [EtcdError]
    for cls in found:
        found += [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return found


def test_facts_are_complete():
    assert len(ROWS) == 122
    assert len({message for _, _, message in ROWS}) == 63


@pytest.mark.parametrize(("go_name", "go_code", "message"), ROWS, ids=[row[0] for row in ROWS])
def test_every_text_has_its_own_class(go_name, go_code, message):
    cls = getattr(errors, re.sub("^Err(GRPC)?", "", go_name))
    error = from_status(code_of(go_code), message)
    assert type(error) is cls
    assert (error.code, error.received_code, error.message) == (code_of(go_code), code_of(go_code), message)
    # Codes get lost behind a grpc-proxy; the text alone decides.
    error = from_status(StatusCode.UNKNOWN, message)
    assert type(error) is cls
    assert (error.code, error.received_code) == (code_of(go_code), StatusCode.UNKNOWN)


def test_classes_and_texts_are_one_to_one():
    classes = {message: type(from_status(2, message)) for _, _, message in ROWS}
    assert len(set(classes.values())) == 63
    named = {cls for cls in all_classes() if cls.text}
    assert named == set(classes.values())
    assert {cls for cls in all_classes() if issubclass(cls, RpcError) and cls is not RpcError} == {
        cls for cls in named if cls not in (errors.Canceled, errors.DeadlineExceeded)
    }


def test_a_class_made_without_arguments_stands_for_its_status():
    error = errors.NotCapable()
    assert (error.message, error.code) == ("etcdserver: not capable", StatusCode.FAILED_PRECONDITION)


@pytest.mark.parametrize(
    ("code", "text", "cls", "canonical"),
    [
        (2, "auth: revision in header is old", errors.AuthOldRevision, StatusCode.INVALID_ARGUMENT),
        (2, "auth: invalid auth token", errors.InvalidAuthToken, StatusCode.UNAUTHENTICATED),
        (2, "auth: permission denied", errors.PermissionDenied, StatusCode.PERMISSION_DENIED),
        (2, "auth: user name is empty", errors.UserEmpty, StatusCode.INVALID_ARGUMENT),
        (
            2,
            "auth: authentication failed, password was given for no password user",
            errors.AuthFailed,
            StatusCode.INVALID_ARGUMENT,
        ),
        (2, "etcdserver: request cancelled", errors.Canceled, StatusCode.CANCELLED),
        (2, "context canceled", errors.Canceled, StatusCode.CANCELLED),
        (2, "context deadline exceeded", errors.DeadlineExceeded, StatusCode.DEADLINE_EXCEEDED),
        (14, "etcdserver: not capable", errors.NotCapable, StatusCode.FAILED_PRECONDITION),
    ],
)
def test_texts_and_codes_of_older_servers(code, text, cls, canonical):
    error = from_status(code, text)
    assert type(error) is cls
    assert (error.code, error.received_code, error.message) == (canonical, code, text)


@pytest.mark.parametrize(
    ("code", "text", "cls", "canonical"),
    [
        (9, "etcdserver: a text of the future", RpcError, StatusCode.FAILED_PRECONDITION),
        (14, "upstream connect error", RpcError, StatusCode.UNAVAILABLE),
        (2, "not a primary lessor", RpcError, StatusCode.UNKNOWN),
        (4, "too slow", errors.DeadlineExceeded, StatusCode.DEADLINE_EXCEEDED),
        (1, "the proxy gave up", errors.Canceled, StatusCode.CANCELLED),
        (99, "a code of the future", RpcError, StatusCode.UNKNOWN),
        (-1, "", RpcError, StatusCode.UNKNOWN),
        (13, "", RpcError, StatusCode.INTERNAL),
        (0, "", RpcError, StatusCode.OK),
    ],
)
def test_unknown_texts_keep_code_and_text(code, text, cls, canonical):
    error = from_status(code, text)
    assert type(error) is cls
    assert (error.code, error.received_code) == (canonical, code)
    assert error.message == (text or f"status {canonical.name}")


# What an answer says about a write: did it certainly not happen (False), or is that open (True)?
OUTCOMES = [
    ("E9", 4, "etcdserver: context deadline exceeded", True),
    ("E9", 1, "etcdserver: request canceled", True),
    ("E9", 2, "context deadline exceeded", True),
    ("E9", 4, "anything", True),
    ("E9", 1, "anything", True),
    ("E10", 14, "etcdserver: request timed out", True),
    ("E10", 14, "etcdserver: request timed out, possibly due to previous leader failure", True),
    ("E10", 14, "etcdserver: request timed out, possibly due to connection lost", True),
    ("E10", 14, "etcdserver: server stopped", True),
    ("E10", 14, "etcdserver: request timed out, waiting for the applied index took too long", False),
    ("E11", 14, "etcdserver: no leader", False),
    ("E12", 14, "etcdserver: leader changed", True),
    ("E13", 8, "etcdserver: mvcc: database space exceeded", True),
    ("E14", 8, "etcdserver: too many requests", False),
    ("E14", 2, "etcdserver: too many requests", False),
    ("E15", 3, "etcdserver: revision of auth store is old", False),
    ("E15", 3, "etcdserver: user name is empty", False),
    ("E15", 16, "etcdserver: invalid auth token", False),
    ("E15", 2, "auth: revision in header is old", False),
    ("E16", 14, "etcdserver: rpc not supported for learner", False),
    ("E16", 9, "etcdserver: rpc not supported for learner", False),
    ("E17", 3, "etcdserver: key is not provided", False),
    ("E17", 5, "etcdserver: requested lease not found", False),
    ("E17", 6, "anything", False),
    ("E17", 9, "etcdserver: not leader", False),
    ("E17", 11, "etcdserver: mvcc: required revision has been compacted", False),
    ("E17", 7, "etcdserver: permission denied", False),
    ("E17", 2, "auth: permission denied", False),
    ("E17", 15, "etcdserver: corrupt cluster", False),
    ("E17", 3, "anything", False),
    ("E18", 2, "raft: stopped", True),
    ("E18", 13, "anything", True),
    ("E18", 12, "unknown method RangeStream", False),
    ("E18", 99, "anything", True),
    ("-", 14, "upstream reset before response started", True),  # a proxy says nothing about the server
    ("-", 14, "etcdserver: unhealthy cluster", False),
]


@pytest.mark.parametrize(("row", "code", "text", "maybe_applied"), OUTCOMES)
def test_outcome_of_a_write(row, code, text, maybe_applied):
    assert from_status(code, text).maybe_applied is maybe_applied


def test_cancel_reason_of_a_member_and_of_a_proxy():
    for reason, received in [
        (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            StatusCode.PERMISSION_DENIED,
        ),
        ("etcdserver: permission denied", None),
        ("rpc error: code = Unknown desc = etcdserver: permission denied", StatusCode.UNKNOWN),
    ]:
        error = from_cancel_reason(reason)
        assert type(error) is errors.PermissionDenied
        assert error.message == "etcdserver: permission denied"
        assert (error.code, error.received_code) == (StatusCode.PERMISSION_DENIED, received)


@pytest.mark.parametrize(
    ("reason", "cls", "code", "message"),
    [
        (
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
            errors.UserEmpty,
            StatusCode.INVALID_ARGUMENT,
            "etcdserver: user name is empty",
        ),
        ("rpc error: code = Canceled desc = a\nb", errors.Canceled, StatusCode.CANCELLED, "a\nb"),
        ("rpc error: code = OutOfRange desc = text", RpcError, StatusCode.OUT_OF_RANGE, "text"),
        ("rpc error: code = Novel desc = text", RpcError, StatusCode.UNKNOWN, "text"),
        (
            "rpc error: code = Unknown desc = rpc error: code = NotFound desc = text",
            RpcError,
            StatusCode.NOT_FOUND,
            "text",
        ),
        ("mvcc: watcher range is empty", RpcError, StatusCode.UNKNOWN, "mvcc: watcher range is empty"),
        (
            "etcdserver: mvcc: required revision has been compacted",
            errors.Compacted,
            StatusCode.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        ("", errors.WatchCanceled, StatusCode.CANCELLED, "etcdserver: watch canceled"),
    ],
)
def test_cancel_reasons(reason, cls, code, message):
    error = from_cancel_reason(reason)
    assert type(error) is cls
    assert (error.code, error.message, error.maybe_applied) == (code, message, False)


def test_prefixes_before_prefixes_are_taken_off_three_times():
    prefix = "rpc error: code = Aborted desc = "
    assert from_cancel_reason(prefix * 3 + "text").message == "text"
    assert from_cancel_reason(prefix * 5 + "text").message == prefix * 2 + "text"


def test_stale_tokens():
    stale = {cls for cls in all_classes() if is_stale_token(cls())}
    assert stale == {errors.InvalidAuthToken, errors.AuthOldRevision, errors.UserEmpty}
    assert is_stale_token(from_status(2, "auth: revision in header is old"))
    assert not is_stale_token(KeyError("etcdserver: invalid auth token"))


def test_builtin_bases():
    assert issubclass(errors.Unavailable, ConnectionError)
    assert issubclass(errors.TlsError, errors.Unavailable)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)
    assert not issubclass(RpcError, OSError)


def test_codes_of_local_errors():
    assert errors.Unavailable().code is StatusCode.UNAVAILABLE
    assert errors.TlsError().code is StatusCode.UNAVAILABLE
    assert errors.MessageTooLarge().code is StatusCode.RESOURCE_EXHAUSTED
    assert errors.ProtocolError().code is StatusCode.INTERNAL
    assert errors.LeaseLost().code is None
    assert errors.SnapshotCorrupt().code is StatusCode.DATA_LOSS
    assert EtcdError("x", code=StatusCode.ABORTED).code is StatusCode.ABORTED


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({}, "lost"),
        ({"method": "/etcdserverpb.KV/Put"}, "lost [Put]"),
        ({"endpoint": "127.0.0.1:2379"}, "lost [at 127.0.0.1:2379]"),
        ({"maybe_applied": True}, "lost [the request may have been applied]"),
        (
            {"method": "/etcdserverpb.KV/Put", "endpoint": "127.0.0.1:2379", "maybe_applied": True},
            "lost [Put at 127.0.0.1:2379; the request may have been applied]",
        ),
    ],
)
def test_text_names_call_place_and_outcome(details, expected):
    assert str(errors.Unavailable("lost", **details)) == expected


def test_a_lost_lease_says_why():
    assert errors.LeaseLost("gone", reason="expired").reason == "expired"
    assert errors.LeaseLost("gone").reason == ""


def test_text_follows_attributes_set_later():
    error = errors.LeaseLost()
    assert str(error) == "LeaseLost"
    error.endpoint = "[::1]:2379"
    assert str(error) == "LeaseLost [at [::1]:2379]"


@pytest.mark.parametrize("cls", all_classes())
def test_copies_and_pickles_keep_everything(cls):
    error = cls(
        "text", code=StatusCode.ABORTED, method="/a.B/C", endpoint="e", maybe_applied=True, attempts=3
    )
    error.received_code = 77
    if isinstance(error, errors.Compacted):
        error.compact_revision = 12
    twins = [copy.copy(error), copy.deepcopy(error)]
    twins += [pickle.loads(pickle.dumps(error, version)) for version in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in twins:
        assert type(twin) is cls
        assert vars(twin) == vars(error)
        assert (str(twin), twin.args) == (str(error), error.args)


def test_compacted_tells_the_oldest_revision():
    assert errors.Compacted().compact_revision == 0
    error = errors.Compacted(compact_revision=7, endpoint="e")
    assert (error.compact_revision, error.endpoint, error.message) == (7, "e", errors.Compacted.text)
    assert vars(from_status(11, errors.Compacted.text))["compact_revision"] == 0


def test_tree_of_the_docstring_names_the_direct_subclasses():
    for cls in [*EtcdError.__subclasses__(), errors.TlsError]:
        assert re.search(rf"── {cls.__name__} ", errors.__doc__)
