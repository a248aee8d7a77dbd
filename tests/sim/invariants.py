# SPDX-License-Identifier: Apache-2.0
"""What must be true, whatever goes wrong; by the numbers that the reliability page gives them.

S1   what was written and read fits one order of revisions, which is that of time, too
S2   each write happened as it was answered: once, never, or at most once
S3   each read shows the store as it was at the revision that it names
S4   no write is sent again that may have been applied              (in `tap`)
S5   "may have been applied" is only said of requests whose last octet left, and not much more often than it
     is true: counted over many seeds                                (`run.doubt`)
S6…  watches: S6 filters, S7 order, S8 once, S9 revisions whole, S10 nothing missing, S11 resumed where it
     ended, S12 progress true
S13  a lease that a client believes alive is alive
S14  no lease is lost while all is well
S15  a lock is held by one at a time, and only its holder writes        (in `lockers`)
S16  nobody leaves a key behind in a line, and locks can be had         (in `lockers`)
S17  commands end by their deadline
S18  one login at a time; no token is used after it was replaced
S19  buffers stay bounded, and nothing is left over in the end
S20  when all is well again, commands succeed within 3 s, and connections are not dialled too often
S21  GOAWAY, the limit of streams, and windows are respected        (in `tap`)
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.pb import messages as pb
from purecd.types import Event, GetReply, WatchResponse
from tests.sim.history import Change, History, within
from tests.sim.tap import WATCH_MARKER, marker_of
from tests.sim.workloads import AMBIGUOUS, FAILED, OK, Asked, Books, Watched
from tests.sim.world import InvariantError

if TYPE_CHECKING:
    from tests.sim.tap import Sendings

TICK = 1e-3  # seconds
PROMPT = 3.0  # seconds that a command may take when all is well
WRITES = ("put", "delete", "txn")


def check(holds: object, number: str, what: str, *about: Any) -> None:
    """Raise unless something holds."""
    if not holds:
        raise InvariantError(f"{number} {what}: {', '.join(map(repr, about))}")


# Commands.


def check_commands(asked: list[Asked], history: History, sendings: Sendings) -> None:
    """Judge all commands of a run: S1, S2, S3, S5, S17, S20."""
    placed: list[tuple[Asked, int, bool]] = []
    for each in asked:
        check(each.outcome, "S17", "a command never ended", each)
        late = each.returned - each.deadline
        check(late <= TICK + each.stopped, "S17", f"a command ended {late:.3f} s after its deadline", each)
        if each.kind in WRITES:
            _check_effect(each, history)
            if each.outcome == AMBIGUOUS and not _leaves(each.error):
                check(
                    sendings.left(each.number), "S5", "called ambiguous, and it never left", each, each.error
                )
        if each.outcome == OK:
            _check_answer(each, history)
        if each.strict:
            prompt = each.outcome == OK and each.returned - each.called <= PROMPT
            check(
                prompt,
                "S20",
                "no prompt success when all was well",
                each,
                each.returned - each.called,
                each.error,
            )
        place = _place(each, history)
        if place is not None:
            placed.append((each, *place))
    _check_order(placed)


def _leaves(error: Any) -> bool:
    """Whether a request was given up after it was handed to a connection, which sends it all the same."""
    return isinstance(error, errors.DeadlineExceeded) and error.final and bool(error.endpoint)


def _check_effect(each: Asked, history: History) -> None:
    """S2: what the log says must be what the client was told."""
    applied = history.applied.get(each.number, [])
    check(len(applied) <= 1, "S2", "applied more than once", each, applied)
    if each.outcome == OK:
        check(len(applied) == 1, "S2", "acknowledged and not applied", each)
        revision = each.reply.header.revision
        check(
            revision == applied[0].revision, "S2", "answered with another revision", each, revision, applied
        )
    elif each.outcome == FAILED:
        check(not applied, "S2", "a definite failure was applied", each, each.error)
        check(not each.open, "S2", "called certain, and nothing that had arrived said so", each, each.error)


def _place(each: Asked, history: History) -> tuple[int, bool] | None:
    """Revision of a command's effect, and whether that is its own; None if it has no place in the order."""
    if each.kind in WRITES:
        applied = history.applied.get(each.number, [])
        return (applied[0].revision, applied[0].changed) if applied else None
    if each.outcome == OK and each.kind == "get" and not each.details["serializable"]:
        return each.reply.header.revision, False
    return None


