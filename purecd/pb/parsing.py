# SPDX-License-Identifier: Apache-2.0
"""Replies from protobuf bytes, by the C implementation of protobuf (upb).

On CPython a range of 1,000 keys takes 0.3 of what the decoder by hand takes (benchmarks/codecs.py).
Both give the same values; see `purecd.pb.decoding` for the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from operator import attrgetter
from typing import Any, Callable, TypeVar

from purecd.pb import message_class
from purecd.pb.columns import decode_error, events_by_column, keys_by_column
from purecd.requests import MAX_TXN_DEPTH
from purecd.types import (
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

BY_HAND_FIRST = 8  # small replies decoded by hand before protobuf is loaded
SMALL = 1024  # bytes
TINY = 256  # bytes

_KINDS: dict[int, int] = {kind.value: kind for kind in EventType}

_new = tuple.__new__

# `tuple.__new__` instead of calling the class: 0.83 of the time for a range.
_header_fields = attrgetter(*Header._fields)
_key_value_fields = attrgetter(*KeyValue._fields)
_as_key_value: Callable[[tuple[Any, ...]], KeyValue] = partial(_new, KeyValue)


def _header(message: Any) -> Header:
    return _new(Header, _header_fields(message.header))


def _key_value(message: Any) -> KeyValue:
    return _new(KeyValue, _key_value_fields(message))


def _key_values(messages: Iterable[Any]) -> list[KeyValue]:
    return list(map(_as_key_value, map(_key_value_fields, messages)))


def keys_at_once(data: bytes, count: int) -> list[KeyValue] | None:
    """The keys of a RangeResponse that holds so many and nothing else, None where they make no columns."""
    return keys_by_column(data, count) if _is_upb() else None


def get_reply(message: Any, data: bytes | None = None) -> GetReply:
    """The value of a RangeResponse parsed from `data`, None where it was within another message."""
    kvs = keys_by_column(data, len(message.kvs)) if data is not None else None
    if kvs is None:
        kvs = _key_values(message.kvs)
    return _new(GetReply, (_header(message), kvs, message.more, message.count))


def put_reply(message: Any) -> PutReply:
    """The value of a parsed PutResponse."""
    prev_kv = _key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return _new(PutReply, (_header(message), prev_kv))


def delete_reply(message: Any) -> DeleteReply:
    """The value of a parsed DeleteRangeResponse."""
    return _new(DeleteReply, (_header(message), message.deleted, _key_values(message.prev_kvs)))


def txn_reply(message: Any, depth: int = 1) -> TxnReply:
    """The value of a parsed TxnResponse, with at most `MAX_TXN_DEPTH` levels of nested ones."""
    if depth > MAX_TXN_DEPTH:
        raise ValueError(f"txn replies are nested over {MAX_TXN_DEPTH} levels deep")
    responses = [_op_reply(response, depth) for response in message.responses]
    return _new(TxnReply, (_header(message), message.succeeded, responses))


_OP_REPLIES: dict[str, Callable[[Any], OpReply]] = {
    "response_range": get_reply,
    "response_put": put_reply,
    "response_delete_range": delete_reply,
}


def _op_reply(response: Any, depth: int) -> OpReply:
    name = response.WhichOneof("response")
    if name is None:
        raise ValueError("a txn reply holds a response of no known kind")
    message = getattr(response, name)
    return txn_reply(message, depth + 1) if name == "response_txn" else _OP_REPLIES[name](message)


_type_of = attrgetter("type")
_PREV_KV = b"\x1a"  # the tag of the field in an event


def _events(messages: Iterable[Any], data: bytes) -> list[Event]:
    # Often, 0.88 of the time: for a field that is nowhere in the octets no message is asked.
    if _PREV_KV not in data:
        messages = list(messages)
        if not any(map(_type_of, messages)):
            put = EventType.PUT
            return [
                _new(Event, (put, _new(KeyValue, _key_value_fields(message.kv)), None))
                for message in messages
            ]
    return _any_events(messages)


def _any_events(messages: Iterable[Any]) -> list[Event]:
    # In one loop, without a call per event: 0.8 of the time.
    events = []
    kinds = _KINDS
    for message in messages:
        prev_kv = _key_value(message.prev_kv) if message.HasField("prev_kv") else None
        number = message.type
        events.append(
            _new(Event, (kinds.get(number, number), _new(KeyValue, _key_value_fields(message.kv)), prev_kv))
        )
    return events


_watch_fields = attrgetter(*WatchResponse._fields[1:-1])


def watch_response(message: Any, data: bytes) -> WatchResponse:
    """The value of a WatchResponse parsed from `data`."""
    found = message.events
    events = events_by_column(data, len(found))
    if events is None:
        events = _events(found, data)
    return _new(WatchResponse, (_header(message), *_watch_fields(message), events))


def compact_reply(message: Any) -> CompactReply:
    """The value of a parsed CompactionResponse."""
    return CompactReply(_header(message))


def keepalive(message: Any) -> tuple[Header, int, int]:
    """`(header, lease id, TTL in seconds)` of a parsed LeaseKeepAliveResponse; TTL 0 means no such lease."""
    return _header(message), message.ID, message.TTL


@cache
def _is_upb() -> bool:
    from google.protobuf.internal import api_implementation

    implementation: str = api_implementation.Type()
    return implementation == "upb"


def decoder(
    name: str,
    convert: Callable[..., _T],
    by_hand: Callable[[bytes], _T] | None = None,
    *,
    tiny: int = -1,
    with_data: bool = False,
) -> Callable[[bytes], _T]:
    """Make a decoder; it loads protobuf and its descriptors when it first parses.

    Args:
        name: of the message, in ``etcdserverpb``.
        convert: makes the value from the parsed message.
        by_hand: decodes all replies where protobuf is not upb, and elsewhere a few small ones first. Loading
            protobuf and descriptors costs as much as hundreds of calls: with descriptors alone a process
            waited 1.2 times as long for its first reply (benchmarks/startup.py).
        tiny: replies of no more bytes than that are always decoded by hand.
        with_data: `convert` gets the octets too.
    """
    parse: Callable[[bytes], Any] | None = None
    left = BY_HAND_FIRST

    def decode(data: bytes) -> _T:
        nonlocal parse, left
        if by_hand is not None and len(data) <= tiny:
            return by_hand(data)
        if parse is None:
            if by_hand is not None and left and len(data) <= SMALL:
                left -= 1
                return by_hand(data)
            if by_hand is not None and not _is_upb():
                return by_hand(data)
            parse = message_class("etcdserverpb." + name).FromString
        try:
            return convert(parse(data), data) if with_data else convert(parse(data))
        except decode_error() as error:
            raise ValueError(str(error)) from None

    return decode


decode_range = decoder("RangeResponse", get_reply, with_data=True)
decode_put = decoder("PutResponse", put_reply)
decode_delete = decoder("DeleteRangeResponse", delete_reply)
decode_txn = decoder("TxnResponse", txn_reply)
decode_compact = decoder("CompactionResponse", compact_reply)
decode_watch = decoder("WatchResponse", watch_response, with_data=True)
decode_keepalive = decoder("LeaseKeepAliveResponse", keepalive)
