# SPDX-License-Identifier: Apache-2.0
"""Replies from protobuf bytes, by hand: for interpreters where protobuf is pure Python.

1. Decoders give what protobuf gives: the last of repeated scalars counts, repeated submessages are
   merged, unknown fields and fields of an unexpected wire type are skipped.
2. A decoder reads spans `[start, end)` of the whole buffer, more than one where a submessage is
   repeated. Reading past `end` is noticed at latest where the loop ends (`pos != end`), past the
   buffer as IndexError; both become ValueError.
3. Time and memory are proportional to the input, whatever it is; nesting is limited.
4. In a KeyValue varints of one byte are read in line, longer ones by `_varint`.

On PyPy a range of 1,000 keys takes a tenth of what protobuf's pure Python takes (benchmarks/codecs.py).

Source: protobuf.dev/programming-guides/encoding, etcd api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from typing import Callable, TypeVar

from purecd.requests import MAX_TXN_DEPTH
from purecd.types import (
    EMPTY_HEADER,
    CompactReply,
    DeleteReply,
    Event,
    EventType,
    GetReply,
    Header,
    KeyValue,
    OpReply,
    PutReply,
    TxnReply,
    WatchResponse,
)

_T = TypeVar("_T")
_Span = tuple[int, int]  # [start, end) in the buffer
_Spans = list[_Span]

MAX_GROUP_DEPTH = 50  # groups are obsolete and only ever skipped

_UINT64 = (1 << 64) - 1
_UINT32 = (1 << 32) - 1
_SIGN64 = 1 << 63
_SIGN32 = 1 << 31
_EVENT_TYPES = tuple(EventType)

_EMPTY_KEY_VALUE = KeyValue()

_new = tuple.__new__


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read an unsigned varint of up to 10 bytes: `(number, position after it)`."""
    number = data[pos]
    pos += 1
    if number < 128:
        return number, pos
    number &= 127
    shift = 7
    while shift < 70:
        byte = data[pos]
        pos += 1
        if byte < 128:
            return (number | byte << shift) & _UINT64, pos
        number |= (byte & 127) << shift
        shift += 7
    raise ValueError("a varint is longer than 10 bytes")


def _int64(data: bytes, pos: int) -> tuple[int, int]:
    number, pos = _varint(data, pos)
    return (number - (1 << 64) if number & _SIGN64 else number), pos


def _skip(data: bytes, start: int, depth: int = 0) -> int:
    """Skip the unknown field whose tag is at `start`: the position after it."""
    tag, pos = _varint(data, start)
    if not 8 <= tag <= _UINT32:
        raise ValueError(f"field number {tag >> 3} is not allowed")
    if tag < 128 <= data[start]:
        raise ValueError("a tag is longer than needed")  # decoders know tags by their first byte
    wire_type = tag & 7
    if wire_type == 0:
        return _varint(data, pos)[1]
    if wire_type == 1:
        return pos + 8
    if wire_type == 2:
        length, pos = _varint(data, pos)
        return pos + length
    if wire_type == 5:
        return pos + 4
    if wire_type != 3:
        raise ValueError(f"wire type {wire_type} is not allowed here")
    return _skip_group(data, pos, tag + 1, depth + 1)


def _skip_group(data: bytes, pos: int, end_tag: int, depth: int) -> int:
    if depth > MAX_GROUP_DEPTH:
        raise ValueError(f"groups are nested over {MAX_GROUP_DEPTH} levels deep")
    while True:
        tag, after = _varint(data, pos)
        if tag == end_tag:
            return after
        pos = _skip(data, pos, depth)


def _check_end(pos: int, end: int) -> None:
    if pos != end:
        raise ValueError("a field goes past the end of its message")


def _header(data: bytes, pos: int, end: int) -> Header:
    cluster_id = member_id = revision = raft_term = 0
    while pos < end:
        tag = data[pos]
        if tag == 8:
            cluster_id, pos = _varint(data, pos + 1)
        elif tag == 16:
            member_id, pos = _varint(data, pos + 1)
        elif tag == 24:
            revision, pos = _int64(data, pos + 1)
        elif tag == 32:
            raft_term, pos = _varint(data, pos + 1)
        else:
            pos = _skip(data, pos)
    _check_end(pos, end)
    return _new(Header, (cluster_id, member_id, revision, raft_term))


