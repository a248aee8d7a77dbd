# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
from hpack import Decoder

from purecd.wire.blocks import BlockDecoder
from purecd.wire.headers import (
    RequestHeaders,
    encode_integer,
    encode_literal,
    encode_metadata,
    encode_string,
)

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
