# SPDX-License-Identifier: Apache-2.0
"""Each of the nine validators finds the fault it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from purecd.types import Event, EventType, Header, KeyValue, WatchResponse
from tests.support.history import Change
from tests.support.watchcheck import WatchRecord, check_watch

LOG = [
    Change(2, "k/a", "1", 2, 1),
    Change(2, "k/b", "2", 2, 1),
    Change(3, "k/a", "3", 2, 2),
    Change(4, "other", "4", 4, 1),
    Change(5, "k/a", None),
    Change(6, "k/a", "5", 6, 1),
]


def event(change, prev=None):
    revision, key, value, created, version = change
    kv = KeyValue(key.encode(), created, revision, version, (value or "").encode())
    previous = None if prev is None else KeyValue(key.encode(), 1, 1, 1, prev.encode())
    return Event(EventType.DELETE if value is None else EventType.PUT, kv, previous)


def events(*changes):
    return WatchResponse(Header(revision=changes[-1].revision), events=[event(each) for each in changes])


def progress(revision):
    return WatchResponse(Header(revision=revision))


def record(*responses, **options):
    fields = {"start_revision": 2, "until": 6, **options}
    return WatchRecord("k/", "k0", responses=list(responses), **fields)


GOOD = [events(LOG[0], LOG[1]), events(LOG[2]), progress(4), events(LOG[4], LOG[5])]


def names(broken):
    return {each.partition(":")[0] for each in check_watch(broken, LOG)}


def test_a_good_watch():
    assert check_watch(record(*GOOD), LOG) == []
    assert check_watch(record(*GOOD[1:], start_revision=3), LOG) == []
    assert check_watch(record(*GOOD[:2], until=4), LOG) == []
    only_puts = record(GOOD[0], GOOD[1], events(LOG[5]), exclude=("delete",))
    assert check_watch(only_puts, LOG) == []


def test_previous_values():
    with_previous = record(
        WatchResponse(events=[event(LOG[2], prev="1")]), start_revision=3, until=4, prev_kv=True
    )
    assert check_watch(with_previous, LOG) == []
    assert names(replace(with_previous, prev_kv=False)) == {"prev_kv"}
    assert names(record(events(LOG[2]), start_revision=3, until=4, prev_kv=True)) == {"prev_kv"}
    wrong = [WatchResponse(events=[event(LOG[2], prev="9")])]
    assert names(replace(with_previous, responses=wrong)) == {"prev_kv"}


@pytest.mark.parametrize(
    "validator, broken",
    [
        ("filter", record(*GOOD[:2], events(LOG[3]), *GOOD[3:])),
        ("filter", record(*GOOD, exclude=("delete",))),
        ("ordered", record(GOOD[1], GOOD[0], *GOOD[2:])),
        ("unique", record(*GOOD[:2], GOOD[1], *GOOD[2:])),
        ("atomic", record(events(LOG[0]), events(LOG[1]), *GOOD[1:])),
        ("bookmarkable", record(GOOD[0], progress(3), *GOOD[1:])),
        ("bookmarkable", record(*GOOD[:3], progress(3), GOOD[3])),
        ("resumable", record(*GOOD[1:])),
        ("is_create", record(GOOD[0], events(LOG[2]._replace(create_revision=3)), *GOOD[2:])),
        ("reliable", record(GOOD[0], *GOOD[2:])),
        ("reliable", record(*GOOD[:3])),
        ("reliable", record(GOOD[0], events(LOG[2]._replace(value="9")), *GOOD[2:])),
        ("reliable", record(*GOOD, until=0, compact_revision=6)),
    ],
)
def test_a_broken_watch(validator, broken):
    assert validator in names(broken)


def test_a_watch_that_ended_with_a_compaction():
    assert check_watch(record(*GOOD[:2], until=0, compact_revision=5), LOG) == []