def _key_value(data: bytes, pos: int, end: int) -> KeyValue:
    key = value = b""
    create_revision = mod_revision = version = lease = 0
    while pos < end:
        tag = data[pos]
        if tag == 10 or tag == 42:
            length = data[pos + 1]
            pos += 2
            if length > 127:
                length, pos = _varint(data, pos - 1)
            stop = pos + length
            if tag == 10:
                key = data[pos:stop]
            else:
                value = data[pos:stop]
            pos = stop
        elif tag == 16 or tag == 24 or tag == 32 or tag == 48:
            number = data[pos + 1]
            pos += 2
            if number > 127:
                number, pos = _int64(data, pos - 1)
            if tag == 16:
                create_revision = number
            elif tag == 24:
                mod_revision = number
            elif tag == 32:
                version = number
            else:
                lease = number
        else:
            pos = _skip(data, pos)
    _check_end(pos, end)
    return _new(KeyValue, (key, create_revision, mod_revision, version, value, lease))


def span(data: bytes, pos: int) -> _Span:
    """Read the length at `pos`: the span of the submessage after it."""
    length = data[pos]
    pos += 1
    if length > 127:
        length, pos = _varint(data, pos - 1)
    return pos, pos + length


def _merged(decode: Callable[[bytes, int, int], _T], data: bytes, spans: _Spans, default: _T) -> _T:
    """Decode a flat submessage that may be absent or stand there in several pieces."""
    if not spans:
        return default
    if len(spans) == 1:
        return decode(data, *spans[0])
    for start, end in spans:
        decode(data, start, end)  # each piece must be a message by itself
    whole = b"".join([data[start:end] for start, end in spans])
    return decode(whole, 0, len(whole))


def _merged_header(data: bytes, spans: _Spans) -> Header:
    return _merged(_header, data, spans, EMPTY_HEADER)


def _range(data: bytes, spans: _Spans) -> GetReply:
    headers: _Spans = []
    kvs: list[KeyValue] = []
    more = count = 0
    for pos, end in spans:
        while pos < end:
            tag = data[pos]
            if tag == 18:
                start, pos = span(data, pos + 1)
                kvs.append(_key_value(data, start, pos))
            elif tag == 10:
                headers.append(span(data, pos + 1))
                pos = headers[-1][1]
            elif tag == 24:
                more, pos = _varint(data, pos + 1)
            elif tag == 32:
                count, pos = _int64(data, pos + 1)
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    return _new(GetReply, (_merged_header(data, headers), kvs, more != 0, count))


def _put(data: bytes, spans: _Spans) -> PutReply:
    headers: _Spans = []
    prev_kvs: _Spans = []
    for pos, end in spans:
        while pos < end:
            tag = data[pos]
            if tag == 10 or tag == 18:
                piece = span(data, pos + 1)
                (headers if tag == 10 else prev_kvs).append(piece)
                pos = piece[1]
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    prev_kv = _merged(_key_value, data, prev_kvs, None)
    return _new(PutReply, (_merged_header(data, headers), prev_kv))


def _delete(data: bytes, spans: _Spans) -> DeleteReply:
    headers: _Spans = []
    prev_kvs: list[KeyValue] = []
    deleted = 0
    for pos, end in spans:
        while pos < end:
            tag = data[pos]
            if tag == 26:
                start, pos = span(data, pos + 1)
                prev_kvs.append(_key_value(data, start, pos))
            elif tag == 10:
                headers.append(span(data, pos + 1))
                pos = headers[-1][1]
            elif tag == 16:
                deleted, pos = _int64(data, pos + 1)
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    return _new(DeleteReply, (_merged_header(data, headers), deleted, prev_kvs))


def _txn(data: bytes, spans: _Spans, depth: int = 1) -> TxnReply:
    if depth > MAX_TXN_DEPTH:
        raise ValueError(f"txn replies are nested over {MAX_TXN_DEPTH} levels deep")
    headers: _Spans = []
    responses: list[OpReply] = []
    succeeded = 0
    for pos, end in spans:
        while pos < end:
            tag = data[pos]
            if tag == 26:
                start, pos = span(data, pos + 1)
                responses.append(_response(data, start, pos, depth))
            elif tag == 10:
                headers.append(span(data, pos + 1))
                pos = headers[-1][1]
            elif tag == 16:
                succeeded, pos = _varint(data, pos + 1)
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    return _new(TxnReply, (_merged_header(data, headers), succeeded != 0, responses))


_RESPONSES: dict[int, Callable[[bytes, _Spans], OpReply]] = {10: _range, 18: _put, 26: _delete}


def _response(data: bytes, pos: int, end: int, depth: int) -> OpReply:
    """ResponseOp: a oneof, of which the last member counts."""
    chosen = 0
    spans: _Spans = []
    while pos < end:
        tag = data[pos]
        if tag == 10 or tag == 18 or tag == 26 or tag == 34:
            if tag != chosen and spans:
                _member(data, chosen, spans, depth)  # replaced, but must be a message
                spans = []
            chosen = tag
            spans.append(span(data, pos + 1))
            pos = spans[-1][1]
        else:
            pos = _skip(data, pos)
    _check_end(pos, end)
    if not spans:
        raise ValueError("a txn reply holds a response of no known kind")
    return _member(data, chosen, spans, depth)


