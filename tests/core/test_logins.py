# SPDX-License-Identifier: Apache-2.0
"""What links ask on their own account: greetings, and refreshes of tokens, on a whole channel."""

from __future__ import annotations

from typing import Any

import pytest

from purecd import errors
from purecd.core import kv, methods
from purecd.core.op import Call, Refresh
from purecd.pb import messages
from tests.support.h2peer import CANCEL
from tests.support.steps import (
    CLUSTER_ID,
    Member,
    Run,
    World,
    answer,
    hand_out_tokens,
    is_greeting,
    refusal,
    refusing,
    used,
)

MAX_CONCURRENT_STREAMS = 3
PASSWORD = {"user": "root", "password": "s3cret"}


# Greetings.


def test_a_link_asks_for_nothing_before_it_takes_calls():
    world = World()
    world.members["a:1"].silent.add("greeting")
    run = world.run(kv.put("k", "v"))
    (greeting,) = world.peer().requests
    assert is_greeting(greeting)
    assert "token" not in greeting.headers
    assert not run.done
    answer(world, greeting)
    run.value()


@pytest.mark.parametrize("error", [errors.UserEmpty, errors.PermissionDenied, errors.NotSupportedForLearner])
def test_a_refused_greeting_only_leaves_the_cluster_unknown(error):
    world = World()
    world.members["a:1"].answers["greeting"] = refusing(error)
    world.do(kv.put("k", "v"))
    assert world.channel.tokens.cluster_id == 0


def test_an_undecodable_greeting_is_no_endpoint():
    world = World("a:1", "b:1")
    world.members["a:1"].answers["greeting"] = lambda peer, request: peer.ok(request, b"\xff\xff")
    world.run(kv.put("k", "v")).value()
    assert world.open_links() == ["b:1"]
    assert world.requests("Put", "a:1") == []


def test_a_member_of_another_cluster_gets_no_request():
    world = used("a:1", "b:1")
    assert world.channel.tokens.cluster_id == CLUSTER_ID
    world.members["b:1"].cluster_id = 0xBAD
    world.refused.add("a:1")
    world.cut("a:1")
    run = world.run(kv.put("k", "v"), timeout=3.0)
    world.advance(3.0)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        run.value()
    assert "b:1 belongs to cluster bad, not c1" in str(caught.value) or "refused" in str(caught.value)
    assert ("closed", "b:1", "endpoint b:1 belongs to cluster bad, not c1") in world.notes
    assert world.requests("Put") == []
    world.refused.clear()
    world.do(kv.put("k", "v"), timeout=None)
    assert world.open_links() == ["a:1"]


def test_a_member_of_another_cluster_gives_no_token():
    world = World("a:1", "b:1", **PASSWORD)
    hand_out_tokens(world)
    world.do(kv.get("k"))
    world.members["b:1"].cluster_id = 0xBAD
    world.refused.add("a:1")
    world.advance(5.0)
    world.cut("a:1")
    world.run(kv.put("k", "v"), timeout=3.0)
    world.advance(3.0)
    assert world.requests("Put") == []


# Passwords.


def test_a_link_logs_in_before_it_takes_calls():
    world = World("a:1", "b:1", **PASSWORD)
    hand_out_tokens(world)
    world.do(kv.put("k", "v"))
    assert [each.name for each in world.peer("a:1").requests] == ["Authenticate", "Put"]
    login, put = world.peer("a:1").requests
    asked = messages.AuthenticateRequest.FromString(login.messages[0])
    assert (asked.name, asked.password) == ("root", "s3cret")
    assert "token" not in login.headers
    assert put.headers["token"] == "t1"


def test_each_link_has_a_token_of_its_own():
    world = World("a:1", "b:1", **PASSWORD)
    hand_out_tokens(world)
    world.do(kv.put("k", "v"))
    world.cut("a:1")
    world.do(kv.put("k", "v"))
    login = world.requests("Authenticate", "b:1")[0]
    assert "token" not in login.headers
    assert world.requests("Put", "b:1")[0].headers["token"] == "t2"


def test_where_authentication_is_off_no_token_is_sent():
    world = World(**PASSWORD)
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthNotEnabled)
    world.do(kv.put("k", "v"))
    names = [each.name for each in world.peer().requests]
    assert names == ["Authenticate", "Range", "Put"], "the cluster id is asked for without a login"
    assert all("token" not in each.headers for each in world.peer().requests)
    assert world.channel.tokens.cluster_id == CLUSTER_ID


