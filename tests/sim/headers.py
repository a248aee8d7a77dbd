# SPDX-License-Identifier: Apache-2.0
"""How members compress headers: in the place of h2's own way, which depends on the version of hpack.

What a member sends decides where the network cuts it, and so all that comes after: a seed shows the same on
all versions only if every octet is the same.

Source: RFC 7541 §2.3, §4, §6.1, §6.2.1; appendix B by the table of the hpack package.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Union

from hpack import Decoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

Text = Union[str, bytes]  # versions of h2 differ in what they hand over
Field = tuple[bytes, bytes]

FIXED = {(b":status", b"200"): 8}  # fields of the static table that responses have
FIXED_NAMES = {b":status": 8, b"content-type": 31}
FIRST = 62  # index of the newest field of the dynamic table
OVERHEAD = 32  # octets that each field counts for besides its own
SIZE_UPDATE, SIZE_UPDATE_MASK = 0x20, 0xE0  # how a change of the dynamic table begins
MOST_KNOWN = 1000

_known: dict[bytes, Any] = {}  # fields by block, of all connections
_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


class HeaderEncoder:
    """What h2 has as its encoder: every field that is new goes into the dynamic table.

    Attributes:
        header_table_size: octets; the simulated clients leave it as it is.
    """

    header_table_size = 4096

    def __init__(self) -> None:
        self._table: deque[Field] = deque()  # newest first
        self._size = 0

    def encode(self, fields: Iterable[tuple[Text, Text]]) -> bytes:
        """One header block."""
        return b"".join([self._field((_octets(name), _octets(value))) for name, value in fields])

    def _field(self, field: Field) -> bytes:
        fixed = FIXED.get(field)
        if fixed is not None:
            return integer(fixed, 7, 0x80)
        if field in self._table:
            return integer(FIRST + self._table.index(field), 7, 0x80)
        name, value = field
        index = self._index_of(name)
        self._add(field)
        return integer(index, 6, 0x40) + (b"" if index else string(name)) + string(value)

    def _index_of(self, name: bytes) -> int:
        """Where a name is, 0 if it is in no table."""
        fixed = FIXED_NAMES.get(name)
        if fixed is not None:
            return fixed
        return next((FIRST + at for at, known in enumerate(self._table) if known[0] == name), 0)

    def _add(self, field: Field) -> None:
        self._table.appendleft(field)
        self._size += _weight(field)
        while self._size > self.header_table_size:
            self._size -= _weight(self._table.pop())


class HeaderDecoder(Decoder):
    """That of hpack, which remembers blocks that have nothing to do with the dynamic table.

    The client makes no others, and repeats itself.
    """

    def decode(self, data: bytes, raw: bool = False) -> Any:
        """As `hpack.Decoder.decode`."""
        block = bytes(data)
        entries = self.header_table.dynamic_entries
        if not raw or entries or (block and block[0] & SIZE_UPDATE_MASK == SIZE_UPDATE):
            return super().decode(block, raw)
        fields = _known.get(block)
        if fields is None:
            fields = super().decode(block, raw)
            if not entries:
                if len(_known) == MOST_KNOWN:
                    _known.clear()
                _known[block] = fields
        return list(fields)


def integer(value: int, bits: int, pattern: int) -> bytes:
    """A number in so many low bits of the first octet, and more octets if it is too large for them."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((pattern | value,))
    octets = [pattern | most]
    value -= most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes((*octets, value))


@lru_cache(maxsize=1000)
def string(data: bytes) -> bytes:
    """A string literal, in Huffman's code."""
    coded: bytes = _huffman.encode(data)
    return integer(len(coded), 7, 0x80) + coded


def _octets(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _weight(field: Field) -> int:
    return len(field[0]) + len(field[1]) + OVERHEAD
