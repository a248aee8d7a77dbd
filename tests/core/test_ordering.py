# SPDX-License-Identifier: Apache-2.0
"""Reads that never go back in time, against members that are behind."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from purecd import errors
from purecd.core import kv, members
from purecd.core.namespace import Namespace
from purecd.core.ordering import MAX_VIOLATIONS, Ordering
from purecd.pb import messages
from tests.support.steps import World


def ordering() -> Ordering:
    return Ordering(nullcontext())


def at(world: World, endpoint: str, revision: int) -> None:
    """Have a member answer reads from a store at this revision."""
    header = messages.ResponseHeader(cluster_id=world.members[endpoint].cluster_id, revision=revision)
    reply = messages.RangeResponse(header=header).SerializeToString()
    world.members[endpoint].answers["Range"] = lambda peer, request: peer.ok(request, reply)


def read(view: Ordering):
    return view.run(kv.get(b"k", serializable=True))


def test_revisions_that_grow_or_stay_are_taken():
    world, view = World("a:1"), ordering()
    for revision in (5, 5, 9):
        at(world, "a:1", revision)
        assert world.do(read(view)).header.revision == revision
    assert view.revision == 9


def test_another_member_is_asked_when_one_is_behind():
    world, view = World("a:1", "b:1"), ordering()
    at(world, "a:1", 9)
    at(world, "b:1", 9)
    world.do(read(view))
    behind = world.current().name
    other = {"a:1": "b:1", "b:1": "a:1"}[behind]
    at(world, behind, 4)
    assert world.do(read(view)).header.revision == 9
    assert world.current().name == other


def test_a_member_that_catches_up_is_believed_again():
    world, view = World("a:1"), ordering()
    at(world, "a:1", 9)
    world.do(read(view))
    at(world, "a:1", 4)
    run = world.run(read(view))
    world.advance(0.5)
    assert not run.done
    at(world, "a:1", 9)
    world.advance(1.0)
    assert run.value().header.revision == 9


def test_when_no_member_is_as_far_it_is_an_error():
    world, view = World("a:1", "b:1"), ordering()
    at(world, "a:1", 9)
    at(world, "b:1", 9)
    world.do(read(view))
    at(world, "a:1", 4)
    at(world, "b:1", 5)
    with pytest.raises(errors.NoGreaterRevision, match="revision 9 or beyond"):
        world.do(read(view), timeout=60.0)
    assert len([each for each in world.requests("Range") if b"k" in each.messages[0]]) == 1 + MAX_VIOLATIONS


def test_the_deadline_holds():
    world, view = World("a:1"), ordering()
    at(world, "a:1", 9)
    world.do(read(view))
    at(world, "a:1", 4)
    with pytest.raises(errors.DeadlineExceeded):
        world.do(read(view), timeout=0.3)


def test_a_write_is_never_repeated_for_its_revision():
    world, view = World("a:1"), ordering()
    at(world, "a:1", 9)
    world.do(read(view))
    world.do(view.run(kv.put(b"k", b"v")))  # answered at revision 7
    assert len(world.requests("Put")) == 1


def test_what_has_no_revision_is_left_alone():
    world, view = World("a:1"), ordering()
    at(world, "a:1", 9)
    world.do(read(view))
    world.do(view.run(members.list_all()))
    assert view.revision == 9


def test_in_a_namespace_the_key_is_prefixed_once():
    world, view = World("a:1"), ordering()
    at(world, "a:1", 9)
    inside = Namespace("app/")
    world.do(inside.run(read(view)))
    at(world, "a:1", 4)
    run = world.run(inside.run(read(view)))
    world.advance(0.2)
    assert not run.done
    asked = [messages.RangeRequest.FromString(each.messages[0]).key for each in world.requests("Range")]
    assert set(asked) <= {b"app/k", b"\0"}