def _check_order(placed: list[tuple[Asked, int, bool]]) -> None:
    """S1: what began after something else had ended took effect after it."""
    ended = sorted((each.returned, revision) for each, revision, _ in placed if each.outcome == OK)
    times = [when for when, _ in ended]
    highest, greatest = [], 0
    for _, revision in ended:
        greatest = max(greatest, revision)
        highest.append(greatest)
    for each, revision, own in placed:
        before = bisect_left(times, each.called) - 1
        if before >= 0:
            later = revision > highest[before] or (not own and revision == highest[before])
            check(later, "S1", f"at revision {revision}, after {highest[before]} had been answered", each)


def _check_answer(each: Asked, history: History) -> None:
    """S3: a reply shows the store as it was at its revision."""
    details, reply = each.details, each.reply
    revision = reply.header.revision
    check(revision <= history.revision, "S3", "a revision that does not exist", each, revision)
    if each.kind == "get":
        _check_read(each, reply, history, details["key"], details["end"], revision)
    elif each.kind == "put" and details["prev_kv"]:
        _check_kv(each, reply.prev_kv, history.at(details["key"], revision - 1))
    elif each.kind == "delete":
        applied = history.applied[each.number][0]
        before = history.at(details["key"], revision - 1 if applied.changed else revision)
        check(reply.deleted == (before is not None), "S3", "wrong count of deleted keys", each, reply.deleted)
        if before is not None:
            _check_kv(each, reply.prev_kvs[0], before)
    elif each.kind == "txn":
        applied = history.applied[each.number][0]
        check(reply.succeeded == applied.changed, "S3", "wrong branch", each, reply.succeeded)
        before = history.at(details["key"], revision - 1 if applied.changed else revision)
        held = (before.revision if before is not None else 0) == details["expected"]
        check(reply.succeeded == held, "S3", "wrong comparison", each, before)
        if not held:
            _check_read(each, reply.responses[0], history, details["key"], b"", revision)


def _check_read(
    each: Asked, reply: GetReply, history: History, key: bytes, end: bytes, revision: int
) -> None:
    expected = history.range_at(key, end, revision) if end else [history.at(key, revision)]
    expected = [kv for kv in expected if kv is not None]
    check(len(reply.kvs) == len(expected), "S3", "wrong number of keys", each, len(reply.kvs), expected)
    for kv, truth in zip(reply.kvs, expected):
        _check_kv(each, kv, truth)


def _check_kv(each: object, kv: Any, truth: Change | None) -> None:
    if kv is None or truth is None:
        check(kv is None and truth is None, "S3", "a key too much or too little", each, kv, truth)
        return
    seen = (kv.key, kv.value, kv.mod_revision, kv.create_revision, kv.version)
    real = (truth.key, truth.value, truth.revision, truth.create_revision, truth.version)
    check(seen == real, "S3", "wrong key or value", each, seen, real)


# Watches.


def check_watch(watched: Watched, history: History) -> None:
    """Judge what one watch delivered: S6 to S12."""
    watcher = watched.watcher
    if watcher is None:
        check(not watched.strict, "S20", "not opened when all was well", watched.number, watched.end)
        return
    request = watched.request
    delivered = [event for response in watched.responses for event in response.events]
    waiting = [event for response in watcher.inbox for event in response.events]
    first = request.start_revision or (watcher.created_revision + 1)
    if not request.start_revision and delivered and delivered[0].kv.mod_revision == watcher.created_revision:
        first = watcher.created_revision  # a change at that very moment may belong to it or not
    last = history.revision
    expected = [
        change
        for change in history.between(request.key, request.range_end, first, last)
        if (1 if change.value is None else 0) not in request.filters
    ]
    _check_form(watched, delivered)
    for event, change in zip(delivered + waiting, expected):
        _check_event(watched, event, change, history)
    check(len(delivered) <= len(expected), "S8", "more events than changes", watched.number)
    _check_progress(watched)
    if isinstance(watched.end, errors.Compacted):
        # A watch from "now" that got nothing yet resumes at the revision that it was created at.
        resume = max(
            request.start_revision or watcher.created_revision, _last_revision(watched.responses) + 1
        )
        gone = history.compacted_at(watched.ended_at)
        check(
            resume < gone,
            "S10",
            "told of a compaction that took nothing from it",
            watched.number,
            resume,
            gone,
        )
    elif isinstance(watched.end, BaseException):
        allowed = request.require_leader and isinstance(watched.end, errors.NoLeader)
        check(allowed, "S10", "ended by an error that a retry would have mended", watched.number, watched.end)
    elif watched.complete:
        known = sum(change.revision <= watched.complete for change in expected)
        missing = known - len(delivered) - len(waiting)
        check(
            missing <= 0,
            "S10",
            f"{missing} events missing in the end",
            watched.number,
            expected[-1:],
        )


