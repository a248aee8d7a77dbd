# SPDX-License-Identifier: Apache-2.0
"""A range decoded while it comes: the same as the whole of it, however it was cut and whatever it is."""

from __future__ import annotations

from random import Random

import pytest

from purecd.pb import codecs, messages, pieces
from purecd.pb.pieces import RangePieces
from purecd.pb.wireformat import span
from purecd.types import GetReply, KeyValue
from tests.pb.reply_cases import CASES, HEAD, HEADER, KV, KV_BYTES, MALFORMED, outcome, random_reply, sub


def in_pieces(octets, size):
    """What becomes of a message that comes in pieces of so many octets, or of sizes that `size` draws."""
    message = RangePieces(len(octets))
    at = 0
    while at < len(octets):
        piece = octets[at : at + (size if isinstance(size, int) else size.randint(1, 40))]
        message.add(piece)
        at += len(piece)
        assert message.missing == len(octets) - at
    return message.whole()


def reply(octets, size):
    return outcome(lambda each: in_pieces(each, size).reply(), octets)


def whole(octets):
    return outcome(codecs.decode_range, octets)


@pytest.fixture(params=[12, 40, 200])
def step(request, monkeypatch):
    """Decode so few octets at once that a short message takes many steps."""
    monkeypatch.setattr(pieces, "STEP", request.param)


def counted(monkeypatch, name):
    """The lengths of what a function of the module is given from now on."""
    lengths = []
    function = getattr(pieces, name)

    def count(data, *more):
        lengths.append(len(data))
        return function(data, *more)

    monkeypatch.setattr(pieces, name, count)
    return lengths


def key_values(sizes, *, start=0):
    return [
        KeyValue(b"key/%06d" % number, number + 2, 300 + number, 1, b"%d" % number * size, 7)
        for number, size in enumerate(sizes, start)
    ]


def encoded(kvs, **fields):
    made = [messages.KeyValue(**each._asdict()) for each in kvs]
    header = messages.ResponseHeader(cluster_id=2**64 - 1, revision=300)
    return messages.RangeResponse(header=header, kvs=made, **fields).SerializeToString()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("name", "data", "expected"), [each for each in CASES if each[0] == "range" and each[1]]
)
def test_cases(step, name, data, expected, size):
    assert reply(data, size) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "data",
    [bytes.fromhex(data) for name, data in MALFORMED if name == "range"]
    + [
        b"\x0a" + b"\xff" * 11 + b"\0" * 20,  # the length of the header has no end
        b"\x12" + b"\xff" * 11 + b"\0" * 20,  # nor has that of a key
        b"\x0a\x7f" + b"\x12\0" * 20,  # the header goes past the end
        HEAD + sub(0x12, KV_BYTES) * 9 + b"\x12\x03\x0a\x05k" + sub(0x12, KV_BYTES) * 9,
    ],
)
def test_malformed(step, data, size):
    for octets in (data, HEAD + data, sub(0x12, KV_BYTES) * 3 + data):
        assert reply(octets, size) == whole(octets)


def test_random_messages(step):
    good = 0
    for seed in range(150):
        rng = Random(f"pieces {seed}")
        octets = b"".join(random_reply(rng, "range") for _ in range(4))
        expected = whole(octets)
        good += expected is not ValueError
        assert reply(octets, rng) == expected, f"seed {seed}"
        cut = octets[: rng.randrange(len(octets) + 1)]
        if cut:
            assert reply(cut, rng) == whole(cut), f"seed {seed} cut at {len(cut)}"
    assert good > 75


@pytest.mark.parametrize(
    "sizes", [[0] * 200, [9] * 200, [60] * 200, [15, 15, 16] * 60, [5] * 90 + [400] * 90]
)
def test_runs_of_keys_of_one_size(step, sizes):
    kvs = key_values(sizes)
    octets = encoded(kvs, more=True, count=12345)
    assert reply(octets, 1000) == reply(octets, 7) == whole(octets)
    assert in_pieces(octets, 50).reply().kvs == kvs


