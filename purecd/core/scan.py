# SPDX-License-Identifier: Apache-2.0
"""Reading a range of any size, piece by piece, all of it as of one revision.

1. The first piece is a page: a plain read with a limit. It fixes the revision of all others.
2. The rest comes as one stream (RangeStream) where the server has it, else as further pages.
3. A stream that breaks, or ends before the chunk that says it is the last, is continued with pages: the
   revision is fixed, so nothing is lost or repeated.

Source: etcd api/etcdserverpb/rpc.proto (RangeStream), client/v3/kv.go.
"""

from __future__ import annotations

from purecd import errors
from purecd.core import methods
from purecd.core.methods import Method
from purecd.core.op import Op, sleep
from purecd.core.retry import call, may_repeat
from purecd.core.serverstream import ServerStream
from purecd.core.streaming import end_stream, next_message, open_stream
from purecd.errors import EtcdError, StatusCode
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import codecs, message_class
from purecd.pb.encoding import varint
from purecd.requests import Get, Text, as_int
from purecd.types import EMPTY_HEADER, GetReply, Header

LAG_PAUSE = 0.05  # seconds for a member to catch up with the revision of the first page


def _decode_chunk(data: bytes) -> GetReply:
    """Decode a RangeStreamResponse: nothing but a RangeResponse as field 1."""
    for width in range(1, 6):  # of the length in front of the RangeResponse
        start = b"\x0a" + varint(max(len(data) - 1 - width, 0))
        if len(start) == 1 + width and data.startswith(start):
            return codecs.decode_range(data[1 + width :])
    # Fields of a later release, or none at all.
    try:
        message = message_class("etcdserverpb.RangeStreamResponse").FromString(data)
    except Exception as error:  # DecodeError or, in pure Python, whatever bad bytes lead to
        raise ValueError("undecodable etcdserverpb.RangeStreamResponse") from error
    return codecs.decode_range(message.range_response.SerializeToString())  # type: ignore[attr-defined]  # no stub


_RANGE_STREAM = Method(
    methods.RANGE_STREAM.path, codecs.encode_range, _decode_chunk, methods.RANGE_STREAM.policy
)


class Scan:
    """How far a range has been read.

    Args:
        key: the first key of ``[key, range_end)``.
        range_end: where the range ends, exclusive.
        prefix: read all keys that start with `key`; an empty key means all keys.
        from_key: read `key` and all keys after it.
        page: keys per page, 1 or more.
        limit: at most so many keys, 0 for all.
        revision: as of this revision, 0 for the latest when the first page is read.
        serializable: let members answer from what they have, which may be old.
        keys_only: leave the values out.
        stream: have the server stream what does not fit into the first page, if it can.

    Attributes:
        header: of the first page.
        revision: that all pieces are read at; 0 before the first page, unless it was given.
        count: keys in the whole range.
        done: there is no further piece.
    """

    __slots__ = (
        "_complete",
        "_left",
        "_page",
        "_pinned",
        "_request",
        "_source",
        "_stream",
        "count",
        "done",
        "header",
    )

    def __init__(
        self,
        key: Text,
        range_end: Text | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        page: int = 1000,
        limit: int = 0,
        revision: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        stream: bool = True,
    ) -> None:
        self._request = Get(
            key,
            range_end,
            prefix=prefix,
            from_key=from_key,
            revision=revision,
            serializable=serializable,
            keys_only=keys_only,
        )
        self._page = as_int("page", page, 1)
        self._left = as_int("limit", limit)  # keys still wanted, 0 for all
        self._stream = bool(stream)
        self._source: ServerStream | None = None
        self._pinned = False
        self._complete = False
        self.header: Header = EMPTY_HEADER
        self.count = 0
        self.done = False

    @property
    def revision(self) -> int:
        return self._request.revision

    def _took(self, reply: GetReply, more: bool) -> None:
        """Note what a piece contained, and whether the range goes on after it."""
        if not self._pinned:
            self._pinned = True
            self.header = reply.header
            self.count = reply.count
            if not self._request.revision:
                self._request = self._request._replace(revision=reply.header.revision)
        if reply.kvs:
            after = reply.kvs[-1].key + b"\0"
            self._request = self._request.with_key_range(after, self._request.range_end)
        elif more:
            raise errors.ProtocolError("an empty page says that more follows", method=methods.RANGE.path)
        if self._left:
            self._left -= len(reply.kvs)
            more = more and self._left > 0
        self.done = not more


def next_page(scan: Scan, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[GetReply | None]:
    """Read the next piece of a range.

    Args:
        scan: the range. After an error the same piece can be asked for again.
        timeout: seconds for this piece.

    Returns:
        Some keys in ascending order, at least one but for an empty range; None when all were returned.

    Raises:
        Compacted: the revision was compacted while reading.
        PermissionDenied: the user may not read all of the range.

    Sends: KV/Range, repeatable; KV/RangeStream once for what does not fit into the first page.
    """
    if scan.done:
        return None
    first = not scan._pinned
    if scan._stream and not first:
        chunk = yield from _next_chunk(scan)
        if chunk is not None or scan.done:
            return chunk
    page = yield from _next_page(scan)
    return page if page.kvs or first else None


def _next_page(scan: Scan) -> Op[GetReply]:
    limit = min(scan._page, scan._left) if scan._left else scan._page
    request = scan._request._replace(limit=limit)
    while True:
        try:
            reply: GetReply = yield from call(methods.RANGE, request)
        except errors.FutureRev:
            if not (scan._pinned and request.serializable):
                raise
            yield from sleep(LAG_PAUSE)  # this member lags behind the one of the first page
            continue
        scan._took(reply, reply.more)
        return reply


def _next_chunk(scan: Scan) -> Op[GetReply | None]:
    """The next chunk of the stream; None when the range is read, or goes on as pages."""
    try:
        while (chunk := (yield from _read(scan))) is not None:
            scan._complete = chunk.header != EMPTY_HEADER  # it is set in the last chunk
            if chunk.kvs:
                scan._took(chunk, True)
                if scan.done:
                    yield from end(scan)
                return chunk
        scan.done = scan._complete
    except BaseException as error:
        yield from end(scan)
        scan._stream = False
        if not isinstance(error, EtcdError):
            raise
        if error.code is not StatusCode.UNIMPLEMENTED and not may_repeat(methods.RANGE, error):
            raise
    else:
        yield from end(scan)
        scan._stream = False
    return None


def _read(scan: Scan) -> Op[GetReply | None]:
    if scan._source is not None:
        chunk: GetReply | None = yield from next_message(scan._source)
        return chunk
    request = scan._request._replace(limit=scan._left)
    first: GetReply
    scan._source, first = yield from open_stream(_RANGE_STREAM, request)
    return first


def end(scan: Scan) -> Op[None]:
    """Stop reading a range; no error when it was read to its end."""
    source, scan._source = scan._source, None
    if source is not None:
        yield from end_stream(source)