def _check_form(watched: Watched, delivered: list[Event]) -> None:
    request = watched.request
    for event in delivered:
        check(within(event.kv.key, request.key, request.range_end), "S6", "a key nobody asked for", event)
        check(event.type not in request.filters, "S6", "a kind of event that was to be left out", event)
    revisions = [event.kv.mod_revision for event in delivered]
    check(revisions == sorted(revisions), "S7", "events out of order", watched.number, revisions)
    seen = [(event.kv.mod_revision, event.kv.key) for event in delivered]
    check(len(seen) == len(set(seen)), "S8", "an event came twice", watched.number, seen)
    last = 0
    for response in watched.responses:
        if response.events:
            check(
                response.events[0].kv.mod_revision > last, "S9", "a revision was split", watched.number, last
            )
            last = response.events[-1].kv.mod_revision


def _check_event(watched: Watched, event: Event, change: Change, history: History) -> None:
    kv = event.kv
    seen = (kv.mod_revision, kv.key, None if event.type else kv.value)
    check(
        seen == (change.revision, change.key, change.value),
        "S10",
        "not the next change",
        watched.number,
        seen,
        change,
    )
    if not event.type:
        check(
            (kv.create_revision, kv.version) == (change.create_revision, change.version),
            "S6",
            "wrong versions",
            kv,
        )
    before = change.before if watched.request.prev_kv else None
    if event.prev_kv is None:
        compacted = before is not None and change.revision <= history.compacted
        check(before is None or compacted, "S6", "no previous value", watched.number, event)
    else:
        check(before is not None, "S6", "a previous value that there was not", watched.number, event)
        _check_kv(watched.number, event.prev_kv, before)


def _check_progress(watched: Watched) -> None:
    """S12: no event comes at or below a revision that was reported as reached, and none is promised early."""
    reached = last = 0
    for response in watched.responses:
        if response.events:
            check(
                response.events[0].kv.mod_revision > reached,
                "S12",
                "an event after its progress",
                watched.number,
            )
            last = response.events[-1].kv.mod_revision
        elif response.is_progress:
            check(response.header.revision >= max(last, reached), "S12", "progress went back", watched.number)
            reached = response.header.revision


class Resumes:
    """S11: where watches are created again, at the moment when the request leaves."""

    def __init__(self, books: Books, history: History) -> None:
        self._books = books
        self._history = history

    def created(self, message: bytes) -> None:
        """A request for a watcher has left."""
        create = pb.WatchRequest.FromString(message).create_request
        number = marker_of(message, WATCH_MARKER)
        watched = self._books.watched_by_number[number]
        if watched.watcher is None:
            return  # not taken by any member yet, as far as the client knows
        start_revision = create.start_revision
        check(start_revision, "S11", "resumed from nowhere", number)
        got = _last_revision(watched.responses)
        in_hand = [watched.watcher.taken] if watched.watcher.taken is not None else []
        got = max(got, _last_revision([*in_hand, *watched.watcher.inbox]))
        request = watched.request
        for change in self._history.between(request.key, request.range_end, got + 1, start_revision - 1):
            kind = 1 if change.value is None else 0
            wanted = change.revision >= (request.start_revision or watched.watcher.created_revision + 1)
            check(kind in request.filters or not wanted, "S11", "resumed beyond what it got", number, change)


def _last_revision(responses: list[WatchResponse]) -> int:
    return max((event.kv.mod_revision for each in responses for event in each.events), default=0)