def test_lengths_that_differ_only_in_their_third_octet(monkeypatch):
    # 20,000 and 20,000 + 2^14 begin with the same two octets.
    monkeypatch.setattr(pieces, "STEP", 100_000)
    kvs = key_values([0] * 8)
    kvs = [each._replace(value=b"v" * (20_000 + 16_384 * (number > 4))) for number, each in enumerate(kvs)]
    octets = encoded(kvs)
    assert in_pieces(octets, 16_384).reply().kvs == kvs


def test_lengths_longer_than_needed(step):
    # 0x8a 0x80 0x00 says 10, and 0x8a 0x80 0x01 says 16,394: heads of four octets that differ in the last.
    short = b"\x12\x8a\x80\x00" + sub(0x2A, b"v" * 8)
    long = b"\x12\x8a\x80\x01" + sub(0x2A, b"v" * 16_390)
    octets = short * 40 + long + short * 40
    assert reply(octets, 100) == whole(octets)
    assert [len(each.value) for each in in_pieces(octets, 100).reply().kvs] == [8] * 40 + [16_390] + [8] * 40


def test_a_value_larger_than_a_step_is_joined_once(monkeypatch):
    monkeypatch.setattr(pieces, "STEP", 1000)
    looked = counted(monkeypatch, "_whole_keys")
    kvs = [KeyValue(b"k%d" % number, value=b"v" * 100_000) for number in range(3)]
    octets = encoded(kvs, count=3)
    assert in_pieces(octets, 100).reply() == whole(octets)
    assert sum(looked) < 1.1 * len(octets) + 3 * 1000


def test_keys_are_decoded_before_the_last_octet_has_come(monkeypatch):
    monkeypatch.setattr(pieces, "STEP", 1000)
    octets = encoded(key_values([10] * 500), count=500)
    message = RangePieces(len(octets))
    message.add(octets[:-1])
    decoded = counted(monkeypatch, "decode_range")
    message.add(octets[-1:])
    found = message.whole().reply()
    assert (len(found.kvs), found.count) == (500, 500)
    assert sum(decoded) < 1200


def test_what_stands_between_keys_counts_too(step):
    # The last of repeated scalars counts, and two headers are merged.
    keys = sub(0x12, KV_BYTES) * 5
    octets = HEAD + keys + b"\x20\x05" + keys + sub(0x0A, b"\x20\x09") + b"\x20\x06" + keys + b"\x18\x01"
    assert reply(octets, 11) == GetReply(HEADER._replace(raft_term=9), [KV] * 15, True, 6) == whole(octets)


def test_reading_it_twice_gives_the_same():
    message = in_pieces(encoded(key_values([900] * 300), count=300), 16_384)
    assert message.reply() == message.reply()
    assert len(message.reply().kvs) == 300


def test_it_is_as_long_as_its_octets():
    octets = encoded(key_values([900] * 300), count=300)
    assert len(in_pieces(octets, 16_384)) == len(octets)


@pytest.mark.parametrize("field", [b"\x12\0", b"\x12\x01\0", sub(0x12, b"\x30\x01"), sub(0x12, b"\x0a\x014")])
def test_the_time_is_proportional_to_the_octets(field):
    # After every 63 that are alike comes another, so that every run is looked at in vain, and only a bit.
    looked = 0

    class Octets(bytes):
        def __getitem__(self, at):
            nonlocal looked
            found = super().__getitem__(at)
            looked += len(found) if isinstance(at, slice) else 1
            return found

    octets = Octets((field * 63 + b"\x12\x80\0") * (50_000 // (63 * len(field))))
    end, count, _ = pieces._whole_keys(octets, 0)
    assert looked < 5 * pieces.LONGEST_RUN * len(octets) // len(field)
    assert end > len(octets) - 100
    at = fields = 0
    while at < end:
        at = span(octets, at + 1)[1]
        fields += 1
    assert count == fields
