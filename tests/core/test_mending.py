# SPDX-License-Identifier: Apache-2.0
"""An exception in the middle of an input, at any line: after `mend` the channel goes on as if nothing was.

A story with calls, a watch, a lease and a token is told again and again. Each time a signal's handler
raises at another line of `core`, `wire` or `pb`, and in some stories once more while the channel is mended.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from purecd import errors
from purecd.core import kv
from purecd.core.keptlease import KeptLease
from purecd.core.link import LinkState
from purecd.core.watching import Watcher, WatchRequest
from tests.core.test_carriers import Watching, renewing
from tests.support.h2peer import H2Peer, Request
from tests.support.steps import Member, World, hand_out_tokens

INPUTS = (
    "abandon attach close detach expire handle_timer link_lost link_opened link_received next_timer "
    "refresh start take"
)
BETWEEN = 199
"""Lines between one cut and the next; a prime, so that cuts fall on all kinds of lines."""


class Signal:
    """Raises at some lines of the inputs of a channel, and does what a driver does then."""

    def __init__(self, world: World, *at: int) -> None:
        self.world = world
        self.channel = world.channel
        self.at = list(at)
        self.lines = 0
        self.mends = 0
        for name in INPUTS.split():
            setattr(self.channel, name, self.input(getattr(self.channel, name)))
        self.mend = self.channel.mend

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        if not any(
            part in frame.f_code.co_filename for part in ("purecd/core/", "purecd/wire/", "purecd/pb/")
        ):
            return None
        if event == "line":
            self.lines += 1
            if self.at and self.lines >= self.at[0]:
                del self.at[0]
                raise KeyboardInterrupt
        return self.trace

    def interruptible(self, function: Any, *args: Any) -> Any:
        sys.settrace(self.trace)
        try:
            return function(*args)
        finally:
            sys.settrace(None)

    def input(self, function: Any) -> Any:
        """An input of the channel; it begins with mending, and is begun again, when it was cut short."""

        def entered(*args: Any) -> Any:
            takes = args[0].takes if args and isinstance(args[0], Watcher) else 0
            try:
                return self.interruptible(function, *args)
            except KeyboardInterrupt:
                pass
            self.begin_anew()
            name = function.__name__
            if name == "start":
                self.channel.abandon(*args)  # so does the thread that was interrupted
                return None
            if name == "attach":
                self.channel.detach(*args)
                raise KeyboardInterrupt
            if name == "take" and args[0].takes != takes:
                args[0].put_back()
            return function(*args)

        return entered

    def begin_anew(self) -> None:
        while True:
            try:
                self.interruptible(self.mend, self.world.now)
            except KeyboardInterrupt:
                continue
            self.mends += 1
            return


class Store(Member):
    """A member whose revision grows."""

    revision = 10

    def header(self) -> Any:
        header = super().header()
        header.revision = self.revision
        return header


class Etcd(Watching):
    """Has a history: a create gets what came since its start revision."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = world.members["a:1"] = Store()
        self.watching: list[tuple[H2Peer, Request]] = []
        super().__init__(self.store)

    def __call__(self, peer: H2Peer, request: Request) -> None:
        super().__call__(peer, request)
        start = self.creates[-1].start_revision
        self.watching.append((peer, request))
        for revision in range(start, self.store.revision + 1) if start else ():
            self.event(peer, request, b"k", revision)

    def put(self) -> None:
        self.store.revision += 1
        for peer, request in self.watching:
            link = next(link for link, each in self.world.peers.items() if each is peer)
            if request.reset is None and link.state is not LinkState.CLOSED:
                self.event(peer, request, b"k", self.store.revision)
        self.world.settle()


def told(*at: int) -> Signal:
    """The story, with signals at the lines `at`."""
    world = World("a:1", user="root", password="s3cret")
    etcd = Etcd(world)
    hand_out_tokens(world)
    etcd.store.answers["LeaseKeepAlive"] = renewing
    signal = Signal(world, *at)
    lease = attached(world, lambda: KeptLease(7, 30, world.now))
    watcher = attached(world, lambda: Watcher(WatchRequest(b"k", start_revision=11)))
    seen: list[int] = []
    for expected in range(11, 14):
        etcd.put()
        called(world, kv.put("k", "v"))
        if expected == 12:
            world.advance(11.0)  # the lease is renewed
        called(world, kv.get("k"))
        for _ in range(1000):
            response = world.channel.take(watcher, world.now)
            if response is not None:
                seen.extend(each.kv.mod_revision for each in response.events)
                watcher.taken = None
            elif len(seen) == expected - 10:
                break
            else:
                world.advance(0.1)
    assert seen == [11, 12, 13]
    assert lease.error is None
    assert lease.alive_until > world.now + 15
    world.channel.detach(watcher, world.now)
    world.channel.close(world.now)
    assert watcher.closed
    assert lease.closed
    assert not world.channel.calls
    assert world.channel.links == []
    return signal


def attached(world: World, make: Any) -> Any:
    while True:
        try:
            source = make()
            world.channel.attach(source, world.now)
        except KeyboardInterrupt:
            continue
        world.settle()
        return source


def called(world: World, op: Any) -> None:
    run = world.run(op, timeout=None)
    for _ in range(1000):
        if run.done:
            break
        world.advance(0.1)
    try:
        run.value()
    except (errors.Canceled, errors.Unavailable) as error:
        # Its own thread was interrupted, or another one while it was on its way.
        assert error.maybe_applied or isinstance(error, errors.Canceled), error


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="tracing is slow there")
@pytest.mark.parametrize("again", [0, 40], ids=["once", "and while it is mended"])
def test_a_signal_at_any_line(again):
    told()  # what is done only once
    lines = told().lines
    assert lines > 3000
    mends = 0
    for number in range(1, lines, BETWEEN):
        signal = told(number, number + again) if again else told(number)
        mends += signal.mends
    assert mends > lines / BETWEEN * 0.8
