# SPDX-License-Identifier: Apache-2.0
"""Octets on their way out: queued here, handed to the driver, written to the kernel."""

from __future__ import annotations

# grpc-go's server stops reading at 100 queued replies; a peer that asks for replies and does
# not read them gets no more than that out of this side either (CVE-2019-9512).
REPLY_LIMIT = 100


class Output:
    """Frames waiting for the driver, and how far earlier ones got.

    Attributes:
        chunks: frames nobody has fetched yet, in order.
        queued: octets ever put in, so also the position behind the newest one.
        written: octets the driver has reported as handed to the kernel or to TLS.
        replies: frames queued in answer to the peer since everything was last written.
    """

    __slots__ = ("_left", "chunks", "queued", "replies", "written")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.queued = 0
        self.written = 0
        self.replies = 0
        self._left = 0  # replies that the latest report let out of the count

    def put(self, frame: bytes) -> None:
        """Queue a frame."""
        self.chunks.append(frame)
        self.queued += len(frame)

    def reply(self, frame: bytes) -> None:
        """Queue a frame that the peer's own frames ask for."""
        self.chunks.append(frame)
        self.queued += len(frame)
        self.replies += 1

    def take(self) -> bytes:
        """All octets queued since the last call, b"" if none."""
        chunks = self.chunks
        if not chunks:
            return b""
        self.chunks = []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def leave(self, waiting: int) -> bytes:
        """`take`, reported as written together with `waiting` octets taken before: one step for two."""
        data = b"".join(self.chunks)
        self.chunks = []
        written = self.written = self.written + waiting + len(data)
        if written >= self.queued:
            self._left = self.replies
            self.replies = 0
        else:
            self._left = 0
        return data

    def discard(self) -> None:
        """Forget what nobody has fetched; it never leaves, and counts as queued but not written."""
        self.chunks = []

    def wrote(self, count: int) -> None:
        """The next `count` octets handed to the driver reached the kernel; below 0: the last ones did not."""
        self.written += count
        if count < 0:
            self.replies += self._left
            self._left = 0
        elif self.written >= self.queued:
            self._left = self.replies
            self.replies = 0
        else:
            self._left = 0
