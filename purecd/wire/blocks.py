# SPDX-License-Identifier: Apache-2.0
"""Header blocks of responses: put together, decoded by hpack, checked.

Rules:

1. A block that does not decode ends the connection, for later ones would decode wrongly.
2. A list over our limits ends the stream only; up to four times the size is decoded for that.
3. The structure is checked here first: hpack before 4.2 takes integers of any length, which
   costs it 28 s for one block of the largest size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from . import frames
from .faults import ConnectionFault
from .status import CONNECTION_FIELDS, decode_binary

if TYPE_CHECKING:
    from .status import Status

MAX_FIELDS = 256
MAX_CONTINUATIONS = 16
MEMO_SIZE = 64

# RFC 9113 §8.2.1: visible ASCII without upper-case letters; the colon only starts pseudo-headers.
_legal_name = re.compile(rb"[!-9;-@\[-~]+").fullmatch
_illegal_value = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$").search
_legal_status = re.compile(rb"[1-9][0-9]{2}").fullmatch
# RFC 7541 §6.1: octets 0x81..0xfe are each one indexed field, complete in itself.
_only_indexed = re.compile(rb"[\x81-\xfe]+").fullmatch


class FieldBlock:
    """A decoded header block and what is wrong with it.

    Blocks that arrive often are decoded once and shared, so what `grpc` derives from one
    is kept here, too.

    Attributes:
        fields: names and values, in order.
        status: `:status`, 0 when the block has none.
        problem: why a response with this block is malformed, "" if it is not.
        too_large: the block is over our limit for size or number of fields.
        content_length: octets of DATA promised, -1 if not given.
        verdict: gRPC status of the block as trailers, None until asked for.
        opens_reply: found to be the headers of a gRPC response of any length.
        ends_well: found to be trailers with status 0.
        media_type: `content-type`, b"" if none.
    """

    __slots__ = (
        "content_length",
        "ends_well",
        "fields",
        "media_type",
        "opens_reply",
        "problem",
        "status",
        "too_large",
        "verdict",
    )

    def __init__(self, fields: list[tuple[bytes, bytes]], max_size: int = 65536) -> None:
        self.fields = fields
        self.status = 0
        self.problem = ""
        self.content_length = -1
        self.media_type = b""
        self.verdict: Status | None = None
        self.opens_reply = False
        self.ends_well = False
        # RFC 9113 §6.5.2: the size is that of names and values plus 32 octets per field.
        size = sum([len(name) + len(value) + 32 for name, value in fields])
        self.too_large = size > max_size or len(fields) > MAX_FIELDS
        if not self.too_large:
            self.problem = self._check()

    def get(self, name: bytes) -> bytes | None:
        """First value of a field, None without such a field."""
        for field, value in self.fields:
            if field == name:
                return value
        return None

    def _check(self) -> str:
        regular = False
        for name, value in self.fields:
            if name.startswith(b":"):
                problem = self._check_pseudo(name, value, regular)
            else:
                regular = True
                problem = self._check_regular(name, value)
            if problem:
                return problem
        return ""

    def _check_pseudo(self, name: bytes, value: bytes, regular: bool) -> str:
        if name != b":status":
            return f"pseudo-header {name[:64]!r} in a response (RFC 9113 §8.3)"
        if regular:
            return "pseudo-header after a regular field (RFC 9113 §8.3)"
        if self.status:
            return ":status twice (RFC 9113 §8.3)"
        if not _legal_status(value):
            return f":status {value[:64]!r} (RFC 9113 §8.3.2)"
        self.status = int(value)
        return ""

    def _check_regular(self, name: bytes, value: bytes) -> str:
        if not _legal_name(name):
            return f"field name {name[:64]!r} (RFC 9113 §8.2.1)"
        if _illegal_value(value):
            return f"value of field {name[:64]!r} (RFC 9113 §8.2.1)"
        if name in CONNECTION_FIELDS:
            return f"connection-specific field {name!r} (RFC 9113 §8.2.2)"
        if name == b"content-type":
            self.media_type = self.media_type or value
        elif name == b"content-length":
            # RFC 9110 §8.6: digits only; more than 18 of them cannot be true.
            if not value.isdigit() or len(value) > 18:
                return f"content-length {value[:64]!r} (RFC 9110 §8.6)"
            if self.content_length not in (-1, int(value)):
                return "contradicting content-length (RFC 9110 §8.6)"
            self.content_length = int(value)
        elif name.endswith(b"-bin") and name != b"grpc-status-details-bin" and decode_binary(value) is None:
            return f"metadata {name[:64]!r} is not base64"
        return ""


class HeaderBlockParts:
    """A header block whose END_HEADERS has not come."""

    __slots__ = ("continuations", "end_stream", "octets", "stream_id")

    def __init__(self, stream_id: int, octets: bytes, end_stream: bool) -> None:
        self.stream_id = stream_id
        self.octets = bytearray(octets)
        self.end_stream = end_stream
        self.continuations = 0

    def check(self, kind: int, stream_id: int) -> None:
        """See to it that the next frame goes on with the block."""
        # RFC 9113 §6.10: nothing but CONTINUATION of the same stream may come now.
        if kind != frames.CONTINUATION or stream_id & frames.MAX_STREAM_ID != self.stream_id:
            raise ConnectionFault(
                frames.PROTOCOL_ERROR,
                f"{frames.frame_name(kind)} within the header block of stream {self.stream_id}"
                " (RFC 9113 §6.10)",
            )
        # Empty ones count as well (CVE-2024-27316).
        self.continuations += 1
        if self.continuations > MAX_CONTINUATIONS:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM, f"over {MAX_CONTINUATIONS} CONTINUATION frames in one header block"
            )


class BlockDecoder:
    """hpack's decoder with a memo for the blocks a server repeats.

    A block of nothing but one-octet indexed fields means the same as long as the dynamic
    table stays as it is, and changes nothing itself: etcd's every response after the first.

    Args:
        max_size: largest header list taken, octets by the count of RFC 9113 §6.5.2. Up to
            four times as much is decoded, to stay in step with the server's table.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._decoder = Decoder(4 * max_size)
        self.memo: dict[bytes, FieldBlock] = {}

    def decode(self, octets: bytes) -> FieldBlock:
        """Decode a whole block that is not in the memo.

        Raises:
            ConnectionFault: the block cannot be decoded, so no later one could.
        """
        check_structure(octets)
        try:
            fields = [(field[0], field[1]) for field in self._decoder.decode(octets, raw=True)]
        except OversizedHeaderListError:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM, f"header list over four times the limit of {self._max_size} octets"
            ) from None
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(
                frames.COMPRESSION_ERROR, f"header block does not decode: {error} (RFC 9113 §4.3)"
            ) from None
        block = FieldBlock(fields, self._max_size)
        if not _only_indexed(octets):
            self.memo.clear()
        elif len(self.memo) < MEMO_SIZE:
            self.memo[octets] = block
        return block


