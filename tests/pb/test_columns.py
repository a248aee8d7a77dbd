# SPDX-License-Identifier: Apache-2.0
"""Events and keys read as columns are those read one by one; where they could be others, none are."""

from __future__ import annotations

from random import Random

import pytest
from google.protobuf.internal import api_implementation

from purecd.pb import decoding, messages, parsing
from purecd.pb.columns import FEWEST, WIDEST, events_by_column, keys_by_column
from purecd.pb.encoding import varint
from purecd.types import EventType, KeyValue
from tests.pb.reply_cases import sub

# Nothing but upb is used for decoding.
pytestmark = pytest.mark.skipif(api_implementation.Type() != "upb", reason="protobuf is not upb")

DELETE = messages.Event.DELETE
COUNT = 2 * FEWEST
HEADER = messages.ResponseHeader(cluster_id=2**63, member_id=26, revision=99, raft_term=2)


def key_value(number, **fields):
    made = {"key": b"k%d" % number, "create_revision": 7 + number, "mod_revision": 2**40 + number}
    made.update(version=number + 1, value=b"v" * number * 9 + b"!", **fields)
    return messages.KeyValue(**made)


def deleted(number):
    return messages.KeyValue(key=b"d%d" % number, mod_revision=number + 1)


ALIKE = {
    "puts": lambda number: messages.Event(kv=key_value(number)),
    "puts with leases": lambda number: messages.Event(kv=key_value(number, lease=-5 - number)),
    "deletes": lambda number: messages.Event(type=DELETE, kv=deleted(number)),
    "empty values": lambda number: messages.Event(
        kv=messages.KeyValue(key=b"k%d" % number, create_revision=1, mod_revision=2, version=3)
    ),
    "deletes of what was": lambda number: messages.Event(
        type=DELETE, kv=deleted(number), prev_kv=key_value(number)
    ),
    "puts on what was": lambda number: messages.Event(kv=key_value(number), prev_kv=key_value(number + 1)),
    "unknown kinds": lambda number: messages.Event(type=2 + number, kv=key_value(number)),
}
UNLIKE = {
    "puts and deletes": lambda number: messages.Event(
        type=number % 2, kv=deleted(number) if number % 2 else key_value(number)
    ),
    "a lease": lambda number: messages.Event(kv=key_value(number, lease=int(number == 3))),
    "one that was": lambda number: messages.Event(
        kv=key_value(number), prev_kv=key_value(number) if number == 5 else None
    ),
    "one that was, and is empty": lambda number: messages.Event(
        kv=key_value(number), prev_kv=messages.KeyValue() if number == 5 else None
    ),
    "nothing": lambda number: messages.Event(),
    "one without a key": lambda number: messages.Event(kv=key_value(number) if number else None),
}


def response(events):
    return messages.WatchResponse(header=HEADER, watch_id=3, events=events).SerializeToString()


def by_column(data):
    return events_by_column(data, len(messages.WatchResponse.FromString(data).events))


@pytest.mark.parametrize("name", ALIKE)
def test_events_that_are_alike_are_read_by_column(name):
    data = response([ALIKE[name](number) for number in range(COUNT)])
    found = by_column(data)
    assert found == decoding.decode_watch(data).events
    assert parsing.decode_watch(data) == decoding.decode_watch(data)
    assert len(found) == COUNT
    expected = EventType if name != "unknown kinds" else int
    assert {type(event.type) for event in found} == {expected}


@pytest.mark.parametrize("name", UNLIKE)
def test_events_that_are_not_alike_are_not(name):
    assert by_column(response([UNLIKE[name](number) for number in range(COUNT)])) is None


def test_few_events_are_read_one_by_one():
    for count, read in ((FEWEST - 1, False), (FEWEST, True)):
        data = response([ALIKE["puts"](number) for number in range(count)])
        assert (by_column(data) is not None) is read


def fields(number):
    """The fields of a KeyValue as octets, by number."""
    key, value = sub(0x0A, b"k%d" % number), sub(0x2A, b"v%d" % number)
    numbers = [bytes((tag,)) + varint(number + tag) for tag in (0x10, 0x18, 0x20)]
    return dict(enumerate([key, *numbers, value], 1))


