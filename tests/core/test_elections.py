# SPDX-License-Identifier: Apache-2.0
"""Elections, step by step: proposals, and following who leads. How one is won is in test_locks.py."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core import elections
from purecd.core.elections import Observer
from purecd.core.op import Attach, Call, Detach, Next
from purecd.core.watcher import Watcher
from purecd.pb import messages
from purecd.types import Event, EventType, GetReply, KeyValue, TxnReply, WatchResponse
from tests.core.test_line import KEY, header, in_line, kv, lost_answer, sent, stepper

FIRST = kv(b"jobs/1", 3, b"first")
SECOND = kv(b"jobs/2", 4, b"second")


def reads(kv=None, revision=20):
    return GetReply(header(revision), [] if kv is None else [kv])


def events(*changes):
    return WatchResponse(header(30), events=list(changes))


def put(kv):
    return Event(EventType.PUT, kv)


def changed(before, proposal, revision):
    return before._replace(value=proposal, mod_revision=revision, version=2)


def gone(key):
    return Event(EventType.DELETE, KeyValue(key, 0, 25, 0))


# Leading.


def test_a_proposal_is_changed_by_who_leads():
    mine = in_line()
    world = stepper(TxnReply(header(9), True))
    world.run(elections.proclaim(mine, b"new"))
    request = sent(world.calls[0])
    assert (request.compare[0].key, request.compare[0].create_revision) == (KEY, 5)
    change = request.success[0].request_put
    assert (change.key, change.value, change.lease) == (KEY, b"new", 160)


def test_who_does_not_lead_proclaims_nothing():
    with pytest.raises(errors.LockLost):
        stepper(TxnReply(header(9), False)).run(elections.proclaim(in_line(), b"new"))


def test_a_proclamation_without_an_answer_is_not_repeated():
    # A late one could put the old proposal in the place of a newer one.
    world = stepper(lost_answer())
    with pytest.raises(errors.Unavailable):
        world.run(elections.proclaim(in_line(), b"new"))
    assert len(world.calls) == 1


@pytest.mark.parametrize("found", [None, FIRST])
def test_who_leads(found):
    world = stepper(reads(found))
    assert world.run(elections.leader(b"jobs")) == found
    request = messages.RangeRequest.FromString(world.calls[0].method.encode(world.calls[0].request))
    assert (request.key, request.range_end, request.limit) == (b"jobs/", b"jobs0", 1)
    assert (request.sort_target, request.sort_order) == (2, 1), "by create revision, upwards"


# Observing.


def test_the_leader_of_now_comes_first():
    observer = Observer(b"jobs")
    world = stepper(reads(FIRST, revision=20))
    assert world.run(elections.next_leader(observer)) == FIRST
    assert world.log == [Call, Attach]
    request = world.calls[1].request
    assert (request.key, request.range_end, request.start_revision) == (b"jobs/1", b"", 21)


def observed(*answers):
    """What an observer tells after the first leader, and all that it did."""
    observer = Observer(b"jobs")
    world = stepper(reads(FIRST), *answers)
    world.run(elections.next_leader(observer))
    world.log.clear()
    return world.run(elections.next_leader(observer)), world


def test_another_proposal_needs_no_question():
    new, newer = changed(FIRST, b"new", 21), changed(FIRST, b"newer", 22)
    told, world = observed(WatchResponse(header(20), created=True), events(put(new), put(newer)))
    assert told == newer, "the one before is left out"
    assert world.log == [Next, Next]


def test_another_leader_is_asked_for():
    told, world = observed(events(gone(b"jobs/1")), reads(SECOND, revision=25))
    assert told == SECOND
    assert world.log == [Next, Detach, Call, Attach]
    assert len(world.open) == 1


def test_who_leads_again_with_the_same_key_is_asked_for_too():
    # Deleted and made anew in one response: others may have been in line before.
    again = kv(b"jobs/1", 26, b"first")
    told, _ = observed(events(gone(b"jobs/1"), put(again)), reads(SECOND, revision=26))
    assert told == SECOND


def test_a_compaction_has_it_look_again_and_tell_nothing_twice():
    told, world = observed(
        errors.Compacted(), reads(FIRST, revision=25), events(gone(b"jobs/1")), reads(SECOND)
    )
    assert told == SECOND
    assert len(world.open) == 1


def test_nobody_leads_for_a_while():
    told, world = observed(
        events(gone(b"jobs/1")), reads(None, revision=25), events(put(SECOND)), reads(SECOND, revision=26)
    )
    assert told == SECOND
    whole = next(each for each in world.calls[3:] if type(each) is Watcher)
    assert (whole.request.key, whole.request.range_end) == (b"jobs/", b"jobs0")
    assert (whole.request.start_revision, whole.request.filters) == (26, (1,))


def test_the_first_key_that_is_heard_of_need_not_lead():
    # It may be gone by now, or have come behind another that was heard of later.
    told, _ = observed(events(gone(b"jobs/1")), reads(), events(put(FIRST)), reads(SECOND))
    assert told == SECOND


def test_a_client_that_is_closed_ends_it():
    with pytest.raises(errors.ClientClosed):
        observed(None)


def test_who_stops_observing_watches_no_longer():
    observer = Observer(b"jobs")
    world = stepper(reads(FIRST))
    world.run(elections.next_leader(observer))
    world.run(elections.end(observer))
    world.run(elections.end(observer))
    assert world.log == [Call, Attach, Detach]
    assert not world.open
