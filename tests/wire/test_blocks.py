# SPDX-License-Identifier: Apache-2.0
import time

import pytest
from hpack import Encoder

from purecd.wire.blocks import (
    MAX_CONTINUATIONS,
    MAX_FIELDS,
    MEMO_SIZE,
    BlockDecoder,
    FieldBlock,
    HeaderBlockParts,
    check_structure,
)
from purecd.wire.faults import ConnectionFault

from .peer import COMPRESSION_ERROR, CONTINUATION, DATA, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, block

# Field blocks.


def fields(*pairs):
    return FieldBlock([(name.encode(), value.encode("latin-1")) for name, value in pairs])


def test_good_response():
    good = fields((":status", "200"), ("content-type", "application/grpc"), ("content-length", "12"))
    assert (good.status, good.problem, good.media_type, good.content_length) == (
        200,
        "",
        b"application/grpc",
        12,
    )


def test_good_trailers():
    good = fields(("grpc-status", "0"), ("grpc-message", ""), ("x-bin", "AAE"), ("x-bin", "AAE="))
    assert (good.status, good.problem) == (0, "")
    assert good.get(b"grpc-status") == b"0"
    assert good.get(b"grpc-message") == b""
    assert good.get(b"missing") is None


@pytest.mark.parametrize(
    "pairs, rule",
    [
        ([(":status", "200"), (":status", "200")], "twice"),
        ([(":status", "20")], "8.3.2"),
        ([(":status", "2000")], "8.3.2"),
        ([(":status", "abc")], "8.3.2"),
        ([(":status", "099")], "8.3.2"),
        ([(":path", "/")], "8.3"),
        ([(":unknown", "1")], "8.3"),
        ([("a", "1"), (":status", "200")], "after a regular field"),
        ([("Upper", "1")], "8.2.1"),
        ([("sp ace", "1")], "8.2.1"),
        ([("co:lon", "1")], "8.2.1"),
        ([("ü", "1")], "8.2.1"),
        ([("", "1")], "8.2.1"),
        ([("a", "x\ry")], "8.2.1"),
        ([("a", "x\ny")], "8.2.1"),
        ([("a", "x\n")], "8.2.1"),
        ([("a", "x\0y")], "8.2.1"),
        ([("a", " x")], "8.2.1"),
        ([("a", "x\t")], "8.2.1"),
        ([("connection", "close")], "8.2.2"),
        ([("keep-alive", "1")], "8.2.2"),
        ([("transfer-encoding", "chunked")], "8.2.2"),
        ([("upgrade", "h2c")], "8.2.2"),
        ([("proxy-connection", "x")], "8.2.2"),
        ([("content-length", "-1")], "9110"),
        ([("content-length", "1"), ("content-length", "2")], "9110"),
        ([("content-length", "9" * 19)], "9110"),
        ([("x-bin", "!!!")], "base64"),
        ([("x-bin", "A")], "base64"),
    ],
)
def test_malformed_blocks(pairs, rule):
    # RFC 9113 §8.1.1 and H25.
    assert rule in fields(*pairs).problem


def test_details_that_are_not_base64_are_no_problem():
    assert fields(("grpc-status-details-bin", "!!!")).problem == ""


def test_size_limit_counts_32_octets_per_field():
    # RFC 9113 §6.5.2.
    assert not FieldBlock([(b"ab", b"c")], 35).too_large
    assert FieldBlock([(b"ab", b"c")], 34).too_large


def test_number_of_fields_is_limited():
    assert not FieldBlock([(b"a", b"")] * MAX_FIELDS).too_large
    assert FieldBlock([(b"a", b"")] * (MAX_FIELDS + 1)).too_large


# Decoding.


def test_repeated_blocks_are_decoded_once():
    # RFC 7541 §6.2.1: grpc-status 0 enters the table at 62; 0xbe is that entry.
    decoder = BlockDecoder(65536)
    first = decoder.decode(b"\x40\x0bgrpc-status\x010")
    assert first.fields == [(b"grpc-status", b"0")]
    assert decoder.memo == {}
    again = decoder.decode(b"\xbe")
    assert again.fields == first.fields
    assert decoder.memo == {b"\xbe": again}


def test_memo_ends_when_the_table_changes():
    decoder = BlockDecoder(65536)
    decoder.decode(b"\x40\x01a\x011")
    assert decoder.decode(b"\xbe").fields == [(b"a", b"1")]
    decoder.decode(b"\x40\x01b\x012")
    assert decoder.memo == {}
    assert decoder.decode(b"\xbe").fields == [(b"b", b"2")]
    decoder.decode(b"\x20")  # the table shrinks to nothing
    assert decoder.memo == {}
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")


def test_memo_takes_no_multi_octet_index():
    decoder = BlockDecoder(65536)
    for number in range(70):
        decoder.decode(b"\x40\x02%02d\x00" % number)
    decoder.decode(b"\xff\x00")  # index 127
    decoder.decode(b"\x88")
    assert set(decoder.memo) == {b"\x88"}


