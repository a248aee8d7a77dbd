# SPDX-License-Identifier: Apache-2.0
"""Watches and leases on the links of a channel: streams opened, carried, held back and ended."""

from __future__ import annotations

from typing import Any

import pytest

from purecd import errors
from purecd.core.keepalive import KeptLease
from purecd.core.link import LinkState
from purecd.core.watching import Watcher, WatchRequest
from purecd.pb import messages
from tests.support.h2peer import CANCEL, H2Peer, Request
from tests.support.steps import Member, World, refusal, refusing

MAX_CONCURRENT_STREAMS = 3
DENIED = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
STALE = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"


class Watching:
    """A member's answers on watch streams.

    Attributes:
        creates: the create requests so far.
        denials: reasons to refuse the next creates with, and the watch id in the refusal.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self.creates: list[Any] = []
        self.denials: list[tuple[str, int | None]] = []
        member.answers["Watch"] = self

    def __call__(self, peer: H2Peer, request: Request) -> None:
        asked = messages.WatchRequest.FromString(request.latest)
        if asked.HasField("progress_request"):
            self._say(peer, request, watch_id=-1)
        if not asked.HasField("create_request"):
            return
        if len(request.messages) == 1:
            peer.begin(request)
        create = asked.create_request
        self.creates.append(create)
        if self.denials:
            reason, watch_id = self.denials.pop(0)
            self._say(
                peer,
                request,
                watch_id=create.watch_id if watch_id is None else watch_id,
                created=True,
                canceled=True,
                cancel_reason=reason,
            )
        else:
            self._say(peer, request, watch_id=create.watch_id, created=True)

    def _say(self, peer: H2Peer, request: Request, **fields: Any) -> None:
        response = messages.WatchResponse(header=self._member.header(), **fields)
        peer.message(request, response.SerializeToString())

    def event(self, peer: H2Peer, request: Request, key: bytes, revision: int = 8) -> None:
        """One put, on the stream's latest watcher."""
        kv = messages.KeyValue(key=key, mod_revision=revision, create_revision=revision, version=1)
        asked = [messages.WatchRequest.FromString(each) for each in request.messages]
        watch_id = [each.create_request.watch_id for each in asked if each.HasField("create_request")][-1]
        self._say(peer, request, watch_id=watch_id, events=[messages.Event(kv=kv)])


def renewing(peer: H2Peer, request: Request) -> None:
    """Answers on keep-alive streams."""
    if len(request.messages) == 1:
        peer.begin(request)
    asked = messages.LeaseKeepAliveRequest.FromString(request.latest)
    reply = messages.LeaseKeepAliveResponse(header=Member().header(), ID=asked.ID, TTL=30)
    peer.message(request, reply.SerializeToString())


def world_of(*endpoints: str, **options: Any) -> tuple[World, dict[str, Watching]]:
    world = World(*endpoints, **options)
    for member in world.members.values():
        member.answers["LeaseKeepAlive"] = renewing
    return world, {name: Watching(member) for name, member in world.members.items()}


def watch(world: World, key: bytes = b"k", **options: Any) -> Watcher:
    request = WatchRequest(
        key, b"", prev_kv=False, progress_notify=False, filters=(), fragment=False, **options
    )
    watcher = Watcher(request)
    attach(world, watcher)
    return watcher


def keep(world: World, lease_id: int = 7) -> KeptLease:
    lease = KeptLease(lease_id, 30, world.now)
    attach(world, lease)
    return lease


def attach(world: World, source: Any) -> None:
    world.channel.attach(source, world.now)
    world.settle()


def detach(world: World, source: Any) -> None:
    world.channel.detach(source, world.now)
    world.settle()


def keys(watcher: Watcher) -> list[bytes]:
    return [event.kv.key for response in watcher.inbox for event in response.events]


# Streams.


@pytest.mark.parametrize("require_leader", [True, False])
def test_a_watch_opens_a_stream(require_leader):
    world, members = world_of()
    watcher = watch(world, created_notify=False, require_leader=require_leader)
    (request,) = world.requests("Watch")
    assert request.headers.get("hasleader") == ("true" if require_leader else None)
    assert "grpc-timeout" not in request.headers
    assert not request.ended
    members["a:1"].event(world.peer(), request, b"k")
    world.settle()
    assert keys(watcher) == [b"k"]


