# SPDX-License-Identifier: Apache-2.0
"""What becomes of a call in every situation: the failure table, row by row, on whole channels.

Each row is tried with a write, a read and a write that the caller calls idempotent. A row says which
error is raised, whether the request may have been applied, and how often its bytes went out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from purecd import errors
from purecd.core import kv
from tests.support.h2peer import CANCEL, ENHANCE_YOUR_CALM, REFUSED_STREAM
from tests.support.steps import Member, Run, World, refusal, refusing

WRITE, READ, IDEMPOTENT = "write", "read", "idempotent"
KINDS = (WRITE, READ, IDEMPOTENT)

MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4


def operation(kind: str, value: bytes = b"v") -> Any:
    if kind == READ:
        return kv.get("k")
    return kv.put("k", value, idempotent=kind == IDEMPOTENT)


def rpc(kind: str) -> str:
    return "Range" if kind == READ else "Put"


def sent(world: World, kind: str) -> int:
    """How many times the whole request went out."""
    return len(world.requests(rpc(kind)))


def connected(*endpoints: str, **options: Any) -> World:
    """A world whose channel is up and has been used."""
    world = World(*endpoints, **options)
    world.do(kv.delete("warm-up"))
    world.advance(5.0)  # a connection that ends young counts as a failed attempt
    return world


def raised(run: Run, kind: str) -> errors.EtcdError:
    """The error of a run, which names the call."""
    with pytest.raises(errors.EtcdError) as caught:
        run.value()
    assert caught.value.method == f"/etcdserverpb.KV/{rpc(kind)}"
    return caught.value


class Outcome(NamedTuple):
    """What a kind of call meets: None for success on the second attempt."""

    error: type[errors.EtcdError] | None
    maybe_applied: bool = False


AGAIN = Outcome(None)


def check(world: World, run: Run, kind: str, outcome: Outcome) -> None:
    """The outcome of a call whose first attempt went out whole."""
    if outcome.error is None:
        assert run.value().header.revision == 7
        assert sent(world, kind) == 2
        return
    error = raised(run, kind)
    assert type(error) is outcome.error
    assert error.maybe_applied is outcome.maybe_applied
    assert error.attempts == 1
    assert error.endpoint == "a:1"
    assert sent(world, kind) == 1


def ambiguous(error: type[errors.EtcdError]) -> dict[str, Outcome]:
    """A: raised for a write; a read and an idempotent write are sent again."""
    return {WRITE: Outcome(error, True), READ: AGAIN, IDEMPOTENT: AGAIN}


def unknown(error: type[errors.EtcdError]) -> dict[str, Outcome]:
    """A, and another attempt is not expected to fare better: raised for all."""
    return {WRITE: Outcome(error, True), READ: Outcome(error), IDEMPOTENT: Outcome(error, True)}


def refused(error: type[errors.EtcdError]) -> dict[str, Outcome]:
    """D: certainly not applied, and raised for all."""
    return dict.fromkeys(KINDS, Outcome(error))


NOT_APPLIED = dict.fromkeys(KINDS, AGAIN)
"""N: certainly not applied, and sent again for all."""


# E1: nothing was ever sent.


@pytest.mark.parametrize("kind", KINDS)
def test_e1_a_call_waits_for_an_endpoint_that_is_away(kind):
    world = World()
    world.refused.add("a:1")
    run = world.run(operation(kind))
    world.advance(1.0)
    assert not run.done
    world.refused.clear()
    world.advance(1.0)
    run.value()
    assert sent(world, kind) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_e1_the_deadline_passes_with_no_endpoint_reached(kind):
    world = World()
    world.refused.add("a:1")
    run = world.run(operation(kind), timeout=3.0)
    world.advance(2.999)
    assert not run.done
    world.advance(0.001)
    error = raised(run, kind)
    assert type(error) is errors.DeadlineExceeded
    assert not error.maybe_applied
    assert "Connection refused" in str(error)
    assert type(error.__cause__) is errors.Unavailable


@pytest.mark.parametrize("kind", KINDS)
def test_e1_every_endpoint_fails_and_the_caller_does_not_want_to_wait(kind):
    world = World("a:1", "b:1", fail_fast=True)
    world.refused |= {"a:1", "b:1"}
    run = world.run(operation(kind))
    error = raised(run, kind)
    assert type(error) is errors.Unavailable
    assert not error.maybe_applied
    assert world.now == 1000.0
    assert [each for _, each in world.dialled] == ["a:1", "b:1"]


def test_e1_a_tls_failure_is_raised_as_such_to_who_does_not_want_to_wait():
    world = World("https://a:1", fail_fast=True)
    world.unreachable.add("https://a:1")
    run = world.run(operation(WRITE))
    (link,) = world.channel.links
    world.channel.link_opened(link, world.now)
    world.channel.link_received(link, b"HTTP/1.1 400 Bad Request\r\n\r\n", world.now)
    world.settle()
    error = raised(run, WRITE)
    assert type(error) is errors.TlsError
    assert not error.maybe_applied


@pytest.mark.parametrize("kind", KINDS)
def test_e1_the_deadline_passed_before_the_call_could_be_sent(kind):
    world = connected()
    error = raised(world.run(operation(kind), timeout=0.0), kind)
    assert type(error) is errors.DeadlineExceeded
    assert not error.maybe_applied
    assert sent(world, kind) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_e1_the_client_is_closed(kind):
    world = connected()
    world.channel.close(world.now)
    error = raised(world.run(operation(kind)), kind)
    assert type(error) is errors.ClientClosed
    assert not error.maybe_applied
    assert sent(world, kind) == 0


@pytest.mark.parametrize("kind", [WRITE, IDEMPOTENT])
def test_e1_the_message_is_over_the_limit(kind):
    world = connected(max_send_size=100)
    error = raised(world.run(operation(kind, b"v" * 100)), kind)
    assert type(error) is errors.MessageTooLarge
    assert not error.maybe_applied
    assert error.code == errors.StatusCode.RESOURCE_EXHAUSTED
    assert sent(world, kind) == 0


# E2 and E6: the connection ends before or after the last byte of the message left.


def request_size(kind: str, timeout: float = 10.0) -> int:
    """Octets of one request on the wire."""
    world = connected()
    world.capacity["a:1"] = 10_000
    world.run(operation(kind), timeout)
    return 10_000 - world.capacity["a:1"]


@pytest.mark.parametrize("kind", KINDS)
def test_e2_and_e6_at_every_byte_of_the_request(kind):
    size = request_size(kind)
    assert size > 50
    for taken in range(size + 1):
        world = connected()
        world.members["a:1"].silent.add(rpc(kind))
        world.capacity["a:1"] = taken
        run = world.run(operation(kind))
        assert not run.done
        world.members["a:1"].silent.clear()
        del world.capacity["a:1"]
        world.cut()
        if taken < size:
            run.value()
            assert sent(world, kind) == 1, f"cut after {taken} of {size} octets"
        else:
            check(world, run, kind, ambiguous(errors.Unavailable)[kind])


@pytest.mark.parametrize("kind", [WRITE, IDEMPOTENT])
def test_e2_the_server_did_not_let_all_of_the_message_out(kind):
    world = World()
    world.settings["a:1"] = {INITIAL_WINDOW_SIZE: 1000}
    world.do(kv.delete("warm-up"))
    world.advance(5.0)
    world.peer().generous = False
    run = world.run(operation(kind, b"v" * 5000))
    assert len(world.peer().requests[-1].body) == 1000
    world.cut()
    run.value()
    assert sent(world, kind) == 1
    assert not run.calls[0].error.maybe_applied


@pytest.mark.parametrize("kind", KINDS)
def test_e6_no_answer_to_a_ping(kind):
    world = connected(keepalive_time=10.0, keepalive_timeout=3.0)
    world.members["a:1"].silent.add(rpc(kind))
    run = world.run(operation(kind), timeout=60.0)
    world.members["a:1"].silent.clear()
    world.frozen.add("a:1")
    world.advance(7.999)  # 5 s of silence have passed already
    assert not run.calls[0].done
    world.advance(0.001)
    assert "no answer to a PING within 3 s" in str(run.calls[0].error)
    world.frozen.clear()
    world.advance(10.0)
    check(world, run, kind, ambiguous(errors.Unavailable)[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_e6_goaway_accepts_the_call_but_the_connection_ends(kind):
    world = connected()
    world.members["a:1"].silent.add(rpc(kind))
    run = world.run(operation(kind))
    world.members["a:1"].silent.clear()
    world.peer().say_goaway(2**31 - 1, debug=b"graceful_stop")
    world.settle()
    world.peer().say_goaway(world.peer().requests[-1].stream_id)
    world.settle()
    assert not run.done
    world.cut()
    check(world, run, kind, ambiguous(errors.Unavailable)[kind])


# E3 to E5: the server says that it did not process the call.


@pytest.mark.parametrize("kind", KINDS)
def test_e3_a_refused_stream_is_tried_again_at_once_then_after_pauses(kind):
    world = connected()
    refuse = [lambda peer, request: peer.reset(request, REFUSED_STREAM)]
    world.members["a:1"].once[rpc(kind)] = refuse * 4
    run = world.run(operation(kind))
    assert sent(world, kind) == 2
    assert run.sleeps == [0.025]
    world.advance(1.0)
    run.value()
    assert sent(world, kind) == 5
    assert run.sleeps == [0.025, 0.04, 0.064]


@pytest.mark.parametrize("kind", KINDS)
def test_e3_refused_after_a_response_began_says_nothing(kind):
    world = connected()

    def begin_and_refuse(peer, request):
        peer.begin(request)
        peer.reset(request, REFUSED_STREAM)

    world.members["a:1"].once[rpc(kind)] = [begin_and_refuse]
    run = world.run(operation(kind))
    check(world, run, kind, ambiguous(errors.Unavailable)[kind])


@pytest.mark.parametrize("code", [0, 2, ENHANCE_YOUR_CALM])
@pytest.mark.parametrize("kind", KINDS)
def test_e4_a_call_above_the_last_stream_goes_to_a_new_connection(kind, code):
    world = connected()
    before = world.link()
    world.members["a:1"].once[rpc(kind)] = [
        lambda peer, request: peer.say_goaway(request.stream_id - 2, code, b"going")
    ]
    run = world.run(operation(kind))
    run.value()
    assert run.sleeps == []
    assert sent(world, kind) == 2
    assert not run.calls[0].error.maybe_applied
    assert world.link() is not before
    assert world.open_links() == ["a:1"]


@pytest.mark.parametrize("kind", KINDS)
def test_e5_a_connection_refused_from_the_first_stream_on_makes_no_loop(kind):
    world = World()
    world.members["a:1"].answers["greeting"] = lambda peer, request: peer.say_goaway(
        0, ENHANCE_YOUR_CALM, b"go away"
    )
    run = world.run(operation(kind), timeout=10.0)
    world.advance(10.0)
    error = raised(run, kind)
    assert type(error) is errors.DeadlineExceeded
    assert not error.maybe_applied
    assert "go away" in str(error)
    assert sent(world, kind) == 0
    assert len(world.dialled) <= 20, "about one a second"


# E7: the stream ends without a status.


def reset_with(code):
    return lambda peer, request: peer.reset(request, code)


def reset_after_headers(code):
    def answer(peer, request):
        peer.begin(request)
        peer.reset(request, code)

    return answer


def reset_after_message(code):
    def answer(peer, request):
        peer.begin(request)
        peer.message(request, Member().reply(request))
        peer.reset(request, code)

    return answer


def no_trailers(peer, request):
    peer.begin(request)
    peer.message(request, Member().reply(request))
    peer._conn.end_stream(request.stream_id)


E7 = [
    (reset_with(0), ambiguous(errors.RpcError)),
    (reset_with(1), ambiguous(errors.RpcError)),
    (reset_with(2), ambiguous(errors.RpcError)),
    (reset_with(CANCEL), ambiguous(errors.Canceled)),
    (reset_with(ENHANCE_YOUR_CALM), unknown(errors.RpcError)),
    (reset_with(0x7777), unknown(errors.RpcError)),
    (reset_after_headers(0), ambiguous(errors.RpcError)),
    (reset_after_headers(CANCEL), ambiguous(errors.Canceled)),
    (reset_after_message(0), ambiguous(errors.RpcError)),
    (reset_after_message(CANCEL), ambiguous(errors.Canceled)),
    (no_trailers, unknown(errors.ProtocolError)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("answer", "outcomes"), E7)
def test_e7_a_stream_that_ends_without_a_status(kind, answer, outcomes):
    world = connected()
    world.members["a:1"].once[rpc(kind)] = [answer]
    run = world.run(operation(kind))
    check(world, run, kind, outcomes[kind])
    assert len(world.dialled) == 1


@pytest.mark.parametrize("kind", [READ, IDEMPOTENT])
def test_e7_a_stream_that_is_reset_again_and_again_ends_in_an_error(kind):
    world = connected()
    world.members["a:1"].answers[rpc(kind)] = reset_with(2)
    with pytest.raises(errors.RpcError, match="RST_STREAM") as caught:
        world.do(operation(kind))
    assert caught.value.code is errors.StatusCode.INTERNAL
    assert (caught.value.attempts, sent(world, kind)) == (6, 6)
    assert caught.value.maybe_applied is (kind == IDEMPOTENT)


def test_e7_a_stream_reset_before_all_of_the_message_left_was_not_applied():
    world = connected()
    world.peer().generous = False
    run = world.run(operation(WRITE, b"v" * 100_000))
    request = world.peer().requests[-1]
    assert not request.messages
    world.peer().reset(request, 2)
    world.settle()
    error = raised(run, WRITE)
    assert not error.maybe_applied


# E8: the caller's deadline, or the caller gives up.


@pytest.mark.parametrize("kind", KINDS)
def test_e8_the_deadline_passes_after_the_message_left(kind):
    world = connected()
    world.members["a:1"].silent.add(rpc(kind))
    run = world.run(operation(kind), timeout=2.0)
    world.advance(2.0)
    error = raised(run, kind)
    assert type(error) is errors.DeadlineExceeded
    assert error.maybe_applied is (kind != READ)
    assert (error.attempts, error.endpoint, sent(world, kind)) == (1, "a:1", 1)
    (request,) = world.requests(rpc(kind))
    assert request.reset == CANCEL


@pytest.mark.parametrize("kind", KINDS)
def test_e8_the_server_was_quicker_to_see_that_the_deadline_has_passed(kind):
    # grpc-go: its own timer of grpc-timeout resets the stream with CANCEL.
    world = connected()
    world.members["a:1"].silent.add(rpc(kind))
    run = world.run(operation(kind), timeout=2.0)
    world.now += 2.001  # the front is late to look
    world.peer().reset(world.requests(rpc(kind))[0], CANCEL)
    world.settle()
    check(world, run, kind, unknown(errors.DeadlineExceeded)[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [1, 10])
def test_e8_the_deadline_passes_while_it_leaves(kind, missing):
    # What is queued cannot be taken back: the server gets it whole, and executes it perhaps, before
    # it sees the reset behind it.
    world = connected()
    world.capacity["a:1"] = request_size(kind, timeout=2.0) - missing
    run = world.run(operation(kind), timeout=2.0)
    world.advance(2.0)
    error = raised(run, kind)
    assert type(error) is errors.DeadlineExceeded
    assert error.maybe_applied is (kind != READ)
    assert (error.attempts, error.endpoint, sent(world, kind)) == (1, "a:1", 0)
    del world.capacity["a:1"]
    world.settle()
    assert sent(world, kind) == 1


@pytest.mark.parametrize("give_up", ["deadline", "cancel"])
def test_e8_the_caller_gives_up_while_the_server_takes_no_more(give_up):
    world = connected()
    world.peer().generous = False
    run = world.run(operation(WRITE, b"v" * 100_000), timeout=2.0)
    (call,) = run.calls
    if give_up == "deadline":
        world.advance(2.0)
    else:
        world.channel.abandon(call, world.now)
    world.settle()
    assert not call.error.maybe_applied
    (request,) = [each for each in world.peers[call.link].requests if each.name == "Put"]
    assert request.reset == CANCEL
    assert not request.messages


@pytest.mark.parametrize("missing", [0, 1])
def test_e8_the_caller_gives_up(missing):
    world = connected()
    world.members["a:1"].silent.add("Put")
    world.capacity["a:1"] = request_size(WRITE) - missing
    run = world.run(operation(WRITE))
    (call,) = run.calls
    world.channel.abandon(call, world.now)
    assert type(call.error) is errors.Canceled
    assert call.error.maybe_applied
    assert call.error.endpoint == "a:1"


@pytest.mark.parametrize("kind", [WRITE, IDEMPOTENT])
def test_what_has_not_left_a_link_by_its_end_never_leaves(kind):
    world = connected(keepalive_timeout=1.0)
    world.capacity["a:1"] = 0
    run = world.run(operation(kind), timeout=60.0)
    world.advance(5.9)  # a PING has been due for 0.9 s, and has not left either
    del world.capacity["a:1"]
    dead = world.link()
    world.frozen.add("a:1")
    world.advance(0.1)
    world.frozen.clear()
    world.advance(5.0)
    run.value()
    assert dead not in world.channel.links
    assert sent(world, kind) == 1


# E9 to E18: the server answers with a status.

STATUS = [
    ("E9", refusal(4, "context deadline exceeded"), ambiguous(errors.DeadlineExceeded)),
    ("E9", refusal(4, "etcdserver: context deadline exceeded"), ambiguous(errors.DeadlineExceeded)),
    ("E9", refusal(2, "context deadline exceeded"), ambiguous(errors.DeadlineExceeded)),
    ("E9", refusal(1, "context canceled"), ambiguous(errors.Canceled)),
    ("E9", refusal(1, "etcdserver: request cancelled"), ambiguous(errors.Canceled)),
    ("E10", refusing(errors.Timeout), ambiguous(errors.Timeout)),
    ("E10", refusing(errors.TimeoutDueToLeaderFail), ambiguous(errors.TimeoutDueToLeaderFail)),
    ("E10", refusing(errors.TimeoutDueToConnectionLost), ambiguous(errors.TimeoutDueToConnectionLost)),
    ("E10", refusing(errors.Stopped), ambiguous(errors.Stopped)),
    ("E10", refusal(14, "some other reason"), ambiguous(errors.RpcError)),
    ("E11", refusing(errors.NoLeader), NOT_APPLIED),
    ("E11", refusal(2, errors.NoLeader.text), NOT_APPLIED),
    ("E12", refusing(errors.LeaderChanged), ambiguous(errors.LeaderChanged)),
    ("E13", refusing(errors.NoSpace), unknown(errors.NoSpace)),
    ("E14", refusing(errors.TooManyRequests), NOT_APPLIED),
    ("E14", refusal(2, errors.TooManyRequests.text), NOT_APPLIED),
    ("E17", refusing(errors.EmptyKey), refused(errors.EmptyKey)),
    ("E17", refusing(errors.LeaseNotFound), refused(errors.LeaseNotFound)),
    ("E17", refusing(errors.MemberExist), refused(errors.MemberExist)),
    ("E17", refusing(errors.RequestTooLarge), refused(errors.RequestTooLarge)),
    ("E17", refusing(errors.Compacted), refused(errors.Compacted)),
    ("E17", refusing(errors.PermissionDenied), refused(errors.PermissionDenied)),
    ("E17", refusing(errors.Corrupt), refused(errors.Corrupt)),
    ("E17", refusal(3, "something new"), refused(errors.RpcError)),
    ("E17", refusal(9, "something new"), refused(errors.RpcError)),
    ("E18", refusal(2, "raft: stopped"), unknown(errors.RpcError)),
    ("E18", refusal(13, "panic"), unknown(errors.RpcError)),
    ("E18", refusal(99, "a code of the future"), unknown(errors.RpcError)),
    ("E18", lambda peer, request: peer.http(request, 404), unknown(errors.RpcError)),
    ("E18", lambda peer, request: peer.http(request, 500), unknown(errors.RpcError)),
    ("E18", lambda peer, request: peer.http(request, 503), ambiguous(errors.Unavailable)),
    ("E18", refusal(12, "unknown method"), refused(errors.RpcError)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("row", "answer", "outcomes"), STATUS)
def test_e9_to_e18_a_status_of_the_server(kind, row, answer, outcomes):
    world = connected()
    world.members["a:1"].once[rpc(kind)] = [answer]
    run = world.run(operation(kind))
    check(world, run, kind, outcomes[kind])


@pytest.mark.parametrize("error", [errors.NoLeader, errors.TooManyRequests])
def test_e11_and_e14_are_repeated_after_pauses_until_the_deadline(error):
    world = connected()
    world.members["a:1"].answers["Put"] = refusing(error)
    run = world.run(operation(WRITE), timeout=1.0)
    world.advance(1.0)
    late = raised(run, WRITE)
    assert type(late) is errors.DeadlineExceeded
    assert type(late.__cause__) is error
    assert not late.maybe_applied
    assert run.sleeps[:4] == [0.025, 0.04, 0.064, 0.1024]
    assert late.attempts == sent(world, WRITE) == len(run.sleeps) + 1
    assert late.endpoint == "a:1"


def test_doubt_about_an_early_attempt_stays():
    world = connected()
    world.members["a:1"].once["Put"] = [refusing(errors.Timeout), refusing(errors.PermissionDenied)]
    error = raised(world.run(operation(IDEMPOTENT)), IDEMPOTENT)
    assert type(error) is errors.PermissionDenied
    assert error.maybe_applied
    assert error.attempts == 2


# E15: a token is rejected.

PASSWORD = {"user": "root", "password": "secret"}


def members_with_tokens(world: World) -> list[str]:
    """Have the members hand out tokens t1, t2, …; the tokens so far."""
    given: list[str] = []

    def authenticate(peer, request):
        given.append(f"t{len(given) + 1}")
        peer.ok(request, Member().reply(request, token=given[-1]))

    for member in world.members.values():
        member.answers["Authenticate"] = authenticate
    return given


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        refusing(errors.InvalidAuthToken),
        refusing(errors.AuthOldRevision),
        refusing(errors.UserEmpty),
        refusal(2, "auth: revision in header is old"),
        refusal(2, "auth: invalid auth token"),
        refusal(2, errors.InvalidAuthToken.text),
    ],
)
def test_e15_a_rejected_token_is_replaced(kind, answer):
    world = World(**PASSWORD)
    given = members_with_tokens(world)
    world.do(kv.delete("warm-up"))
    world.members["a:1"].once[rpc(kind)] = [answer]
    run = world.run(operation(kind))
    run.value()
    assert run.sleeps == []
    assert given == ["t1", "t2"]
    assert [each.headers["token"] for each in world.requests(rpc(kind))] == ["t1", "t2"]


@pytest.mark.parametrize("kind", KINDS)
def test_e15_at_most_three_tokens_are_tried(kind):
    world = World(**PASSWORD)
    given = members_with_tokens(world)
    world.members["a:1"].answers[rpc(kind)] = refusing(errors.InvalidAuthToken)
    run = world.run(operation(kind))
    world.advance(5.0)
    error = raised(run, kind)
    assert type(error) is errors.InvalidAuthToken
    assert not error.maybe_applied
    assert error.attempts == 4
    assert given == ["t1", "t2", "t3", "t4"]


@pytest.mark.parametrize("kind", KINDS)
def test_e15_a_token_of_the_callers_is_final_when_authentication_is_on(kind):
    world = World(token="jwt")
    world.members["a:1"].answers[rpc(kind)] = refusing(errors.InvalidAuthToken)
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthFailed)
    run = world.run(operation(kind))
    check(world, run, kind, Outcome(errors.InvalidAuthToken))
    (probe,) = world.requests("Authenticate")
    assert "token" not in probe.headers
    assert probe.messages == [b""]


@pytest.mark.parametrize("kind", KINDS)
def test_e15_a_token_of_the_callers_is_left_out_when_authentication_is_off(kind):
    world = World(token="jwt")
    world.members["a:1"].once[rpc(kind)] = [refusing(errors.InvalidAuthToken)]
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthNotEnabled)
    world.run(operation(kind)).value()
    assert [each.headers.get("token") for each in world.requests(rpc(kind))] == ["jwt", None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error", "again"), [(errors.AuthOldRevision, True), (errors.InvalidAuthToken, False)]
)
def test_e15_without_a_token_only_an_old_revision_passes(kind, error, again):
    world = connected()
    world.members["a:1"].once[rpc(kind)] = [refusing(error)]
    run = world.run(operation(kind))
    check(world, run, kind, AGAIN if again else Outcome(error))
    assert world.requests("Authenticate") == []


# E16: a learner.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [9, 14, 2])
def test_e16_a_learner_is_left_for_another_endpoint(kind, code):
    world = connected("a:1", "b:1")
    world.members["a:1"].answers[rpc(kind)] = refusal(code, errors.NotSupportedForLearner.text)
    run = world.run(operation(kind))
    run.value()
    assert len(world.requests(rpc(kind), "a:1")) == 1
    assert len(world.requests(rpc(kind), "b:1")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_e16_a_learner_alone_is_an_error(kind):
    world = connected()
    world.members["a:1"].answers[rpc(kind)] = refusing(errors.NotSupportedForLearner)
    check(world, world.run(operation(kind)), kind, Outcome(errors.NotSupportedForLearner))


# E19: the answer cannot be used.


@pytest.mark.parametrize("kind", KINDS)
def test_e19_a_reply_over_the_receive_limit(kind):
    world = connected(max_send_size=100, max_receive_size=100)
    world.members["a:1"].answers[rpc(kind)] = lambda peer, request: peer.ok(request, b"x" * 101)
    run = world.run(operation(kind))
    check(world, run, kind, unknown(errors.MessageTooLarge)[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_e19_an_undecodable_reply(kind):
    world = connected()
    world.members["a:1"].answers[rpc(kind)] = lambda peer, request: peer.ok(request, b"\xff\xff")
    run = world.run(operation(kind))
    check(world, run, kind, unknown(errors.ProtocolError)[kind])
