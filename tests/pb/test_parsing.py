# SPDX-License-Identifier: Apache-2.0
"""The decoders through protobuf: the same cases as by hand, and equal to them on random messages."""

from __future__ import annotations

from random import Random

import pytest
from google.protobuf.internal import api_implementation

from purecd.pb import decoding, messages
from purecd.pb import parsing as CODEC
from purecd.requests import MAX_TXN_DEPTH
from purecd.types import TxnReply
from tests.pb.reply_cases import (
    CASES,
    EVENT_NUMBERS,
    MALFORMED,
    REPLIES,
    check_decoding,
    check_event_number,
    check_noise,
    check_types_inside,
    nested_txn,
    outcome,
    random_reply,
)

# Nothing but upb is used for decoding; others raise all kinds of errors and recurse without limit.
needs_upb = pytest.mark.skipif(api_implementation.Type() != "upb", reason="protobuf is not upb")


@pytest.mark.parametrize(("name", "data", "expected"), CASES)
def test_decoding(name, data, expected):
    check_decoding(CODEC, name, data, expected)


def test_types_inside():
    check_types_inside(CODEC)


@pytest.mark.parametrize(("number", "expected"), EVENT_NUMBERS)
def test_unknown_event_types_stay_numbers(number, expected):
    check_event_number(CODEC, number, expected)


@needs_upb
@pytest.mark.parametrize(("name", "data"), MALFORMED)
def test_malformed(name, data):
    with pytest.raises(ValueError):
        getattr(CODEC, "decode_" + name)(bytes.fromhex(data))


@needs_upb
@pytest.mark.parametrize("name", REPLIES)
def test_noise_gives_a_value_or_a_value_error(name):
    check_noise(CODEC, name)


@needs_upb
def test_depth_of_txn_replies_is_limited():
    reply = CODEC.decode_txn(nested_txn(MAX_TXN_DEPTH))
    for _ in range(MAX_TXN_DEPTH - 1):
        inner = reply.responses[0]
        assert isinstance(inner, TxnReply)
        reply = inner
    assert reply == TxnReply()
    for levels in (MAX_TXN_DEPTH + 1, 10_000):
        with pytest.raises(ValueError):
            CODEC.decode_txn(nested_txn(levels))


@pytest.mark.parametrize("name", REPLIES)
def test_equal_to_decoding_by_hand_on_random_messages(name):
    by_hand, protobuf = (getattr(codec, "decode_" + name) for codec in (decoding, CODEC))
    good = 0
    for seed in range(400):
        rng = Random(f"{name} {seed}")
        data = random_reply(rng, name)
        expected = outcome(protobuf, data)
        good += expected is not ValueError
        assert outcome(by_hand, data) == expected, f"seed {seed}"
        for _ in range(2):
            cut = data[: rng.randrange(len(data) + 1)]
            assert outcome(by_hand, cut) == outcome(protobuf, cut), f"seed {seed} cut at {len(cut)}"
    assert good > 200


@pytest.mark.parametrize("value", [b"v", b"\x1a"])  # with and without the octet that prev_kv has for a tag
@pytest.mark.parametrize("prev_kv", [None, messages.KeyValue(key=b"k", value=b"before")])
@pytest.mark.parametrize("types", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (0, 0, 7)])
def test_events_of_all_kinds_are_those_of_decoding_by_hand(types, prev_kv, value):
    kv = messages.KeyValue(key=b"k", value=value, mod_revision=300, create_revision=3, version=9, lease=-1)
    events = [messages.Event(type=each, kv=kv) for each in types]
    events.append(messages.Event(kv=kv, prev_kv=prev_kv))
    data = messages.WatchResponse(watch_id=1, events=events).SerializeToString()
    found = CODEC.decode_watch(data)
    assert found == decoding.decode_watch(data)
    assert [type(each.type) for each in found.events] == [
        type(each.type) for each in decoding.decode_watch(data).events
    ]
    assert (found.events[3].prev_kv is None) == (prev_kv is None)