@pytest.mark.parametrize("pinged", [False, True])
def test_a_driver_looks_again_only_when_something_is_queued(pinged):
    world, members = world_of()
    watcher = watch(world, created_notify=False)
    (request,) = world.requests("Watch")
    world.channel.unsent = world.channel.stirred = False
    peer = world.peer()
    members["a:1"].event(peer, request, b"k")
    if pinged:
        peer.ping()  # whoever waits goes away with the event; the answer must leave all the same
    world.channel.link_received(world.link(), peer.data_to_send(), world.now)
    assert keys(watcher) == [b"k"]
    assert (world.channel.unsent, world.channel.stirred) == (pinged, pinged)


def test_a_driver_looks_again_when_a_link_is_given_up():
    world, _ = world_of()
    world.frozen.add("a:1")
    watch(world)
    link = world.link()
    world.channel.stirred = False
    world.channel.link_received(link, b"\x15\x03\x01\x00\x02\x02\x46", world.now)  # it speaks TLS
    assert world.channel.closing == [link]
    assert world.channel.stirred, "a socket is to be closed, and another one to be opened in time"


def test_a_source_makes_the_channel_dial_until_there_is_a_link():
    world, _ = world_of()
    world.refused.add("a:1")
    watch(world)
    world.advance(3.0)
    assert len(world.dialled) > 3
    world.refused.clear()
    world.advance(3.0)
    assert len(world.requests("Watch")) == 1


def test_without_sources_nobody_dials():
    world, _ = world_of()
    watcher = watch(world)
    detach(world, watcher)
    world.cut()
    world.advance(60.0)
    assert len(world.dialled) == 1
    assert world.channel.next_timer() is None


def test_a_watch_goes_on_over_a_new_link():
    world, members = world_of("a:1", "b:1")
    watcher = watch(world)
    world.cut("a:1")
    world.advance(1.0)
    (request,) = world.requests("Watch", "b:1")
    members["b:1"].event(world.peer("b:1"), request, b"k")
    world.settle()
    assert keys(watcher) == [b"k"]
    assert watcher.error is None


def test_goaway_moves_watches_and_leases_at_once():
    world, _ = world_of("a:1", "b:1")
    watch(world)
    keep(world)
    old = world.peer("a:1")
    old.say_goaway(2**31 - 1, 0, b"graceful_stop")
    world.settle()
    assert len(world.requests("Watch", "b:1")) == 1
    assert [each.reset for each in old.requests if each.name != "Range"] == [CANCEL, CANCEL]
    assert world.open_links() == ["b:1"], "nothing is left to drain"
    world.advance(12.0)
    assert len(world.requests("LeaseKeepAlive", "b:1")) == 1, "when the lease is due"


def test_streams_leave_a_sole_member_that_shuts_down_after_a_second():
    """A stopping etcd waits for them, 7 s and more, and nothing can be written to it any more."""
    world, members = world_of()
    watcher = watch(world)
    world.refused.add("a:1")
    world.peer().say_goaway(2**31 - 1, 0, b"graceful_stop")
    world.settle()
    world.advance(0.9)
    (request,) = world.requests("Watch")
    members["a:1"].event(world.peer(), request, b"late", revision=7)
    world.settle()
    assert world.open_links() == ["a:1"], "there is no other yet"
    world.advance(0.2)
    assert world.open_links() == []
    world.refused.clear()
    world.advance(6.0)
    assert len(world.requests("Watch")) == 2
    assert (keys(watcher), watcher.error) == ([b"late"], None)


def test_the_end_of_a_stream_is_told_to_its_machine():
    world, _ = world_of()
    watcher = watch(world, created_notify=False, require_leader=True)
    (request,) = world.requests("Watch")
    world.peer().end(request, 14, errors.NoLeader.text)
    world.settle()
    assert type(watcher.error) is errors.NoLeader
    assert (watcher.error.method, watcher.error.endpoint) == ("/etcdserverpb.Watch/Watch", "a:1")
    assert not watcher.error.maybe_applied


