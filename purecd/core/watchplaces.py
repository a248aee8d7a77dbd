# SPDX-License-Identifier: Apache-2.0
"""Where watchers are: placing them on streams, and moving them when a stream, link or token goes.

1. Watchers that require a leader share streams, the others share others; a stream carries at
   most 1,000 of them and one generation of the link's token.
2. A stream that ends is replaced as `purecd.core.lanes` says; its watchers continue at their
   `next_revision`.
3. Watchers follow the connection: from one that drains they move as soon as there is another.
4. With a new token, creates that were not sent move to a stream that carries it; established
   watchers stay where they are. There are streams of four generations at most.
5. A create without an answer for 10 s (20, 40, 80 in repetition; half of it after a refusal)
   sits on a stream that the server does not read any more: all its watchers move.
6. A watcher that leaves is cancelled on the server, or its stream is reset if it was the last.

Inputs only change what is to be done; it is put together when `take_actions`, `take_ready` or
`next_timer` ask for it. So the ends of ten streams with one connection cost one resumption.

Source: etcd client/v3/watch.go, except where a comment tells why not.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Union

from purecd.core.actions import CheckPermission, CheckRevision, CloseStream, OpenStream, Refresh, Send
from purecd.core.denials import Denials
from purecd.core.lanes import Fate, Lane, answer_due, fate
from purecd.core.timers import Timers
from purecd.core.watcher import State, Watcher
from purecd.core.watchstream import MuxStream
from purecd.errors import EtcdError

if TYPE_CHECKING:
    from purecd.core.endpoints import Random


Action = Union[OpenStream, Send, CloseStream, Refresh, CheckPermission, CheckRevision]

MAX_GENERATIONS = 4


class WatchPlaces:
    """The streams of all watches of a client; what arrives on them is the business of `WatchMux`."""

    def __init__(self, *, auth_mode: str, rng: Random, max_watchers_per_stream: int) -> None:
        self._rng = rng
        self._max_watchers = max_watchers_per_stream
        self._actions: list[Action] = []
        self._ready: list[Watcher] = []
        self._lanes = (Lane(False), Lane(True))
        self._denials = Denials(auth_mode, rng, self._actions)
        self._timers: Timers[Any] = Timers()
        self._link: Any = None
        self._usable = False  # the link takes new streams
        self._generation = 0
        self._has_token = False
        self._now = 0.0
        self._unsettled = False
        self._watchers: dict[Watcher, None] = {}

    @property
    def idle(self) -> bool:
        """Whether there is no watcher."""
        return not self._watchers

    @property
    def calm(self) -> bool:
        """Whether nothing is to be done but to give out `take_ready`."""
        return not (self._unsettled or self._actions)

    # Links.

    def link_ready(self, link: Any, generation: int, has_token: bool, now: float) -> None:
        """A connection takes over: watchers on others move there."""
        self._turn(now)
        self._link = link
        self._usable = True
        self._generation = generation
        self._has_token = has_token
        for lane in self._lanes:
            for stream in [each for each in lane.streams if each.link is not link]:
                self._move(lane, stream, lost=True)
        self._denials.link_ready(link, generation)

    def link_draining(self, link: Any, now: float) -> None:
        """The connection takes no new streams; those it has live until another one is ready."""
        if link is self._link:
            self._turn(now)
            self._usable = False
            self._denials.link_gone()

    def link_lost(self, link: Any, error: EtcdError, now: float) -> None:
        """The connection is gone, and with it its streams."""
        self._turn(now)
        for lane in self._lanes:
            for stream in [each for each in lane.streams if each.link is link]:
                lane.failed(stream, now, self._rng)
                self._move(lane, stream, lost=True, reset=False)
        if link is self._link:
            self._link = None
            self._usable = False
            self._denials.link_gone()

    def mend(self, now: float) -> None:
        """A signal cut an input short: begin anew from what is certain, where each watcher is to go on."""
        self._turn(now)
        self._link = None
        self._usable = False
        self._actions.clear()
        self._ready.clear()
        self._timers = Timers()
        self._denials.reset()
        for lane in self._lanes:
            lane.streams.clear()
            lane.waiting.clear()
        for watcher in list(self._watchers):
            watcher.mend()
            watcher.listed = False
            if watcher.closed or watcher.error is not None:
                watcher.state = State.ENDED
                del self._watchers[watcher]
            elif watcher.state is not State.SUSPENDED or not watcher.inbox:
                self._wait(watcher)
            self._list(watcher)

    def auth_failed(self, error: EtcdError, now: float) -> None:
        """Nobody can log in with the client's credentials: watches that have no place end."""
        self._turn(now)
        self._decide()
        if self._usable:
            return
        for watcher in list(self._watchers):
            if watcher.state is State.WAITING or watcher.state is State.DELAYED:
                self._finish(watcher, _own(error))

    # Answers to what was asked.

    def refreshed(self, link: Any, generation: int, has_token: bool, now: float) -> None:
        """The link has another token, or none any more because auth is off."""
        if link is not self._link:
            return
        self._turn(now)
        self._generation = generation
        self._has_token = has_token
        self._denials.refreshed(generation, now)
        for lane in self._lanes:
            for stream in [each for each in lane.streams if each.generation != generation]:
                # What was not sent moves along, and so does all of a stream that has nothing to lose.
                if not stream.active:
                    self._move(lane, stream)
                    continue
                for watcher in list(stream.queue):
                    stream.remove(watcher)
                    self._wait(watcher)

    def refresh_failed(self, link: Any, error: EtcdError | None, now: float) -> None:
        """No other token is to be had; with a static token, because auth is on and refuses it."""
        if link is self._link:
            self._turn(now)
            self._denials.refresh_failed(error, now)

    def permission_answer(self, watcher: Watcher, error: EtcdError | None, now: float) -> None:
        """The permission read for a watcher ended with `error`."""
        self._turn(now)
        self._denials.permission_answer(watcher, error, now)

    # The ends of streams.

    def stream_ended(self, stream: MuxStream, error: EtcdError, now: float) -> None:
        """A stream ended; `error` has the code, also after a clean end."""
        if not stream.closed:
            self._turn(now)
            self._ended(stream, error)

    def _ended(self, stream: MuxStream, error: EtcdError, reset: bool = False) -> None:
        lane = self._lanes[stream.require_leader]
        lane.failed(stream, self._now, self._rng)
        then = fate(error, stream.require_leader, self._denials.refreshable)
        if then is Fate.HALT or (then is Fate.BOUNDED and lane.exhausted(stream)):
            for watcher in self._break(lane, stream, reset):
                self._finish(watcher, _own(error))
        elif then is Fate.REFRESH:
            self._renew(self._break(lane, stream, reset), stream, error)
        else:
            self._move(lane, stream, lost=True, reset=reset)

    def _went_silent(self, stream: MuxStream) -> None:
        """A create was not answered: the server waits for what its token promises, or reads no more."""
        lane = self._lanes[stream.require_leader]
        lane.went_silent(stream)
        if stream.has_token and self._denials.refreshable and not (stream.refused and not stream.unanswered):
            self._renew(self._break(lane, stream), stream, None)
        else:
            self._move(lane, stream)

    def _renew(self, watchers: list[Watcher], stream: MuxStream, error: EtcdError | None) -> None:
        """Let watchers of a stream that was lost for its token wait for another one."""
        for watcher in watchers:
            watcher.tries = 0
            watcher.state = State.HELD
        self._denials.stream_stale(watchers, stream, error, self._now)

    # Where watchers go.

    def _turn(self, now: float) -> None:
        """An input came that may change where watchers belong."""
        self._now = now
        self._unsettled = True

    def _list(self, watcher: Watcher) -> None:
        """Tell the driver about a watcher, once."""
        if not watcher.listed:
            watcher.listed = True
            self._ready.append(watcher)

    def _wait(self, watcher: Watcher) -> None:
        watcher.state = State.WAITING
        self._lanes[watcher.request.require_leader].waiting[watcher] = None
        self._unsettled = True

    def _leave(self, watcher: Watcher) -> None:
        """Take a watcher off wherever it is."""
        stream = watcher.stream
        if stream is not None:
            cancel = stream.remove(watcher)
            if not stream.live:
                self._break(self._lanes[stream.require_leader], stream)
            elif cancel is not None:
                self._actions.append(Send(stream, cancel))
        elif watcher.state is State.WAITING:
            self._lanes[watcher.request.require_leader].waiting.pop(watcher, None)
        elif watcher.state is State.HELD:
            self._denials.forget(watcher)
        elif watcher.state is State.DELAYED:
            self._timers.discard(watcher)

    def orphan(self, error: EtcdError) -> None:
        """Nothing will move any more: end all watches."""
        for watcher in self._watchers:
            watcher.state = State.ENDED
            watcher.error = _own(error)

    def _finish(self, watcher: Watcher, error: EtcdError | None) -> None:
        """End a watch."""
        self._leave(watcher)
        watcher.error = error  # first: `mend` goes by it
        watcher.state = State.ENDED
        self._watchers.pop(watcher, None)
        self._list(watcher)

    def _break(self, lane: Lane, stream: MuxStream, reset: bool = True) -> list[Watcher]:
        """End a stream; the watchers that were on it."""
        lane.streams.remove(stream)
        self._timers.discard(stream)
        if reset:
            self._actions.append(CloseStream(stream))
        return stream.clear()

    def _move(self, lane: Lane, stream: MuxStream, *, lost: bool = False, reset: bool = True) -> None:
        """End a stream and let its watchers resume on another."""
        for watcher in self._break(lane, stream, reset):
            if lost:
                watcher.tries = 0
            self._wait(watcher)

    def _settle(self) -> None:
        """Carry out what follows from the inputs so far."""
        while self._unsettled:
            self._unsettled = False
            self._decide()
            for lane in self._lanes:
                if lane.waiting and self._usable:
                    self._place(lane)
                for stream in lane.streams:
                    if stream.queue and not self._denials.pauses(stream):
                        self._pump(stream)

    def _decide(self) -> None:
        decisions, self._denials.decisions = self._denials.decisions, []
        for watcher, error, pause in decisions:
            if watcher.state is not State.HELD:
                continue
            if error is not None:
                self._finish(watcher, error)
            elif pause:
                watcher.state = State.DELAYED
                self._timers.set(watcher, self._now + pause)
            else:
                self._wait(watcher)

    def _place(self, lane: Lane) -> None:
        """Put waiting watchers on streams of the current link and token."""
        if self._now < lane.resume_at:
            self._timers.set(lane, lane.resume_at)
            return
        for watcher in list(lane.waiting):
            stream = lane.room(self._link, self._generation, self._max_watchers) or self._open(lane)
            stream.add(watcher)
            lane.waiting.pop(watcher, None)  # last: a signal that comes in between must not lose it

    def _open(self, lane: Lane) -> MuxStream:
        generations = {stream.generation for stream in lane.streams}
        if len(generations) >= MAX_GENERATIONS and self._generation not in generations:
            oldest = lane.streams[0].generation
            for stream in [each for each in lane.streams if each.generation == oldest]:
                self._move(lane, stream)
        stream = MuxStream(self._link, self._generation, self._has_token, lane.require_leader, self._now)
        lane.opened(stream)
        self._actions.append(OpenStream(stream))
        return stream

    def _pump(self, stream: MuxStream) -> None:
        """Send the creates that may go out."""
        data = stream.next_create(self._now)
        while data is not None:
            self._actions.append(Send(stream, data))
            data = stream.next_create(self._now)
        self._expect_answer(stream)

    def _expect_answer(self, stream: MuxStream) -> None:
        if stream.sent:
            self._timers.set(stream, answer_due(stream))
        else:
            self._timers.discard(stream)

    # Outputs.

    def take_actions(self) -> list[Action]:
        """What the channel is to do, in order; given out once."""
        self._settle()
        taken = self._actions[:]
        self._actions.clear()  # `Denials` holds the same list
        return taken

    def take_ready(self) -> list[Watcher]:
        """Watchers that got something or ended since the last call."""
        self._settle()
        ready, self._ready = self._ready, []
        for watcher in ready:
            watcher.listed = False
        return ready

    def next_timer(self) -> float | None:
        """When `handle_timer` must be called next, monotonic seconds."""
        self._settle()
        own, refresh = self._timers.first(), self._denials.next_timer()
        if own is None or refresh is None:
            return refresh if own is None else own
        return min(own, refresh)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._turn(now)
        self._denials.handle_timer(now)
        key = self._timers.pop_due(now)
        while key is not None:
            if isinstance(key, Watcher):
                self._wait(key)
            elif isinstance(key, MuxStream):
                self._went_silent(key)
            elif callable(key):
                key()
            key = self._timers.pop_due(now)


def _own(error: EtcdError) -> EtcdError:
    """A copy for one watcher: raised in its own place, with its own traceback."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
