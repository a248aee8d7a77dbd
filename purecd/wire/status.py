# SPDX-License-Identifier: Apache-2.0
"""How gRPC calls end and what goes with them as text: status, timeout, metadata.

Source: gRPC doc/PROTOCOL-HTTP2.md, doc/http-grpc-status-mapping.md, doc/statuscodes.md.
"""

from __future__ import annotations

import re
from math import ceil
from struct import Struct

from ..errors import StatusCode
from ..records import NamedTuple
from . import frames

LONGEST_MESSAGE = 4096

# http-grpc-status-mapping.md; everything else is UNKNOWN.
STREAM_RESET = "stream terminated by RST_STREAM"
"""How the message of a stream begins that the server reset; the words are those of grpc-go."""

_FROM_HTTP = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    431: StatusCode.INTERNAL,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}

# PROTOCOL-HTTP2.md (Errors); codes HTTP/2 does not define are UNKNOWN.
_FROM_RESET = {
    frames.NO_ERROR: StatusCode.INTERNAL,
    frames.PROTOCOL_ERROR: StatusCode.INTERNAL,
    frames.INTERNAL_ERROR: StatusCode.INTERNAL,
    frames.FLOW_CONTROL_ERROR: StatusCode.INTERNAL,
    frames.SETTINGS_TIMEOUT: StatusCode.INTERNAL,
    frames.STREAM_CLOSED: StatusCode.INTERNAL,
    frames.FRAME_SIZE_ERROR: StatusCode.INTERNAL,
    frames.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    frames.CANCEL: StatusCode.CANCELLED,
    frames.COMPRESSION_ERROR: StatusCode.INTERNAL,
    frames.CONNECT_ERROR: StatusCode.INTERNAL,
    frames.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
    frames.HTTP_1_1_REQUIRED: StatusCode.INTERNAL,
}

# RFC 9113 §8.2.2.
CONNECTION_FIELDS = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_RESERVED_NAMES = frozenset((b"content-type", b"user-agent", b"te", b"host", b"content-length"))

_metadata_name = re.compile(rb"[0-9a-z_.-]+").fullmatch
_metadata_value = re.compile(rb"(?:[!-~](?:[ -~]*[!-~])?)?").fullmatch
_message_head = Struct(">BL").pack


class Status(NamedTuple):
    """The end of a call.

    Attributes:
        code: gRPC status code, 0 to 16.
        message: text of the server, or ours when the server sent none.
        source: what ended the call: "trailers", "http" (a response that is not gRPC),
            "reset" (RST_STREAM), "lost" (the connection ended), "unprocessed" (certainly
            not processed), "protocol" (the response broke a rule), "local".
    """

    code: int
    message: str
    source: str


def from_trailers(grpc_status: bytes | None, grpc_message: bytes | None) -> Status:
    """Decode `grpc-status` and `grpc-message`; never raises, and never takes nonsense for OK."""
    text = percent_decode(grpc_message) if grpc_message else ""
    if grpc_status is None:
        return Status(StatusCode.UNKNOWN, text, "trailers")
    if not grpc_status.isdigit() or len(grpc_status) > 9:
        shown = grpc_status[:64].decode("ascii", "replace")
        return Status(StatusCode.UNKNOWN, f"malformed grpc-status: {shown!r}", "trailers")
    code = int(grpc_status)
    if code > 16:
        note = f"unknown grpc-status {code}"
        return Status(StatusCode.UNKNOWN, f"{note}: {text}" if text else note, "trailers")
    return Status(code, text, "trailers")


def from_http(status: int, media_type: bytes, body: bytes) -> Status:
    """Explain a response that is not gRPC.

    Args:
        status: HTTP status code.
        media_type: `content-type`, b"" if none.
        body: beginning of the body, as far as collected.
    """
    try:
        from http import HTTPStatus  # 1 ms that no good answer should wait for

        reason = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        reason = ""
    shown = media_type[:128].decode("ascii", "replace")
    cause = f'unexpected content-type "{shown}"' if media_type else "missing content-type"
    message = f"unexpected HTTP status {status}{reason} from server; {cause}"
    if body:
        message += f"; body: {body.decode('utf-8', 'replace')!r}"
    return Status(_FROM_HTTP.get(status, StatusCode.UNKNOWN), message, "http")


def from_reset(code: int) -> Status:
    """Status of a stream that the server ended with RST_STREAM `code`."""
    message = f"{STREAM_RESET} with error code: {frames.error_name(code)}"
    source = "unprocessed" if code == frames.REFUSED_STREAM else "reset"
    return Status(_FROM_RESET.get(code, StatusCode.UNKNOWN), message, source)


def percent_decode(value: bytes) -> str:
    """Decode `grpc-message`: broken escapes stay as they are, broken UTF-8 becomes U+FFFD.

    At most 4,096 characters are kept.
    """
    if b"%" in value:
        value = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes((int(match.group(1), 16),)), value)
    text = value.decode("utf-8", "replace")
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def encode_timeout(seconds: float) -> bytes:
    """Encode `grpc-timeout`: the finest unit that fits eight digits, rounded up.

    Args:
        seconds: remaining time, above 0; over 99,999,999 hours counts as that.
    """
    if 0.1 <= seconds <= 99.9:
        return b"%du" % ceil(seconds * 1e6)  # nearly every call; the loop comes to the same
    if not seconds > 0:
        raise ValueError(f"a call without time left is not sent (timeout {seconds})")
    for unit, per_second in _TIMEOUT_UNITS:
        count = seconds * per_second
        if count <= 99_999_999:
            return b"%d%c" % (ceil(count), unit)
    for unit, length in ((b"M", 60), (b"H", 3600)):
        count = seconds / length
        if count <= 99_999_999:
            return b"%d%c" % (ceil(count), unit)
    return b"99999999H"


_TIMEOUT_UNITS = ((b"n", 1e9), (b"u", 1e6), (b"m", 1e3), (b"S", 1))


def message_frame(payload: bytes) -> bytes:
    """Put the gRPC message prefix, uncompressed, before a serialised message."""
    return _message_head(0, len(payload)) + payload


def check_metadata(name: bytes, value: bytes) -> None:
    """Refuse metadata that must not go out, before any octet does.

    Raises:
        ValueError: name or value breaks the rules; the value is not part of the message.

    Source: gRPC doc/PROTOCOL-HTTP2.md (Custom-Metadata).
    """
    if not _metadata_name(name):
        raise ValueError(f"metadata name {name!r} must consist of a-z, 0-9, '_', '-' and '.'")
    if name.startswith(b"grpc-") or name in _RESERVED_NAMES or name in CONNECTION_FIELDS:
        raise ValueError(f"metadata name {name!r} is reserved")
    if not name.endswith(b"-bin") and not _metadata_value(value):
        raise ValueError(
            f"value of metadata {name!r} must be printable ASCII without spaces around it; "
            "use a name ending in '-bin' for other octets"
        )


def decode_binary(value: bytes) -> list[bytes] | None:
    """Decode a `-bin` value, comma-joined, padded or not; None when it is not base64."""
    import base64  # 1 ms that answers without such values should not wait for

    try:
        parts = [part.strip() for part in value.split(b",")]
        return [base64.b64decode(part + b"=" * (-len(part) % 4), validate=True) for part in parts]
    except ValueError:
        return None