def test_a_stream_that_ends_well_is_opened_again():
    world, _ = world_of()
    watcher = watch(world)
    world.peer().end(world.requests("Watch")[0])
    world.settle()
    world.advance(1.0)
    assert len(world.requests("Watch")) == 2
    assert watcher.error is None


def test_a_message_that_is_none_ends_its_stream_only():
    world, _ = world_of()
    watcher = watch(world)
    lease = keep(world)
    (request,) = world.requests("Watch")
    world.peer().message(request, b"\xff\xff")
    world.settle()
    assert request.reset == CANCEL
    world.advance(1.0)
    assert len(world.requests("Watch")) == 2
    assert (watcher.error, lease.error) == (None, None)
    assert len(world.dialled) == 1


def test_a_machine_learns_of_the_current_link():
    world, _ = world_of()
    watch(world)
    keep(world)  # a machine that begins when there is a link already
    assert len(world.requests("LeaseKeepAlive")) == 1
    assert len(world.dialled) == 1


def test_progress_is_asked_for_on_the_stream_of_the_watchers():
    world, _ = world_of()
    watch(world)
    world.channel.request_progress(False, world.now)
    world.settle()
    (request,) = world.requests("Watch")
    assert messages.WatchRequest.FromString(request.messages[-1]).HasField("progress_request")


def test_closing_ends_sources_and_streams():
    world, _ = world_of()
    watcher = watch(world)
    lease = keep(world)
    peer = world.peer()
    world.channel.close(world.now)
    world.settle()
    assert watcher.closed
    assert (watcher.error, lease.error) == (None, None)
    assert [each.reset for each in peer.requests if each.name != "Range"] == [CANCEL, CANCEL]
    assert peer.goaway == 0
    with pytest.raises(errors.ClientClosed):
        world.channel.attach(Watcher(watcher.request), world.now)


# A server that takes few streams.


def test_a_stream_waits_until_the_server_takes_it():
    world, _ = world_of()
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    watcher = watch(world)
    keep(world, 7)
    keep(world, 8)
    assert world.requests("LeaseKeepAlive") == []
    detach(world, watcher)
    (request,) = world.requests("LeaseKeepAlive")
    ids = [messages.LeaseKeepAliveRequest.FromString(each).ID for each in request.messages]
    assert ids == [7, 8], "what was to be sent meanwhile is not lost"


def test_a_stream_that_waits_can_be_given_up():
    world, _ = world_of()
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    watcher = watch(world)
    lease = keep(world)
    detach(world, lease)
    detach(world, watcher)
    world.advance(1.0)
    assert world.requests("LeaseKeepAlive") == []


def test_a_stream_that_waits_moves_to_the_next_link():
    world, _ = world_of("a:1", "b:1")
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    watch(world)
    keep(world)
    world.cut("a:1")
    assert world.channel.carriers._held == []
    world.advance(1.0)
    assert len(world.requests("LeaseKeepAlive", "b:1")) == 1


def test_a_stream_that_waits_on_a_draining_link_moves_too():
    world, _ = world_of("a:1", "b:1")
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    watch(world)
    keep(world)
    world.peer("a:1").say_goaway(2**31 - 1)
    world.settle()
    world.advance(1.0)
    assert len(world.requests("LeaseKeepAlive", "b:1")) == 1
    assert world.open_links() == ["b:1"]


# Probes and tokens.


def login(world: World) -> None:
    tokens = iter(["t1", "t2", "t3", "t4"])
    for member in world.members.values():
        member.answers["Authenticate"] = lambda peer, request: peer.ok(
            request, Member().reply(request, token=next(tokens))
        )


def test_a_stale_token_is_replaced_and_the_watch_created_again():
    world, members = world_of(user="root", password="secret")
    login(world)
    watch(world, b"first")
    members["a:1"].denials = [(STALE, -1)]
    second = watch(world, b"second")
    world.advance(1.0)
    assert [each.headers["token"] for each in world.requests("Watch")] == ["t1", "t2"]
    assert second.error is None
    assert [each.key for each in members["a:1"].creates] == [b"first", b"second", b"second"]