def test_a_wrong_password_fails_those_who_wait_and_later_calls_try_again():
    world = World(**PASSWORD)
    world.unreachable.add("a:1")
    runs = [world.run(kv.put("k", "v")) for _ in range(3)]
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthFailed)
    world.unreachable.clear()
    world.advance(6.0)
    raised = []
    for run in runs:
        with pytest.raises(errors.AuthFailed) as caught:
            run.value()
        raised.append(caught.value)
        assert (caught.value.method, caught.value.endpoint) == ("/etcdserverpb.KV/Put", "a:1")
        assert not caught.value.maybe_applied
    assert len(set(map(id, raised))) == 3, "each call has an error of its own"
    assert ("auth-failed", "a:1", errors.AuthFailed.text) in world.notes
    world.advance(60.0)
    assert len(world.requests("Authenticate")) == 1, "without calls nobody tries again"
    hand_out_tokens(world)
    world.do(kv.put("k", "v"))


@pytest.mark.parametrize(
    "error", [errors.Timeout, errors.DeadlineExceeded, errors.TooManyRequests, errors.NoLeader]
)
def test_a_member_that_cannot_log_in_at_the_moment_is_used_with_the_last_token(error):
    world = World(**PASSWORD)
    hand_out_tokens(world)
    world.do(kv.get("k"))
    world.advance(5.0)
    world.cut()
    world.members["a:1"].answers["Authenticate"] = refusing(error)
    world.do(kv.get("k"))
    assert [each.headers["token"] for each in world.requests("Range")] == ["t1", "t1"]


def test_a_login_without_an_answer_leaves_the_last_token():
    # Without a quorum etcd answers Authenticate after 7 s, and serializable reads at once.
    world = World(dial_timeout=5.0, **PASSWORD)
    hand_out_tokens(world)
    world.do(kv.get("k"))
    world.advance(5.0)
    world.members["a:1"].silent.add("Authenticate")
    del world.members["a:1"].answers["Authenticate"]
    world.cut()
    run = world.run(kv.get("k", serializable=True), timeout=4.0)
    world.advance(0.1)
    world.peer().ping()
    world.advance(2.3)
    assert not run.done
    world.advance(0.2)
    run.value()
    assert [each.headers["token"] for each in world.requests("Range")] == ["t1", "t1"]
    assert world.requests("Authenticate")[-1].reset == CANCEL
    # A rejected token is replaced as ever.
    given = hand_out_tokens(world, "new")
    world.members["a:1"].once["Range"] = [refusing(errors.InvalidAuthToken)]
    world.do(kv.get("k"))
    assert given == ["new1"]


@pytest.mark.parametrize("why", ["no token so far", "no sign of life"])
def test_a_login_without_an_answer_is_waited_for_where_nothing_else_will_do(why):
    world = World(dial_timeout=5.0, **PASSWORD)
    if why == "no sign of life":
        hand_out_tokens(world)
        world.do(kv.get("k"))
        world.advance(5.0)
        del world.members["a:1"].answers["Authenticate"]
        world.cut()
    world.members["a:1"].silent.add("Authenticate")
    run = world.run(kv.get("k"), timeout=None)
    world.advance(0.1)
    if why == "no token so far":
        world.peer().ping()
    world.advance(4.8)
    assert not run.done
    dialled = len(world.dialled)
    assert world.requests("Authenticate")[-1].reset is None
    world.advance(0.5)
    assert len(world.dialled) > dialled, "the dial timeout is over"
    assert not run.done


def test_a_member_that_cannot_log_in_is_left_for_one_that_can():
    world = World("a:1", "b:1", **PASSWORD)
    hand_out_tokens(world)
    world.members["a:1"].answers["Authenticate"] = refusing(errors.Timeout)
    world.run(kv.put("k", "v")).value()
    assert world.requests("Put", "a:1") == []
    assert world.open_links() == ["b:1"]


def test_a_learner_that_cannot_log_in_still_answers_for_itself():
    world = World(**PASSWORD)
    world.members["a:1"].answers["Authenticate"] = refusing(errors.NotSupportedForLearner)
    call = Call(methods.STATUS, messages.StatusRequest())
    world.channel.start(call, world.now)
    world.settle()
    assert call.done
    assert call.error is None


# Refreshing tokens.


def reject(world: World, count: int, timeout: float = 10.0) -> list[Run]:
    """So many calls whose token is rejected, all of them sent before the first answer."""
    world.members["a:1"].silent.add("Range")
    runs = [world.run(kv.get("k"), timeout) for _ in range(count)]
    world.members["a:1"].silent.clear()
    for request in world.requests("Range")[-count:]:
        refusing(errors.InvalidAuthToken)(world.peer(), request)
    world.settle()
    return runs


