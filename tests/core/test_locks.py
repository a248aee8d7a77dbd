# SPDX-License-Identifier: Apache-2.0
"""Locks, step by step: got, not got, lost, let go of."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core import locks, methods
from purecd.core.op import Call, Detach, Next
from purecd.requests import Get, Put, version
from purecd.types import GetReply, Header, PutReply, TxnReply
from tests.core.test_line import (
    KEY,
    header,
    in_line,
    kv,
    looked,
    lost_answer,
    made,
    place,
    sent,
    stepper,
    there,
)

OTHER = kv(b"jobs/1", 3)


def test_a_free_lock_takes_one_request():
    mine = place()
    world = stepper(made(5, kv(KEY, 5)))
    assert world.run(locks.acquire(mine)) is True
    assert len(world.calls) == 1


def test_a_lock_is_waited_for():
    mine = place()
    world = stepper(made(5, OTHER), looked([], [kv(KEY, 5)]))
    assert world.run(locks.acquire(mine)) is True
    assert [call.method for call in world.calls] == [methods.TXN, methods.RANGE]


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), errors.PermissionDenied()])
def test_who_gives_up_leaves_the_line(reason):
    mine = place()
    gone = TxnReply(header(9), True)
    world = stepper(made(5, OTHER), looked([OTHER], [kv(KEY, 5)]), reason, gone)
    with pytest.raises(type(reason)):
        world.run(locks.acquire(mine))
    assert world.log[-3:] == [Next, Detach, Call]
    assert sent(world.calls[-1]).success[0].request_delete_range.key == KEY
    assert not world.open


def test_who_gives_up_while_asking_deletes_what_may_have_been_made():
    world = stepper(KeyboardInterrupt(), TxnReply(header(9), True))
    with pytest.raises(KeyboardInterrupt):
        world.run(locks.acquire(place()))
    deletion = sent(world.calls[1])
    assert deletion.compare[0].value == b"%016x" % 77


def test_a_lock_is_not_had_by_a_lease_that_is_over():
    # The answer came when it may have ended already.
    world = stepper(made(5, kv(KEY, 5)), TxnReply(header(9), True), clock=(110.0,))
    with pytest.raises(errors.LockLost):
        world.run(locks.acquire(place()))
    assert len(world.calls) == 2


def test_an_operation_that_is_dropped_does_nothing_more():
    for operation in (locks.acquire(place()), locks.try_acquire(place()), locks.release(in_line())):
        next(operation)
        operation.close()


def test_trying():
    free = stepper(made(5, kv(KEY, 5)))
    assert free.run(locks.try_acquire(place())) is True
    taken = stepper(TxnReply(header(5), False, [GetReply(), GetReply(kvs=[OTHER])]))
    assert taken.run(locks.try_acquire(place())) is False
    assert len(taken.calls) == 1
    failing = stepper(KeyboardInterrupt(), TxnReply(header(9), True))
    with pytest.raises(KeyboardInterrupt):
        failing.run(locks.try_acquire(place()))
    assert len(failing.calls) == 2


def test_a_try_that_came_behind_another_with_the_same_lease():
    with pytest.raises(RuntimeError):
        stepper(there([kv(KEY, 5, b"another")], [])).run(locks.try_acquire(place()))


# Letting go.


def test_a_lock_is_released():
    mine = in_line()
    world = stepper(TxnReply(header(9), True))
    world.run(locks.release(mine))
    request = sent(world.calls[0])
    assert (request.compare[0].key, request.compare[0].create_revision) == (KEY, 5)
    assert not mine.asked


def test_a_lock_that_is_another_s_by_now_is_not_released():
    with pytest.raises(errors.LockLost, match="'jobs' is not held"):
        stepper(TxnReply(header(9), False)).run(locks.release(in_line()))


def test_a_release_without_an_answer_is_repeated():
    # By then the key may be gone, or there again as another's; either way it was held until then.
    mine = in_line()
    world = stepper(lost_answer(), TxnReply(header(9), False))
    world.run(locks.release(mine))
    assert len(world.calls) == 2
    assert mine.doubts == set()


def test_a_release_that_failed_can_be_repeated():
    mine = in_line()
    with pytest.raises(errors.PermissionDenied):
        stepper(errors.PermissionDenied()).run(locks.release(mine))
    assert mine.doubts == {5}, "or it is undone before the lease stands in the line again"
    stepper(TxnReply(header(9), True)).run(locks.release(mine))
    assert mine.doubts == set()


def test_a_release_for_which_the_time_is_over_is_not_repeated():
    late = errors.DeadlineExceeded(maybe_applied=True)
    late.final = True
    world = stepper(late)
    with pytest.raises(errors.DeadlineExceeded):
        world.run(locks.release(in_line()))
    assert len(world.calls) == 1


# Guarded transactions.


def test_a_transaction_if_the_lock_is_held():
    inner = TxnReply(Header(0, 0, 9, 0), True, [PutReply()])
    world = stepper(TxnReply(header(9), True, [inner]))
    reply = world.run(locks.guarded(in_line(), [version("a") == 0], [Put("a", "1")], [Get("a")], False))
    assert (reply.succeeded, reply.header, reply.responses) == (True, header(9), [PutReply()])
    (call,) = world.calls
    request = sent(call)
    assert call.method is methods.TXN
    assert (request.compare[0].key, request.compare[0].create_revision) == (KEY, 5)
    within = request.success[0].request_txn
    assert (within.compare[0].key, within.success[0].request_put.key) == (b"a", b"a")
    assert not request.failure


def test_a_transaction_without_the_lock_is_not_done():
    world = stepper(TxnReply(header(9), False))
    with pytest.raises(errors.LockLost):
        world.run(locks.guarded(in_line(), [], [Put("a", "1")], [], False))


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_guarded_write_is_repeated_only_on_the_caller_s_word(idempotent):
    world = stepper(lost_answer(), TxnReply(header(9), True, [TxnReply()]))
    operation = locks.guarded(in_line(), [], [Put("a", "1")], [], idempotent)
    if idempotent:
        world.run(operation)
    else:
        with pytest.raises(errors.Unavailable):
            world.run(operation)


def test_a_guarded_read_is_repeated():
    world = stepper(lost_answer(), TxnReply(header(9), True, [TxnReply()]))
    world.run(locks.guarded(in_line(), [], [Get("a")], [], False))
    assert world.calls[0].method is methods.TXN_READ
