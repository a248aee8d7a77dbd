# SPDX-License-Identifier: Apache-2.0
"""Replies as bytes, worked out by hand, for every decoder: good ones with their values, and bad ones."""

from __future__ import annotations

from random import Random
from typing import Any

from purecd.pb import messages
from purecd.pb.encoding import varint
from purecd.types import (
    EMPTY_HEADER,
    CompactReply,
    DeleteReply,
    Event,
    EventType,
    GetReply,
    Header,
    KeyValue,
    PutReply,
    TxnReply,
    WatchResponse,
)
from tests.pb.random_messages import random_message

REPLIES = {
    "range": "RangeResponse",
    "put": "PutResponse",
    "delete": "DeleteRangeResponse",
    "txn": "TxnResponse",
    "compact": "CompactionResponse",
    "watch": "WatchResponse",
    "keepalive": "LeaseKeepAliveResponse",
}

HEADER_BYTES = bytes.fromhex("08 01  10 ffffffffffffffffff01  18 ac02  20 07")
HEADER = Header(1, 2**64 - 1, 300, 7)
# key "k", create_revision 3, mod_revision 16384, version 2, value "vv", lease -1
KV_BYTES = bytes.fromhex("0a016b 1003 18808001 2002 2a027676 30ffffffffffffffffff01")
KV = KeyValue(b"k", 3, 16384, 2, b"vv", -1)


def sub(tag: int, data: bytes) -> bytes:
    return bytes((tag,)) + varint(len(data)) + data


HEAD = sub(0x0A, HEADER_BYTES)

