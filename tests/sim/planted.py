# SPDX-License-Identifier: Apache-2.0
"""Bugs planted into the client, each of which the simulation must find (S22): the test of the test.

Each is a mistake that clients do make, some of them the official one. They are put in at run time, by
replacing a method or two, so that nothing of them is in the client itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, NamedTuple

from purecd import errors
from purecd.core import kv, line, locks, methods, retry
from purecd.core.keptlease import LeaseStream
from purecd.core.link import LinkState
from purecd.core.links import Links
from purecd.core.tokens import Tokens
from purecd.core.watching import WatchMux
from purecd.core.watchplaces import WatchPlaces
from purecd.core.watchstream import MuxStream
from purecd.requests import Txn
from purecd.wire import frames
from purecd.wire.http2 import Http2Connection
from purecd.wire.receiving import ReceivingHalf

Patch = tuple[Any, str, Any]  # whose, which attribute, what it becomes
NEVER = 1 << 62  # a position in the output that is not reached


class Bug(NamedTuple):
    """A bug to plant.

    Attributes:
        patches: what it replaces.
        shows: invariants that it violates; a run that fails otherwise has not found it.
    """

    patches: Callable[[], list[Patch]]
    shows: tuple[str, ...]


BUGS: dict[str, Bug] = {}


def shows(*numbers: str) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    """Put a bug into the list, and say which invariants it violates."""

    def enlist(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        BUGS[patches.__name__] = Bug(patches, numbers)
        return patches

    return enlist


@shows("S2", "S4")
def retry_on_unavailable() -> list[Patch]:
    """A write is sent again after its connection was lost."""
    may_repeat = retry.may_repeat

    def always(method: Any, error: errors.EtcdError, idempotent: bool = False) -> bool:
        lost = isinstance(error, errors.Unavailable) and not error.final
        return lost or may_repeat(method, error, idempotent)

    return [(retry, "may_repeat", always)]


@shows("S10", "S11")
def resume_from_header() -> list[Patch]:
    """A watch goes on after the revision in the header of the events, where more of a backlog may follow."""
    events = WatchMux._events

    def too_far(self: WatchMux, stream: Any, watcher: Any, response: Any) -> None:
        events(self, stream, watcher, response)
        if response.events and not response.fragment:
            watcher.passed(response.header.revision)

    return [(WatchMux, "_events", too_far)]


@shows("S10", "S11")
def resume_at_zero() -> list[Patch]:
    """A watch goes on with what happens from then on."""
    next_create = MuxStream.next_create

    def from_now(self: MuxStream, now: float) -> bytes | None:
        for watcher in self.queue:
            if watcher.created:
                watcher.next_revision = 0
        return next_create(self, now)

    return [(MuxStream, "next_create", from_now)]


@shows("S13")
def lease_deadline_from_receipt() -> list[Patch]:
    """A lease is believed alive for its time from when the answer arrived."""
    answered = LeaseStream.answered

    def just_now(self: LeaseStream, lease_id: int) -> float | None:
        return None if answered(self, lease_id) is None else self.heard_at

    return [(LeaseStream, "answered", just_now)]


@shows("S9", "S10")
def ignore_fragment_flag() -> list[Patch]:
    """The fragments of a response are taken for responses."""
    return [(MuxStream, "join", lambda self, response: response._replace(fragment=False))]


@shows("S10")
def drop_on_reconnect() -> list[Patch]:
    """Watches are forgotten with their connection."""

    stream_ended = WatchPlaces.stream_ended

    def forget(self: WatchPlaces, stream: Any, error: errors.EtcdError, now: float) -> None:
        if isinstance(error, errors.Unavailable) and not stream.closed:
            self._turn(now)
            self._break(self._lanes[stream.require_leader], stream, reset=False)
        else:
            stream_ended(self, stream, error, now)

    return [(WatchPlaces, "stream_ended", forget)]


@shows("S18", "S20")
def reuse_stale_token() -> list[Patch]:
    """A rejected token is used on."""

    def keep(self: Tokens, link: Any, token: bytes) -> None:
        if not link.token:
            link.token = token
        self.latest = link.token
        link.generation += 1

    return [(Tokens, "_replace", keep)]


@shows("S2")
def nospace_is_definite() -> list[Patch]:
    """`database space exceeded` is taken to mean that nothing was stored."""
    return [(errors.NoSpace, "ambiguous", False)]


@shows("S2", "S4")
def end_stream_as_commit_point() -> list[Patch]:
    """A request counts as sent when its END_STREAM is, which goes out when the server has begun to speak."""
    open_stream, receive = Http2Connection.open_stream, Http2Connection.receive_data
    late: list[Any] = []

    def open_half(self: Http2Connection, stream: Any, block: bytes, data: bytes, end_stream: bool) -> None:
        open_stream(self, stream, block, data, False)
        if end_stream and stream.left_at >= 0:
            stream.left_at = NEVER
            late.append(stream)

    def receive_and_end(self: Http2Connection, data: bytes, now: float) -> None:
        for stream in [each for each in late if each.conn is self]:
            late.remove(stream)
            if self._streams.get(stream.id) is stream:
                self.output.put(frames.data_frame(stream.id, b"", True))
                stream.local_closed = True
                stream.left_at = self.output.queued
        receive(self, data, now)

    return [(Http2Connection, "open_stream", open_half), (Http2Connection, "receive_data", receive_and_end)]


@shows("S21")
def padding_not_counted() -> list[Patch]:
    """Padding is not charged to the windows, so that they shrink without either side knowing why."""
    deliver = ReceivingHalf._deliver_data

    def unpadded(self: ReceivingHalf, stream: Any, data: bytes, size: int, end_stream: bool) -> None:
        deliver(self, stream, data, len(data), end_stream)

    return [(ReceivingHalf, "_deliver_data", unpadded)]


@shows("S21")
def goaway_kills_streams() -> list[Patch]:
    """A connection is dropped at GOAWAY, with all calls that the server would have answered."""

    def drop(self: Links, link: Any, now: float) -> None:
        if link.state is LinkState.DRAINING:
            self._drop(link, errors.Unavailable("the server is going away"), now)

    return [(Links, "_sweep", drop)]


@shows("S19")
def unbounded_buffer() -> list[Patch]:
    """A watch that nobody reads holds ever more."""
    return [(WatchMux, "_overflows", lambda self, watcher, events, weight: False)]


@shows("S15")
def lock_after_one_ahead() -> list[Patch]:
    """Who waits for a lock takes it when the one ahead is gone, without looking who is ahead then."""

    def once(place: line.Place) -> Any:
        ahead = yield from kv.get(
            place.prefix,
            prefix=True,
            sort_by="create_revision",
            descending=True,
            limit=1,
            max_create_revision=place.create_revision - 1,
        )
        if ahead.kv is not None:
            yield from line._until_deleted(place, ahead.kv.key, ahead.header.revision + 1)

    return [(locks, "wait_turn", once)]


@shows("S15")
def unguarded_writes() -> list[Patch]:
    """The holder of a lock writes without the compare that the lock is held."""

    def unguarded(place: line.Place, compare: Any, success: Any, failure: Any, idempotent: bool) -> Any:
        return retry.call(methods.TXN, Txn(compare, success, failure), idempotent=idempotent)

    return [(locks, "guarded", unguarded)]


@shows("S16")
def leave_the_key_behind() -> list[Patch]:
    """Who gives up waiting for a lock goes without deleting its key."""

    def walk_away(place: line.Place) -> Any:
        yield from line._put_away(place)

    return [(locks, "leave", walk_away)]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have a bug in the client of this process for a while."""
    patches = BUGS[name].patches()
    before = [vars(owner).get(attribute) for owner, attribute, _ in patches]
    for owner, attribute, bad in patches:
        setattr(owner, attribute, bad)
    try:
        yield
    finally:
        for (owner, attribute, _), good in zip(patches, before):
            if good is None:
                delattr(owner, attribute)  # it is inherited
            else:
                setattr(owner, attribute, good)


def find(name: str, first: int, limit: int) -> tuple[int, str]:
    """Run seeds with a bug until one shows it.

    Returns:
        How many that took, 0 when none of them did, and what was violated.
    """
    from tests.sim.run import simulate

    with planted(name):
        for number in range(limit):
            failure = simulate(first + number).failure.strip()
            what = failure.rpartition("InvariantError: ")[2]
            if what.partition(" ")[0] in BUGS[name].shows:
                return number + 1, what[:90]
    return 0, ""
