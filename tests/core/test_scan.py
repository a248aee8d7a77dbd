# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.scan."""

import random
from typing import Any

import pytest

from purecd import errors
from purecd.core import scan as scan_module
from purecd.core.op import Sleep
from purecd.core.scan import Scan, end, next_page
from purecd.core.serverstream import ServerStream
from purecd.pb import messages
from purecd.requests import Get
from purecd.types import EMPTY_HEADER, GetReply, Header, KeyValue
from tests.core.steps import Stepper

HEADER = Header(1, 2, 50, 3)
UNIMPLEMENTED = errors.from_status(12, "unknown method RangeStream for service etcdserverpb.KV")


def kv(number):
    return KeyValue(b"k%03d" % number, 1, 1, 1, b"v")


def page(*numbers, more, count=9, header=HEADER):
    return GetReply(header, [kv(number) for number in numbers], more, count)


def chunk(*numbers, last=False):
    """A RangeStreamResponse as it comes from the wire."""
    header = {"cluster_id": 1, "member_id": 2, "revision": 50, "raft_term": 3} if last else None
    kvs = [{"key": kv(number).key, "value": b"v"} for number in numbers]
    message = messages.RangeStreamResponse()
    if header:
        message.range_response.header.CopyFrom(messages.ResponseHeader(**header))
    for each in kvs:
        message.range_response.kvs.append(messages.KeyValue(**each))
    message.range_response.SetInParent()
    return message.SerializeToString()


def read_all(scan, world):
    """Keys of all pieces, as numbers."""
    numbers = []
    while (piece := world.run(next_page(scan))) is not None:
        numbers.append([int(each.key[1:]) for each in piece.kvs])
    return numbers


def test_a_range_that_fits_into_the_first_page_is_one_read():
    world = Stepper(page(1, 2, more=False, count=2))
    scan = Scan("k", prefix=True, page=5)
    assert read_all(scan, world) == [[1, 2]]
    (call,) = world.calls
    assert call.request == Get("k", prefix=True, limit=5)
    assert (scan.header, scan.revision, scan.count, scan.done) == (HEADER, 50, 2, True)


def test_an_empty_range_has_one_empty_page():
    world = Stepper(page(more=False, count=0))
    assert read_all(Scan("k", prefix=True), world) == [[]]


def test_pages_go_on_after_the_last_key_at_the_revision_of_the_first():
    world = Stepper(page(1, 2, more=True), page(3, 4, more=True), page(5, more=False))
    scan = Scan("k", "l", page=2, stream=False)
    assert read_all(scan, world) == [[1, 2], [3, 4], [5]]
    assert [call.request for call in world.calls] == [
        Get("k", "l", limit=2),
        Get(b"k002\0", "l", limit=2, revision=50),
        Get(b"k004\0", "l", limit=2, revision=50),
    ]


def test_every_option_reaches_the_pages():
    world = Stepper(page(1, more=True), page(2, more=True))
    scan = Scan(
        "k", from_key=True, page=1, limit=2, revision=7, serializable=True, keys_only=True, stream=False
    )
    read_all(scan, world)
    options: dict[str, Any] = {"revision": 7, "serializable": True, "keys_only": True, "limit": 1}
    assert [call.request for call in world.calls] == [
        Get("k", from_key=True, **options),
        Get(b"k001\0", from_key=True, **options),
    ]
    assert scan.revision == 7


def test_the_limit_is_for_all_pages_together():
    world = Stepper(page(1, 2, more=True), page(3, more=True))
    assert read_all(Scan("k", prefix=True, page=2, limit=3, stream=False), world) == [[1, 2], [3]]
    assert [call.request.limit for call in world.calls] == [2, 1]


def test_a_limit_below_the_page_is_sent():
    world = Stepper(page(1, more=True))
    assert read_all(Scan("k", prefix=True, page=100, limit=1), world) == [[1]]
    assert world.calls[0].request.limit == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"page": 0}, ValueError),
        ({"page": 1.5}, TypeError),
        ({"limit": -1}, ValueError),
        ({"revision": -1}, ValueError),
        ({"prefix": True, "from_key": True}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, error):
    with pytest.raises(error):
        Scan("k", **options)


def test_a_page_that_leads_nowhere_breaks_the_protocol():
    with pytest.raises(errors.ProtocolError):
        read_all(Scan("k", prefix=True), Stepper(page(more=True)))


def test_a_member_behind_the_first_one_gets_time_to_catch_up():
    world = Stepper(page(1, more=True), errors.FutureRev(), page(2, more=False))
    assert read_all(Scan("k", prefix=True, page=1, serializable=True, stream=False), world) == [[1], [2]]
    assert Sleep in world.log


@pytest.mark.parametrize("options", [{"revision": 999, "serializable": True}, {}])
def test_a_future_revision_of_the_caller_is_an_error(options):
    answers = [errors.FutureRev()] if options else [page(1, more=True), errors.FutureRev()]
    with pytest.raises(errors.FutureRev):
        read_all(Scan("k", prefix=True, stream=False, **options), Stepper(*answers))


