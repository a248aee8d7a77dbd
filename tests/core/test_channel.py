# SPDX-License-Identifier: Apache-2.0
"""Calls, streamed replies, greetings and tokens on the links of one channel.

What becomes of single calls is in test_outcomes, how links come and go in test_links.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from purecd import errors
from purecd.core import kv, methods
from purecd.core.op import Call, Refresh
from purecd.core.serverstream import ServerStream
from purecd.core.streaming import next_message, open_stream
from purecd.pb import messages
from tests.support.h2peer import CANCEL, H2Peer, Request
from tests.support.steps import CLUSTER_ID, Member, Run, World, is_greeting, refusal, refusing

MAX_CONCURRENT_STREAMS = 3
PASSWORD = {"user": "root", "password": "s3cret"}


def used(*endpoints: str, **options: Any) -> World:
    """A world whose channel has been of use for a while."""
    world = World(*endpoints, **options)
    world.do(kv.get("k"))
    world.advance(5.0)
    return world


def answer(world: World, request: Request, endpoint: str = "a:1") -> None:
    """Answer a request that its member was silent about."""
    world.peer(endpoint).ok(request, world.members[endpoint].reply(request))
    world.settle()


# Calls in line.


def test_no_more_calls_at_once_than_the_server_takes():
    world = World()
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 2}
    world.members["a:1"].silent.add("Put")
    runs = [world.run(kv.put("k", str(number))) for number in range(10)]
    # The peer would break the connection at a third stream.
    for answered in range(10):
        requests = world.requests("Put")
        assert len(requests) == min(answered + 2, 10)
        answer(world, requests[answered])
        assert runs[answered].done
    order = [messages.PutRequest.FromString(each.messages[0]).value for each in world.requests("Put")]
    assert order == [b"%d" % number for number in range(10)], "first come, first served"
    assert len(world.dialled) == 1


def full(world: World) -> tuple[Run, Run]:
    """A call that takes the only stream of a server, and one that waits for it."""
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    world.members["a:1"].silent.add("Put")
    return world.run(kv.put("k", "1"), timeout=0.3), world.run(kv.get("k"))


def test_a_call_that_expires_makes_room():
    world = World()
    _, waiting = full(world)
    world.peer().ping()
    world.advance(0.3)
    assert waiting.done


def test_a_call_that_is_given_up_makes_room():
    world = World()
    early, waiting = full(world)
    world.channel.abandon(early.calls[0], world.now)
    world.settle()
    assert waiting.done


def test_a_call_in_line_can_be_given_up():
    world = World()
    early, waiting = full(world)
    world.channel.abandon(waiting.calls[0], world.now)
    world.settle()
    with pytest.raises(errors.Canceled):
        waiting.value()
    answer(world, world.requests("Put")[0])
    assert early.done
    assert world.requests("Range") == []


def test_a_call_in_line_expires():
    world = World()
    _, waiting = full(world)
    world.runs[0].deadline = None
    waiting.deadline = waiting.calls[0].deadline = world.now + 0.5
    world.advance(0.5)
    with pytest.raises(errors.DeadlineExceeded, match=r"the call could not be sent after 0\.5 s"):
        waiting.value()


def test_the_timeout_that_is_left_goes_with_the_request():
    world = World()
    world.refused.add("a:1")
    world.run(kv.put("k", "v"), timeout=3.0)
    world.advance(0.05)
    world.refused.clear()
    world.advance(1.0)
    (request,) = world.requests("Put")
    assert request.headers["grpc-timeout"] == "2900000u"


def test_without_a_timeout_none_goes_with_the_request():
    world = used()
    world.run(kv.put("k", "v"), timeout=None)
    assert "grpc-timeout" not in world.requests("Put")[0].headers


@pytest.mark.parametrize(("option", "argument"), [(True, False), (False, True), (False, False)])
def test_a_leader_is_required_of_the_member(option, argument):
    world = used(require_leader=option)
    call = Call(methods.PUT, None, require_leader=argument, metadata=((b"x", b"y"),))
    world.channel.start(call, world.now)
    world.settle()
    headers = world.peer().requests[-1].headers
    assert headers.get("hasleader") == ("true" if option or argument else None)
    assert headers["x"] == "y"


def test_what_ended_is_ready_once():
    world = used()
    world.members["a:1"].silent.add("Put")
    call = Call(methods.PUT, None)
    call.data = b"\x0a\x01k"
    world.channel.start(call, world.now)
    link, peer = world.link(), world.peer()
    peer.receive(link.data_to_send())
    peer.ok(peer.requests[-1], world.members["a:1"].reply(peer.requests[-1]))
    world.channel.link_received(link, peer.data_to_send(), world.now)
    assert world.channel.ready == [call]
    world.channel.expire(call, world.now)
    world.channel.abandon(call, world.now)
    assert world.channel.ready == [call]
    assert call.error is None


def test_a_late_answer_of_the_server_about_a_short_deadline_accuses_nobody():
    world = used("a:1", "b:1")
    world.members["a:1"].answers["Put"] = refusal(4, "context deadline exceeded")
    run = world.run(kv.put("k", "v"), timeout=0.1)
    with pytest.raises(errors.DeadlineExceeded):
        run.value()
    assert world.link("a:1").usable
    assert len(world.dialled) == 1


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
    tokens(world)
    world.do(kv.get("k"))
    world.members["b:1"].cluster_id = 0xBAD
    world.refused.add("a:1")
    world.advance(5.0)
    world.cut("a:1")
    world.run(kv.put("k", "v"), timeout=3.0)
    world.advance(3.0)
    assert world.requests("Put") == []


# Passwords.


def tokens(world: World, name: str = "t") -> list[str]:
    """Have the members hand out tokens t1, t2, …; the tokens so far."""
    given: list[str] = []

    def authenticate(member: Member) -> Any:
        def give(peer: H2Peer, request: Request) -> None:
            given.append(f"{name}{len(given) + 1}")
            peer.ok(request, member.reply(request, token=given[-1]))

        return give

    for member in world.members.values():
        member.answers["Authenticate"] = authenticate(member)
    return given


def test_a_link_logs_in_before_it_takes_calls():
    world = World("a:1", "b:1", **PASSWORD)
    tokens(world)
    world.do(kv.put("k", "v"))
    assert [each.name for each in world.peer("a:1").requests] == ["Authenticate", "Put"]
    login, put = world.peer("a:1").requests
    asked = messages.AuthenticateRequest.FromString(login.messages[0])
    assert (asked.name, asked.password) == ("root", "s3cret")
    assert "token" not in login.headers
    assert put.headers["token"] == "t1"


def test_each_link_has_a_token_of_its_own():
    world = World("a:1", "b:1", **PASSWORD)
    tokens(world)
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
    tokens(world)
    world.do(kv.put("k", "v"))


@pytest.mark.parametrize(
    "error", [errors.Timeout, errors.DeadlineExceeded, errors.TooManyRequests, errors.NoLeader]
)
def test_a_member_that_cannot_log_in_at_the_moment_is_used_with_the_last_token(error):
    world = World(**PASSWORD)
    tokens(world)
    world.do(kv.get("k"))
    world.advance(5.0)
    world.cut()
    world.members["a:1"].answers["Authenticate"] = refusing(error)
    world.do(kv.get("k"))
    assert [each.headers["token"] for each in world.requests("Range")] == ["t1", "t1"]


def test_a_member_that_cannot_log_in_is_left_for_one_that_can():
    world = World("a:1", "b:1", **PASSWORD)
    tokens(world)
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
    tokens(world)
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
    tokens(world)
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
    tokens(world)
    world.cut()
    run.value()


def test_a_refresh_goes_on_while_its_link_drains():
    world = logged_in()
    world.members["a:1"].answers["Authenticate"] = lambda peer, request: None
    (run,) = reject(world, 1)
    old = world.peer()
    tokens(world)
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


def test_closing_ends_every_call_with_the_truth_about_it():
    world = used()
    world.members["a:1"].silent |= {"Put", "Range"}
    put, get = world.run(kv.put("k", "v")), world.run(kv.get("k"))
    world.capacity["a:1"] = 20
    cut_short = world.run(kv.put("k", "v"))
    peer = world.peer()
    world.channel.close(world.now)
    world.settle()
    for run, maybe_applied in ((put, True), (get, False), (cut_short, False)):
        with pytest.raises(errors.ClientClosed) as caught:
            run.value()
        assert caught.value.maybe_applied is maybe_applied
        assert caught.value.endpoint == "a:1"
    assert peer is not None
    assert world.channel.links == []
    assert world.channel.next_timer() is None


def test_closing_ends_calls_in_line_and_dialling():
    world = World("a:1", "b:1")
    world.unreachable |= {"a:1", "b:1"}
    run = world.run(kv.put("k", "v"))
    world.advance(0.25)
    world.channel.close(world.now)
    world.settle()
    with pytest.raises(errors.ClientClosed) as caught:
        run.value()
    assert not caught.value.maybe_applied
    world.advance(60.0)
    assert len(world.dialled) == 2
    assert world.open_links() == []


def test_closing_says_goodbye():
    world = used()
    peer = world.peer()
    world.channel.close(world.now)
    world.channel.close(world.now)
    world.settle()
    assert peer.goaway == 0


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


# Streamed replies.


def streaming(world: World, *chunks: bytes, end: bool = False) -> None:
    """Have the snapshot answered by these chunks."""

    def snapshot(peer: H2Peer, request: Request) -> None:
        peer.begin(request)
        for chunk in chunks:
            peer.message(request, messages.SnapshotResponse(blob=chunk).SerializeToString())
        if end:
            peer.end(request)

    world.members["a:1"].answers["Snapshot"] = snapshot


def snapshot(world: World) -> Run:
    return world.run(open_stream(methods.SNAPSHOT, messages.SnapshotRequest()))


def blob(run: Run) -> bytes:
    found: bytes = run.value().blob
    return found


def test_a_streamed_reply_is_read_to_its_end():
    world = World()
    streaming(world, b"1", b"2", end=True)
    stream, first = snapshot(world).value()
    assert first.blob == b"1"
    assert blob(world.run(next_message(stream))) == b"2"
    assert world.run(next_message(stream)).value() is None
    assert world.run(next_message(stream)).value() is None


def test_the_window_opens_only_as_messages_are_taken():
    world = World()
    chunk = bytes(400_000)
    streaming(world, chunk, chunk)
    stream, _ = snapshot(world).value()
    request = world.requests("Snapshot")[0]
    peer = world.peer()
    assert stream.inbox
    left = peer.window(request)
    assert left < 300_000
    world.advance(1.0)
    assert peer.window(request) == left
    world.run(next_message(stream))
    assert peer.window(request) > 2 * len(chunk)


def test_a_message_over_the_window_is_let_in():
    world = World()
    streaming(world, b"first")
    stream, _ = snapshot(world).value()
    peer, request = world.peer(), world.requests("Snapshot")[0]
    payload = messages.SnapshotResponse(blob=bytes(3 << 20)).SerializeToString()
    framed = b"\0" + len(payload).to_bytes(4, "big") + payload
    run = world.run(next_message(stream))
    while framed:
        size = min(peer.window(request), 16_384)
        assert size, "the window stays shut"
        peer._conn.send_data(request.stream_id, framed[:size])
        framed = framed[size:]
        world.settle()
    assert len(blob(run)) == 3 << 20


def test_a_streamed_reply_that_breaks_off_is_an_error_after_what_came():
    world = World()
    streaming(world, b"1", b"2")
    stream, _ = snapshot(world).value()
    world.cut()
    assert blob(world.run(next_message(stream))) == b"2"
    with pytest.raises(errors.Unavailable) as caught:
        world.run(next_message(stream)).value()
    assert (caught.value.endpoint, caught.value.maybe_applied) == ("a:1", False)


def test_a_streamed_reply_can_be_left():
    world = World()
    streaming(world, b"1", b"2")
    stream, _ = snapshot(world).value()
    world.channel.detach(stream, world.now)
    world.settle()
    assert world.requests("Snapshot")[0].reset == CANCEL
    assert stream.closed
    world.channel.detach(stream, world.now)


def test_a_streamed_reply_is_asked_for_elsewhere_when_a_member_refuses():
    world = World("a:1", "b:1")
    for member in world.members.values():
        member.answers["Snapshot"] = refusing(errors.NotSupportedForLearner)
    world.do(kv.get("k"))
    streaming(world, b"1")
    world.members["b:1"].answers["Snapshot"] = world.members["a:1"].answers["Snapshot"]
    world.members["a:1"].answers["Snapshot"] = refusing(errors.NotSupportedForLearner)
    _, first = world.do(open_stream(methods.SNAPSHOT, messages.SnapshotRequest()))
    assert first.blob == b"1"
    assert world.open_links() == ["b:1"]


def test_a_streamed_reply_waits_for_a_link_and_can_be_left_there():
    world = World()
    world.unreachable.add("a:1")
    stream = ServerStream(methods.SNAPSHOT, messages.SnapshotRequest())
    world.channel.attach(stream, world.now)
    assert not stream.closed
    world.channel.detach(stream, world.now)
    assert type(stream.error) is errors.Canceled


def test_a_streamed_reply_of_a_closed_client():
    world = used()
    world.members["a:1"].silent.add("Snapshot")
    waiting = snapshot(world)
    world.channel.close(world.now)
    world.settle()
    for run in (waiting, snapshot(world)):
        with pytest.raises(errors.ClientClosed):
            run.value()


# Secrets.


@pytest.fixture
def client_log(caplog, monkeypatch):
    """Everything that the client's side logs, at the lowest level; the peer's hpack logs as well."""
    receive = H2Peer.receive

    def quietly(peer: H2Peer, data: bytes) -> None:
        logging.disable(logging.CRITICAL)
        try:
            receive(peer, data)
        finally:
            logging.disable(logging.NOTSET)

    monkeypatch.setattr(H2Peer, "receive", quietly)
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.mark.parametrize("options", [PASSWORD, {"token": "jwt-of-mine"}])
def test_secrets_are_shown_nowhere(client_log, options):
    world = World("a:1", "b:1", **options)
    given = tokens(world, "simple-token-")
    world.do(kv.put("k", "v"))
    world.members["a:1"].once["Range"] = [refusing(errors.InvalidAuthToken)]
    runs = [world.run(kv.get("k"))]
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthFailed)
    world.members["a:1"].answers["Range"] = refusing(errors.InvalidAuthToken)
    runs.append(world.run(kv.get("k")))
    link = world.link()
    world.cut()
    world.advance(1.0)
    channel = world.channel
    shown = [client_log.text, repr(world.notes)]
    for thing in (world.options, channel, channel.tokens, channel.endpoints, link, link.conn, link.headers):
        shown += [repr(thing), str(thing)]
    for run in runs:
        shown += [repr(call) for call in run.calls]
        error = run.error
        while error is not None:
            shown += [repr(error), str(error)]
            error = error.__cause__
    text = "\n".join(shown)
    assert "Decoded" in text, "hpack logs what the server sends"
    assert "etcdserver: invalid auth token" in text
    for secret in ("s3cret", "jwt-of-mine", "simple-token-", *given):
        assert secret not in text
