# SPDX-License-Identifier: Apache-2.0
"""A snapshot of one member's database, streamed and checked on the way.

1. The server sends the database in chunks, each with the number of bytes of it still to come, then the
   SHA-256 of the database, 32 bytes, as the last chunk. All of that together is the snapshot file.
2. The checksum is verified while the chunks pass by; that is known only at the end, so nothing may be
   made of the data before `next_chunk` has returned None.
3. Nothing can be resumed. Before the first chunk the stream is opened again like any read.

Source: etcd server/etcdserver/api/v3rpc/maintenance.go (Snapshot), client/v3/snapshot/v3_snapshot.go.
"""

from __future__ import annotations

from hashlib import sha256

from purecd.admin_types import SnapshotInfo
from purecd.core import methods
from purecd.core.op import Op
from purecd.core.serverstream import ServerStream
from purecd.core.streaming import end_stream, next_message, open_stream
from purecd.errors import SnapshotCorrupt
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages

__all__ = ["Snapshot", "SnapshotCorrupt", "SnapshotReader", "begin", "end", "next_chunk"]

CHECKSUM_SIZE = 32
PAGE_SIZE = 512  # the database consists of whole disk sectors


class SnapshotReader:
    """Checks a snapshot while it passes by, in constant memory.

    Attributes:
        version: of the database format, "" before etcd 3.6.
        size: bytes received so far.
        total: bytes the snapshot will have, its checksum included; 0 before the first chunk.
    """

    __slots__ = ("_digest", "_tail", "size", "total", "version")

    def __init__(self) -> None:
        self.version = ""
        self.size = 0
        self.total = 0
        self._digest = sha256()
        self._tail = b""  # the last 32 bytes, which may be the checksum

    @property
    def remaining(self) -> int:
        """Bytes still to come, the checksum included."""
        return self.total - self.size

    def receive(self, message: messages.SnapshotResponse) -> bytes:
        """Take one message of the stream.

        Returns:
            The next bytes of the snapshot file; may be empty.

        Raises:
            SnapshotCorrupt: more bytes came than the server announced.
        """
        blob = message.blob
        if not self.total:
            self.version = message.version
            self.total = len(blob) + message.remaining_bytes + CHECKSUM_SIZE
        self.size += len(blob)
        if self.size > self.total:
            raise SnapshotCorrupt(f"snapshot is longer than the {self.total} bytes announced")
        if len(blob) >= CHECKSUM_SIZE:  # as a rule; nothing is copied
            self._digest.update(self._tail)
            self._digest.update(memoryview(blob)[:-CHECKSUM_SIZE])
            self._tail = blob[-CHECKSUM_SIZE:]
        else:
            held = self._tail + blob
            self._digest.update(held[:-CHECKSUM_SIZE])
            self._tail = held[-CHECKSUM_SIZE:]
        return blob

    def finish(self) -> SnapshotInfo:
        """The stream has ended well: check the whole.

        Raises:
            SnapshotCorrupt: bytes are missing, or the checksum is not that of the data.
        """
        if self.size != self.total or self.size < CHECKSUM_SIZE:
            raise SnapshotCorrupt(f"snapshot ended after {self.size} of {self.total} bytes")
        if self.size % PAGE_SIZE != CHECKSUM_SIZE:
            raise SnapshotCorrupt(
                f"snapshot without checksum: {self.size} bytes are not whole pages and 32 more"
            )
        if self._digest.digest() != self._tail:
            raise SnapshotCorrupt("snapshot does not match its checksum")
        return SnapshotInfo(self.version, self.size, self._tail)


class Snapshot:
    """A snapshot being received.

    Attributes:
        reader: how far it has come, and the version.
        info: what was received, once it is complete.
    """

    __slots__ = ("_first", "_stream", "info", "reader")

    def __init__(self, stream: ServerStream, first: messages.SnapshotResponse) -> None:
        self.reader = SnapshotReader()
        self.info: SnapshotInfo | None = None
        self._stream: ServerStream | None = stream
        self._first: messages.SnapshotResponse | None = first
        self.reader.version = first.version

    @property
    def version(self) -> str:
        """Version of the database format, such as ``"3.6.0"``; "" before etcd 3.6."""
        return self.reader.version


def begin(*, endpoint: str | None = None, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Snapshot]:
    """Begin to receive a snapshot, and wait for its first chunk.

    Args:
        endpoint: which member's database, as given in the options.
        timeout: seconds until the first chunk is there.

    Sends: Maintenance/Snapshot, repeated until the first chunk.
    """
    stream, first = yield from open_stream(methods.SNAPSHOT, messages.SnapshotRequest(), endpoint=endpoint)
    return Snapshot(stream, first)


def next_chunk(snapshot: Snapshot, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[bytes | None]:
    """Wait for the next bytes of a snapshot.

    Args:
        snapshot: what `begin` returned.
        timeout: seconds until they are there.

    Returns:
        The bytes, usually 32 KiB; None when the snapshot is complete and correct: then `info` is set.

    Raises:
        SnapshotCorrupt: it did not arrive as it was sent.
        EtcdError: the stream broke; what was received is worthless.
    """
    if snapshot.info is not None:
        return None
    stream = snapshot._stream
    if stream is None:
        raise SnapshotCorrupt("the snapshot was given up before it was complete")
    try:
        data = yield from _read(snapshot, stream)
    except BaseException:
        yield from end(snapshot)
        raise
    if data is None:
        yield from end(snapshot)
    return data


def _read(snapshot: Snapshot, stream: ServerStream) -> Op[bytes | None]:
    while True:
        message, snapshot._first = snapshot._first, None
        if message is None:
            message = yield from next_message(stream)
        if message is None:
            snapshot.info = snapshot.reader.finish()
            return None
        data = snapshot.reader.receive(message)
        if data:
            return data


def end(snapshot: Snapshot) -> Op[None]:
    """Stop receiving a snapshot; no error when it has ended already."""
    stream, snapshot._stream = snapshot._stream, None
    if stream is not None:
        yield from end_stream(stream)
