# SPDX-License-Identifier: Apache-2.0
"""Objects with a life in the blocking front: watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, cycle, repeat
from operator import attrgetter, length_hint
from typing import TYPE_CHECKING, Any

from purecd.core import watch as operations
from purecd.errors import EtcdError
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.records import NamedTuple
from purecd.types import Event, WatchResponse

if TYPE_CHECKING:
    from types import TracebackType

    from purecd.core.op import Op
    from purecd.core.watching import Watcher, WatchRequest


_IN_C = sys.implementation.name == "cpython"
"""Whether `partial` and `attrgetter` are. Where they are in Python a signal may come in the midst of them."""
_END: Iterator[Event] = iter(())
"""Where a reader stands after the last event of all."""


class _Unread(NamedTuple):
    """How far a reader is; all in one, so that it changes in one step and no signal comes in between.

    Attributes:
        events: what was read last.
        at: an iterator over it that stands at what was not handed out.
        takes: how many takings from the watcher it comes from.
    """

    events: list[Event]
    at: Iterator[Event]
    takes: int


class Watch:
    """Changes of a key or a range, in order, each once, across lost connections.

    Iterate it for single events, or `responses` for all events of one response together. Both
    wait in the calling thread. It ends when it is closed; an error that ends it is raised.

    It must be read by one thread at a time. While nobody reads, up to 10,000 events are kept;
    beyond that the server is told to stop, and to go on from there when they were read.
    """

    def __init__(self, owner: Any, request: WatchRequest, timeout: Timeout) -> None:
        self._owner = owner
        self._told_end = False
        try:
            self._watcher: Watcher = owner._run(operations.open_watch(request), timeout)
        except BaseException as error:
            self._tell_end("failed", str(error) or type(error).__name__)
            raise
        self._unread = _Unread([], iter(()), self._watcher.takes)
        owner._tell_watch("opened", "")

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        if not _IN_C:
            return self
        # In turn the events at hand and one that reads more, until the former are `_END`. So no function of
        # Python's runs for an event, which takes an eighth of the time of `__next__`. A signal can raise only
        # in `_read_on`, and what raises there can be read on after, other than a generator. Nowhere else:
        # were the reading iterator of a class of ours, and a signal came in its `__iter__`, the chain ended.
        at_hand = iter(partial(attrgetter("_unread.at"), self), _END)
        reading = map(self._read_on, repeat(None))
        parts: Iterator[Iterator[Event]] = map(next, cycle((at_hand, repeat(reading))))
        return chain.from_iterable(parts)

    def __next__(self) -> Event:
        for event in self._unread.at:
            return event  # no call comes between, after which Python might run the handler of a signal
        self._fill(None)
        for event in self._unread.at:
            return event
        raise StopIteration

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None once the watch was closed.

        Args:
            timeout: seconds to wait, None for no limit.

        Raises:
            TimeoutError: none came in time; the watch lives on.
            Compacted: events were compacted before they could be delivered.
        """
        for event in self._unread.at:
            return event  # as above
        self._fill(timeout)
        for event in self._unread.at:
            return event
        return None

    def _fill(self, timeout: float | None) -> None:
        """Read the next events; none once the watch was closed."""
        response = self._read(operations.next_changes(self._watcher, timeout))
        if response is None:
            self._unread = _Unread([], _END, self._watcher.takes)
            return
        events = response.events
        self._unread = _Unread(events, iter(events), self._watcher.takes)
        self._watcher.taken = None

    def _read_on(self, _: None) -> Event:
        """In an iteration, what comes when no event is at hand: has no item, but reads some."""
        if not length_hint(self._unread.at):
            self._fill(None)
        raise StopIteration

    def responses(self, timeout: float | None = None) -> Iterator[WatchResponse]:
        """Whole responses: all events of a revision are in one; progress reports have none.

        Args:
            timeout: seconds to wait for each, None for no limit.
        """
        while True:
            response = self._read(operations.next_response(self._watcher, timeout))
            if response is None:
                return
            self._unread = self._unread._replace(takes=self._watcher.takes)
            self._watcher.taken = None
            yield response

    def _read(self, op: Op[WatchResponse | None]) -> WatchResponse | None:
        self._reclaim()
        try:
            response: WatchResponse | None = self._owner._run(op, None)
        except EtcdError as error:
            self._tell_end("failed", str(error))
            raise
        if response is None:
            self._tell_end("closed", "")
        return response

    def _reclaim(self) -> None:
        """Give back what was taken last, if a signal kept it from arriving here."""
        watcher = self._watcher
        if watcher.takes != self._unread.takes:
            if watcher.taken is not None and watcher.taken.events:
                self._owner._streams().put_back(watcher)
            self._unread = self._unread._replace(takes=watcher.takes)

    def _tell_end(self, event: str, detail: str) -> None:
        """Tell the hooks, once, how it ended."""
        if not self._told_end:
            self._told_end = True
            self._owner._tell_watch(event, detail)

    @property
    def resume_revision(self) -> int:
        """Where a new watch must start so that nothing is missed after what was read from this one.

        A revision of which some events were read and some not is read as a whole again.
        """
        self._reclaim()
        events, at, _ = self._unread
        return operations.resume_revision(self._watcher, events[len(events) - length_hint(at) :])

    @property
    def created_revision(self) -> int:
        """Revision of the store when a server first took the watch, 0 before; what comes later is seen."""
        return self._watcher.created_revision

    def request_progress(self, timeout: Timeout = DEFAULT_TIMEOUT) -> None:
        """Ask the server to report how far this watch is; the answer comes as a response without events.

        etcd may leave it unanswered while other watches of the client are catching up.
        """
        self._owner._streams().request_progress(self._watcher.request.require_leader)

    def close(self) -> None:
        """End the watch, also on the server; may be called from any thread, more than once."""
        self._owner._run(operations.close_watch(self._watcher), None)
        self._tell_end("closed", "")
