# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.snapshot."""

import random
from hashlib import sha256

import pytest

from purecd import errors
from purecd.admin_types import SnapshotInfo
from purecd.core import methods, snapshot
from purecd.core.snapshot import SnapshotCorrupt, SnapshotReader
from purecd.errors import EtcdError, StatusCode
from purecd.pb import messages
from tests.core.steps import Stepper

DATA = random.Random(7).getrandbits(8 * 5 * 512).to_bytes(5 * 512, "big")
CHUNK = 1000


def stream_of(data=DATA, digest=None, version="3.6.0", chunk=CHUNK):
    """The messages a server sends."""
    sent = []
    for start in range(0, len(data), chunk):
        blob = data[start : start + chunk]
        remaining = len(data) - start - len(blob)
        sent.append(messages.SnapshotResponse(blob=blob, remaining_bytes=remaining, version=version))
    digest = sha256(data).digest() if digest is None else digest
    return [*sent, messages.SnapshotResponse(blob=digest, version=version)]


def read(messages_):
    reader = SnapshotReader()
    file = b"".join(reader.receive(each) for each in messages_)
    return reader, file


def test_a_whole_snapshot_is_accepted():
    reader, file = read(stream_of())
    assert file == DATA + sha256(DATA).digest()
    assert reader.finish() == SnapshotInfo("3.6.0", len(file), sha256(DATA).digest())


@pytest.mark.parametrize("chunk", [1, 31, 32, 33, 512, len(DATA), 10**6])
def test_chunks_may_have_any_size(chunk):
    reader, file = read(stream_of(chunk=chunk))
    assert reader.finish().size == len(file) == len(DATA) + 32


def test_progress_is_known_from_the_first_chunk_on():
    reader = SnapshotReader()
    assert (reader.size, reader.total) == (0, 0)
    parts = stream_of(version="")
    reader.receive(parts[0])
    assert (reader.version, reader.size, reader.total) == ("", CHUNK, len(DATA) + 32)
    assert reader.remaining == len(DATA) + 32 - CHUNK


def test_a_byte_that_changed_is_noticed_wherever_it_is():
    # C41
    file = DATA + sha256(DATA).digest()
    for position in range(0, len(file), 37):
        damaged = bytearray(file)
        damaged[position] ^= 1
        parts = stream_of(bytes(damaged[:-32]), bytes(damaged[-32:]))
        reader, _ = read(parts)
        with pytest.raises(SnapshotCorrupt, match="checksum"):
            reader.finish()


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_message_is_noticed(missing):
    parts = stream_of()
    del parts[missing]
    with pytest.raises(SnapshotCorrupt):
        read(parts)[0].finish()


def test_an_end_without_any_message_is_noticed():
    with pytest.raises(SnapshotCorrupt, match="0 of 0 bytes"):
        SnapshotReader().finish()


def test_more_bytes_than_announced_are_refused():
    parts = stream_of()
    with pytest.raises(SnapshotCorrupt, match="longer"):
        read([*parts, parts[0]])


def test_a_database_that_is_not_whole_pages_is_refused():
    with pytest.raises(SnapshotCorrupt, match="whole pages"):
        read(stream_of(DATA[:-1]))[0].finish()


def test_corruption_is_data_loss():
    assert issubclass(SnapshotCorrupt, EtcdError)
    assert SnapshotCorrupt("x").code is StatusCode.DATA_LOSS


def test_memory_does_not_grow_with_the_snapshot():
    # C44
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    blob = bytes(32 * 1024)
    reader = SnapshotReader()
    first = messages.SnapshotResponse(blob=blob, remaining_bytes=len(blob) * 999)
    reader.receive(first)
    tracemalloc.start()
    try:
        for left in range(998, -1, -1):
            reader.receive(messages.SnapshotResponse(blob=blob, remaining_bytes=len(blob) * left))
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


# The operations.


def on_wire(parts):
    return [each.SerializeToString() for each in parts]


def receive(world, taken):
    blobs = []
    while (blob := world.run(snapshot.next_chunk(taken))) is not None:
        blobs.append(blob)
    return b"".join(blobs)


def test_receiving():
    world = Stepper(*on_wire(stream_of()), None)
    taken = world.run(snapshot.begin(endpoint="a:2379"))
    assert taken.version == "3.6.0"
    assert taken.info is None
    assert receive(world, taken) == DATA + sha256(DATA).digest()
    assert taken.info == SnapshotInfo("3.6.0", len(DATA) + 32, sha256(DATA).digest())
    assert world.open == []
    assert world.run(snapshot.next_chunk(taken)) is None
    (stream,) = world.calls
    assert (stream.method, stream.endpoint, stream.half_close) == (methods.SNAPSHOT, "a:2379", True)


def test_before_the_first_chunk_it_is_tried_again():
    world = Stepper(errors.NoLeader(), errors.InvalidAuthToken(), *on_wire(stream_of()), None)
    taken = world.run(snapshot.begin())
    receive(world, taken)
    assert taken.info is not None
    assert len(world.calls) == 3


@pytest.mark.parametrize("error", [errors.Unavailable("lost"), errors.NoLeader(), KeyboardInterrupt()])
def test_after_the_first_chunk_nothing_is_resumed(error):
    world = Stepper(*on_wire(stream_of())[:2], error)
    taken = world.run(snapshot.begin())
    with pytest.raises(type(error)):
        receive(world, taken)
    assert world.open == []
    assert taken.info is None


def test_a_truncated_snapshot_is_an_error():
    world = Stepper(*on_wire(stream_of())[:-1], None)
    taken = world.run(snapshot.begin())
    with pytest.raises(SnapshotCorrupt):
        receive(world, taken)
    assert world.open == []


def test_a_snapshot_given_up_never_looks_complete():
    world = Stepper(*on_wire(stream_of()))
    taken = world.run(snapshot.begin())
    world.run(snapshot.end(taken))
    world.run(snapshot.end(taken))
    assert world.open == []
    with pytest.raises(SnapshotCorrupt, match="given up"):
        world.run(snapshot.next_chunk(taken))
