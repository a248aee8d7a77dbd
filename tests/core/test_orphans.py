# SPDX-License-Identifier: Apache-2.0
"""A channel whose connections are out of reach ends its sources with an error, and sends nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from purecd import errors
from purecd.core import methods
from purecd.core.channel import Channel
from purecd.core.endpoints import parse_endpoint
from purecd.core.keptlease import KeptLease
from purecd.core.op import Call
from purecd.core.serverstream import ServerStream
from purecd.core.watching import Watcher, WatchRequest
from purecd.options import Options
from purecd.pb import messages
from purecd.requests import Get

ERROR = errors.ClientClosed("out of reach")


@pytest.fixture
def channel():
    options = Options(("127.0.0.1:1",))
    return Channel(options, [parse_endpoint("127.0.0.1:1")], random.Random(1), "test")


def test_sources_end_with_an_error_of_their_own(channel):
    watchers = [Watcher(WatchRequest(b"k", b"")) for _ in range(2)]
    lease = KeptLease(7, 10, 0.0)
    stream = ServerStream(methods.SNAPSHOT, messages.SnapshotRequest())
    stream.data = b""
    sources: list[Any] = [*watchers, lease, stream]
    for source in sources:
        channel.attach(source, 0.0)
    channel.orphan(ERROR)
    found = [source.error for source in sources]
    assert {type(error) for error in found} == {errors.ClientClosed}
    assert len({id(error) for error in (*found, ERROR)}) == 5
    assert lease.lost
    assert stream.closed
    assert (channel.links, channel.opening, channel.closing, channel.current) == ([], [], [], None)
    assert channel.next_timer() is None


def test_nothing_can_be_begun_afterwards(channel):
    channel.orphan(ERROR)
    call = Call(methods.RANGE, Get(b"k"))
    channel.start(call, 0.0)
    assert isinstance(call.error, errors.ClientClosed)
    with pytest.raises(errors.ClientClosed):
        channel.attach(Watcher(WatchRequest(b"k", b"")), 0.0)


def test_what_arrived_before_can_still_be_read(channel):
    stream = ServerStream(methods.SNAPSHOT, messages.SnapshotRequest())
    stream.data = b""
    channel.attach(stream, 0.0)
    stream.inbox.append(b"piece")
    channel.orphan(ERROR)
    assert channel.take(stream, 0.0) == b"piece"
    assert channel.take(stream, 0.0) is None