def logged_in(**options: Any) -> World:
    world = World(**{**PASSWORD, **options})
    hand_out_tokens(world)
    world.do(kv.put("k", "v"))
    world.advance(5.0)
    return world


def test_one_refresh_serves_all_calls():
    world = logged_in()
    runs = reject(world, 64)
    assert all(run.value() for run in runs)
    assert len(world.requests("Authenticate")) == 2
    assert {each.headers["token"] for each in world.requests("Range")[64:]} == {"t2"}


def test_a_call_rejected_after_the_refresh_needs_none():
    world = logged_in()
    world.members["a:1"].silent.add("Range")
    early, late = world.run(kv.get("1")), world.run(kv.get("2"))
    world.members["a:1"].silent.clear()
    for request, run in zip(world.requests("Range"), (early, late)):
        refusing(errors.InvalidAuthToken)(world.peer(), request)
        world.settle()
        run.value()
    assert len(world.requests("Authenticate")) == 2


def test_refreshes_that_help_nobody_are_1_s_apart():
    world = logged_in()
    world.members["a:1"].answers["Range"] = refusing(errors.InvalidAuthToken)

    def authenticated_during(seconds: float) -> int:
        before = len(world.requests("Authenticate"))
        end = world.now + seconds
        while world.now < end:
            world.run(kv.get("k"), timeout=None)
            world.advance(0.05)
        return len(world.requests("Authenticate")) - before

    assert authenticated_during(0.5) == 3
    assert 9 <= authenticated_during(10.0) <= 11


def test_a_call_that_succeeds_makes_refreshes_free_again():
    world = logged_in()
    for _ in range(20):
        world.members["a:1"].once["Range"] = [refusing(errors.InvalidAuthToken)]
        world.run(kv.get("k")).value()
    assert len(world.requests("Authenticate")) == 21


def test_a_refresh_waits_for_a_stream():
    world = World(**PASSWORD)
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    hand_out_tokens(world)
    world.do(kv.put("k", "v"))
    world.members["a:1"].silent.add("Range")
    world.members["a:1"].silent.add("Put")
    get, put = world.run(kv.get("k")), world.run(kv.put("k", "v"))
    refusing(errors.InvalidAuthToken)(world.peer(), world.requests("Range")[0])
    world.settle()  # the stream goes to the put, which waited longer than the refresh
    world.members["a:1"].silent.clear()
    assert not get.done
    assert len(world.requests("Authenticate")) == 1
    answer(world, world.requests("Put")[1])
    put.value()
    get.value()
    assert len(world.requests("Authenticate")) == 2


def test_a_refused_refresh_is_raised_as_each_calls_own():
    world = logged_in()
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthFailed)
    raised = []
    for run in reject(world, 3):
        with pytest.raises(errors.AuthFailed) as caught:
            run.value()
        raised.append(caught.value)
        assert type(caught.value.__cause__) is errors.InvalidAuthToken
        assert caught.value.attempts == 1
        assert caught.value.method == "/etcdserverpb.Auth/Authenticate"
    assert len(set(map(id, raised))) == 3


@pytest.mark.parametrize("error", [errors.Timeout, errors.NoLeader, errors.TooManyRequests])
def test_a_refresh_that_fails_for_the_moment_does_not_count(error):
    world = logged_in()
    world.members["a:1"].answers["Range"] = lambda peer, request: (
        peer.ok(request, Member().reply(request))
        if request.headers["token"] == "t2"
        else refusing(errors.InvalidAuthToken)(peer, request)
    )
    world.members["a:1"].once["Authenticate"] = [refusing(error)] * 6
    run = world.run(kv.get("k"))
    world.advance(9.0)
    run.value()
    assert run.calls[-1].attempt == 8


def test_a_refresh_without_an_answer_ends_and_the_link_stays():
    world = logged_in(dial_timeout=2.0)
    world.members["a:1"].silent.add("Authenticate")
    world.members["a:1"].answers.pop("Authenticate")
    world.members["a:1"].answers["Range"] = refusing(errors.InvalidAuthToken)
    world.members["a:1"].silent.add("Put")
    other = world.run(kv.put("k", "v"))
    world.run(kv.get("k"))
    world.advance(1.999)
    login = world.requests("Authenticate")[-1]
    assert login.reset is None
    world.advance(0.001)
    assert login.reset == CANCEL
    assert not other.done
    assert len(world.dialled) == 1


