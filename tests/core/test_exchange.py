# SPDX-License-Identifier: Apache-2.0
"""Between values and messages, and the errors of commands whose time is over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from purecd import errors
from purecd.core import exchange, methods
from purecd.core.op import Call, Next
from purecd.pb import messages
from purecd.pb.pieces import RangePieces
from purecd.requests import Get, Put
from tests.support.h2peer import Request
from tests.support.steps import World

REQUEST = Request(1, {":path": "/etcdserverpb.KV/Range"})


def one(call):
    """An operation of one attempt of one call."""
    return (yield call)


def test_a_request_becomes_a_message():
    call = Call(methods.PUT, Put("k", "v"))
    exchange.encode(call, 1000, 12.5)
    assert messages.PutRequest.FromString(call.data).value == b"v"
    assert call.deadline == 12.5


def test_a_message_may_be_as_large_as_the_limit():
    call = Call(methods.PUT, Put("k", "v" * 100))
    size = len(methods.PUT.encode(call.request))
    exchange.encode(call, size, None)
    with pytest.raises(errors.MessageTooLarge) as caught:
        exchange.encode(Call(methods.PUT, call.request), size - 1, None)
    error = caught.value
    assert f"({size} vs. {size - 1}); see max_send_size" in str(error)
    assert (error.method, error.maybe_applied) == ("/etcdserverpb.KV/Put", False)


def test_a_reply_becomes_a_value():
    reply = messages.RangeResponse(count=3).SerializeToString()
    assert exchange.decode(Call(methods.RANGE, Get("k")), reply).count == 3


@pytest.mark.parametrize(("size", "gathered"), [(100_000, False), (900_000, True)])
def test_a_large_range_is_decoded_while_it_comes(size, gathered):
    world = World()
    kvs = [messages.KeyValue(key=b"%04d" % number, value=b"v" * 1000) for number in range(size // 1000)]
    member = world.members["a:1"]
    octets = member.reply(REQUEST, kvs=kvs, count=7)
    member.answers["Range"] = lambda peer, request: peer.ok(request, octets)
    call = Call(methods.RANGE, Get("k"))
    reply = world.do(one(call))
    assert [(each.key, each.value) for each in reply.kvs] == [(each.key, each.value) for each in kvs]
    assert (reply.count, reply.header.revision) == (7, 7)
    assert isinstance(call.message, RangePieces) is gathered
    assert len(call.message) == len(octets)


def test_a_large_range_that_is_none():
    world = World()
    member = world.members["a:1"]
    octets = member.reply(REQUEST, kvs=[messages.KeyValue(value=b"v" * 1000)] * 900)
    member.answers["Range"] = lambda peer, request: peer.ok(request, octets[:-1])
    with pytest.raises(errors.ProtocolError, match="undecodable reply to Range"):
        world.do(one(Call(methods.RANGE, Get("k"))))
    assert world.is_connected("a:1")


@pytest.mark.parametrize(("link", "endpoint"), [(None, ""), (SimpleNamespace(name="a:1"), "a:1")])
def test_a_reply_that_is_none(link, endpoint):
    call = Call(methods.PUT, Put("k", "v"))
    call.link = link
    with pytest.raises(errors.ProtocolError, match="undecodable reply to Put") as caught:
        exchange.decode(call, b"\xff\xff")
    error = caught.value
    assert (error.method, error.endpoint) == ("/etcdserverpb.KV/Put", endpoint)
    assert error.maybe_applied, "for it was executed"
    assert isinstance(error.__cause__, ValueError)


def test_time_is_over():
    error = exchange.out_of_time("no time left")
    assert type(error) is errors.DeadlineExceeded
    assert error.final


def test_nothing_arrived_though_an_endpoint_was_reached():
    world = World()
    assert str(exchange.nothing_in_time(world.channel)) == "nothing arrived before the deadline"


def test_nothing_arrived_for_no_endpoint_was_reached():
    world = World()
    world.refused.add("a:1")
    world.channel._dial(world.now)
    world.settle()
    error = exchange.nothing_in_time(world.channel)
    assert error.final
    assert "no endpoint could be reached; the last one: cannot connect: Connection refused" in str(error)
    assert type(error.__cause__) is errors.Unavailable


@pytest.mark.parametrize(
    ("effect", "error", "ends"),
    [
        (None, errors.Unavailable("lost"), False),
        (None, exchange.out_of_time("too late"), True),
        (None, KeyboardInterrupt(), True),
        (None, TimeoutError("of a signal's handler, say"), True),
        (Next(None, 1.0), TimeoutError("nothing arrived in time"), False),
        (Next(None, 1.0), exchange.out_of_time("too late"), True),
    ],
)
def test_after_what_only_clean_up_follows(effect, error, ends):
    # What goes on has its deadline still; clean-up has a little time, however long the deadline was.
    assert exchange.ends_operation(effect or Call(methods.PUT, Put("k", "v")), error) is ends
