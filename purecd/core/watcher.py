# SPDX-License-Identifier: Apache-2.0
"""One watcher: what it asks for, what it has got, and where it continues.

1. `next_revision` is where a new create starts. It moves past events and past progress that the
   server reports for this watcher alone; never because of a created response but the first one
   of a watch from "now", and never because of the header of a response with events.
2. Events below `floor` have been delivered or were never wanted; a server that sends them again
   is not believed.

How a watcher moves:

    NEW --add--> WAITING --placed--> QUEUED --sent--> SENT --created--> ACTIVE
                  ^ ^ ^ ^              |               |                 |  |
                  | | | +--------------+---------------+-- stream ended -+  | overflow
                  | | |                        refused |                    v
                  | | +-- decided -- HELD <------------+                SUSPENDED
                  | +---- time over - DELAYED <- HELD                       |
                  +-------------------------------------- drained ----------+

    any of these --> ENDED: cancelled here (`closed`), or refused, compacted, halted (`error`)

Source: etcd client/v3/watch.go; server/etcdserver/api/v3rpc/watch.go.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from purecd.errors import EtcdError
from purecd.records import NamedTuple
from purecd.types import Event, WatchResponse

if TYPE_CHECKING:
    from purecd.core.watchstream import Create, MuxStream

EVENT_COST = 400
"""Bytes an event takes besides its keys and values, by `sys.getsizeof` of its objects on CPython 3.11."""

_NO_PUT, _NO_DELETE = 0, 1


class _WatchRequest(NamedTuple):
    key: bytes
    range_end: bytes = b""
    start_revision: int = 0
    prev_kv: bool = False
    progress_notify: bool = False
    filters: tuple[int, ...] = ()
    fragment: bool = False
    created_notify: bool = False
    require_leader: bool = False


class WatchRequest(_WatchRequest):
    """What to watch.

    Args:
        key: first key of `[key, range_end)`.
        range_end: b"" for the single key, b"\\0" for all keys from `key` on.
        start_revision: first revision wanted, 0 for the changes from now on.
        prev_kv: have events carry the key as it was before.
        progress_notify: have the server report progress when nothing happens for long.
        filters: 0 leaves out puts, 1 leaves out deletes.
        fragment: let the server split large responses; they are joined again here.
        created_notify: deliver the first created response too.
        require_leader: end with `NoLeader` when the member loses its leader.

    Raises:
        ValueError: `start_revision` is negative, or a filter unknown.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> WatchRequest:
        self = super().__new__(cls, *args, **kwargs)
        # Servers disagree about negative revisions: some cancel, some deny, some take -1 for 0.
        if not 0 <= self.start_revision < 2**63:
            raise ValueError(f"start_revision must be 0 to 2^63-1, not {self.start_revision}")
        if any(each not in (_NO_PUT, _NO_DELETE) for each in self.filters):
            raise ValueError(f"filters are 0 (no puts) and 1 (no deletes), not {self.filters}")
        return self


class State(enum.Enum):
    """Where a watcher is; see the drawing above."""

    NEW = "new"
    WAITING = "waiting"
    QUEUED = "queued"
    SENT = "sent"
    ACTIVE = "active"
    HELD = "held"
    DELAYED = "delayed"
    SUSPENDED = "suspended"
    ENDED = "ended"