def test_a_refresh_ends_with_its_link():
    world = logged_in()
    world.members["a:1"].answers["Authenticate"] = lambda peer, request: None
    (run,) = reject(world, 1)
    assert not run.done
    hand_out_tokens(world)
    world.cut()
    run.value()


def test_a_refresh_goes_on_while_its_link_drains():
    world = logged_in()
    world.members["a:1"].answers["Authenticate"] = lambda peer, request: None
    (run,) = reject(world, 1)
    old = world.peer()
    hand_out_tokens(world)
    old.say_goaway(2**31 - 1)
    world.settle()
    assert not run.done
    login = old.requests[-1]
    old.ok(login, Member().reply(login, token="late"))
    world.settle()
    run.value()


def test_a_refresh_that_was_put_off_ends_when_its_link_drains():
    world = logged_in()
    world.members["a:1"].answers["Range"] = refusing(errors.InvalidAuthToken)
    world.run(kv.get("k"), timeout=None)
    run = world.run(kv.get("k"), timeout=None)
    assert not run.done
    world.members["a:1"].answers.pop("Range")
    world.peer().say_goaway(2**31 - 1)
    world.settle()
    run.value()


def test_no_refresh_begins_on_a_link_that_drains():
    world = logged_in()
    world.members["a:1"].answers["Range"] = refusing(errors.InvalidAuthToken)
    world.run(kv.get("k"), timeout=None)
    put_off = world.run(kv.get("k"), timeout=None)
    world.members["a:1"].silent.add("Put")
    early = world.run(kv.put("k", "v"), timeout=None)
    world.members["a:1"].answers.pop("Range")
    link, old = world.link(), world.peer()
    old.say_goaway(2**31 - 1)
    world.settle()
    put_off.value()
    before = len(world.requests("Authenticate"))
    world.advance(3.0)
    assert not early.done
    assert (link.login, link.refresh_at) == (None, None)
    assert len(world.requests("Authenticate")) == before


def test_a_refresh_asked_for_on_a_link_that_is_gone_means_another_attempt():
    world = logged_in()
    world.members["a:1"].silent.add("Range")
    run = world.run(kv.get("k"))
    call = run.calls[0]
    world.cut()
    request = Refresh(call)
    world.channel.refresh(request, world.now)
    assert request.done
    assert request.again


# A token of the caller's.


def test_a_token_that_was_left_out_is_sent_again_when_authentication_is_back():
    world = World(token="jwt")
    world.members["a:1"].once["Authenticate"] = [refusing(errors.AuthNotEnabled)]
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthFailed)
    world.members["a:1"].once["Range"] = [refusing(errors.AuthOldRevision)]
    world.do(kv.get("k"))
    world.members["a:1"].once["Range"] = [refusing(errors.UserEmpty)]
    world.do(kv.get("k"))
    sent = [each.headers.get("token") for each in world.requests("Range")]
    assert sent == ["jwt", None, None, "jwt"]


def test_a_probe_that_fails_for_the_moment_is_repeated():
    world = World(token="jwt")
    world.members["a:1"].once["Authenticate"] = [refusing(errors.Timeout)]
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthNotEnabled)
    world.members["a:1"].once["Range"] = [refusing(errors.InvalidAuthToken)] * 2
    world.do(kv.get("k"))
    assert len(world.requests("Authenticate")) == 2


def test_a_probe_with_an_unknown_answer_is_raised():
    world = World(token="jwt")
    world.members["a:1"].answers["Authenticate"] = refusal(12, "unknown service")
    world.members["a:1"].answers["Range"] = refusing(errors.InvalidAuthToken)
    with pytest.raises(errors.RpcError, match="unknown service") as caught:
        world.run(kv.get("k")).value()
    assert type(caught.value.__cause__) is errors.InvalidAuthToken


# Closing.


def test_closing_during_a_refresh():
    world = logged_in()
    world.members["a:1"].answers["Authenticate"] = lambda peer, request: None
    runs = reject(world, 2)
    world.channel.close(world.now)
    world.settle()
    for run in runs:
        with pytest.raises(errors.ClientClosed):
            run.value()


def test_closing_during_a_greeting():
    world = World()
    world.members["a:1"].silent.add("greeting")
    run = world.run(kv.get("k"))
    world.channel.close(world.now)
    world.settle()
    with pytest.raises(errors.ClientClosed):
        run.value()
