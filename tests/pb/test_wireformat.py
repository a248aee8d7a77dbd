# SPDX-License-Identifier: Apache-2.0
"""Protobuf's wire format, from its specification."""

from __future__ import annotations

import pytest

from purecd.pb.encoding import varint
from purecd.pb.wireformat import check_end, read_int64, read_varint, skip, span

# Lengths on both sides of every power of 128, and the ends of 64 bits.
NUMBERS = [0, 1, 2**63 - 1, 2**63, 2**64 - 1] + [
    number for power in range(1, 9) for number in (128**power - 1, 128**power)
]


@pytest.mark.parametrize("number", NUMBERS)
def test_varints(number):
    data = varint(number)
    assert len(data) == max(1, -(-number.bit_length() // 7))
    assert read_varint(b"x" + data, 1) == (number, 1 + len(data))
    signed = number - 2**64 if number >= 2**63 else number
    assert read_int64(b"x" + data, 1) == (signed, 1 + len(data))
    assert varint(signed) == data
    for length in range(len(data)):
        for read in (read_varint, read_int64):
            with pytest.raises(IndexError):
                read(data[:length], 0)


def test_varint_of_the_specification():
    assert varint(150) == b"\x96\x01"
    assert read_varint(b"\x96\x01", 0) == (150, 2)


def test_varints_may_be_longer_than_needed():
    assert read_varint(b"\x85\x00", 0) == (5, 2)
    assert read_varint(b"\x85\x80\x80\x80\x80\x80\x80\x80\x80\x00", 0) == (5, 10)
    for read in (read_varint, read_int64):
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            read(b"\x80" * 10 + b"\x01", 0)


@pytest.mark.parametrize(
    ("data", "length"),
    [
        ("08 05", 2),
        ("08 8080808001", 6),
        ("09 0000000000000000", 9),
        ("0a 00", 2),
        ("0a 03 010203", 5),
        ("0d 00000000", 5),
        ("0b 0c", 2),
        ("0b 08 05 13 14 0c", 6),
        ("a206 01 00", 4),
    ],
)
def test_fields_to_skip(data, length):
    assert skip(b"x" + bytes.fromhex(data) + b"y", 1) == 1 + length


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("00", "field number 0"),
        ("06", "field number 0"),
        ("0e", "wire type 6"),
        ("0f", "wire type 7"),
        ("0c", "wire type 4"),
        ("0b 14", "wire type 4"),
        ("8800", "longer than needed"),
        ("8080808010", "field number 536870912"),
    ],
)
def test_tags_that_are_not_allowed(data, text):
    with pytest.raises(ValueError, match=text):
        skip(bytes.fromhex(data), 0)


def test_spans():
    assert span(b"\x03abc", 0) == (1, 4)
    assert span(b"x\x80\x01" + bytes(128), 1) == (3, 131)
    check_end(4, 4)
    with pytest.raises(ValueError, match="past the end"):
        check_end(5, 4)