class Watcher:
    """One watch, over all the streams it lives on; a source of responses.

    Args:
        request: what to watch.

    Attributes:
        waiter: the driver's own.
        inbox: responses not taken yet, oldest first; events of one revision never split.
        taken: the last one taken out, until the reader has it.
        takes: how often one was taken out.
        error: why the watch ended, to be raised once the inbox is empty.
        closed: ended from this side.
        next_revision: where the watch continues; 0 until a watch from "now" is created.
        created: whether a server has accepted it once.
        created_revision: revision of the store in the first created response.
        tries: re-creates after refusals since the last success.
        transients: passing refusals in a row.
        floor: events below this revision have been delivered, or were never wanted.
        bookmark: highest progress delivered.
    """

    __slots__ = (
        "_weight",
        "bookmark",
        "buffered_events",
        "closed",
        "create",
        "created",
        "created_revision",
        "error",
        "floor",
        "inbox",
        "listed",
        "next_revision",
        "progress_floor",
        "request",
        "state",
        "stream",
        "taken",
        "takes",
        "transients",
        "tries",
        "waiter",
        "watch_id",
    )

    channel: ClassVar[str] = "streams"
    machine: ClassVar[str] = "watches"

    def __init__(self, request: WatchRequest) -> None:
        self.request = request
        self.waiter: Any = None
        self.inbox: deque[WatchResponse] = deque()
        self.taken: WatchResponse | None = None
        self.takes = 0
        self.error: EtcdError | None = None
        self.closed = False
        self.next_revision = request.start_revision
        self.created = False
        self.created_revision = 0
        self.tries = 0
        self.transients = 0
        self.floor = request.start_revision
        self.bookmark = 0
        self.progress_floor = 0
        self.buffered_events = 0
        self._weight: int | None = 0  # of the inbox, None while nobody has asked for it
        self.state = State.NEW
        self.stream: MuxStream | None = None
        self.create: Create | None = None
        self.watch_id = 0
        self.listed = False

    def __repr__(self) -> str:
        return f"<Watcher {self.request.key!r} {self.state.value} from {self.next_revision}>"

    def take(self) -> WatchResponse | None:
        """Take out the oldest response, None when there is none now."""
        if not self.inbox:
            return None
        self.taken = self.inbox[0]  # first: a signal may cut this short anywhere
        self.takes += 1
        response = self.inbox.popleft()
        if self.inbox:
            self.buffered_events -= len(response.events) or 1
            if self._weight is not None:
                self._weight -= weigh(response.events)
        else:  # as a rule; then nothing needs to be weighed
            self.buffered_events = self._weight = 0
        return response

    def put_back(self) -> None:
        """Undo the last `take`, also one that was cut short: the response did not reach the reader."""
        if self.closed or self.taken is None:
            return
        if not (self.inbox and self.inbox[0] is self.taken):
            self.inbox.appendleft(self.taken)
        self._count()

    def mend(self) -> None:
        """Put right what a signal may have left half done: the counts, and what has been delivered."""
        self.stream = self.create = None
        self._count()
        taken = [] if self.taken is None else [self.taken]
        for response in reversed([*taken, *self.inbox]):
            if response.events:
                last = response.events[-1].kv.mod_revision
                if last + 1 >= self.floor:
                    self.passed(last)
                return

    def _count(self) -> None:
        self.buffered_events = sum(len(each.events) or 1 for each in self.inbox)
        self._weight = None

    @property
    def buffered_bytes(self) -> int:
        """What the events in the inbox weigh."""
        if self._weight is None:
            self._weight = sum(weigh(each.events) for each in self.inbox)
        return self._weight

    def put(self, response: WatchResponse, weight: int | None) -> None:
        """Append a response.

        Args:
            weight: of its events; None: they are weighed when somebody asks. As a rule a response is taken
                before another one comes, and nobody does, which saves 0.1 us an event.
        """
        self.inbox.append(response)
        self.buffered_events += len(response.events) or 1
        self._weight = None if weight is None or self._weight is None else self._weight + weight

    def forget_inbox(self) -> None:
        """Drop what nobody will take."""
        self.inbox.clear()
        self.buffered_events = self._weight = 0

    def unseen(self, response: WatchResponse) -> WatchResponse | None:
        """Without the events that were delivered before or lie below the start; None if none is left.

        Servers up to 3.4.37, 3.5.21 and 3.6.1 may send such after a member restored a snapshot.
        """
        floor = self.floor
        if response.events[0].kv.mod_revision >= floor:
            return response
        events = [each for each in response.events if each.kv.mod_revision >= floor]
        return response._replace(events=events) if events else None

    def resumed(self, start_revision: int) -> None:
        """A server sends events from `start_revision` on, 0 for those from now on."""
        self.floor = max(self.floor, start_revision)
        # A watch from "now" resumes at the created revision, of which older servers send the event that
        # came before the watch. Progress that was delivered meanwhile has settled that it is not wanted.
        from_now = self.created and not self.request.start_revision
        if from_now and start_revision == self.created_revision <= self.bookmark:
            self.floor = max(self.floor, start_revision + 1)

    @property
    def seen_revision(self) -> int:
        """The highest revision that the store certainly had; 0 while only one was asked for."""
        return self.next_revision - 1 if self.next_revision > self.request.start_revision else 0

    def passed(self, revision: int) -> None:
        """All events up to `revision` have been delivered."""
        # Of a watch from "now" newer servers may send events at or below the created revision, so
        # the resume point can move back to where the events are; it never falls below `floor`.
        self.floor = self.next_revision = revision + 1


def weigh(events: list[Event]) -> int:
    """Bytes that events keep in memory, roughly."""
    total = len(events) * EVENT_COST
    for event in events:  # by index: 0.8 of the time of unpacking
        kv, prev_kv = event[1], event[2]
        total += len(kv[0]) + len(kv[4])
        if prev_kv is not None:
            total += EVENT_COST // 2 + len(prev_kv.key) + len(prev_kv.value)
    return total