def test_a_denial_that_may_hide_a_stale_token_is_checked_with_the_streams_token():
    world, members = world_of(user="root", password="secret")
    login(world)
    members["a:1"].denials = [(DENIED, None)]
    world.members["a:1"].answers["Range"] = refusing(errors.PermissionDenied)
    watcher = watch(world, b"secret")
    (read,) = world.requests("Range")
    asked = messages.RangeRequest.FromString(read.messages[0])
    assert (asked.key, asked.revision, asked.limit) == (b"secret", 2**63 - 1, 1)
    assert asked.count_only
    assert asked.serializable
    assert (read.headers["token"], read.headers["grpc-timeout"]) == ("t1", "5S")
    assert type(watcher.error) is errors.PermissionDenied
    assert len(world.requests("Authenticate")) == 1


def test_a_permission_read_that_is_permitted_creates_the_watch_again():
    world, members = world_of(user="root", password="secret")
    login(world)
    members["a:1"].denials = [(DENIED, None)]
    world.members["a:1"].answers["Range"] = refusing(errors.FutureRev)
    watcher = watch(world)
    world.advance(1.0)
    assert watcher.error is None
    assert len(members["a:1"].creates) == 2


def test_a_permission_read_ends_after_5_s():
    world, members = world_of(user="root", password="secret")
    login(world)
    members["a:1"].denials = [(DENIED, None)]
    world.members["a:1"].silent.add("Range")
    watcher = watch(world)
    world.advance(4.999)
    (read,) = world.requests("Range")
    assert read.reset is None
    world.advance(0.001)
    assert read.reset == CANCEL
    world.advance(1.0)
    assert watcher.error is None
    assert len(members["a:1"].creates) == 2


def test_a_permission_read_on_a_link_without_room_is_put_off():
    world, members = world_of(user="root", password="secret")
    login(world)
    world.settings["a:1"] = {MAX_CONCURRENT_STREAMS: 1}
    watch(world, b"first")
    members["a:1"].denials = [(DENIED, None)]
    watcher = watch(world, b"second")
    world.advance(1.0)
    assert watcher.error is None
    assert world.requests("Range") == []
    assert [each.key for each in members["a:1"].creates] == [b"first", b"second", b"second"]


def test_a_permission_read_ends_with_its_link():
    world, members = world_of("a:1", "b:1", user="root", password="secret")
    login(world)
    members["a:1"].denials = [(DENIED, None)]
    world.members["a:1"].silent.add("Range")
    watcher = watch(world)
    world.cut("a:1")
    world.advance(6.0)
    assert watcher.error is None
    assert len(members["b:1"].creates) == 1


def test_nobody_can_log_in():
    world, _ = world_of(user="root", password="wrong")
    world.members["a:1"].answers["Authenticate"] = refusing(errors.AuthFailed)
    watcher = watch(world)
    assert type(watcher.error) is errors.AuthFailed
    world.advance(60.0)
    assert len(world.dialled) == 1


def test_a_store_that_seems_to_have_gone_back_is_read():
    world, members = world_of()
    watcher = watch(world)
    (request,) = world.requests("Watch")
    members["a:1"].event(world.peer(), request, b"k", revision=100)
    world.settle()
    broken = [lambda peer, request: peer.ok(request, b"\xff\xff"), refusal(14, "not now")]
    world.members["a:1"].once["Range"] = broken
    world.peer().end(request, 14, "away")  # its header says 7 when the watch is created again
    world.settle()
    world.advance(1.5)
    assert watcher.error is None, "a reply that is none says nothing"
    world.advance(2.0)
    assert len(world.requests("Range")) == 3
    error: Any = watcher.error
    assert type(error) is errors.ClusterMismatch


def test_a_machine_that_asks_of_a_closed_link_does_no_harm():
    world, _ = world_of()
    watch(world)
    link = world.link()
    world.cut()
    assert link.state is LinkState.CLOSED
    world.channel.settle(world.now)