@pytest.mark.parametrize("field", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("times", [0, 2])
def test_an_event_that_has_a_field_twice_or_not_is_read_one_by_one(field, times):
    octets = []
    for number in range(COUNT):
        parts = fields(number)
        if number == 4:
            parts[field] *= times
        octets.append(sub(0x5A, sub(0x12, b"".join(parts.values()))))
    data = sub(0x0A, HEADER.SerializeToString()) + b"".join(octets)
    assert by_column(data) is None
    assert len(decoding.decode_watch(data).events) == COUNT


def test_a_key_value_in_two_pieces_is_one():
    octets = [sub(0x5A, sub(0x12, b"".join(fields(number).values()))) for number in range(COUNT)]
    parts = list(fields(3).values())
    octets[3] = sub(0x5A, sub(0x12, b"".join(parts[:2])) + sub(0x12, b"".join(parts[2:])))
    data = b"".join(octets)
    assert by_column(data) == decoding.decode_watch(data).events


def test_equal_to_reading_by_hand_whatever_is_left_out_repeated_or_unknown():
    read = 0
    for seed in range(300):
        rng = Random(f"columns {seed}")
        dropped = {field for field in (2, 3, 4, 5) if rng.random() < 0.2}
        more = rng.random() < 0.5  # else less; both at once would be read in another way
        octets = []
        for number in range(COUNT):
            parts = [octet for field, octet in fields(number).items() if field not in dropped]
            if more and rng.random() < 0.02:
                parts.insert(rng.randrange(len(parts) + 1), rng.choice([*parts, b"\x20\x00", b"\x38\x09"]))
            elif not more and rng.random() < 0.01:
                parts.pop(rng.randrange(len(parts)))
            octets.append(sub(0x5A, sub(0x12, b"".join(parts))))
        data = b"".join(octets)
        found = by_column(data)
        if found is not None:
            read += 1
            assert found == decoding.decode_watch(data).events
    assert 50 < read < 250, "some were, some were not"


# Keys of a range.

KEYS = {
    "keys": key_value,
    "keys with leases": lambda number: key_value(number, lease=-5 - number),
    "without values": lambda number: messages.KeyValue(
        key=b"k%d" % number, create_revision=1, mod_revision=2
    ),
    "nothing but keys": lambda number: messages.KeyValue(key=b"k%d" % number),
}
UNLIKE_KEYS = {
    "a lease": lambda number: key_value(number, lease=int(number == 3)),
    "an empty value": lambda number: key_value(number) if number else deleted(number),
    "nothing": lambda number: messages.KeyValue(),
    "one without a key": lambda number: key_value(number) if number else messages.KeyValue(),
}


def range_response(kvs):
    return messages.RangeResponse(header=HEADER, kvs=kvs, count=9, more=True).SerializeToString()


def keys(data):
    return keys_by_column(data, len(messages.RangeResponse.FromString(data).kvs))


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_are_alike_are_read_by_column(name):
    data = range_response([KEYS[name](number) for number in range(COUNT)])
    assert keys(data) == decoding.decode_range(data).kvs
    assert parsing.decode_range(data) == decoding.decode_range(data)
    assert {type(each) for each in parsing.decode_range(data).kvs} == {KeyValue}


@pytest.mark.parametrize("name", UNLIKE_KEYS)
def test_keys_that_are_not_alike_are_not(name):
    data = range_response([UNLIKE_KEYS[name](number) for number in range(COUNT)])
    assert keys(data) is None
    assert parsing.decode_range(data) == decoding.decode_range(data)


@pytest.mark.parametrize(("count", "read"), [(0, False), (FEWEST - 1, False), (FEWEST, True)])
def test_few_keys_are_read_one_by_one(count, read):
    assert (keys(range_response(map(key_value, range(count)))) is not None) is read


@pytest.mark.parametrize(("size", "read"), [(WIDEST - 200, True), (WIDEST, False)])
def test_keys_with_large_values_are_read_one_by_one(size, read):
    data = range_response([messages.KeyValue(key=b"k", value=b"v" * size)] * COUNT)
    assert (keys(data) is not None) is read
    assert [len(each.value) for each in parsing.decode_range(data).kvs] == [size] * COUNT


@pytest.mark.parametrize("field", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("times", [0, 2])
def test_keys_of_which_one_has_a_field_twice_or_not_are_read_one_by_one(field, times):
    octets = []
    for number in range(COUNT):
        parts = fields(number)
        if number == 4:
            parts[field] *= times
        octets.append(sub(0x12, b"".join(parts.values())))
    data = sub(0x0A, HEADER.SerializeToString()) + b"".join(octets)
    assert keys(data) is None
    assert parsing.decode_range(data) == decoding.decode_range(data)


@pytest.mark.parametrize("content", [b"\x80", b"\x05", b"\x05\x06"])
def test_what_a_key_value_skips_does_not_matter(content):
    # A number that comes with a length is unknown to a message, but to a repeated field it is many.
    contents = [b"".join(fields(number).values()) for number in range(COUNT)]
    contents[7] += sub(0x12, content)
    data = b"".join(sub(0x12, each) for each in contents)
    assert keys(data) is None
    assert parsing.decode_range(data) == decoding.decode_range(data)
    data = b"".join(sub(0x5A, sub(0x12, each)) for each in contents)
    assert by_column(data) is None
    assert parsing.decode_watch(data) == decoding.decode_watch(data)
