# SPDX-License-Identifier: Apache-2.0
"""Frames that do not go through the h2 package, and the cutting of what arrives into frames.

1. h2 closes its connection on any GOAWAY, sent or received, while calls may go on after one. So this side
   writes its GOAWAYs itself, and does not show h2 the client's.
   Nor answers to PINGs, which are many, and mean nothing to h2.
2. h2 is given one whole frame at a time: what came before a broken one counts.

Source: RFC 9113 §3.4, §4.1, §6.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x9
END_HEADERS = 0x4
PONG = bytes((0, 0, 8, PING, 1, 0, 0, 0, 0))  # the head of an answer to a PING
NO_ERROR, PROTOCOL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 6, 7, 8, 11
MAX_FRAME_SIZE = 16_384
MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE_SETTING = 0x3, 0x5  # ids of settings

_setting = Struct(">HL").pack
_goaway = Struct(">LL").pack


class BrokenFraming(Exception):
    """What arrives is no HTTP/2, or no frame that is allowed here.

    Attributes:
        code: HTTP/2 error code for the GOAWAY, None when the peer would not understand one.
    """

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(text)
        self.code = code


class FrameReader:
    """Cuts the client's bytes into frames, after checking how the connection begins."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False  # the preface is there
        self._settled = False  # and the SETTINGS after it

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Yield whole frames; the preface is yielded like one.

        Raises:
            BrokenFraming: after the last good frame.
        """
        self._buffer += data
        if not self._greeted:
            beginning = bytes(self._buffer[: len(PREFACE)])
            if not PREFACE.startswith(beginning):
                raise BrokenFraming(None, "the client does not speak HTTP/2")
            if len(beginning) < len(PREFACE):
                return
            self._greeted = True
            del self._buffer[: len(PREFACE)]
            yield PREFACE
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 9:
            return None
        length = int.from_bytes(buffer[:3], "big")
        if length > MAX_FRAME_SIZE:
            raise BrokenFraming(FRAME_SIZE_ERROR, f"frame of {length} octets")
        if not self._settled:
            # RFC 9113 §3.4: the preface is followed by a SETTINGS frame.
            if buffer[3] != SETTINGS:
                raise BrokenFraming(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settled = True
        if len(buffer) < 9 + length:
            return None
        frame = bytes(buffer[: 9 + length])
        del buffer[: 9 + length]
        return frame


def stream_of(frame: bytes) -> int:
    """The stream that a frame belongs to."""
    return int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF


def without_resets(octets: bytes) -> bytes:
    """Whole frames without the RST_STREAMs among them."""
    kept = b""
    while octets:
        end = 9 + int.from_bytes(octets[:3], "big")
        kept += octets[:end] if octets[3] != RST_STREAM else b""
        octets = octets[end:]
    return kept


def settings(values: Mapping[int, int]) -> bytes:
    """SETTINGS with these values by id."""
    return _frame(SETTINGS, b"".join(_setting(each, value) for each, value in values.items()))


def ping(payload: bytes) -> bytes:
    """PING; payload: 8 octets."""
    return _frame(PING, payload)


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY that names the last stream which is or will be served."""
    return _frame(GOAWAY, _goaway(last, code) + debug)


def _frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 0, 0, 0, 0, 0)) + payload
