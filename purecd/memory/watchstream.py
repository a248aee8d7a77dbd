# SPDX-License-Identifier: Apache-2.0
"""The Watch RPC: many watchers on one stream.

1. Requests are taken in order, and each create is answered at once: with the watcher's id, or with id
   -1 and a reason. An id of 0 lets the member choose: 0, 1, 2 … without those in use.
2. What is asked of an id that the stream does not know is ignored, and so is a request that asks nothing.
3. The client's half-close changes nothing: changes are told until the stream is reset.
4. Progress that is requested is told with id -1, if every watcher of the stream is current and there is
   one; else the request gets no answer. Up to 3.5.7 it was answered at once, whatever was missing.
5. Progress for a watcher that wants it is told every 10 to 11 minutes, unless it had changes since.
6. A response of `max_request_bytes` and more is split for watchers that allow it, between any two events.

Source: etcd server/etcdserver/api/v3rpc/watch.go; what up to 3.5.5 did was observed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.log import NotApplied
from purecd.memory.store import range_end
from purecd.memory.watches import Stream, Watcher, event
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from purecd.memory.calls import ServerCall
    from purecd.memory.store import Record, Store
    from purecd.memory.watches import Watchers

CODE_NAMES = {3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}
STREAM = -1  # watch id of what concerns no watcher, or all
CONGESTION = 1 << 20  # octets waiting on a stream before its watchers fall behind
NAMED_DENIALS = (statuses.INVALID_AUTH_TOKEN, statuses.AUTH_OLD_REVISION, statuses.USER_EMPTY)


class WatchRules(NamedTuple):
    """What differs between members.

    Attributes:
        progress_interval: seconds between two progress notifications, up to a tenth more.
        max_response: octets from which a response is split.
        denial_names_id: a refused create is answered with the id that was asked for, and
            PermissionDenied whatever the reason (up to 3.5.5).
        eager_progress: requested progress is told at once (up to 3.5.7).
    """

    progress_interval: float = 600.0
    max_response: int = 1_572_864 + 524_288
    denial_names_id: bool = False
    eager_progress: bool = False


class WatchStream(Stream):
    """One stream of the Watch RPC.

    Args:
        header: fills a reply's header for a revision of the store.
        permit: raises `Status` when the caller may not read a range.
        closed: told when the stream is gone.
        wait: calls a function when a command was applied.
    """

    def __init__(
        self,
        call: ServerCall,
        store: Store,
        watchers: Watchers,
        rules: WatchRules,
        header: Callable[[pb.ResponseHeader, int], None],
        permit: Callable[[bytes, bytes], None],
        rng: Random,
        now: float,
        closed: Callable[[WatchStream], None],
        wait: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self._call = call
        self._reply: Callable[[Any], None] = call.reply
        self._store = store
        self._watchers = watchers
        self._rules = rules
        self._header = header
        self._permit = permit
        self._closed = closed
        self._wait = wait
        self._requests: list[Any] = []
        self._blocked = False
        self._known: dict[int, Watcher] = {}
        self._next_id = 0
        self._progress: dict[int, bool] = {}  # which get progress, and had no changes since the last
        self._muted: set[int] = set()
        self._prev_kv: set[int] = set()
        self._fragment: set[int] = set()
        self._now = now
        self._interval = rules.progress_interval * (1 + rng.random() / 10)
        self._tick_at = now + self._interval

    @property
    def congested(self) -> bool:
        return self._call.backlog > CONGESTION

    def receive(self, message: Any, now: float) -> None:
        """One `WatchRequest`."""
        self._requests.append(message)
        self._take(now)

    def _take(self, now: float) -> None:
        """Take requests, up to one whose token this member does not know yet."""
        self._now = now
        while self._requests and not self._blocked:
            try:
                self._answer(self._requests[0], now)
            except NotApplied as early:
                self._blocked = True
                self._wait(early.index, self._resume)
            else:
                if self._requests:  # unless it ended the stream
                    self._requests.pop(0)

    def _resume(self) -> None:
        self._blocked = False
        self._take(self._now)

    def _answer(self, request: pb.WatchRequest, now: float) -> None:
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request, now)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._request_progress()

    def half_close(self, now: float) -> None:
        """The client will ask nothing more; it may still listen."""

    def cancel(self, now: float) -> None:
        """The stream is gone."""
        for watcher in self._known.values():
            self._watchers.remove(watcher)
        self._known.clear()
        self._progress.clear()
        self._requests.clear()
        self._closed(self)

    def _create(self, request: pb.WatchCreateRequest, now: float) -> None:
        key = request.key or b"\0"
        end = range_end(request.range_end)
        if request.start_revision < 0:
            self._refuse(STREAM, statuses.COMPACTED[1])
            return
        try:
            # etcd checks the key alone when the range has no end.
            self._permit(key, end or b"")
        except Status as denied:
            self._deny(request, denied)
            return
        if end and key >= end:
            self._refuse(STREAM, "mvcc: watcher range is empty")
            return
        watch_id = request.watch_id
        if watch_id in self._known and watch_id != 0:
            self._refuse(STREAM, "mvcc: duplicate watch ID provided on the WatchStream")
            return
        self._open(request, watch_id or self._free_id(), key, end, now)

    def _open(
        self, request: pb.WatchCreateRequest, watch_id: int, key: bytes, end: bytes | None, now: float
    ) -> None:
        watcher = Watcher(self, watch_id, key, end, request.start_revision, set(request.filters))
        self._known[watch_id] = watcher
        if request.progress_notify:
            self._progress[watch_id] = True
        if request.prev_kv:
            self._prev_kv.add(watch_id)
        if request.fragment:
            self._fragment.add(watch_id)
        self._watchers.add(watcher, now)
        self._send(pb.WatchResponse(watch_id=watch_id, created=True), self._store.revision)

    def _free_id(self) -> int:
        while self._next_id in self._known:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _deny(self, request: pb.WatchCreateRequest, denied: Status) -> None:
        named = any(denied.text == text for _, text in NAMED_DENIALS) and not self._rules.denial_names_id
        code, text = (denied.code, denied.text) if named else statuses.PERMISSION_DENIED
        watch_id = request.watch_id if self._rules.denial_names_id else STREAM
        # The old members then take that id for ended, and whoever has it hears nothing any more.
        self._muted.add(watch_id)
        self._refuse(watch_id, f"rpc error: code = {CODE_NAMES[code]} desc = {text}")

    def _refuse(self, watch_id: int, reason: str) -> None:
        refusal = pb.WatchResponse(watch_id=watch_id, created=True, canceled=True, cancel_reason=reason)
        self._send(refusal, self._store.revision)

    def _cancel(self, watch_id: int) -> None:
        watcher = self._known.pop(watch_id, None)
        if watcher is None:
            return
        self._watchers.remove(watcher)
        self._send(pb.WatchResponse(watch_id=watch_id, canceled=True), self._store.revision)
        self._progress.pop(watch_id, None)
        self._prev_kv.discard(watch_id)
        self._fragment.discard(watch_id)

    def _request_progress(self) -> None:
        if not self._rules.eager_progress:
            if not self._known or self.congested:
                return
            if not all(self._watchers.is_current(watcher) for watcher in self._known.values()):
                return
        self._send(pb.WatchResponse(watch_id=STREAM), self._store.revision)

    def next_timer(self) -> float | None:
        """When progress is due for watchers that want it; None without any."""
        return self._tick_at if self._progress else None

    def handle_timer(self, now: float) -> None:
        """Tell progress when it is due."""
        if now < self._tick_at:
            return
        # As a ticker: on its grid, whether anybody listened or not.
        self._tick_at += self._interval * (1 + (now - self._tick_at) // self._interval)
        for watch_id, quiet in self._progress.items():
            watcher = self._known[watch_id]
            if quiet and self._watchers.is_current(watcher) and not self.congested:
                self._send(pb.WatchResponse(watch_id=watch_id), self._store.revision)
            self._progress[watch_id] = True

    def tell(self, watcher: Watcher, revision: int, changes: Sequence[Record]) -> None:
        watch_id = watcher.watch_id
        if watch_id in self._muted and watch_id != STREAM:
            return
        prev_kv = watch_id in self._prev_kv
        response = pb.WatchResponse(
            watch_id=watch_id, events=[event(self._store, record, prev_kv) for record in changes]
        )
        if watch_id in self._progress:
            self._progress[watch_id] = False
        if watch_id in self._fragment:
            self._send_fragments(response, revision)
        else:
            self._send(response, revision)

    def tell_compacted(self, watcher: Watcher, revision: int) -> None:
        self._send(pb.WatchResponse(watch_id=watcher.watch_id, canceled=True, compact_revision=revision), 0)

    def _send_fragments(self, response: pb.WatchResponse, revision: int) -> None:
        limit = self._rules.max_response
        self._header(response.header, revision)
        if response.ByteSize() < limit or len(response.events) < 2:
            self._reply(response)
            return
        rest = list(response.events)
        while rest:
            part = pb.WatchResponse(watch_id=response.watch_id, header=response.header, fragment=True)
            taken = _fitting(part, rest, limit)
            del rest[:taken]
            part.fragment = bool(rest)
            self._reply(part)

    def _send(self, response: pb.WatchResponse, revision: int) -> None:
        self._header(response.header, revision)
        self._reply(response)


def _fitting(part: pb.WatchResponse, events: list[pb.Event], limit: int) -> int:
    """Fill a fragment with as many events as fit, one at least."""
    size = part.ByteSize()
    taken = 0
    for each in events:
        length = each.ByteSize()
        size += 1 + _varint_size(length) + length
        if taken and size >= limit:
            break
        part.events.append(each)
        taken += 1
    return taken


def _varint_size(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)
