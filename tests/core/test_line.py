# SPDX-License-Identifier: Apache-2.0
"""Standing in line, step by step: joining, waiting for one's turn, leaving."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core import line, methods
from purecd.core.keptlease import KeptLease
from purecd.core.line import Place
from purecd.core.op import Attach, Call, Detach, Next, Sleep
from purecd.core.watcher import Watcher, WatchRequest
from purecd.pb import messages
from purecd.requests import create_revision, value
from purecd.types import Event, EventType, GetReply, Header, KeyValue, PutReply, TxnReply, WatchResponse
from tests.core.steps import Stepper

KEY = b"jobs/a0"
VALUE = b"%016x" % 77  # of the stepper's random id
NOTHING = GetReply()


def place(**options):
    """A place by a lease of id 160 that is alive until 109.9."""
    options = {"own": False, "doubts": set(), **options}
    return Place(b"jobs", KeptLease(160, 10, 100.0), **options)


def in_line(revision=5, **options):
    """A place that has joined."""
    joined = place(**options)
    joined.value, joined.create_revision, joined.asked = VALUE, revision, True
    return joined


def stepper(*answers, clock=(101.0,)):
    return Stepper(*answers, clock=clock, random_id=77)


def header(revision):
    return Header(1, 2, revision, 4)


def kv(key, revision, value=b""):
    return KeyValue(key, create_revision=revision, mod_revision=revision, version=1, value=value)


def found(*kvs):
    return GetReply(kvs=list(kvs))


def made(revision, first):
    """The key was made, and `first` is the oldest one."""
    return TxnReply(header(revision), True, [PutReply(), found(first)])


def there(mine, first, revision=20):
    """There was a key already."""
    return TxnReply(header(revision), False, [found(*mine), found(*first)])


def looked(ahead, mine, revision=20):
    return GetReply(header(revision), [*mine, *ahead])


def deleted(revision=21):
    return WatchResponse(header(revision), events=[Event(EventType.DELETE, KeyValue(b"x", 0, revision, 0))])


def lost_answer():
    return errors.Unavailable("connection lost", maybe_applied=True)


def sent(call):
    return messages.TxnRequest.FromString(call.method.encode(call.request))


# Names.


def test_keys_are_those_of_other_clients():
    assert place().key == b"jobs/a0"
    assert Place(b"jobs", KeptLease(-26, 10, 100.0), False, set()).key == b"jobs/-1a"
    assert line.line_of("é") == "é".encode()
    with pytest.raises(ValueError, match="empty"):
        line.line_of("")


# Joining.


def test_the_first_one_comes_next():
    mine = place()
    world = stepper(made(5, kv(KEY, 5)))
    assert world.run(line.join(mine)) is True
    assert (mine.create_revision, mine.value, mine.asked) == (5, VALUE, True)
    (call,) = world.calls
    request = sent(call)
    (compare,) = request.compare
    assert (compare.key, compare.range_end, compare.create_revision) == (KEY, b"", 0)
    put, first = request.success
    assert (put.request_put.key, put.request_put.value, put.request_put.lease) == (KEY, VALUE, 160)
    for oldest in (first.request_range, request.failure[1].request_range):
        assert (oldest.key, oldest.range_end, oldest.limit) == (b"jobs/", b"jobs0", 1)
        assert (oldest.sort_target, oldest.sort_order) == (2, 1), "by create revision, upwards"
    assert request.failure[0].request_range.key == KEY


def test_others_came_before():
    mine = place()
    assert stepper(made(5, kv(b"jobs/1", 3))).run(line.join(mine)) is False
    assert mine.create_revision == 5


def test_a_repetition_finds_what_the_attempt_without_an_answer_made():
    # Other keys were written meanwhile: the place counts from when the key was made.
    mine = place()
    world = stepper(lost_answer(), there([kv(KEY, 5, VALUE)], [kv(KEY, 5)], revision=9))
    assert world.run(line.join(mine)) is True
    assert mine.create_revision == 5
    assert len(world.calls) == 2


def test_a_lease_stands_in_a_line_once():
    mine = place()
    with pytest.raises(RuntimeError, match="in line for .* already"):
        stepper(there([kv(KEY, 5, b"another")], [kv(KEY, 5)])).run(line.join(mine))
    assert not mine.asked


@pytest.mark.parametrize("doubt", [b"old", 5], ids=["by its value", "by its revision"])
def test_what_was_left_over_is_deleted_first(doubt):
    doubts = {doubt, 4, b"older"}
    mine = place(doubts=doubts)
    answers = there([kv(KEY, 5, b"old")], [kv(KEY, 5)]), TxnReply(header(8), True), made(9, kv(KEY, 9))
    world = stepper(*answers)
    assert world.run(line.join(mine)) is True
    assert mine.create_revision == 9, "a late deletion of the old key cannot mean this one"
    deletion = sent(world.calls[1])
    assert (deletion.compare[0].create_revision, deletion.success[0].request_delete_range.key) == (5, KEY)
    assert doubts == {4, b"older"}


def test_a_value_that_others_may_have_counts_only_after_an_attempt_without_an_answer():
    same = there([kv(KEY, 5, b"me")], [kv(KEY, 5)])
    with pytest.raises(RuntimeError, match="already"):
        stepper(same).run(line.join(place(value=b"me")))
    mine = place(value=b"me")
    world = stepper(lost_answer(), same)
    assert world.run(line.join(mine)) is True
    assert (mine.create_revision, mine.unique) == (5, False)
    assert sent(world.calls[0]).success[0].request_put.value == b"me"


def test_a_refusal_after_an_attempt_without_an_answer_leaves_it_open():
    mine = place()
    with pytest.raises(errors.PermissionDenied):
        stepper(lost_answer(), errors.PermissionDenied()).run(line.join(mine))
    assert mine.asked


def test_joining_only_an_empty_line():
    mine = place()
    world = stepper(TxnReply(header(5), False, [NOTHING, found(kv(b"jobs/1", 3))]))
    assert world.run(line.join(mine, if_empty=True)) is False
    assert not mine.asked, "nothing was written"
    compare = sent(world.calls[0]).compare[0]
    assert (compare.key, compare.range_end, compare.create_revision) == (b"jobs/", b"jobs0", 0)
    assert stepper(made(5, kv(KEY, 5))).run(line.join(place(), if_empty=True)) is True
    again = stepper(lost_answer(), there([kv(KEY, 5, VALUE)], [kv(KEY, 5)]))
    assert again.run(line.join(place(), if_empty=True)) is True


def test_a_lease_that_ended_cannot_stand_in_line():
    mine = place()
    with pytest.raises(errors.LockLost, match="expired or was revoked") as caught:
        stepper(lost_answer(), errors.LeaseNotFound()).run(line.join(mine))
    assert type(caught.value.__cause__) is errors.LeaseNotFound
    assert not mine.asked


@pytest.mark.parametrize(("error", "asked"), [(errors.PermissionDenied(), False), (errors.NoSpace(), True)])
def test_whether_the_key_may_exist_after_a_failure(error, asked):
    error.maybe_applied = asked
    mine = place()
    with pytest.raises(type(error)):
        stepper(error).run(line.join(mine))
    assert mine.asked is asked


# Waiting.


def test_a_turn_comes_when_nobody_is_ahead():
    world = stepper(looked([], [kv(KEY, 5)]))
    world.run(line.wait_turn(in_line()))
    assert world.calls[0].method is methods.RANGE, "see the next test"
    look = messages.RangeRequest.FromString(world.calls[0].method.encode(world.calls[0].request))
    assert (look.key, look.range_end, look.limit, look.max_create_revision) == (b"jobs/", b"jobs0", 2, 5)
    assert (look.sort_target, look.sort_order) == (2, 2), "by create revision, downwards"


def test_a_turn_is_looked_for_without_a_transaction():
    # etcd 3.5.1 panics when the caller of a transaction that only reads gives up (etcd issue 14110), and
    # whoever waits for a lock may give up at any moment.
    world = stepper(looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]), deleted(), looked([], [kv(KEY, 5)]))
    world.run(line.wait_turn(in_line()))
    assert methods.TXN_READ not in [getattr(call, "method", None) for call in world.calls]


def test_only_the_one_ahead_is_watched():
    mine = in_line()
    world = stepper(
        looked([kv(b"jobs/3", 3)], [kv(KEY, 5)], revision=20),
        WatchResponse(header(20), created=True),
        deleted(21),
        looked([], [kv(KEY, 5)], revision=21),
    )
    world.run(line.wait_turn(mine))
    assert world.log.count(Attach) == world.log.count(Detach) == 1
    watcher = world.calls[1]
    assert type(watcher) is Watcher
    assert (watcher.request.key, watcher.request.range_end) == (b"jobs/3", b"")
    assert watcher.request.start_revision == 21, "what happened after the look"
    assert watcher.request.filters == (0,), "puts do not matter"
    assert mine.watcher is None


def test_one_in_the_middle_may_leave():
    world = stepper(
        looked([kv(b"jobs/3", 4)], [kv(KEY, 5)]),
        deleted(),
        looked([kv(b"jobs/2", 2)], [kv(KEY, 5)]),
        deleted(),
        looked([], [kv(KEY, 5)]),
    )
    world.run(line.wait_turn(in_line()))
    assert [call.request.key for call in world.calls if type(call) is Watcher] == [b"jobs/3", b"jobs/2"]


def test_a_compaction_has_it_look_again():
    world = stepper(looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]), errors.Compacted(), looked([], [kv(KEY, 5)]))
    world.run(line.wait_turn(in_line()))
    assert not world.open


@pytest.mark.parametrize("own_key", [[], [kv(KEY, 4)]], ids=["gone", "another's"])
def test_a_key_that_is_gone_ends_the_wait(own_key):
    # Though somebody is ahead still: that client of Go's would wait on.
    with pytest.raises(errors.LockLost, match="key is gone"):
        stepper(looked([kv(b"jobs/3", 3)], own_key)).run(line.wait_turn(in_line()))


def test_a_wait_lasts_no_longer_than_the_lease():
    world = stepper(looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]), TimeoutError(), clock=(101.0, 110.0))
    with pytest.raises(errors.LockLost, match="expired"):
        world.run(line.wait_turn(in_line()))


def test_a_wait_goes_on_when_the_lease_was_renewed():
    mine = in_line()
    mine.kept.alive_until = 200.0  # by the end of the wait that it was 109.9 for
    answers = looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]), TimeoutError(), deleted(), looked([], [kv(KEY, 5)])
    world = stepper(*answers, clock=(101.0, 150.0))
    world.run(line.wait_turn(mine))
    assert world.log.count(Next) == 2


def test_the_time_is_over_while_others_are_ahead():
    late = errors.DeadlineExceeded()
    late.final = True
    world = stepper(looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]), late)
    with pytest.raises(errors.DeadlineExceeded, match="jobs/a0.* was waiting for .*jobs/3") as caught:
        world.run(line.wait_turn(in_line()))
    assert caught.value.final


def test_a_lease_that_is_closed_ends_the_wait():
    mine = in_line()
    operation = line.wait_turn(mine)
    next(operation)
    assert type(operation.send(looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]))) is Attach
    operation.send(None)
    assert type(operation.send(101.0)) is Next
    assert mine.give_up() is mine.watcher
    operation.send(None)  # what was detached ends so
    with pytest.raises(errors.LockLost, match="closed"):
        operation.send(101.5)


def test_a_client_that_is_closed_ends_the_wait():
    world = stepper(looked([kv(b"jobs/3", 3)], [kv(KEY, 5)]), None)
    with pytest.raises(errors.ClientClosed):
        world.run(line.wait_turn(in_line()))


@pytest.mark.parametrize("lost", [True, False])
def test_the_cause_is_the_lease(lost):
    mine = in_line()
    if lost:
        mine.kept.error = errors.LeaseLost("no answer", reason="timeout")
    else:
        mine.give_up()
    with pytest.raises(errors.LockLost) as caught:
        mine.left(101.0)
    assert caught.value.__cause__ is mine.kept.error


def test_how_long_a_lease_lives_on():
    assert in_line().left(101.0) == pytest.approx(8.9)


# Leaving.


def test_a_place_is_known_by_its_revision_or_its_value():
    assert in_line(5).is_there == (create_revision(KEY) == 5)
    assert in_line(0).is_there == (value(KEY) == VALUE)


def test_who_leaves_deletes_the_key():
    mine = in_line()
    mine.watcher = Watcher(WatchRequest(b"jobs/3"))
    world = stepper(lost_answer(), TxnReply(header(9), False))
    world.run(line.leave(mine))
    assert world.log == [Detach, Call, Call], "once more, for it does no harm"
    assert mine.watcher is None
    request = sent(world.calls[0])
    assert (request.compare[0].create_revision, request.success[0].request_delete_range.key) == (5, KEY)
    assert (mine.asked, mine.doubts) == (False, set())


def test_who_has_a_lease_of_its_own_leaves_with_it():
    mine = in_line(own=True)
    world = stepper()
    world.run(line.leave(mine))
    assert world.log == []


def test_who_never_asked_has_nothing_to_delete():
    world = stepper()
    world.run(line.leave(place()))
    assert world.log == []


def test_a_key_that_is_still_being_made_is_deleted_when_it_is_there():
    # The request to join was given up without an answer; it is executed after the first deletion.
    mine = in_line(0)
    world = stepper(TxnReply(header(8), False), TxnReply(header(9), True))
    world.run(line.leave(mine))
    assert world.log == [Call, Sleep, Call]
    assert mine.doubts == set()


def repeated(**options):
    """A place for which two requests went out, neither of which was answered."""
    mine = place(**options)
    late = errors.DeadlineExceeded(maybe_applied=True)
    late.final = True
    with pytest.raises(errors.DeadlineExceeded):
        stepper(lost_answer(), late).run(line.join(mine))
    return mine


@pytest.mark.parametrize("second", [1, 2, 3])
def test_a_key_that_a_second_attempt_makes_again_is_deleted_again(second):
    # The deletion overtakes one of them.
    mine = repeated()
    answers = [TxnReply(header(8), made_it) for made_it in (True, *[False] * (second - 1), True)]
    world = stepper(*answers[:3])
    world.run(line.leave(mine))
    assert len(world.calls) == min(second + 1, 3)
    assert mine.doubts == (set() if second < 3 else {mine.value})


def test_a_key_with_a_value_of_the_callers_is_looked_for_again_after_a_second_attempt():
    mine = repeated(value=b"me")
    first, second = GetReply(kvs=[kv(KEY, 8, b"me")]), GetReply(kvs=[kv(KEY, 9, b"me")])
    world = stepper(first, TxnReply(header(10), True), second, TxnReply(header(11), True))
    world.run(line.leave(mine))
    assert [sent(call).compare[0].create_revision for call in world.calls[1::2]] == [8, 9]
    assert mine.doubts == set()


def test_a_key_that_may_still_be_made_is_remembered():
    mine = in_line(0)
    world = stepper(*[TxnReply(header(8), False)] * 3)
    world.run(line.leave(mine))
    assert mine.doubts == {VALUE}


@pytest.mark.parametrize("error", [errors.PermissionDenied(), KeyboardInterrupt()])
def test_a_key_that_could_not_be_deleted_is_remembered(error):
    mine = in_line()
    world = stepper(error)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            world.run(line.leave(mine))
    else:
        world.run(line.leave(mine))
    assert mine.doubts == {5}


def test_a_key_with_a_value_that_others_may_have_is_looked_for_first():
    # By its value a late deletion could mean a key that the same lease makes later.
    mine = place(value=b"me")
    mine.asked = True
    found_it = GetReply(kvs=[kv(KEY, 9, b"me")])
    world = stepper(NOTHING, found_it, TxnReply(header(10), True))
    world.run(line.leave(mine))
    assert world.log == [Call, Sleep, Call, Call]
    assert sent(world.calls[-1]).compare[0].create_revision == 9
    assert mine.doubts == set()
