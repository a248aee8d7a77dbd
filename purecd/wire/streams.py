# SPDX-License-Identifier: Apache-2.0
"""What an HTTP/2 connection keeps for, and tells to, one of its streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .blocks import FieldBlock
    from .http2 import Http2Connection


class Stream:
    """One request and its response on a connection; subclasses say what arrives means.

    The connection calls the `receive_*` methods. Exactly one of them ends the stream: one
    with `end_stream`, or any of the last four. The two that may come more than once return
    True when the caller of the connection should look at this stream.

    Args:
        manual_window: the application returns flow-control credit with
            `Http2Connection.consume`; otherwise octets are acknowledged as they arrive.

    Attributes:
        id: stream id, odd; 0 before `Http2Connection.open_stream`.
        local_closed: our END_STREAM is queued.
        receive_window: octets of DATA the server may still send.
        send_window: octets of DATA we may still send; negative after the server lowered
            INITIAL_WINDOW_SIZE (RFC 9113 §6.9.2).
    """

    __slots__ = (
        "conn",
        "id",
        "in_line",
        "left_at",
        "local_closed",
        "manual_window",
        "pending",
        "pending_at",
        "pending_end",
        "receive_window",
        "send_window",
        "turn",
        "unacknowledged",
    )

    conn: Http2Connection

    def __init__(self, manual_window: bool = False) -> None:
        self.manual_window = manual_window
        self.id = 0
        self.local_closed = False
        self.receive_window = 0
        self.send_window = 0
        self.unacknowledged = 0  # octets taken by the application, not yet returned to the window
        self.pending = b""  # DATA the windows do not allow yet; sent up to pending_at
        self.pending_at = 0
        self.pending_end = False
        self.in_line = False  # waits in SendWindows for the connection's window
        self.left_at = -1  # position in the output behind the request, -1 while part is pending
        self.turn = 0  # which round of Http2Connection.active lists this stream

    @property
    def request_left(self) -> bool:
        """True when the last octet of the data given to `open_stream` has been written.

        From here on the server may have executed the request, END_STREAM or not.
        """
        return 0 <= self.left_at <= self.conn.output.written

    @property
    def request_leaves(self) -> bool:
        """True when the data given to `open_stream` is queued whole: only the connection's end stops it.

        It leaves even if the stream is reset now, with RST_STREAM behind it.
        """
        return self.left_at >= 0

    def receive_headers(self, block: FieldBlock, end_stream: bool) -> bool:
        """A header block came: 1xx, the response's, or trailers; whether it is news."""
        raise NotImplementedError  # `GrpcStream` says how

    def receive_data(self, data: bytes, end_stream: bool) -> bool:
        """Octets of the body came; whether they are news."""
        raise NotImplementedError  # `GrpcStream` says how

    def receive_reply(self, head: FieldBlock, message: bytes, tail: FieldBlock) -> bool:
        """The whole reply came: headers, the one message in it, trailers. It is news.

        Returns False, having done nothing, where that is not all that there is to it; then its
        parts come one by one.
        """
        return False

    def receive_reset(self, code: int) -> None:
        """The server ended the stream with RST_STREAM."""
        raise NotImplementedError  # `GrpcStream` says how

    def receive_lost(self, reason: str) -> None:
        """The connection ended first."""
        raise NotImplementedError  # `GrpcStream` says how

    def receive_unprocessed(self, reason: str, refused_connection: bool) -> None:
        """GOAWAY says that the server has not and will not process the stream.

        Args:
            refused_connection: it is the connection's first stream and the GOAWAY carries
                an error, so a new connection would likely meet the same.
        """
        raise NotImplementedError  # `GrpcStream` says how

    def receive_violation(self, code: int, text: str) -> None:
        """The server broke a rule on this stream, which was therefore reset with `code`."""
        raise NotImplementedError  # `GrpcStream` says how