def test_after_an_error_the_same_piece_can_be_read_again():
    world = Stepper(page(1, more=True), errors.PermissionDenied(), page(2, more=False))
    scan = Scan("k", prefix=True, page=1, stream=False)
    world.run(next_page(scan))
    with pytest.raises(errors.PermissionDenied):
        world.run(next_page(scan))
    assert read_all(scan, world) == [[2]]


# Streams.


def test_what_does_not_fit_into_the_first_page_is_streamed():
    world = Stepper(page(1, more=True), chunk(2, 3), chunk(4), chunk(5, last=True), None)
    scan = Scan("k", "l", page=1, keys_only=True)
    assert read_all(scan, world) == [[1], [2, 3], [4], [5]]
    stream = world.calls[1]
    assert type(stream) is ServerStream
    assert stream.method.path == "/etcdserverpb.KV/RangeStream"
    request = messages.RangeRequest.FromString(stream.method.encode(stream.request))
    assert request == messages.RangeRequest(key=b"k001\0", range_end=b"l", revision=50, keys_only=True)
    assert world.open == []
    assert len(world.calls) == 2


def test_the_last_chunk_may_be_empty():
    world = Stepper(page(1, more=True), chunk(2), chunk(last=True), None)
    assert read_all(Scan("k", prefix=True, page=1), world) == [[1], [2]]


def test_the_limit_counts_over_page_and_stream():
    world = Stepper(page(1, more=True), chunk(2, 3))
    assert read_all(Scan("k", prefix=True, page=1, limit=3), world) == [[1], [2, 3]]
    assert world.calls[1].request.limit == 2
    assert world.open == []


def test_a_server_without_streams_is_asked_for_pages():
    # Before etcd 3.7, and through a grpc-proxy.
    world = Stepper(page(1, more=True), UNIMPLEMENTED, page(2, more=True), page(3, more=False))
    assert read_all(Scan("k", prefix=True, page=1), world) == [[1], [2], [3]]
    assert [type(call) for call in world.calls].count(ServerStream) == 1
    assert world.open == []


@pytest.mark.parametrize("end_of_stream", [None, errors.Unavailable("lost"), errors.NoLeader()])
def test_a_stream_cut_off_is_continued_with_pages(end_of_stream):
    # B.20: an end without the chunk that carries the header is no end of the range.
    world = Stepper(page(1, more=True), chunk(2, 3), end_of_stream, page(4, more=False))
    assert read_all(Scan("k", prefix=True, page=1), world) == [[1], [2, 3], [4]]
    assert world.calls[2].request == Get(b"k003\0", b"l", limit=1, revision=50)
    assert world.open == []


def test_a_stream_broken_after_its_last_chunk_repeats_nothing():
    world = Stepper(page(1, more=True), chunk(2, last=True), errors.Unavailable("lost"), page(more=False))
    assert read_all(Scan("k", prefix=True, page=1), world) == [[1], [2]]


@pytest.mark.parametrize("error", [errors.Compacted(), errors.PermissionDenied(), KeyboardInterrupt()])
def test_other_errors_of_the_stream_are_raised_and_end_it(error):
    world = Stepper(page(1, more=True), chunk(2), error, page(3, more=False))
    scan = Scan("k", prefix=True, page=1)
    world.run(next_page(scan))
    world.run(next_page(scan))
    with pytest.raises(type(error)):
        world.run(next_page(scan))
    assert world.open == []
    assert read_all(scan, world) == [[3]]  # who asks again, gets on


def test_who_stops_reading_ends_the_stream():
    world = Stepper(page(1, more=True), chunk(2))
    scan = Scan("k", prefix=True, page=1)
    world.run(next_page(scan))
    world.run(next_page(scan))
    assert len(world.open) == 1
    world.run(end(scan))
    world.run(end(scan))
    assert world.open == []


# Decoding.


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 20_000, 3_000_000])
def test_chunks_of_any_size_are_decoded(size):
    message = messages.RangeStreamResponse()
    message.range_response.kvs.append(messages.KeyValue(key=b"k", value=bytes(size)))
    reply = scan_module._decode_chunk(message.SerializeToString())
    assert reply.header == EMPTY_HEADER
    assert [(each.key, len(each.value)) for each in reply.kvs] == [(b"k", size)]


def test_an_empty_chunk_is_decoded():
    assert scan_module._decode_chunk(b"") == GetReply()
    assert scan_module._decode_chunk(b"\x0a\x00") == GetReply()


def test_a_chunk_with_fields_of_a_later_release_is_decoded():
    reply = scan_module._decode_chunk(chunk(1, last=True) + b"\x78\x01")  # field 15
    assert reply.header == HEADER
    assert len(reply.kvs) == 1


def test_bad_bytes_are_a_value_error():
    rng = random.Random(1)
    good = chunk(1, 2, 3, last=True)
    for _ in range(300):
        data = bytearray(good[: rng.randrange(len(good) + 1)])
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            scan_module._decode_chunk(bytes(data))
        except ValueError:
            pass
    with pytest.raises(ValueError, match="undecodable"):
        scan_module._decode_chunk(b"\xff")
