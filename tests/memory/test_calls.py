# SPDX-License-Identifier: Apache-2.0
"""One RPC between a connection and a member."""

from __future__ import annotations

import pytest

from purecd.memory.calls import ServerCall, Status
from purecd.pb import messages as pb


class Outbox:
    """Keeps what a member answers."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.ends: list[Status | None] = []
        self.backlog = 0

    def send(self, message):
        self.sent.append(message)
        self.backlog += message.ByteSize()

    def end(self, status):
        self.ends.append(status)


class Gone:
    """A handler that counts how often it is told that the client is gone."""

    def __init__(self) -> None:
        self.cancelled_at: list[float] = []

    def receive(self, message, now):
        raise AssertionError("nothing is sent here")

    def half_close(self, now):
        raise AssertionError("nothing is ended here")

    def cancel(self, now):
        self.cancelled_at.append(now)


@pytest.fixture
def outbox():
    return Outbox()


@pytest.fixture
def call(outbox):
    call = ServerCall("/etcdserverpb.KV/Range", outbox)
    call.handler = Gone()
    return call


def test_replies_go_to_the_outlet_until_the_call_is_finished(call, outbox):
    reply = pb.RangeResponse(count=1)
    call.reply(reply)
    assert (call.backlog, call.finished) == (reply.ByteSize(), False)
    call.finish()
    call.reply(reply)
    assert (outbox.sent, outbox.ends) == ([reply], [None])
    assert (call.backlog, call.finished) == (0, True)


def test_a_call_ends_once(call, outbox):
    refusal = Status(7, "etcdserver: permission denied")
    call.finish(refusal)
    call.finish()
    call.cancel(3.0)
    assert outbox.ends == [refusal]
    assert call.handler.cancelled_at == []


def test_a_client_that_went_away_is_told_once_and_nothing_more_is_sent(call, outbox):
    call.cancel(3.0)
    call.cancel(4.0)
    call.reply(pb.RangeResponse())
    call.finish()
    assert call.handler.cancelled_at == [3.0]
    assert (outbox.sent, outbox.ends) == ([], [])


def test_a_call_that_never_started_can_be_cancelled(outbox):
    call = ServerCall("/etcdserverpb.KV/Range", outbox, metadata={"token": "t"}, deadline=9.0)
    call.cancel(3.0)
    assert call.finished
    assert (call.metadata, call.deadline, call.common_name) == ({"token": "t"}, 9.0, "")


def test_a_status_is_an_error_with_code_and_text():
    status = Status(7, "etcdserver: permission denied")
    assert (status.code, status.text) == (7, "etcdserver: permission denied")
    assert str(status) == "status 7: etcdserver: permission denied"
