# SPDX-License-Identifier: Apache-2.0
"""The decoders by hand: against bytes worked out by hand, malformed ones and expensive ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from purecd.pb import decoding as CODEC
from purecd.requests import MAX_TXN_DEPTH
from purecd.types import CompactReply, GetReply, TxnReply
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
    sub,
)


@pytest.mark.parametrize(("name", "data", "expected"), CASES)
def test_decoding(name, data, expected):
    check_decoding(CODEC, name, data, expected)


def test_types_inside():
    check_types_inside(CODEC)


@pytest.mark.parametrize(("number", "expected"), EVENT_NUMBERS)
def test_unknown_event_types_stay_numbers(number, expected):
    check_event_number(CODEC, number, expected)


@pytest.mark.parametrize(("name", "data"), MALFORMED)
def test_malformed(name, data):
    with pytest.raises(ValueError):
        getattr(CODEC, "decode_" + name)(bytes.fromhex(data))


@pytest.mark.parametrize("name", REPLIES)
def test_noise_gives_a_value_or_a_value_error(name):
    check_noise(CODEC, name)


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


def test_depth_of_groups_is_limited():
    assert CODEC.decode_compact(b"\xa3\x06" * 20 + b"\xa4\x06" * 20) == CompactReply()
    with pytest.raises(ValueError, match="groups are nested over 50 levels"):
        CODEC.decode_compact(b"\xa3\x06" * 100_000 + b"\xa4\x06" * 100_000)


def test_tags_in_more_bytes_than_needed_are_refused():
    # No writer makes them, and decoders know fields by the first byte of the tag.
    with pytest.raises(ValueError, match="a tag is longer than needed"):
        CODEC.decode_compact(b"\x8a\x00\x00")


def test_time_is_linear_in_the_input():
    # Pieces of submessages inside each other: decoding twice per level would take 2**32 steps.
    data = b""
    for _ in range(MAX_TXN_DEPTH - 1):
        data = sub(0x1A, sub(0x22, b"") + sub(0x22, data) + sub(0x22, b""))
    assert CODEC.decode_txn(data).responses
    pieces = sub(0x0A, b"\x18\x01") * 20_000
    assert CODEC.decode_txn(sub(0x1A, pieces)).responses == [GetReply(more=True)]
    assert CODEC.decode_compact(sub(0x0A, b"\x08\x01") * 20_000).header.cluster_id == 1


def test_a_header_that_begins_with_the_ids_of_the_last_one():
    ids = b"\x08\x81\x82\x03\x10\x05"
    first, again = CODEC.decode_put(sub(10, ids + b"\x18\x07\x20\x02")), CODEC.decode_put(sub(10, ids))
    assert first.header == (0x0C101, 5, 7, 2)
    assert again.header == (0x0C101, 5, 0, 0)
    # What comes later counts, as it does in any message.
    assert CODEC.decode_put(sub(10, ids + b"\x18\x07\x20\x02\x08\x01\x10\x01")).header == (1, 1, 7, 2)
    assert CODEC.decode_put(sub(10, ids + b"\x20\x02\x18\x07")).header == (0x0C101, 5, 7, 2)
    for cut in (1, 2, 3, 5):  # after 4 octets a field ends
        with pytest.raises(ValueError):
            CODEC.decode_put(bytes((10, cut)) + ids + b"\x18\x07")


def test_the_first_header_of_a_process():
    program = """if True:
        from purecd.pb import decoding
        try:
            decoding.decode_put(bytes((10, 3, 0, 24, 5)))
        except ValueError as error:
            print(error)
        assert decoding.decode_put(bytes((10, 6, 8, 0, 16, 0, 24, 5))).header == (0, 0, 5, 0)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("field number 0 is not allowed\n", "")