def _member(data: bytes, tag: int, spans: _Spans, depth: int) -> OpReply:
    return _txn(data, spans, depth + 1) if tag == 34 else _RESPONSES[tag](data, spans)


def _compact(data: bytes, spans: _Spans) -> CompactReply:
    headers: _Spans = []
    for pos, end in spans:
        while pos < end:
            if data[pos] == 10:
                headers.append(span(data, pos + 1))
                pos = headers[-1][1]
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    return _new(CompactReply, (_merged_header(data, headers),))


def _event(data: bytes, pos: int, end: int) -> Event:
    kind: int = EventType.PUT
    kvs: _Spans = []
    prev_kvs: _Spans = []
    while pos < end:
        tag = data[pos]
        if tag == 18 or tag == 26:
            piece = span(data, pos + 1)
            (kvs if tag == 18 else prev_kvs).append(piece)
            pos = piece[1]
        elif tag == 8:
            number, pos = _varint(data, pos + 1)
            kind = event_type(((number & _UINT32) ^ _SIGN32) - _SIGN32)
        else:
            pos = _skip(data, pos)
    _check_end(pos, end)
    kv = _merged(_key_value, data, kvs, _EMPTY_KEY_VALUE)
    return _new(Event, (kind, kv, _merged(_key_value, data, prev_kvs, None)))


def event_type(number: int) -> int:
    """Turn a known number into an `EventType`, leave others as they are."""
    return _EVENT_TYPES[number] if 0 <= number < len(_EVENT_TYPES) else number


def _watch(data: bytes, spans: _Spans) -> WatchResponse:
    headers: _Spans = []
    events: list[Event] = []
    watch_id = created = canceled = compact_revision = fragment = 0
    cancel_reason = ""
    for pos, end in spans:
        while pos < end:
            tag = data[pos]
            if tag == 90:
                start, pos = span(data, pos + 1)
                events.append(_event(data, start, pos))
            elif tag == 10:
                headers.append(span(data, pos + 1))
                pos = headers[-1][1]
            elif tag == 16:
                watch_id, pos = _int64(data, pos + 1)
            elif tag == 24:
                created, pos = _varint(data, pos + 1)
            elif tag == 32:
                canceled, pos = _varint(data, pos + 1)
            elif tag == 40:
                compact_revision, pos = _int64(data, pos + 1)
            elif tag == 50:
                start, pos = span(data, pos + 1)
                cancel_reason = data[start:pos].decode()
            elif tag == 56:
                fragment, pos = _varint(data, pos + 1)
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    header = _merged_header(data, headers)
    flags = (created != 0, canceled != 0)
    fields = (header, watch_id, *flags, compact_revision, cancel_reason, fragment != 0, events)
    return _new(WatchResponse, fields)


def _keepalive(data: bytes, spans: _Spans) -> tuple[Header, int, int]:
    headers: _Spans = []
    lease_id = ttl = 0
    for pos, end in spans:
        while pos < end:
            tag = data[pos]
            if tag == 10:
                headers.append(span(data, pos + 1))
                pos = headers[-1][1]
            elif tag == 16:
                lease_id, pos = _int64(data, pos + 1)
            elif tag == 24:
                ttl, pos = _int64(data, pos + 1)
            else:
                pos = _skip(data, pos)
        _check_end(pos, end)
    return _merged_header(data, headers), lease_id, ttl


def _whole(decode: Callable[[bytes, _Spans], _T], data: bytes) -> _T:
    try:
        return decode(data, [(0, len(data))])
    except IndexError:
        raise ValueError("a message ends within a field") from None


def decode_range(data: bytes) -> GetReply:
    """RangeResponse."""
    return _whole(_range, data)


def decode_put(data: bytes) -> PutReply:
    """PutResponse."""
    return _whole(_put, data)


def decode_delete(data: bytes) -> DeleteReply:
    """DeleteRangeResponse."""
    return _whole(_delete, data)


def decode_txn(data: bytes) -> TxnReply:
    """TxnResponse."""
    return _whole(_txn, data)


def decode_compact(data: bytes) -> CompactReply:
    """CompactionResponse."""
    return _whole(_compact, data)


def decode_watch(data: bytes) -> WatchResponse:
    """WatchResponse."""
    return _whole(_watch, data)


def decode_keepalive(data: bytes) -> tuple[Header, int, int]:
    """LeaseKeepAliveResponse: `(header, lease id, TTL in seconds)`; TTL 0 means no such lease."""
    return _whole(_keepalive, data)
