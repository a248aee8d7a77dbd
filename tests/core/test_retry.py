# SPDX-License-Identifier: Apache-2.0
"""The retry rule, stepped by hand. What it means on a channel is in test_outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from purecd import errors
from purecd.core import methods, retry
from purecd.core.op import Call, Refresh, Sleep
from purecd.errors import StatusCode
from purecd.options import Retry
from purecd.requests import Get, Put


def put(**options):
    return retry.call(methods.PUT, "request", **options)


def get(**options):
    return retry.call(methods.RANGE, "request", **options)


def finish(operation, value):
    with pytest.raises(StopIteration) as done:
        operation.send(value)
    return done.value.value


def fail(operation, error):
    """Fail the attempt under way; the effect that follows."""
    return operation.throw(error)


def ends(operation, error, kind=None):
    """Fail the attempt under way; the error that ends the call."""
    with pytest.raises(kind or type(error)) as caught:
        operation.throw(error)
    return caught.value


def lost(maybe_applied=False):
    return errors.Unavailable("connection lost", maybe_applied=maybe_applied, endpoint="a:1")


def test_one_attempt():
    operation = put(require_leader=True, endpoint="a:1", metadata=((b"n", b"v"),))
    call = next(operation)
    assert type(call) is Call
    assert (call.method, call.request, call.require_leader) == (methods.PUT, "request", True)
    assert (call.endpoint, call.metadata, call.attempt) == ("a:1", ((b"n", b"v"),), 1)
    assert finish(operation, "reply") == "reply"


def test_the_first_repetition_follows_at_once_and_later_ones_after_growing_pauses():
    operation = put()
    calls = [next(operation)]
    calls.append(fail(operation, lost()))
    pauses = []
    for _ in range(12):
        pause = fail(operation, lost())
        assert type(pause) is Sleep
        assert pause.jitter == 0.2
        pauses.append(round(pause.seconds, 4))
        calls.append(operation.send(None))
    assert pauses == [0.025, 0.04, 0.064, 0.1024, 0.1638, 0.2621, 0.4194, 0.6711, 1.0, 1.0, 1.0, 1.0]
    assert [each.attempt for each in calls] == list(range(1, 15))
    assert len(set(map(id, calls))) == 14, "each attempt is a call of its own"
    finish(operation, "reply")


def test_pauses_stay_bounded_for_ever():
    operation = get()
    next(operation)
    effect = fail(operation, lost())
    for _ in range(5000):
        effect = fail(operation, lost())
        assert type(effect) is Sleep
        operation.send(None)
    assert effect.seconds == 1.0


def test_a_write_in_doubt_is_not_repeated():
    operation = put()
    next(operation)
    error = ends(operation, lost(maybe_applied=True))
    assert error.maybe_applied
    assert error.attempts == 1


def test_the_callers_word_repeats_it():
    operation = put(idempotent=True)
    next(operation)
    assert type(fail(operation, lost(maybe_applied=True))) is Call


def test_the_callers_word_is_true_or_false():
    wrong: Any = "no"
    with pytest.raises(TypeError, match="idempotent"):
        next(retry.call(methods.PUT, Put("a"), idempotent=wrong))


def test_an_idempotent_method_needs_no_word():
    operation = retry.call(methods.LEASE_GRANT, "request")
    next(operation)
    assert type(fail(operation, lost(maybe_applied=True))) is Call


def test_a_read_is_never_in_doubt():
    operation = get()
    next(operation)
    fail(operation, lost(maybe_applied=True))
    error = ends(operation, errors.from_status(13, "panic"))
    assert not error.maybe_applied
    assert error.attempts == 2


def test_doubt_about_one_attempt_stays_for_all():
    operation = put(idempotent=True)
    next(operation)
    fail(operation, lost(maybe_applied=True))
    fail(operation, lost(maybe_applied=False))
    operation.send(None)
    error = ends(operation, errors.EmptyKey())
    assert error.maybe_applied
    assert error.attempts == 3


@pytest.mark.parametrize("doubt", [True, False])
def test_time_is_over_between_two_attempts(doubt):
    operation = put(idempotent=True)
    next(operation)
    fail(operation, lost(maybe_applied=doubt))
    last = errors.NoLeader(method="/etcdserverpb.KV/Put", endpoint="b:1")
    assert type(fail(operation, last)) is Sleep
    late = errors.DeadlineExceeded("no time left")
    late.final = True
    error = ends(operation, late)
    assert error is late
    assert error.__cause__ is last
    assert (error.method, error.endpoint) == ("/etcdserverpb.KV/Put", "b:1")
    assert (error.attempts, error.maybe_applied) == (2, doubt)


def test_what_is_no_answer_of_etcd_passes_through():
    operation = put()
    next(operation)
    ends(operation, KeyboardInterrupt())
    operation = put()
    next(operation)
    fail(operation, lost())
    assert type(fail(operation, lost())) is Sleep
    ends(operation, KeyboardInterrupt())


# Tokens.


def test_a_rejected_token_is_replaced():
    operation = put()
    call = next(operation)
    refresh = fail(operation, errors.InvalidAuthToken())
    assert type(refresh) is Refresh
    assert refresh.call is call
    again = operation.send(True)
    assert type(again) is Call
    assert again.attempt == 2
    finish(operation, "reply")


def test_three_tokens_are_tried():
    operation = put()
    next(operation)
    for _ in range(3):
        assert type(fail(operation, errors.AuthOldRevision())) is Refresh
        operation.send(True)
    error = ends(operation, errors.UserEmpty())
    assert error.attempts == 4
    assert not error.maybe_applied


def test_without_a_newer_token_the_rejection_is_raised():
    operation = put()
    next(operation)
    rejection = errors.InvalidAuthToken()
    fail(operation, rejection)
    with pytest.raises(errors.InvalidAuthToken) as caught:
        operation.send(False)
    assert caught.value is rejection


def test_why_logging_in_is_refused_is_raised():
    operation = put()
    next(operation)
    rejection = errors.InvalidAuthToken(method="/etcdserverpb.KV/Put", endpoint="a:1")
    fail(operation, rejection)
    refusal = errors.AuthFailed(method="/etcdserverpb.Auth/Authenticate", endpoint="a:1")
    error = ends(operation, refusal)
    assert error.__cause__ is rejection
    assert error.method == "/etcdserverpb.Auth/Authenticate", "the call that was refused"
    assert error.attempts == 1


def test_no_fresh_token_in_time():
    operation = put(idempotent=True)
    next(operation)
    fail(operation, lost(maybe_applied=True))
    fail(operation, errors.InvalidAuthToken(method="/etcdserverpb.KV/Put", endpoint="a:1"))
    late = errors.DeadlineExceeded("no fresh token in time")
    late.final = True
    error = ends(operation, late)
    assert (error.method, error.endpoint, error.attempts) == ("/etcdserverpb.KV/Put", "a:1", 2)
    assert error.maybe_applied, "for the first attempt is in doubt"


def test_attempts_to_log_in_that_fail_for_the_moment_do_not_count():
    operation = put()
    next(operation)
    for _ in range(10):
        assert type(fail(operation, errors.InvalidAuthToken())) is Refresh
        effect = fail(operation, errors.Timeout())
        if type(effect) is Sleep:
            effect = operation.send(None)
        assert type(effect) is Call
    fail(operation, errors.InvalidAuthToken())
    operation.send(True)
    finish(operation, "reply")


def test_doubt_stays_through_a_refresh():
    operation = put(idempotent=True)
    next(operation)
    fail(operation, lost(maybe_applied=True))
    fail(operation, errors.InvalidAuthToken())
    with pytest.raises(errors.InvalidAuthToken) as caught:
        operation.send(False)
    assert caught.value.maybe_applied


# Single errors.

WRITE, READ = methods.PUT, methods.RANGE


def final(error):
    error.final = True
    return error


def elsewhere(error):
    error.elsewhere = True
    return error


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (lost(False), True, True),
        (lost(True), False, True),
        (final(lost(False)), False, False),
        (errors.TlsError("expired"), True, True),
        (errors.ClientClosed("closed"), False, False),
        (errors.MessageTooLarge("big"), False, False),
        (errors.ProtocolError("broken"), False, False),
        (errors.ProtocolError("broken", maybe_applied=True), False, False),
        (errors.Canceled("by the server", maybe_applied=True), False, True),
        (errors.DeadlineExceeded("the server's", maybe_applied=True), False, True),
        (final(errors.DeadlineExceeded("ours")), False, False),
        (errors.NoLeader(), True, True),
        (errors.TooManyRequests(), True, True),
        (errors.NotSupportedForLearner(), False, False),
        (elsewhere(errors.NotSupportedForLearner()), True, True),
        (errors.LeaderChanged(maybe_applied=True), False, True),
        (errors.Timeout(maybe_applied=True), False, True),
        (errors.TimeoutWaitAppliedIndex(), False, True),
        (errors.Unhealthy(), False, True),
        (errors.NotCapable(), False, False),
        (errors.NoSpace(maybe_applied=True), False, False),
        (errors.PermissionDenied(), False, False),
        (errors.Compacted(), False, False),
        (errors.from_status(2, "raft: stopped"), False, False),
        (errors.from_status(2, "not a primary lessor"), False, True),
        (errors.from_status(13, "panic"), False, False),
        (errors.from_status(12, "unknown method"), False, False),
        (errors.from_status(14, "something new"), False, True),
    ],
)
def test_may_repeat(error, write, read):
    assert retry.may_repeat(WRITE, error) is write
    assert retry.may_repeat(READ, error) is read
    assert retry.may_repeat(WRITE, error, idempotent=True) is read


def test_codes_that_pass_are_those_of_members_in_trouble():
    passing = [code for code in StatusCode if retry.may_repeat(READ, errors.from_status(code, "new"))]
    assert passing == [StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE]


# The client's own rule.


def repeat(rule: Retry, count: int):
    """Let `count` attempts of a read fail; the pauses between them."""
    op = retry.call(methods.RANGE, Get(b"k"))
    effect = next(op)
    pauses = []
    for _ in range(count):
        assert isinstance(effect, Call)
        effect.retry = rule
        effect = op.throw(lost())
        if isinstance(effect, Sleep):
            pauses.append(effect.seconds)
            effect = next(op)
        else:
            pauses.append(0.0)
    return pauses


def test_the_first_repetition_is_at_once_and_the_pauses_grow_to_their_limit():
    assert repeat(Retry(backoff=0.1, max_backoff=0.3), 6) == pytest.approx([0, 0.1, 0.16, 0.256, 0.3, 0.3])


def test_the_defaults():
    pauses = repeat(Retry(), 12)
    assert pauses[:4] == pytest.approx([0, 0.025, 0.04, 0.064])
    assert pauses[-1] == 1.0
    assert Retry().pause(10**6) == 1.0


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_of_attempts(limit):
    op = retry.call(methods.RANGE, Get(b"k"))
    effect = next(op)
    for attempt in range(1, limit + 1):
        assert effect.attempt == attempt
        effect.retry = Retry(max_attempts=limit)
        if attempt == limit:
            with pytest.raises(errors.Unavailable) as caught:
                op.throw(lost())
            assert caught.value.attempts == limit
        else:
            effect = op.throw(lost())
            effect = next(op) if isinstance(effect, Sleep) else effect


def test_no_rule_lets_a_write_be_repeated_whose_outcome_is_unknown():
    op = retry.call(methods.PUT, Put(b"k", b"v"))
    next(op).retry = Retry(max_attempts=10)
    with pytest.raises(errors.Unavailable) as caught:
        op.throw(lost(maybe_applied=True))
    assert caught.value.maybe_applied


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"backoff": 0}, {"max_backoff": -1}, {"jitter": 1.5}, {"jitter": -0.1}]
)
def test_rules_that_are_none(wrong):
    with pytest.raises(ValueError):
        Retry(**wrong)


def test_an_attempt_whose_token_was_rejected_is_none_of_those_allowed():
    op = retry.call(methods.RANGE, Get(b"k"))
    next(op).retry = Retry(max_attempts=1)
    assert type(op.throw(errors.InvalidAuthToken())) is Refresh
    op.send(True).retry = Retry(max_attempts=1)
    with pytest.raises(errors.Unavailable) as caught:
        op.throw(lost())
    assert caught.value.attempts == 2
