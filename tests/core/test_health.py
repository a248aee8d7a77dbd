# SPDX-License-Identifier: Apache-2.0
"""Members that tell whether they serve, as the h2 package and `purecd.core.channel` make it of them."""

from __future__ import annotations

import pytest

from purecd.core import kv
from purecd.pb import messages
from tests.support.h2peer import CANCEL
from tests.support.steps import World, refusal, refusing

SERVING, NOT_SERVING = 1, 2
MAX_CONCURRENT_STREAMS = 3


def reply(status):
    return messages.HealthCheckResponse(status=status).SerializeToString()


def healthy(world):
    """Have all members say first that they serve."""

    def say(peer, request):
        assert request.headers[":path"] == "/grpc.health.v1.Health/Watch"
        peer.begin(request)
        peer.message(request, reply(SERVING))

    for member in world.members.values():
        member.answers["Watch"] = say


def checking(*endpoints, **options):
    world = World(*endpoints, health_check=True, **options)
    healthy(world)
    world.do(kv.get("k"))
    return world


def tell(world, status, name="a:1"):
    peer = world.peer(name)
    peer.message(world.requests("Watch", name)[-1], status if isinstance(status, bytes) else reply(status))
    world.settle()


def test_the_next_calls_go_elsewhere_when_a_member_does_not_serve():
    world = checking("a:1", "b:1")
    (request,) = world.requests("Watch", "a:1")
    assert (request.messages, request.ended) == ([b""], True)
    world.members["a:1"].silent |= {"Put", "Range"}
    tell(world, NOT_SERVING)
    for _ in range(3):
        world.run(kv.put("k", "v")).value()
    assert world.current().name == "b:1"
    assert ("turn", "a:1", "says that it does not serve") in world.notes
    assert world.open_links() == ["b:1"], "the stream keeps no link that drains"
    assert len(world.requests("Watch", "b:1")) == 1


def test_calls_in_flight_stay_and_are_answered():
    world = checking("a:1", "b:1")
    world.members["a:1"].silent.add("Put")
    run = world.run(kv.put("k", "v"))
    tell(world, NOT_SERVING)
    assert world.requests("Watch", "a:1")[0].reset == CANCEL
    assert world.open_links() == ["a:1", "b:1"]
    (put,) = world.requests("Put")
    world.peer("a:1").ok(put, world.members["a:1"].reply(put))
    world.settle()
    run.value()
    assert world.open_links() == ["b:1"]


@pytest.mark.parametrize("others", [{"refused"}, {"unreachable"}])
def test_where_no_other_member_is_to_be_had_the_member_is_used_on(others):
    world = checking("a:1", "b:1")
    for each in others:
        getattr(world, each).add("b:1")
    tell(world, NOT_SERVING)
    world.do(kv.get("k"))
    assert world.current().name == "a:1"


def test_a_member_that_serves_again_before_another_was_found_is_kept():
    world = checking("a:1", "b:1", dial_timeout=60.0)
    world.unreachable.add("b:1")
    tell(world, NOT_SERVING)
    run = world.run(kv.get("k"))
    assert not run.done, "b:1 gets 250 ms"
    tell(world, SERVING)
    run.value()
    assert world.current().name == "a:1"


@pytest.mark.parametrize("ending", ["unimplemented", "learner", "reset", "garbage"])
def test_a_stream_that_tells_nothing_changes_nothing(ending):
    from purecd import errors

    world = World("a:1", "b:1", health_check=True)
    healthy(world)
    if ending == "unimplemented":
        world.members["a:1"].answers["Watch"] = refusal(12, "unknown service grpc.health.v1.Health")
    elif ending == "learner":
        world.members["a:1"].answers["Watch"] = refusing(errors.NotSupportedForLearner)
    world.do(kv.get("k"))
    if ending == "reset":
        world.peer("a:1").reset(world.requests("Watch", "a:1")[0], 2)
    elif ending == "garbage":
        tell(world, b"\xff")
    world.settle()
    world.advance(30.0)
    world.do(kv.get("k"))
    assert world.current().name == "a:1"
    assert world.link("a:1").usable
    assert len(world.requests("Watch", "a:1")) == 1
    world.channel.close(world.now)
    world.settle()


def test_it_is_asked_for_only_where_it_can_help():
    alone = World("a:1", health_check=True)
    alone.do(kv.get("k"))
    unasked = World("a:1", "b:1")
    unasked.do(kv.get("k"))
    narrow = World("a:1", "b:1", health_check=True)
    narrow.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 3}
    narrow.do(kv.get("k"))
    for world in (alone, unasked, narrow):
        assert world.requests("Watch") == []
