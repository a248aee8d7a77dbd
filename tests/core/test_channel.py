# SPDX-License-Identifier: Apache-2.0
"""Calls in line, closing, streamed replies and secrets on one channel.

What becomes of single calls is in test_outcomes.
"""

from __future__ import annotations

import logging

import pytest

from purecd import errors
from purecd.core import kv, methods
from purecd.core.op import Call
from purecd.core.serverstream import ServerStream
from purecd.core.streaming import next_message, open_stream
from purecd.pb import messages
from tests.support.h2peer import CANCEL, H2Peer, Request
from tests.support.steps import Run, World, answer, hand_out_tokens, refusal, refusing, used

MAX_CONCURRENT_STREAMS = 3
PASSWORD = {"user": "root", "password": "s3cret"}


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


@pytest.mark.parametrize(("limit", "few"), [(1, True), (2, True), (3, False), (None, False)])
def test_a_server_that_takes_few_streams_is_known(limit, few):
    world = World()
    assert not world.channel.few_streams
    if limit is not None:
        world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: limit}
    world.do(kv.get("k"))
    assert world.channel.few_streams is few


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


@pytest.mark.parametrize("by", ["deadline", "cancel"])
def test_room_that_needs_no_confirmation_is_used_at_once(by):
    # The server has seen all resets so far, and a PING without an answer in between would be a strike.
    world = World()
    early, _ = full(world)
    world.members["a:1"].silent.add("Range")
    world.channel.abandon(early.calls[0], world.now)
    world.settle()
    world.channel.abandon(world.runs[1].calls[0], world.now)
    blocking, waiting = world.run(kv.put("k", "2")), world.run(kv.get("k"))
    world.advance(0.1)
    world.peer().ping()
    world.settle()
    assert waiting.calls[0].stream is None
    if by == "deadline":
        world.channel.expire(blocking.calls[0], world.now)
    else:
        world.channel.abandon(blocking.calls[0], world.now)
    assert waiting.calls[0].stream is not None


def test_a_connection_whose_stream_ids_are_used_up_is_followed_by_another():
    # RFC 9113 §5.1.1: H37.
    world = World()
    world.run(kv.get("k"))
    link = world.channel.current
    assert link is not None
    link.conn._next_id = 2**31 - 3
    runs = [world.run(kv.put("k", str(number))) for number in range(5)]
    assert all(run.done and run.error is None for run in runs)
    assert len(world.dialled) == 2
    assert world.channel.links == [world.channel.current]


def test_calls_wait_in_line_while_the_socket_takes_nothing():
    world = World()
    world.run(kv.get("k"))
    link = world.channel.current
    assert link is not None
    world.channel.link_blocked(link, True, world.now)
    waiting, late = world.run(kv.put("k", "1")), world.run(kv.put("k", "2"), timeout=0.3)
    assert not world.requests("Put")
    world.advance(0.3)
    assert isinstance(late.error, errors.DeadlineExceeded)
    assert not late.error.maybe_applied
    world.channel.link_blocked(link, False, world.now)
    world.settle()
    assert waiting.done
    assert len(world.requests("Put")) == 1


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


@pytest.mark.parametrize("seen_by", ["client", "reset", "status"])
def test_a_member_that_answers_no_call_is_left_however_short_the_timeouts(seen_by):
    # A member that defragments answers PINGs and nothing else.
    world = used("a:1", "b:1")
    if seen_by == "status":
        world.members["a:1"].answers["Put"] = refusal(4, "context deadline exceeded")
    else:
        world.members["a:1"].silent.add("Put")
    outcomes = []
    for _ in range(10):
        run = world.run(kv.put("k", "v"), timeout=0.1)
        if seen_by == "reset" and not run.done:
            world.now += 0.1
            world.peer("a:1").reset(world.requests("Put", "a:1")[-1], CANCEL)
            world.settle()
        else:
            world.advance(0.1)
        outcomes.append(run.error is None)
    # Where the client itself saw nothing for one timeout it looks elsewhere at once.
    assert outcomes.index(True) <= 6
    assert all(outcomes[6:])
    assert world.current().name == "b:1"


def test_a_member_that_answers_some_calls_is_not_left_for_short_timeouts():
    world = used("a:1", "b:1")
    world.members["a:1"].silent.add("Put")
    for _ in range(10):
        run = world.run(kv.put("k", "v"), timeout=0.1)
        world.do(kv.get("k"))
        world.advance(0.1)
        assert run.error is not None
    assert world.current().name == "a:1"


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
    given = hand_out_tokens(world, "simple-token-")
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