CASES = [
    ("range", b"", GetReply(EMPTY_HEADER, [], False, 0)),
    (
        "range",
        HEAD + sub(0x12, KV_BYTES) + sub(0x12, b"") + b"\x18\x01\x20\x09",
        GetReply(HEADER, [KV, KeyValue()], True, 9),
    ),
    ("put", HEAD, PutReply(HEADER, None)),
    ("put", sub(0x12, b""), PutReply(EMPTY_HEADER, KeyValue())),
    ("put", HEAD + sub(0x12, KV_BYTES), PutReply(HEADER, KV)),
    ("delete", HEAD + b"\x10\x02" + sub(0x1A, KV_BYTES) * 2, DeleteReply(HEADER, 2, [KV, KV])),
    ("delete", b"", DeleteReply(EMPTY_HEADER, 0, [])),
    (
        "txn",
        HEAD
        + b"\x10\x01"
        + sub(0x1A, sub(0x0A, sub(0x12, KV_BYTES)))
        + sub(0x1A, sub(0x12, b""))
        + sub(0x1A, sub(0x1A, b"\x10\x05"))
        + sub(0x1A, sub(0x22, sub(0x1A, sub(0x12, HEAD)))),
        TxnReply(
            HEADER,
            True,
            [
                GetReply(EMPTY_HEADER, [KV], False, 0),
                PutReply(),
                DeleteReply(EMPTY_HEADER, 5, []),
                TxnReply(EMPTY_HEADER, False, [PutReply(HEADER, None)]),
            ],
        ),
    ),
    ("txn", b"", TxnReply(EMPTY_HEADER, False, [])),
    ("compact", HEAD, CompactReply(HEADER)),
    ("compact", b"", CompactReply(EMPTY_HEADER)),
    (
        "watch",
        HEAD
        + bytes.fromhex("10 03 18 01 20 01 28 09")
        + sub(0x32, "grünß".encode())
        + b"\x38\x01"
        + sub(0x5A, sub(0x12, KV_BYTES))
        + sub(0x5A, b"\x08\x01" + sub(0x12, b"\x0a\x01k") + sub(0x1A, KV_BYTES)),
        WatchResponse(
            HEADER,
            3,
            True,
            True,
            9,
            "grünß",
            True,
            [
                Event(EventType.PUT, KV, None),
                Event(EventType.DELETE, KeyValue(b"k"), KV),
            ],
        ),
    ),
    # watch_id and compact_revision -1, as servers send them
    (
        "watch",
        bytes.fromhex("10 ffffffffffffffffff01 28 ffffffffffffffffff01"),
        WatchResponse(watch_id=-1, compact_revision=-1),
    ),
    ("watch", sub(0x5A, b""), WatchResponse(events=[Event(EventType.PUT, KeyValue(), None)])),
    ("keepalive", HEAD + b"\x10\x2a\x18\x1e", (HEADER, 42, 30)),
    ("keepalive", b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", (EMPTY_HEADER, -1, 0)),
    # Repeated scalars: the last counts. Repeated submessages: merged.
    ("keepalive", b"\x10\x01\x10\x02\x18\x05\x18\x06", (EMPTY_HEADER, 2, 6)),
    (
        "compact",
        sub(0x0A, b"\x08\x01\x18\x05") + sub(0x0A, b"\x18\x06\x20\x07"),
        CompactReply(Header(1, 0, 6, 7)),
    ),
    (
        "put",
        sub(0x12, b"\x0a\x01a\x18\x05") + sub(0x12, b"\x2a\x01v\x18\x06"),
        PutReply(EMPTY_HEADER, KeyValue(b"a", 0, 6, 0, b"v", 0)),
    ),
    ("range", sub(0x12, b"\x0a\x01a\x0a\x01b\x10\x01\x10\x02"), GetReply(EMPTY_HEADER, [KeyValue(b"b", 2)])),
    ("range", sub(0x12, b"\x30\x05\x2a\x01v\x0a\x01k"), GetReply(kvs=[KeyValue(b"k", 0, 0, 0, b"v", 5)])),
    # A oneof: the last member counts, pieces of the same member are merged.
    ("txn", sub(0x1A, sub(0x0A, b"\x18\x01") + sub(0x12, b"")), TxnReply(responses=[PutReply()])),
    (
        "txn",
        sub(0x1A, sub(0x0A, b"\x18\x01") + sub(0x0A, b"\x20\x02")),
        TxnReply(responses=[GetReply(EMPTY_HEADER, [], True, 2)]),
    ),
    (
        "txn",
        sub(0x1A, sub(0x0A, b"\x18\x01") + sub(0x12, b"") + sub(0x0A, b"\x20\x02")),
        TxnReply(responses=[GetReply(EMPTY_HEADER, [], False, 2)]),
    ),
    # Unknown fields of every wire type, and a group in a group.
    (
        "keepalive",
        bytes.fromhex(
            "a006 05  a106 0000000000000000  a206 02 ffff  a506 00000000  a306 ab06 0801 ac06 a406 1001"
        ),
        (EMPTY_HEADER, 1, 0),
    ),
    # A known field of an unexpected wire type is unknown.
    ("keepalive", bytes.fromhex("1201ff 0805 1101020304050607 08 1d00000000"), (EMPTY_HEADER, 0, 0)),
    # Any number but 0 is true, also a long one.
    ("range", b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", GetReply(more=True)),
]

MALFORMED = [
    ("range", "0a"),  # a tag and no length
    ("range", "0a05"),  # a length and no content
    ("range", "12020a01"),  # the key is missing in a complete submessage
    ("range", "12030a056b"),  # the key goes past its submessage
    ("range", "120212ff 0000"),  # an unknown field goes past its submessage
    ("range", "2080"),  # half a varint
    ("range", "20" + "80" * 10 + "01"),  # 11 bytes of varint
    ("range", "20" + "ff" * 40),
    ("range", "0005"),  # field number 0
    ("range", "07"),  # field number 0, wire type 7
    ("range", "0e05"),  # wire type 6
    ("range", "0c"),  # the end of a group that did not begin
    ("range", "a306"),  # a group without end
    ("range", "a306 ac06"),  # a group with the end of another
    ("range", "a106 00000000"),  # half a fixed64
    ("range", "a506 0000"),
    ("range", "a206 05 00"),
    ("range", "a2 06 ffffffffffffffffff01"),
    ("range", "ffffffffff01 00"),  # a tag over 32 bits
    ("range", "808080b58000 01"),  # a tag of six bytes, although its number fits
    ("range", "a306 a486808080 00"),  # the end of a group, in six bytes
    ("put", "0a02 0880"),
    ("put", "1202 0a05"),
    ("put", "0a03 0a056b"),
    ("put", "1203 0a036b 1203 6b6b6b"),  # each piece must be a message by itself
    ("delete", "1a05"),
    ("txn", "1a00"),  # a response of no known kind
    ("txn", "1a02 2a00"),
    ("txn", "1a04 0a02 2080 1a02 1200"),
    ("txn", "1a06 0a02 2080 1200"),  # a replaced member must be a message, too
    ("txn", "1a05 1200"),
    ("compact", "0a01"),
    ("compact", "0a02 0880"),
    ("watch", "3202 c328"),  # no UTF-8
    ("watch", "3203 eda080"),  # a surrogate
    ("watch", "5a02 1205"),
    ("watch", "5a"),
    ("keepalive", "10"),
]


def nested_txn(levels: int) -> bytes:
    data = b""
    for _ in range(levels - 1):
        data = sub(0x1A, sub(0x22, data))
    return data


def random_reply(rng: Random, name: str) -> bytes:
    return random_message(rng, getattr(messages, REPLIES[name]).DESCRIPTOR)


def outcome(decode, data):
    try:
        return decode(data)
    except ValueError:
        return ValueError


def check_decoding(codec: Any, name: str, data: bytes, expected: Any) -> None:
    result = getattr(codec, "decode_" + name)(data)
    assert result == expected
    assert type(result) is type(expected)
    if isinstance(expected, TxnReply):
        assert [type(each) for each in result.responses] == [type(each) for each in expected.responses]
    if isinstance(expected, WatchResponse):
        assert [type(event.type) for event in result.events] == [EventType] * len(expected.events)


def check_types_inside(codec: Any) -> None:
    reply = codec.decode_range(HEAD + sub(0x12, KV_BYTES) + b"\x18\x01")
    assert (type(reply.header), type(reply.kvs[0]), type(reply.kvs[0].key)) == (Header, KeyValue, bytes)
    assert reply.more is True
    response = codec.decode_watch(b"\x18\x01")
    assert (response.created, response.canceled, response.fragment) == (True, False, False)
    assert type(response.created) is type(response.canceled) is type(response.fragment) is bool


# Numbers on the wire and as event types: an enum is 32 bits wide.
EVENT_NUMBERS = [(2, 2), (99, 99), (2**32 - 1, -1), (2**31, -(2**31)), (2**32 + 1, 1)]


def check_event_number(codec: Any, number: int, expected: int) -> None:
    response = codec.decode_watch(sub(0x5A, b"\x08" + varint(number)))
    assert response.events[0].type == expected


def check_noise(codec: Any, name: str) -> None:
    """Any bytes give a value or a ValueError."""
    decode = getattr(codec, "decode_" + name)
    for seed in range(300):
        rng = Random(f"noise {name} {seed}")
        data = bytearray(random_reply(rng, name))
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.getrandbits(8)
        outcome(decode, bytes(data))
        outcome(decode, bytes(rng.getrandbits(8) for _ in range(rng.randrange(40))))