def test_memo_is_bounded():
    decoder = BlockDecoder(65536)
    for first in range(0x81, 0xBD):
        for second in (0x82, 0x83):
            decoder.decode(bytes((first, second)))
    assert len(decoder.memo) == MEMO_SIZE


@pytest.mark.parametrize(
    "octets",
    [
        b"\x80",  # §6.1: index 0
        b"\xbe",  # §2.3.3: index 62 of an empty dynamic table
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",  # §5.1: integer too large
        b"\x3f\xe2\x1f",  # §6.3: size update to 4,097
        b"\x88\x20",  # §4.2: size update after a field
        b"\x00\x05abc",  # §5.2: string cut off
        b"\x00\x7f\xff\xff\xff\x7f\x00",  # literal that claims 256 MiB
        b"\x00\x01a",  # no value
        b"\x00",
        b"\x00\x01a\x81\xff\xff",  # §5.2: Huffman padding longer than 7 bits, or EOS
        b"\x00\x01a\x81\x18",  # Huffman padding not all ones
        b"\x00\x01a\x84\xff\xff\xff\xff",  # Huffman EOS
    ],
)
def test_undecodable_blocks(octets):
    with pytest.raises(ConnectionFault) as caught:
        BlockDecoder(65536).decode(octets)
    assert caught.value.code == COMPRESSION_ERROR


def test_header_list_over_the_limit_still_decodes():
    # H28: the table must stay in step, so the block is decoded although nobody gets it.
    decoder = BlockDecoder(100)
    over = decoder.decode(b"\x40\x01a\x7f\x00" + b"x" * 127)
    assert over.too_large
    assert decoder.decode(b"\x40\x01b\x010").fields == [(b"b", b"0")]


def test_header_list_far_over_the_limit_ends_the_connection():
    decoder = BlockDecoder(100)
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(block(("a", "x" * 368)))
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_reference_bomb_stops_early():
    # CVE-2016-6581: a 4 kB entry referred to again and again.
    decoder = BlockDecoder(65536)
    bomb = b"\x40\x01a\x7f\xd1\x1e" + b"x" * 4048 + b"\xbe" * 12_000
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(bomb)
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_same_as_hpack_over_a_changing_table():
    encoder, decoder = Encoder(), BlockDecoder(65536)
    for number in range(300):
        sent = [(b":status", b"200"), (b"a", b"%d" % (number % 7)), (b"b%d" % (number % 50), b"x" * 40)]
        octets = encoder.encode(sent)
        assert (decoder.memo.get(octets) or decoder.decode(octets)).fields == sent


def test_parts_accept_only_their_continuation():
    parts = HeaderBlockParts(5, b"", False)
    parts.check(CONTINUATION, 5)
    for kind, stream_id in ((CONTINUATION, 7), (DATA, 5)):
        with pytest.raises(ConnectionFault) as caught:
            parts.check(kind, stream_id)
        assert caught.value.code == PROTOCOL_ERROR


def test_parts_count_continuations():
    parts = HeaderBlockParts(5, b"", False)
    for _ in range(MAX_CONTINUATIONS):
        parts.check(CONTINUATION, 5)
    with pytest.raises(ConnectionFault) as caught:
        parts.check(CONTINUATION, 5)
    assert caught.value.code == ENHANCE_YOUR_CALM


# Structure.


def test_good_structures():
    check_structure(b"")
    check_structure(b"\x20\x3f\xe1\x1f\x88")  # size updates to 0 and 4,096, then a field
    check_structure(block(("name", "value"), ("x", "y" * 300)))
    check_structure(b"\x5f\x02ab\x0f\x10\x00\x10\x01a\x01b")  # content-type twice, a never-indexed field


@pytest.mark.parametrize("octet", [b"\xff", b"\x80"])
@pytest.mark.parametrize(
    "start", [b"\xff", b"\x7f", b"\x3f", b"\x1f", b"\x0f", b"\x00\x7f", b"\x00\x01a\x7f"]
)
def test_endless_integers_cost_nothing(start, octet):
    # D9: hpack 4.1 spends 28 s on one of them.
    started = time.process_time()
    with pytest.raises(ConnectionFault) as caught:
        BlockDecoder(65536).decode(start + octet * 270_000)
    assert caught.value.code == COMPRESSION_ERROR
    assert time.process_time() - started < 0.1


def test_largest_integer():
    # 127 + 2^32 - 128 = 2^32 - 1 is read, and then is no index.
    with pytest.raises(ConnectionFault, match="does not decode"):
        BlockDecoder(65536).decode(b"\xff\x80\xff\xff\xff\x0f")
    with pytest.raises(ConnectionFault, match="integer too long"):
        BlockDecoder(65536).decode(b"\xff\x81\xff\xff\xff\x0f")


def test_number_of_fields_decoded_is_limited():
    decoder = BlockDecoder(65536)
    assert decoder.decode(b"\x88" * (4 * MAX_FIELDS)).too_large
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(b"\x88" * (4 * MAX_FIELDS + 1))
    assert caught.value.code == ENHANCE_YOUR_CALM