def check_structure(octets: bytes) -> None:
    """Walk over the fields of a block without decoding them.

    Raises:
        ConnectionFault: an integer is too long, a string is cut off, or there are over four
            times as many fields as we take.

    Source: RFC 7541 §5 and §6.
    """
    position = 0
    fields = 0
    while position < len(octets):
        fields += 1
        first = octets[position]
        if first & 0x80:  # §6.1: indexed field
            _, position = _read_integer(octets, position, 0x7F)
        elif first & 0xE0 == 0x20:  # §6.3: size update
            _, position = _read_integer(octets, position, 0x1F)
        else:  # §6.2: literal, with the name's index or 0 and the name
            index, position = _read_integer(octets, position, 0x3F if first & 0x40 else 0x0F)
            if not index:
                position = _skip_string(octets, position)
            position = _skip_string(octets, position)
    if fields > 4 * MAX_FIELDS:
        raise ConnectionFault(
            frames.ENHANCE_YOUR_CALM, f"{fields} fields in a header block, over four times {MAX_FIELDS}"
        )


def _skip_string(octets: bytes, position: int) -> int:
    """Position behind the string that begins at `position` (RFC 7541 §5.2)."""
    if position < len(octets):
        size, position = _read_integer(octets, position, 0x7F)
        if position + size <= len(octets):
            return position + size
    raise ConnectionFault(frames.COMPRESSION_ERROR, "string cut off in a header block (RFC 7541 §5.2)")


def _read_integer(octets: bytes, position: int, mask: int) -> tuple[int, int]:
    """Integer at `position` and the position behind it (RFC 7541 §5.1). mask: all ones in the prefix."""
    value = octets[position] & mask
    position += 1
    if value < mask:
        return value, position
    for shift in (0, 7, 14, 21, 28):
        if position == len(octets):
            break
        octet = octets[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            if value < 1 << 32:
                return value, position
            break
    raise ConnectionFault(
        frames.COMPRESSION_ERROR, "integer too long or cut off in a header block (RFC 7541 §5.1)"
    )
