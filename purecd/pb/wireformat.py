# SPDX-License-Identifier: Apache-2.0
"""Reading of protobuf's wire format: varints, lengths, and fields to skip.

A tag is ``number << 3 | wire type``; wire types are 0 varint, 1 eight bytes, 2 length and so many bytes,
3 and 4 begin and end of a group (obsolete), 5 four bytes. All functions take the whole buffer and a
position; reading past the buffer raises IndexError, wrong bytes ValueError.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

Span = tuple[int, int]  # [start, end) in the buffer
Spans = list[Span]

MAX_GROUP_DEPTH = 50  # groups are only ever skipped

_UINT64 = (1 << 64) - 1
_UINT32 = (1 << 32) - 1
_SIGN64 = 1 << 63


def read_varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read an unsigned varint of up to 10 bytes: `(number, position after it)`."""
    number = data[pos]
    if number < 128:
        return number, pos + 1
    byte = data[pos + 1]
    if byte < 128:  # two bytes, like most lengths of keys with their values
        return number & 127 | byte << 7, pos + 2
    if data[pos + 2] < 128:  # three bytes, like most revisions
        return number & 127 | (byte & 127) << 7 | data[pos + 2] << 14, pos + 3
    return _read_long_varint(data, pos)


def _read_long_varint(data: bytes, pos: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[pos]
        pos += 1
        if byte < 128:
            return (number | byte << shift) & _UINT64, pos
        number |= (byte & 127) << shift
    raise ValueError("a varint is longer than 10 bytes")


def read_int64(data: bytes, pos: int) -> tuple[int, int]:
    """Read a varint as a signed 64-bit number; it and the position behind it."""
    number = data[pos]
    if number < 128:
        return number, pos + 1
    byte = data[pos + 1]
    if byte < 128:
        return number & 127 | byte << 7, pos + 2
    if data[pos + 2] < 128:
        return number & 127 | (byte & 127) << 7 | data[pos + 2] << 14, pos + 3
    number, pos = _read_long_varint(data, pos)
    return (number - (1 << 64) if number & _SIGN64 else number), pos


def skip(data: bytes, start: int, depth: int = 0) -> int:
    """Skip the unknown field whose tag is at `start`: the position after it."""
    tag, pos = _read_tag(data, start)
    if not 8 <= tag <= _UINT32:
        raise ValueError(f"field number {tag >> 3} is not allowed")
    if tag < 128 <= data[start]:
        raise ValueError("a tag is longer than needed")  # decoders know tags by their first byte
    wire_type = tag & 7
    if wire_type == 0:
        return read_varint(data, pos)[1]
    if wire_type == 1:
        return pos + 8
    if wire_type == 2:
        length, pos = read_varint(data, pos)
        return pos + length
    if wire_type == 5:
        return pos + 4
    if wire_type != 3:
        raise ValueError(f"wire type {wire_type} is not allowed here")
    return _skip_group(data, pos, tag + 1, depth + 1)


def _read_tag(data: bytes, start: int) -> tuple[int, int]:
    tag, pos = read_varint(data, start)
    if pos - start > 5:  # 32 bits; what is longer is no tag, however small
        raise ValueError("a tag is longer than 5 bytes")
    return tag, pos


def _skip_group(data: bytes, pos: int, end_tag: int, depth: int) -> int:
    if depth > MAX_GROUP_DEPTH:
        raise ValueError(f"groups are nested over {MAX_GROUP_DEPTH} levels deep")
    while True:
        tag, after = _read_tag(data, pos)
        if tag == end_tag:
            return after
        pos = skip(data, pos, depth)


def span(data: bytes, pos: int) -> Span:
    """Read the length at `pos`: the span of the submessage after it."""
    length = data[pos]
    pos += 1
    if length > 127:
        length, pos = read_varint(data, pos - 1)
    return pos, pos + length


def check_end(pos: int, end: int) -> None:
    """See to it that the last field ended where its message does. Raises ValueError."""
    if pos != end:
        raise ValueError("a field goes past the end of its message")
