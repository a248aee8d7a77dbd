# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.streaming."""

import pytest

from purecd import errors
from purecd.core import methods
from purecd.core.op import Attach, Detach, Next, Refresh, Sleep
from purecd.core.streaming import end_stream, next_message, open_stream
from purecd.pb import messages

CHUNK = messages.SnapshotResponse(blob=b"data").SerializeToString()


def begin(operation):
    """Step to the wait for the first message; the stream."""
    attach = next(operation)
    assert type(attach) is Attach
    stream = attach.source
    wait = operation.send(None)
    assert type(wait) is Next and wait.source is stream
    return stream


def fail(operation, error):
    """The first message does not come; what follows the clean-up."""
    detach = operation.throw(error)
    assert type(detach) is Detach
    return operation.send(None)


def finish(operation, value):
    with pytest.raises(StopIteration) as done:
        operation.send(value)
    return done.value.value


def snapshot(**options):
    return open_stream(methods.SNAPSHOT, messages.SnapshotRequest(), **options)


def test_a_stream_is_open_with_its_first_message():
    operation = snapshot(endpoint="a:2379", half_close=False)
    stream = begin(operation)
    assert (stream.method, stream.endpoint, stream.half_close) == (methods.SNAPSHOT, "a:2379", False)
    opened, message = finish(operation, CHUNK)
    assert opened is stream
    assert message.blob == b"data"


@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable("lost"),
        errors.NoLeader(),
        errors.Timeout(),
        errors.DeadlineExceeded(),
        errors.Stopped(),
    ],
)
def test_a_stream_without_a_message_is_opened_again_after_a_growing_pause(error):
    operation = snapshot()
    first = begin(operation)
    pauses = []
    for _ in range(6):
        pause = fail(operation, error)
        assert type(pause) is Sleep
        pauses.append(pause.seconds)
        attach = operation.send(None)
        assert attach.source is not first
        assert type(operation.send(None)) is Next
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert error.attempts == 6
    finish(operation, CHUNK)


def test_a_stream_that_ends_at_once_is_opened_again():
    operation = snapshot()
    begin(operation)
    assert type(operation.send(None)) is Detach
    assert type(operation.send(None)) is Sleep


@pytest.mark.parametrize(
    "error",
    [errors.PermissionDenied(), errors.from_status(12, "unknown method"), errors.ClientClosed("closed")],
)
def test_a_refusal_is_raised(error):
    operation = snapshot()
    begin(operation)
    assert type(operation.throw(error)) is Detach
    with pytest.raises(type(error)):
        operation.send(None)
    assert error.attempts == 1


def test_a_rejected_token_is_replaced_three_times_at_most():
    operation = snapshot()
    stream = begin(operation)
    for _ in range(3):
        refresh = fail(operation, errors.InvalidAuthToken())
        assert type(refresh) is Refresh and refresh.call is stream
        stream = operation.send(True).source
        operation.send(None)
    assert type(operation.throw(errors.InvalidAuthToken())) is Detach
    with pytest.raises(errors.InvalidAuthToken):
        operation.send(None)


def test_without_a_newer_token_the_rejection_is_raised():
    operation = snapshot()
    begin(operation)
    fail(operation, errors.UserEmpty())
    with pytest.raises(errors.UserEmpty):
        operation.send(False)


def test_giving_up_ends_the_stream():
    operation = snapshot()
    stream = begin(operation)
    detach = operation.throw(KeyboardInterrupt())
    assert type(detach) is Detach and detach.source is stream
    with pytest.raises(KeyboardInterrupt):
        operation.send(None)


def test_a_stream_that_was_not_begun_is_not_ended():
    operation = snapshot()
    next(operation)
    with pytest.raises(errors.ClientClosed):
        operation.throw(errors.ClientClosed("the client is closed"))


def test_bytes_that_are_no_message_break_the_protocol():
    operation = snapshot()
    begin(operation)
    assert type(operation.send(b"\xff")) is Detach
    with pytest.raises(errors.ProtocolError, match="undecodable message on Snapshot") as caught:
        operation.send(None)
    assert isinstance(caught.value.__cause__, ValueError)


def test_reading_on_until_the_end():
    operation = snapshot()
    stream = begin(operation)
    finish(operation, CHUNK)
    reading = next_message(stream)
    wait = next(reading)
    assert type(wait) is Next and wait.source is stream
    assert finish(reading, CHUNK).blob == b"data"
    reading = next_message(stream)
    next(reading)
    assert finish(reading, None) is None


def test_a_later_failure_is_raised_and_leaves_no_doubt():
    operation = snapshot()
    stream = begin(operation)
    finish(operation, CHUNK)
    reading = next_message(stream)
    next(reading)
    with pytest.raises(errors.Unavailable) as caught:
        reading.throw(errors.Unavailable("lost", maybe_applied=True))
    assert not caught.value.maybe_applied


def test_ending():
    operation = snapshot()
    stream = begin(operation)
    finish(operation, CHUNK)
    ending = end_stream(stream)
    detach = next(ending)
    assert type(detach) is Detach and detach.source is stream
