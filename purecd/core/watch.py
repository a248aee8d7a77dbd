# SPDX-License-Identifier: Apache-2.0
"""Opening and reading a watch, as operations.

Source: etcd client/v3/watch.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from purecd.core.op import Attach, Detach, Next, Now, Op
from purecd.core.watching import Watcher, WatchRequest
from purecd.errors import ClientClosed
from purecd.options import DEFAULT_TIMEOUT, Timeout, deadline_after
from purecd.requests import Text, as_int, check_flags, range_of
from purecd.types import Event, WatchResponse

FILTERS = {"put": 0, "delete": 1}


def watch_request(
    key: Text,
    range_end: Text | None = None,
    *,
    prefix: bool = False,
    from_key: bool = False,
    start_revision: int = 0,
    prev_kv: bool = False,
    progress_notify: bool = False,
    exclude: Iterable[str] = (),
    fragment: bool = True,
    require_leader: bool = False,
) -> WatchRequest:
    """Check what a watch asks for.

    Raises:
        ValueError, TypeError: before anything is sent.
    """
    start, end = range_of(key, range_end, prefix, from_key)
    check_flags(
        prev_kv=prev_kv, progress_notify=progress_notify, fragment=fragment, require_leader=require_leader
    )
    if isinstance(exclude, str) or not set(exclude) <= set(FILTERS):
        raise ValueError("exclude names kinds of events: 'put', 'delete'")
    if end and end != b"\0" and end <= start:
        raise ValueError("the range to watch is empty: range_end is not after key")
    return WatchRequest(
        start,
        end,
        start_revision=as_int("start_revision", start_revision),
        prev_kv=prev_kv,
        progress_notify=progress_notify,
        filters=tuple(sorted(FILTERS[each] for each in set(exclude))),
        fragment=fragment,
        created_notify=True,
        require_leader=require_leader,
    )


def open_watch(request: WatchRequest, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Watcher]:
    """Begin a watch and wait until the server has it.

    Events from then on, or from ``start_revision`` on, will be delivered.

    Raises:
        PermissionDenied: the user may not read all of the range.
        DeadlineExceeded: no endpoint took it in time.
        ClientClosed: the client was closed before a server had the watch.

    Sends: Watch/Watch, again whenever the connection is lost.
    """
    watcher = Watcher(request)
    try:
        yield Attach(watcher)
        if (yield Next(watcher)) is None:
            raise ClientClosed("the client was closed before a server had the watch")
    except BaseException:
        yield Detach(watcher)
        raise
    return watcher


def next_response(watcher: Watcher, wait: float | None = None) -> Op[WatchResponse | None]:
    """The next response of a watch; None once it was cancelled from this side.

    Args:
        wait: seconds to wait, None for no limit.

    Raises:
        TimeoutError: nothing came in time; the watch lives on.
        Compacted: events were missed for good; ``compact_revision`` is where to start anew.
        EtcdError: why the watch ended.
    """
    response: WatchResponse | None = yield Next(watcher, wait)
    return response


def next_changes(watcher: Watcher, wait: float | None = None) -> Op[WatchResponse | None]:
    """The next response with events, like `next_response`; progress reports do not prolong the wait."""
    until = None if wait is None else deadline_after(wait, (yield Now()))
    left = wait
    while True:
        response: WatchResponse | None = yield Next(watcher, left)
        if response is None or response.events:
            return response
        left = None if until is None else until - (yield Now())


def close_watch(watcher: Watcher) -> Op[None]:
    """End a watch, also on the server."""
    yield Detach(watcher)


def resume_revision(watcher: Watcher, unread: Iterable[Event] = ()) -> int:
    """Where a new watch must start to miss nothing after what the user has got.

    Args:
        unread: events of the last response taken that the user has not got yet.
    """
    after_all = watcher.next_revision  # looked at first: more may arrive meanwhile
    for event in unread:
        return event.kv.mod_revision
    for response in tuple(watcher.inbox):
        for event in response.events:
            return event.kv.mod_revision
    return after_all
