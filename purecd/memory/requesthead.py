# SPDX-License-Identifier: Apache-2.0
"""The header fields a call begins with, read as grpc-go's server reads them.

1. A `connection` field makes the request malformed; it gets RST_STREAM(PROTOCOL_ERROR).
2. What is not gRPC, or no sense, is answered at once with an HTTP status *and* a gRPC status.
3. Of a field that comes twice the first counts, as etcd looks only at that.

Source: grpc-go internal/transport/http2_server.go, http_util.go; gRPC doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as BinasciiError
from typing import TYPE_CHECKING, NamedTuple

from purecd.memory.calls import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT_TYPE = "application/grpc"
INVALID_ARGUMENT, INTERNAL = 3, 13
FIELD_OVERHEAD = 32  # octets that count for each field, RFC 9113 §6.5.2

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_RESERVED = frozenset(("content-type", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status"))
_NOT_METADATA = _RESERVED | {"grpc-timeout", "grpc-status-details-bin", "te"}


class RequestHead(NamedTuple):
    """What a call begins with.

    Attributes:
        path: as in ``:path``.
        timeout: relative seconds, None without limit.
        encoding: of compressed messages, empty when there is none.
        metadata: by lower-case name; octets that are no UTF-8 as surrogates.
    """

    path: str
    timeout: float | None
    encoding: str
    metadata: dict[str, str]


class Malformed(Exception):
    """A request that gets RST_STREAM(PROTOCOL_ERROR)."""


class Refusal(Exception):
    """A request that is answered by its head alone.

    Attributes:
        http_status: of the response, which carries the gRPC status too.
    """

    def __init__(self, http_status: int, status: Status) -> None:
        super().__init__(http_status, status)
        self.http_status = http_status
        self.status = status


def read_head(fields: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Read the fields of a request.

    Raises:
        Malformed, Refusal: it cannot become a call.
    """
    first: dict[str, str] = {}
    hosts = {":authority": 0, "host": 0}
    for raw_name, raw_value in fields:
        name = raw_name.decode("latin-1")
        if name in hosts:
            hosts[name] += 1
        first.setdefault(name, raw_value.decode("utf-8", "surrogateescape"))
    if "connection" in first:
        raise Malformed("a connection field")
    if max(hosts.values()) > 1:
        raise _bad(
            f"num values of :authority: {hosts[':authority']}, host: {hosts['host']}, "
            "both must only have 1 value as per HTTP/2 spec"
        )
    _check_media_type(first.get("content-type", ""))
    timeout = read_timeout(first["grpc-timeout"]) if "grpc-timeout" in first else None
    metadata = {name: value for name, value in first.items() if name[:1] != ":" and name not in _NOT_METADATA}
    _check_binary(metadata)
    if first.get(":method") != "POST":
        text = (
            f"Received a HEADERS frame with :method {quoted(first.get(':method', ''))} which should be POST"
        )
        raise Refusal(405, Status(INTERNAL, text))
    return RequestHead(first.get(":path", ""), timeout, first.get("grpc-encoding", ""), metadata)


def read_timeout(text: str) -> float:
    """Seconds of a ``grpc-timeout``. Raises `Refusal`."""
    if len(text) < 2:
        raise _bad(f"malformed grpc-timeout: transport: timeout string is too short: {quoted(text)}")
    if len(text) > 9:
        raise _bad(f"malformed grpc-timeout: transport: timeout string is too long: {quoted(text)}")
    if text[-1] not in _UNITS:
        raise _bad(f"malformed grpc-timeout: transport: timeout unit is not recognized: {quoted(text)}")
    digits = text[:-1]
    if not (digits.isascii() and digits.isdigit()):
        cause = f"strconv.ParseInt: parsing {quoted(digits)}: invalid syntax"
        raise _bad(f"malformed grpc-timeout: {cause}")
    return int(digits) * _UNITS[text[-1]]


def list_size(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """Size of a header list in octets (RFC 9113 §6.5.2)."""
    return sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)


def percent_encode(text: str) -> str:
    """Encode a ``grpc-message``: printable ASCII without the percent sign stays."""
    return "".join(
        chr(octet) if 0x20 <= octet <= 0x7E and octet != 0x25 else f"%{octet:02X}"
        for octet in text.encode("utf-8", "surrogateescape")
    )


def quoted(text: str) -> str:
    """As Go's ``%q`` prints it, for what is usual in headers."""
    return json.dumps(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), ensure_ascii=False)


def _check_media_type(value: str) -> None:
    rest = value[len(CONTENT_TYPE) :]
    if not value.startswith(CONTENT_TYPE) or (rest and rest[0] not in "+;"):
        text = f"invalid gRPC request content-type {quoted(value)}"
        raise Refusal(415, Status(INVALID_ARGUMENT, text))


def _check_binary(metadata: dict[str, str]) -> None:
    for name, value in metadata.items():
        if name.endswith("-bin"):
            try:
                b64decode(value + "=" * (-len(value) % 4), validate=True)
            except (BinasciiError, ValueError) as error:
                text = f"malformed binary metadata {quoted(value)} in header {quoted(name)}: {error}"
                raise _bad(text) from error


def _bad(text: str) -> Refusal:
    return Refusal(400, Status(INTERNAL, text))
