# SPDX-License-Identifier: Apache-2.0
"""Many events of a watch, or keys of a range, at once: read as columns, all keys, all values and so on.

What protobuf's C implementation has parsed is made into Python objects piece by piece, when it is asked for.
Of an event there are two pieces besides its fields, of a key one, and making them takes longer than parsing
did. So the same octets are parsed again as another type, in which an event is not repeated, but its fields
are. Protobuf merges what comes again of a message and appends what comes again of a field, and so makes the
columns.

1. Only their order tells which value belongs to which event. So each column has something for every event or
   for none; where some keys have a lease and others have none, say, there are no columns.
2. That tells all unless one event has a field twice and another one lacks it. Protobuf lets the last one
   count, for messages that were put together from pieces; but nothing that writes a message writes a field
   twice. To make sure, by comparing with what protobuf itself would write, took 8 % of all CPU of a watch.
3. How many events there are is told by what was parsed as etcd means it. So none is lost or added.

A response of 1,000 events takes 0.6 of the time, the second parsing included (benchmarks/codecs.py).

Source: protobuf.dev/programming-guides/encoding (last one wins).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import repeat
from operator import attrgetter
from typing import Any, Callable

from purecd.pb import message_class
from purecd.types import Event, EventType, KeyValue

FEWEST = 16
"""Events or keys that are worth it; ten take about as long as one by one."""
WIDEST = 1536
"""Octets of a key with its value up to which that is worth it: all of them are copied once more."""

_KINDS: dict[int, int] = {kind.value: kind for kind in EventType}

_new = tuple.__new__
_columns_of = attrgetter(*KeyValue._fields)


@cache
def _parser(name: str) -> Callable[[bytes], Any]:
    return message_class("columns." + name).FromString


def decode_error() -> type[Exception]:
    """What protobuf raises for octets that are no message."""
    from google.protobuf.message import DecodeError

    return DecodeError


def _parsed(name: str, data: bytes) -> Any:
    """The columns in a message, None where what etcd's own message skips is no column."""
    try:
        return _parser(name)(data)
    except decode_error():
        return None


def keys_by_column(data: bytes, count: int) -> list[KeyValue] | None:
    """The keys of a RangeResponse, None where they make no columns.

    Args:
        count: of the keys in it.
    """
    if count < FEWEST or len(data) > count * WIDEST:
        return None
    columns = _parsed("RangeColumns", data)
    kvs = None if columns is None else _key_values(columns.kvs, count)
    return None if kvs is None else list(kvs)


def events_by_column(data: bytes, count: int) -> list[Event] | None:
    """The events of a WatchResponse, None where they make no columns.

    Args:
        count: of the events in it.
    """
    if count < FEWEST:
        return None
    found = _parsed("WatchColumns", data)
    if found is None:
        return None
    columns = found.events
    kvs = _key_values(columns.kv, count)
    kinds: Iterable[int] | None = repeat(EventType.PUT)
    if columns.type:
        numbers: list[int] = columns.type[:]
        kinds = [_KINDS.get(number, number) for number in numbers] if len(numbers) == count else None
    prev_kvs: Iterable[KeyValue | None] | None = repeat(None)
    if columns.HasField("prev_kv"):
        prev_kvs = _key_values(columns.prev_kv, count)
    if kvs is None or kinds is None or prev_kvs is None:
        return None
    return list(map(_new, repeat(Event), zip(kinds, kvs, prev_kvs)))


def _key_values(columns: Any, count: int) -> Iterable[KeyValue] | None:
    found = []
    for column, default in zip(_columns_of(columns), KeyValue()):
        if len(column) == count:
            found.append(column[:])
        elif column or not found:  # a key is never empty
            return None
        else:
            found.append(repeat(default))
    return map(_new, repeat(KeyValue), zip(*found))
