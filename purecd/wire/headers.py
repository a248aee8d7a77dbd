# SPDX-License-Identifier: Apache-2.0
"""Header blocks: requests encoded here, responses decoded by hpack and checked here.

The encoder is our own because hpack logs what it encodes, the auth token included. It uses no
dynamic table: all that is constant is one cached string of octets.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from . import frames
from .faults import ConnectionFault
from .status import CONNECTION_FIELDS, check_metadata, decode_binary

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

# RFC 7541 appendix A: `:method: POST`, `:scheme: http` and `https` are indexed fields; the
# names :authority 1, :path 4, content-type 31 and user-agent 58 are used with literal values.
_METHOD_POST = b"\x83"
_SCHEMES = {"http": b"\x86", "https": b"\x87"}
_AUTHORITY, _PATH, _CONTENT_TYPE, _USER_AGENT = 1, 4, 31, 58


def encode_integer(value: int, prefix_bits: int, first: int) -> bytes:
    """Encode an HPACK integer (RFC 7541 §5.1). first: the bits of the first octet above the prefix."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((first | value,))
    octets = [first | limit]
    value -= limit
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def encode_string(value: bytes) -> bytes:
    """Encode an HPACK string without Huffman coding (RFC 7541 §5.2)."""
    return encode_integer(len(value), 7, 0) + value


def encode_literal(name: bytes | int, value: bytes, *, never_indexed: bool = False) -> bytes:
    """Encode a field that stays out of the dynamic table (RFC 7541 §6.2.2, §6.2.3).

    Args:
        name: the name, or its index in the static table.
        never_indexed: forbid intermediaries, too, to put the value into a table.
    """
    first = 0x10 if never_indexed else 0
    if isinstance(name, int):
        return encode_integer(name, 4, first) + encode_string(value)
    return bytes((first,)) + encode_string(name) + encode_string(value)


# All of a grpc-timeout field before its value, by the length of the value, at most 9 octets.
_TIMEOUT_STARTS = [encode_literal(b"grpc-timeout", b"0" * size)[: 14 + 1] for size in range(10)]


class RequestHeaders:
    """Encoded header blocks of gRPC requests; all but timeout and token is cached.

    Fields without dynamic-table indexing keep the block the same for every call, so it can be
    cached across calls, and leave nothing to keep in step with the server's settings.

    Args:
        scheme: "http" or "https".
        authority: value of `:authority`.
        user_agent: value of `user-agent`.
        metadata: name and value pairs sent with every request, values of `-bin` names raw.

    Source: gRPC doc/PROTOCOL-HTTP2.md (Requests).
    """

    def __init__(
        self,
        scheme: str,
        authority: str,
        user_agent: str,
        metadata: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._start = _METHOD_POST + _SCHEMES[scheme]
        self._rest = b"".join(
            (
                encode_literal(_AUTHORITY, authority.encode("ascii")),
                encode_literal(_CONTENT_TYPE, b"application/grpc"),
                encode_literal(b"te", b"trailers"),
                encode_literal(_USER_AGENT, user_agent.encode("ascii")),
                encode_metadata(metadata),
            )
        )
        self._by_path: dict[bytes, bytes] = {}
        self._token = b""
        self._token_field = b""
        self._extra: Sequence[tuple[bytes, bytes]] = ()
        self._extra_fields = b""

    def __repr__(self) -> str:
        return "<RequestHeaders>"

    def block(
        self,
        path: bytes,
        timeout: bytes = b"",
        token: bytes = b"",
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> bytes:
        """Encode the header block of one request.

        Args:
            path: ``/package.Service/Method``, one of a fixed set.
            timeout: value of `grpc-timeout`, b"" for none.
            token: auth token, b"" for none; marked never-indexed.
            extra: further metadata of this request.
        """
        block = self._by_path.get(path)
        if block is None:
            block = self._start + encode_literal(_PATH, path) + self._rest
            self._by_path[path] = block
        if timeout:
            block += _TIMEOUT_STARTS[len(timeout)] + timeout
        if token:
            if token != self._token:
                check_metadata(b"token", token)
                self._token_field = encode_literal(b"token", token, never_indexed=True)
                self._token = token
            block += self._token_field
        if extra:
            if tuple(extra) != self._extra:
                self._extra_fields = encode_metadata(extra)
                self._extra = tuple(extra)
            block += self._extra_fields
        return block


def encode_metadata(metadata: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Check and encode metadata; tokens, passwords and cookies by usual names are never indexed."""
    fields = []
    for name, value in metadata:
        check_metadata(name, value)
        if name.endswith(b"-bin"):
            value = b64encode(value).rstrip(b"=")
        fields.append(encode_literal(name, value, never_indexed=name in _SECRET_NAMES))
    return b"".join(fields)


_SECRET_NAMES = frozenset((b"token", b"authorization", b"proxy-authorization", b"cookie"))


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
        media_type: `content-type`, b"" if none.
    """

    __slots__ = ("content_length", "fields", "media_type", "problem", "status", "too_large", "verdict")

    def __init__(self, fields: list[tuple[bytes, bytes]], max_size: int = 65536) -> None:
        self.fields = fields
        self.status = 0
        self.problem = ""
        self.content_length = -1
        self.media_type = b""
        self.verdict: Status | None = None
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
