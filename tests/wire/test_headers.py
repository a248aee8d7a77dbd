# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
from hpack import Decoder, Encoder

from purecd.wire.faults import ConnectionFault
from purecd.wire.headers import (
    MAX_CONTINUATIONS,
    MAX_FIELDS,
    MEMO_SIZE,
    BlockDecoder,
    FieldBlock,
    HeaderBlockParts,
    RequestHeaders,
    encode_integer,
    encode_literal,
    encode_metadata,
    encode_string,
)

from .peer import COMPRESSION_ERROR, CONTINUATION, DATA, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, block

PATH = b"/etcdserverpb.KV/Range"


def request_headers(*metadata):
    return RequestHeaders("http", "127.0.0.1:2379", "purecd/1.0", metadata)


def decode(octets):
    return list(Decoder().decode(octets, raw=True))


# Encoding.


@pytest.mark.parametrize(
    "value, prefix_bits, expected",
    [
        (10, 5, "0a"),  # RFC 7541 C.1.1
        (1337, 5, "1f9a0a"),  # C.1.2
        (42, 8, "2a"),  # C.1.3
        (30, 5, "1e"),
        (31, 5, "1f00"),
        (127, 7, "7f00"),
        (255, 7, "7f8001"),
    ],
)
def test_integers(value, prefix_bits, expected):
    assert encode_integer(value, prefix_bits, 0).hex() == expected


def test_integer_keeps_the_bits_above_the_prefix():
    assert encode_integer(2, 6, 0x40) == b"\x42"


def test_strings():
    # RFC 7541 C.2.1: "custom-key" without Huffman coding.
    assert encode_string(b"custom-key").hex() == "0a637573746f6d2d6b6579"


def test_literal_without_indexing():
    # RFC 7541 C.2.2: :path /sample/path, name at static index 4.
    assert encode_literal(4, b"/sample/path").hex() == "040c2f73616d706c652f70617468"


def test_never_indexed_literal():
    # RFC 7541 C.2.3: password: secret.
    expected = "100870617373776f726406736563726574"
    assert encode_literal(b"password", b"secret", never_indexed=True).hex() == expected


def test_static_index_beyond_the_prefix():
    # content-type is 31 in the static table: 15 in the prefix and 16 after it.
    assert encode_literal(31, b"x").hex() == "0f100178"


def test_request_block_reads_back_in_the_order_of_grpc():
    octets = request_headers((b"client-api-version", b"3.5")).block(PATH, b"5000000u", b"secret.7")
    fields = decode(octets)
    assert [tuple(field) for field in fields] == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", PATH),
        (b":authority", b"127.0.0.1:2379"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"purecd/1.0"),
        (b"client-api-version", b"3.5"),
        (b"grpc-timeout", b"5000000u"),
        (b"token", b"secret.7"),
    ]
    # RFC 7541 §6.2.3 and C25: of all fields only the token is never indexed.
    assert [field.indexable for field in fields] == [True] * 9 + [False]


def test_block_by_hand():
    octets = RequestHeaders("https", "a", "b").block(b"/c/d")
    expected = "83 87 04042f632f64 010161 0f10106170706c69636174696f6e2f67727063"
    expected += "0002746508747261696c657273 0f2b0162"
    assert octets == bytes.fromhex(expected)


def test_nothing_enters_the_dynamic_table():
    decoder = Decoder()
    headers = request_headers()
    for token in (b"one", b"two"):
        decoder.decode(headers.block(PATH, b"1S", token, ((b"hasleader", b"true"),)))
    assert len(decoder.header_table.dynamic_entries) == 0


def test_blocks_of_different_calls_do_not_mix():
    headers = request_headers()
    plain = headers.block(PATH)
    with_all = headers.block(PATH, b"1S", b"t", ((b"hasleader", b"true"),))
    other_token = headers.block(PATH, b"", b"u")
    assert headers.block(PATH) == plain
    assert headers.block(PATH, b"1S", b"t", [(b"hasleader", b"true")]) == with_all
    assert (b"token", b"u") in decode(other_token)
    assert (b"token", b"t") not in decode(other_token)
    assert (b":path", b"/other/M") in decode(headers.block(b"/other/M"))


def test_long_token():
    token = b"x" * 300
    assert (b"token", token) in decode(request_headers().block(PATH, b"", token))


@pytest.mark.parametrize("token", [b"a\r\nb", b"a\0", b" a", b"a\x80"])
def test_illegal_token_never_leaves(token):
    with pytest.raises(ValueError, match="token") as caught:
        request_headers().block(PATH, b"", token)
    assert repr(token) not in str(caught.value)


def test_binary_metadata_is_base64_without_padding():
    fields = decode(encode_metadata([(b"trace-bin", b"\x00\xff\x01\x02")]))
    assert fields == [(b"trace-bin", b"AP8BAg")]


def test_secrets_in_metadata_are_never_indexed():
    (field,) = decode(encode_metadata([(b"authorization", b"Bearer x")]))
    assert not field.indexable


def test_token_appears_in_no_log_and_no_repr(caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("hpack").setLevel(logging.DEBUG)
    headers = request_headers()
    headers.block(PATH, b"1S", b"canary-token")
    assert "canary" not in caplog.text
    assert "canary" not in repr(headers)
    assert "canary" not in repr(vars(BlockDecoder(1000)))


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
