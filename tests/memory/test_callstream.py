# SPDX-License-Identifier: Apache-2.0
"""Messages in and out of one stream."""

from __future__ import annotations

import pytest

from purecd.memory.calls import Status
from purecd.memory.callstream import CallStream, MessageReader
from purecd.pb import messages as pb


def framed(payload: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(payload).to_bytes(4, "big") + payload


def refused(reader, data):
    with pytest.raises(Status) as caught:
        list(reader.receive(data))
    return caught.value.code, caught.value.text


@pytest.mark.parametrize("step", [1, 4, 100])
def test_messages_are_cut_wherever_the_data_is(step):
    data = framed(b"one") + framed(b"") + framed(b"three")
    reader = MessageReader(100)
    found = []
    for start in range(0, len(data), step):
        found += reader.receive(data[start : start + step])
    assert found == [b"one", b"", b"three"]
    assert not reader.amid


def test_the_size_is_checked_before_the_message_is_there():
    assert list(MessageReader(10).receive(framed(b"x" * 10))) == [b"x" * 10]
    text = "grpc: received message larger than max (11 vs. 10)"
    assert refused(MessageReader(10), framed(b"x" * 11)[:5]) == (8, text)


def test_compression_is_refused():
    text = "grpc: compressed flag set with identity or empty encoding"
    assert refused(MessageReader(10), framed(b"x", 1)) == (13, text)
    assert refused(MessageReader(10, "identity"), framed(b"x", 1)) == (13, text)
    text = 'grpc: Decompressor is not installed for grpc-encoding "gzip"'
    assert refused(MessageReader(10, "gzip"), framed(b"x", 1)) == (12, text)
    assert refused(MessageReader(10), framed(b"x", 7)) == (13, "grpc: received unexpected payload format 7")


@pytest.fixture
def stream():
    return CallStream(1, MessageReader(100), lambda stream: None)


def test_replies_are_taken_in_pieces_that_end_with_the_message(stream):
    one, two = pb.RangeResponse(count=1), pb.RangeResponse(count=300)
    stream.send(one)
    stream.send(two)
    expected = framed(one.SerializeToString()), framed(two.SerializeToString())
    assert stream.backlog == sum(map(len, expected))
    assert stream.take(1000) == expected[0]
    pieces = [stream.take(3)]
    while stream.backlog:
        pieces.append(stream.take(3))
    assert b"".join(pieces) == expected[1]
    assert max(map(len, pieces)) == 3


def test_a_reply_may_be_changed_after_it_was_sent(stream):
    reply = pb.RangeResponse(count=1)
    expected = framed(reply.SerializeToString())
    stream.send(reply)
    reply.count = 2
    assert stream.take(1000) == expected


def test_what_cannot_be_decoded(stream):
    stream.message_class = pb.RangeRequest
    assert stream.parse(pb.RangeRequest(key=b"a").SerializeToString(), unary=True).key == b"a"
    with pytest.raises(Status) as caught:
        stream.parse(b"\xff\xff", unary=True)
    assert caught.value.code == 13
    assert caught.value.text.startswith("grpc: error unmarshalling request: ")
    with pytest.raises(Status, match="failed to unmarshal the received message"):
        stream.parse(b"\xff\xff", unary=False)


def test_calls_that_are_cut_off(stream):
    assert str(stream.cut_off(unary=True)) == "status 2: EOF"
    list(stream.reader.receive(b"\0\0"))
    assert str(stream.cut_off(unary=True)) == "status 2: unexpected EOF"
    assert str(stream.cut_off(unary=False)) == "status 13: unexpected EOF"
