# SPDX-License-Identifier: Apache-2.0
"""How the end of a stream becomes an error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from purecd import StatusCode, errors
from purecd.core import methods
from purecd.core.failures import call_failed, expired
from purecd.core.op import Call
from purecd.wire.status import Status


def ended(source, code=StatusCode.INTERNAL, message="text", *, left=True, unprocessed=False, refused=False):
    return SimpleNamespace(
        status=Status(code, message, source),
        messages=[],
        request_left=left,
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
        ("protocol", StatusCode.INTERNAL, errors.ProtocolError),
        ("protocol", StatusCode.RESOURCE_EXHAUSTED, errors.MessageTooLarge),
    ],
)
def test_without_a_status_the_last_octet_decides(source, code, kind, left):
    error = call_failed(Call(methods.PUT, None), ended(source, code, left=left), "a:1")
    assert type(error) is kind
    assert error.code == code
    assert error.maybe_applied is left
    assert (error.method, error.endpoint) == ("/etcdserverpb.KV/Put", "a:1")


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


def test_the_deadline_tells_whether_an_endpoint_was_reached():
    call = Call(methods.PUT, None)
    call.started_at, call.deadline = 100.0, 102.5
    assert str(expired(call, "a:1", None)) == "no answer after 2.5 s [at a:1]"
    cause = errors.Unavailable("cannot connect: refused", endpoint="a:1")
    error = expired(call, "", cause)
    assert "no endpoint could be reached after 2.5 s" in str(error)
    assert "refused" in str(error)
    assert error.__cause__ is cause
    assert error.final
