# SPDX-License-Identifier: Apache-2.0
"""The peer's SETTINGS: validation and the values in force (RFC 9113 §6.5)."""

from __future__ import annotations

from struct import Struct

from . import frames
from .faults import ConnectionFault

# A legal frame may carry thousands of entries, each answered work on our side
# (CVE-2020-11080); etcd and every server seen sends fewer than ten.
MAX_ENTRIES = 64

_iter_entries = Struct(">HL").iter_unpack


class PeerSettings:
    """What the server last told us about itself, starting from the defaults of §6.5.2.

    Attributes:
        header_table_size: octets of HPACK dynamic table our encoder may use.
        max_concurrent_streams: streams we may have open; unlimited is 2^32-1.
        initial_window_size: octets of DATA we may send on a new stream.
        max_frame_size: largest frame payload the server takes, octets.
    """

    __slots__ = ("header_table_size", "initial_window_size", "max_concurrent_streams", "max_frame_size")

    def __init__(self) -> None:
        self.header_table_size = 4096
        self.max_concurrent_streams = 2**32 - 1
        self.initial_window_size = frames.DEFAULT_WINDOW
        self.max_frame_size = frames.DEFAULT_FRAME_SIZE

    def update(self, payload: bytes) -> int:
        """Take over the entries of one SETTINGS frame, in order; unknown identifiers are ignored.

        Returns:
            The smallest HEADER_TABLE_SIZE the frame passed through, or the value in force:
            an encoder must have shrunk to it (RFC 7541 §4.2).

        Raises:
            ConnectionFault: length, count or a value is illegal.
        """
        if len(payload) % 6:
            raise ConnectionFault(
                frames.FRAME_SIZE_ERROR,
                f"SETTINGS of {len(payload)} octets, not a multiple of 6 (RFC 9113 §6.5)",
            )
        if len(payload) > 6 * MAX_ENTRIES:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM,
                f"SETTINGS with {len(payload) // 6} entries, over the limit of {MAX_ENTRIES}",
            )
        smallest_table = self.header_table_size
        for identifier, value in _iter_entries(payload):
            if identifier == frames.HEADER_TABLE_SIZE:
                self.header_table_size = value
                smallest_table = min(smallest_table, value)
            elif identifier == frames.ENABLE_PUSH:
                # §6.5.2: a client MUST treat ENABLE_PUSH of 1 from a server as PROTOCOL_ERROR.
                if value != 0:
                    raise ConnectionFault(
                        frames.PROTOCOL_ERROR, f"SETTINGS ENABLE_PUSH {value} from a server (RFC 9113 §6.5.2)"
                    )
            elif identifier == frames.MAX_CONCURRENT_STREAMS:
                self.max_concurrent_streams = value
            elif identifier == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise ConnectionFault(
                        frames.FLOW_CONTROL_ERROR,
                        f"SETTINGS INITIAL_WINDOW_SIZE {value} over 2^31-1 (RFC 9113 §6.5.2)",
                    )
                self.initial_window_size = value
            elif identifier == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                    raise ConnectionFault(
                        frames.PROTOCOL_ERROR,
                        f"SETTINGS MAX_FRAME_SIZE {value} out of range (RFC 9113 §6.5.2)",
                    )
                self.max_frame_size = value
        return smallest_table
