# SPDX-License-Identifier: Apache-2.0
"""How the end of a stream becomes an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from purecd import StatusCode, errors
from purecd.core import methods
from purecd.core.failures import call_failed, closed_during, expired, no_endpoint, own_copy
from purecd.core.op import Call
from purecd.wire.status import Status


def ended(
    source,
    code=StatusCode.INTERNAL,
    message="text",
    *,
    left=True,
    leaves=True,
    unprocessed=False,
    refused=False,
):
    return SimpleNamespace(
        status=Status(code, message, source),
        messages=[],
        request_left=left,
        request_leaves=leaves,
        unprocessed=unprocessed,
        refused_connection=refused,
    )


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize(
    ("source", "code", "kind"),
    [
        ("lost", StatusCode.UNAVAILABLE, errors.Unavailable),
        ("reset", StatusCode.UNAVAILABLE, errors.Unavailable),
        ("reset", StatusCode.INTERNAL, errors.RpcError),
        ("reset", StatusCode.CANCELLED, errors.Canceled),
        ("http", StatusCode.UNAVAILABLE, errors.Unavailable),
        ("http", StatusCode.UNIMPLEMENTED, errors.RpcError),
    ],
)
def test_without_a_status_the_last_octet_decides(source, code, kind, left):
    error = call_failed(Call(methods.PUT, None), ended(source, code, left=left), "a:1")
    assert type(error) is kind
    assert error.code == code
    assert error.maybe_applied is left
    assert (error.method, error.endpoint) == ("/etcdserverpb.KV/Put", "a:1")


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.INTERNAL, errors.ProtocolError),
        (StatusCode.RESOURCE_EXHAUSTED, errors.MessageTooLarge),
    ],
)
def test_what_this_side_ends_may_still_leave(code, kind, leaves):
    stream = ended("protocol", code, left=False, leaves=leaves)
    error = call_failed(Call(methods.PUT, None), stream, "a:1")
    assert type(error) is kind
    assert error.code == code
    assert error.maybe_applied is leaves


@pytest.mark.parametrize("refused", [True, False])
def test_what_was_not_processed_was_not_applied(refused):
    stream = ended("unprocessed", StatusCode.UNAVAILABLE, unprocessed=True, refused=refused)
    error = call_failed(Call(methods.PUT, None), stream, "a:1")
    assert type(error) is errors.Unavailable
    assert (error.maybe_applied, error.final) == (False, refused)


def test_the_servers_word_counts():
    error = call_failed(
        Call(methods.PUT, None), ended("trailers", 5, "etcdserver: requested lease not found"), "a:1"
    )
    assert type(error) is errors.LeaseNotFound
    assert not error.maybe_applied


def test_a_status_of_ok_without_a_message():
    error = call_failed(Call(methods.PUT, None), ended("trailers", 0, ""), "a:1")
    assert type(error) is errors.ProtocolError
    assert error.maybe_applied


def late_call():
    call = Call(methods.PUT, None)
    call.started_at, call.deadline = 100.0, 102.5
    return call


def test_the_deadline_of_a_call_that_was_sent():
    call = late_call()
    call.stream, call.link = ended("lost"), SimpleNamespace(name="a:1")
    error = expired(call, errors.Unavailable("cannot connect: refused"))
    assert str(error) == "no answer after 2.5 s [at a:1]"
    assert error.final


def test_the_deadline_of_a_call_that_reached_no_endpoint():
    cause = errors.Unavailable("cannot connect: refused", endpoint="a:1")
    error = expired(late_call(), cause)
    expected = "no endpoint could be reached after 2.5 s; the last one: cannot connect: refused [at a:1]"
    assert str(error) == expected
    assert error.__cause__ is cause
    assert error.final


def test_the_deadline_of_a_call_that_waited_in_line():
    error = expired(late_call(), None)
    assert str(error) == "the call could not be sent after 2.5 s"
    assert error.final


@pytest.mark.parametrize("maybe_applied", [True, False])
def test_the_client_was_closed_during_a_call(maybe_applied):
    lost = errors.Unavailable("x", method="/a/B", endpoint="a:1", maybe_applied=maybe_applied)
    error = closed_during(lost)
    assert type(error) is errors.ClientClosed
    assert (error.method, error.endpoint, error.maybe_applied) == ("/a/B", "a:1", maybe_applied)


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (errors.Unavailable("refused"), errors.Unavailable),
        (errors.TlsError("certificate has expired"), errors.TlsError),
        (errors.ProtocolError("not an HTTP/2 server"), errors.Unavailable),
        (None, errors.Unavailable),
    ],
)
def test_no_endpoint_for_a_call_that_does_not_wait(cause, kind):
    error = no_endpoint(cause)
    assert type(error) is kind
    assert error.final
    assert error.__cause__ is cause
    assert ("no endpoint answered" if cause is None else cause.args[0]) in str(error)


def test_what_several_calls_raise_is_not_shared():
    shared = errors.Compacted("gone", compact_revision=7, endpoint="a:1")
    shared.final = True
    own: Any = own_copy(shared)
    assert own is not shared
    assert own.__cause__ is shared
    assert (type(own), own.message, own.compact_revision) == (errors.Compacted, "gone", 7)
    assert (own.endpoint, own.final) == ("a:1", True)
    own.attempts = 3
    assert shared.attempts == 0
