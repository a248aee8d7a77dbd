# SPDX-License-Identifier: Apache-2.0
"""Did a watch deliver what etcd promises? Nine validators, against the log of an observer.

| validator    | promise                                                                       |
| ------------ | ----------------------------------------------------------------------------- |
| filter       | only events of the watched range, and of the kinds asked for                  |
| ordered      | revisions never go back                                                       |
| unique       | a change of a key comes once                                                  |
| atomic       | events of one revision are all in one response                                |
| bookmarkable | no event at or below a progress report; reports never fall behind             |
| resumable    | the first event is the first there is from the start revision on              |
| is_create    | the first put of a key, and no other, is a creation                           |
| reliable     | every event of the range, from the start to where the watch had come          |
| prev_kv      | the previous value is the one that was there, if it was asked for             |

Source: etcd tests/robustness/validate/watch.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Callable

from purecd.types import Event, WatchResponse
from tests.support.history import Change, Log


@dataclass
class WatchRecord:
    """One watch of a range of keys, and everything it delivered.

    Attributes:
        key, range_end: watched is ``[key, range_end)``.
        start_revision: first revision wanted.
        until: revision up to which everything must have been delivered; where it ended with
            an error, up to its last event.
        compact_revision: from the `Compacted` that ended it, 0 when it did not end so.
    """

    key: str
    range_end: str
    start_revision: int
    prev_kv: bool = False
    exclude: tuple[str, ...] = ()
    until: int = 0
    compact_revision: int = 0
    responses: list[WatchResponse] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return [event for response in self.responses for event in response.events]


def check_watch(record: WatchRecord, changes: Iterable[Change]) -> list[str]:
    """What is wrong with a watch, each with the validator's name in front; empty when nothing is."""
    log = Log(changes)
    return [
        f"{validator.__name__.strip('_')}: {problem}"
        for validator in _VALIDATORS
        for problem in validator(record, log)
    ]


def _expected(record: WatchRecord, log: Log, until: int) -> list[tuple[int, str]]:
    return [
        (change.revision, change.key)
        for change in log.changes
        if record.start_revision <= change.revision <= until
        and _wanted(record, change.key, change.value is None)
    ]


def _wanted(record: WatchRecord, key: str, is_delete: bool) -> bool:
    return record.key <= key < record.range_end and ("delete" if is_delete else "put") not in record.exclude


def _filter(record: WatchRecord, log: Log) -> Iterator[str]:
    for event in record.events:
        if not _wanted(record, event.key.decode(), event.is_delete):
            yield f"{event} was not asked for"


def _ordered(record: WatchRecord, log: Log) -> Iterator[str]:
    events = record.events
    for before, event in zip(events, events[1:]):
        if event.kv.mod_revision < before.kv.mod_revision:
            yield f"{event.kv.mod_revision} after {before.kv.mod_revision}"


def _unique(record: WatchRecord, log: Log) -> Iterator[str]:
    seen = set()
    for event in record.events:
        change = (event.kv.mod_revision, event.key)
        if change in seen:
            yield f"{change} came again"
        seen.add(change)


def _atomic(record: WatchRecord, log: Log) -> Iterator[str]:
    last = 0
    for response in record.responses:
        if response.events:
            if response.events[0].kv.mod_revision == last:
                yield f"revision {last} in two responses"
            last = response.events[-1].kv.mod_revision


def _bookmarkable(record: WatchRecord, log: Log) -> Iterator[str]:
    last_event = progress = 0
    for response in record.responses:
        for event in response.events:
            last_event = event.kv.mod_revision
            if last_event <= progress:
                yield f"event at {last_event} after progress {progress}"
        if response.is_progress:
            if response.header.revision < max(last_event, progress):
                yield f"progress {response.header.revision} after {max(last_event, progress)}"
            progress = response.header.revision


def _resumable(record: WatchRecord, log: Log) -> Iterator[str]:
    events = record.events
    expected = _expected(record, log, record.until or 1 << 62)
    if events and expected and (events[0].kv.mod_revision, events[0].key.decode()) != expected[0]:
        yield f"begins at {events[0].kv.mod_revision} instead of {expected[0]}"


def _is_create(record: WatchRecord, log: Log) -> Iterator[str]:
    for event in record.events:
        if not event.is_delete:
            state = log.at(event.key.decode(), event.kv.mod_revision)
            if event.is_create != (state.create_revision == state.revision):
                yield f"{event} while the log has {state}"


def _reliable(record: WatchRecord, log: Log) -> Iterator[str]:
    events = record.events
    until = record.until or (events[-1].kv.mod_revision if events else 0)
    got = [(event.kv.mod_revision, event.key.decode()) for event in events]
    expected = _expected(record, log, until)
    missing = sorted(set(expected) - set(got))
    beyond = [each for each in got if each[0] > until]
    if missing:
        yield f"missing up to {until}: {missing[:5]} and more, {len(missing)} in all"
    elif got[: len(got) - len(beyond)] != expected:
        yield "other events than there were"
    for event in events:
        state = log.at(event.key.decode(), event.kv.mod_revision)
        if not event.is_delete and state.value != event.value.decode():
            yield f"{event} while the log has {state}"
    if record.compact_revision and record.compact_revision <= until:
        yield f"compacted at {record.compact_revision}, although {until} was delivered"


def _prev_kv(record: WatchRecord, log: Log) -> Iterator[str]:
    for event in record.events:
        state = log.at(event.key.decode(), event.kv.mod_revision - 1)
        if not record.prev_kv:
            if event.prev_kv is not None:
                yield f"{event} has one that was not asked for"
        elif (event.prev_kv and event.prev_kv.value.decode()) != state.value:
            yield f"{event} while the log has {state}"


_VALIDATORS: Sequence[Callable[[WatchRecord, Log], Iterator[str]]] = (
    _filter,
    _ordered,
    _unique,
    _atomic,
    _bookmarkable,
    _resumable,
    _is_create,
    _reliable,
    _prev_kv,
)
