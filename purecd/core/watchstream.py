# SPDX-License-Identifier: Apache-2.0
"""One gRPC Watch stream that carries many watchers.

1. A watcher sits on one stream at a time, under a `watch_id` that is valid on that stream only.
   The stream object is the incarnation: what arrives on an old one reaches nobody.
2. Ids are chosen here, from 1 up, and never used twice on a stream, not even after a cancel:
   the server still sends what it had queued for the old watcher.
3. The first create of a stream goes out alone. If it is answered with the id it asked for, the
   peer is a member, which answers creates in order: from then on they are pipelined. Any other
   id comes from a grpc-proxy: its ids are adopted, and one create is outstanding at a time.
4. Fragments are joined before anybody sees them, so the events of one revision stay together;
   what is incomplete when the stream ends is dropped and sent again by the next server.

    queue --sent--> sent --created--> active --removed--> cancel request
                      +---created, watcher gone meanwhile--> cancel request
                      +---refused--> (the owner decides)

Source: etcd client/v3/watch.go; server/etcdserver/api/v3rpc/watch.go; server/proxy/grpcproxy/watch.go.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Any

from purecd.core.watcher import State, Watcher, weigh
from purecd.pb import codecs
from purecd.types import Event, WatchResponse

MAX_STRANGERS = 1024
"""Unknown watch ids of one stream that are cancelled; further ones are only ignored."""


class Create:
    """A create request that has not been answered.

    Attributes:
        watcher: who asked, None when it was cancelled meanwhile.
        after_progress: a progress request went out on the stream before it.
    """

    __slots__ = ("after_progress", "start_revision", "watch_id", "watcher")

    def __init__(self, watcher: Watcher, watch_id: int, after_progress: bool) -> None:
        self.watcher: Watcher | None = watcher
        self.watch_id = watch_id
        self.start_revision = watcher.next_revision
        self.after_progress = after_progress


class _Partial:
    """Fragments of one response, so far."""

    __slots__ = ("events", "weight")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.weight = 0


class Peer(enum.Enum):
    """Who answers the creates of a stream."""

    UNKNOWN = "unknown"
    MEMBER = "member"
    PROXY = "proxy"


class MuxStream:
    """One gRPC Watch stream: which watcher has which id, and which creates are unanswered.

    Args:
        link: the connection it is opened on.
        generation: of the token it is opened with.
        has_token: whether that is a token at all.
        require_leader: opened with ``hasleader``.
        now: monotonic seconds.

    Attributes:
        carrier: the channel's own.
        active: established watchers by id.
        queue: watchers whose create has not been sent, in order.
        sent: creates without an answer, in order.
        live: watchers in these three.
        held: refusals of this stream that a permission read is deciding about.
        refused: whether any create was refused.
        proven: whether any message but a refusal arrived.
        fruitful: whether anything but answers to creates arrived.
        failures, bounded, unanswered: how often its forerunners failed.
        asked_at: when the oldest unanswered create began to wait, monotonic seconds.
    """

    __slots__ = (
        "_ids",
        "_next_id",
        "_strangers",
        "active",
        "asked_at",
        "bounded",
        "carrier",
        "closed",
        "failures",
        "fruitful",
        "generation",
        "has_token",
        "held",
        "link",
        "live",
        "opened_at",
        "partials",
        "peer",
        "progress_requested",
        "proven",
        "queue",
        "refused",
        "require_leader",
        "sent",
        "unanswered",
        "unsure",
        "where_asked",
        "where_open",
    )

    def __init__(self, link: Any, generation: int, has_token: bool, require_leader: bool, now: float) -> None:
        self.link = link
        self.generation = generation
        self.has_token = has_token
        self.require_leader = require_leader
        self.opened_at = now
        self.carrier: Any = None
        self.closed = False
        self.peer = Peer.UNKNOWN
        self.active: dict[int, Watcher] = {}
        self.queue: dict[Watcher, None] = {}
        self.sent: deque[Create] = deque()
        self.partials: dict[int, _Partial] = {}
        self.live = 0
        self.held = 0
        self.refused = False
        self.proven = False
        self.fruitful = False
        self.progress_requested = False
        self.unsure: dict[Watcher, None] = {}  # created from "now", and it is not known what came before
        self.where_asked = False  # a progress request of our own went out
        self.where_open = False  # and has not been answered
        self.failures = 0
        self.bounded = 0
        self.unanswered = 0
        self.asked_at = now
        self._ids = range(0)
        self._next_id = 1
        self._strangers: set[int] = set()

    def __repr__(self) -> str:
        return f"<MuxStream with {self.live} watchers, token {self.generation}>"

    # Watchers come and go.

    def add(self, watcher: Watcher) -> None:
        """Let a watcher wait for its create to be sent."""
        self.queue[watcher] = None
        self.live += 1
        watcher.stream = self
        watcher.state = State.QUEUED

    def next_create(self, now: float) -> bytes | None:
        """Take the next watcher from the queue and encode its create, None while none may go out."""
        if not self.queue or (self.sent and self.peer is not Peer.MEMBER):
            return None
        watcher = next(iter(self.queue))
        del self.queue[watcher]
        create = Create(watcher, self._next_id, self.progress_requested or self.where_asked)
        self._next_id += 1
        watcher.create = create
        watcher.state = State.SENT
        if not self.sent:
            self.asked_at = now
        self.sent.append(create)
        request = watcher.request
        return codecs.encode_watch_create(
            request.key,
            request.range_end,
            create.start_revision,
            request.progress_notify,
            request.filters,
            request.prev_kv,
            create.watch_id,
            request.fragment,
        )

    def answered(self, now: float) -> Create | None:
        """Take out the create that the answer which just came belongs to."""
        self.asked_at = now
        if not self.sent:
            return None
        create = self.sent.popleft()
        if create.watcher is not None:
            create.watcher.create = None
        return create

    def identify(self, create: Create, watch_id: int) -> bool:
        """Learn from an accepted create who the peer is; whether its answer makes sense."""
        if self.peer is Peer.UNKNOWN:
            self.peer = Peer.MEMBER if watch_id == create.watch_id else Peer.PROXY
        if watch_id in self.active or (self.peer is Peer.MEMBER and watch_id != create.watch_id):
            return False
        low, high = (self._ids.start, self._ids.stop) if self._ids else (watch_id, watch_id)
        self._ids = range(min(low, watch_id), max(high, watch_id + 1))
        return True

    def establish(self, watcher: Watcher, create: Create, response: WatchResponse) -> None:
        """The server accepted the create of `watcher`."""
        watcher.state = State.ACTIVE
        watcher.watch_id = response.watch_id
        watcher.tries = watcher.transients = 0
        watcher.resumed(create.start_revision)
        # Progress that was requested before this create may overtake the history it asked for.
        overtaken = create.start_revision and create.after_progress
        watcher.progress_floor = response.header.revision + (1 if overtaken else 0)
        self.active[response.watch_id] = watcher
        self.partials.pop(response.watch_id, None)

    def settle(self, revision: int) -> None:
        """All events up to `revision` have been sent: what watches from "now" have not got came before."""
        self.where_open = False
        for watcher in [each for each in self.unsure if each.created_revision <= revision]:
            del self.unsure[watcher]
            watcher.bookmark = max(watcher.bookmark, watcher.created_revision)

    def remove(self, watcher: Watcher) -> bytes | None:
        """Let go of a watcher; the cancel request that the server needs, None if it needs none now."""
        self.unsure.pop(watcher, None)
        cancel = None
        if watcher.state is State.QUEUED:
            del self.queue[watcher]
        elif watcher.state is State.SENT and watcher.create is not None:
            watcher.create.watcher = None
            watcher.create = None
        elif watcher.state is State.ACTIVE:
            del self.active[watcher.watch_id]
            self.partials.pop(watcher.watch_id, None)
            cancel = codecs.encode_watch_cancel(watcher.watch_id)
        self.left(watcher)
        return cancel

    def left(self, watcher: Watcher) -> None:
        """A watcher is on this stream no more."""
        self.live -= 1
        watcher.stream = None
        watcher.watch_id = 0

    def clear(self) -> list[Watcher]:
        """End the stream; all its watchers, the established ones first."""
        self.closed = True
        watchers = list(self.active.values())
        watchers.extend(create.watcher for create in self.sent if create.watcher is not None)
        watchers.extend(self.queue)
        for watcher in watchers:
            watcher.create = None
            self.left(watcher)
        self.active.clear()
        self.sent.clear()
        self.queue.clear()
        self.partials.clear()
        return watchers

    # Responses.

    def join(self, response: WatchResponse) -> WatchResponse | None:
        """Join a response with its fragments; None until the last one is there."""
        partial = self.partials.get(response.watch_id)
        if response.fragment:
            if partial is None:
                partial = self.partials[response.watch_id] = _Partial()
            partial.events.extend(response.events)
            partial.weight += weigh(response.events)
            return None
        if partial is None:
            return response
        del self.partials[response.watch_id]
        partial.events.extend(response.events)
        return response._replace(events=partial.events)

    def pending(self, watch_id: int) -> tuple[int, int]:
        """How many events, and bytes of them, wait for their last fragment."""
        partial = self.partials.get(watch_id)
        return (0, 0) if partial is None else (len(partial.events), partial.weight)

    def stranger(self, watch_id: int) -> bytes | None:
        """The cancel request for an id nobody has; None if one was sent before."""
        # An id that a watcher had was cancelled when the watcher left.
        if watch_id in self._ids or watch_id in self._strangers or len(self._strangers) >= MAX_STRANGERS:
            return None
        self._strangers.add(watch_id)
        return codecs.encode_watch_cancel(watch_id)
