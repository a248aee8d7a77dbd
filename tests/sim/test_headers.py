# SPDX-License-Identifier: Apache-2.0
import random

import pytest
from hpack import Decoder, Encoder, HPACKDecodingError

from tests.sim.headers import HeaderDecoder, HeaderEncoder

HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def test_another_decoder_reads_what_is_encoded():
    encoder, decoder = HeaderEncoder(), Decoder()
    chance = random.Random(7)
    for _ in range(500):
        message = "x" * chance.choice((0, 10, 200, 5000)) + str(chance.randrange(50))
        fields = [*HEAD, ("grpc-status", str(chance.randrange(17))), ("grpc-message", message)]
        assert decoder.decode(encoder.encode(fields)) == fields


def test_octets_are_the_same_whatever_is_installed():
    encoder = HeaderEncoder()
    ended, failed = (
        [("grpc-status", "0"), ("grpc-message", "")],
        [("grpc-status", "14"), ("grpc-message", "")],
    )
    assert encoder.encode(HEAD).hex(" ", 1) == "88 5f 8b 1d 75 d0 62 0d 26 3d 4c 4d 65 64"
    assert encoder.encode(HEAD).hex(" ") == "88 be"
    literals = "40 88 9a ca c8 b2 12 34 da 8f 81 07", "40 89 9a ca c8 b5 25 42 07 31 7f 80"
    assert encoder.encode(ended).hex(" ") == " ".join(literals)
    assert encoder.encode(ended).hex(" ") == "bf be"
    assert encoder.encode(failed).hex(" ") == "7f 00 82 0b 5f bf"
    assert encoder.encode(ended).hex(" ") == "c0 bf"


def test_a_known_block_is_decoded_without_looking():
    block = b"\x83\x10\x01a\x01b"
    fields = [(b":method", b"POST"), (b"a", b"b")]
    first, second = HeaderDecoder(), HeaderDecoder()
    assert first.decode(block, raw=True) == fields
    again = second.decode(block, raw=True)
    assert again == fields
    again.clear()  # it is nobody else's
    assert second.decode(block, raw=True) == fields


def test_blocks_of_the_dynamic_table_mean_what_they_mean_there():
    for value in (b"1", b"2"):
        encoder, decoder = Encoder(), HeaderDecoder()
        blocks = [encoder.encode([(b"name", value)]) for _ in range(3)]
        assert [decoder.decode(block, raw=True) for block in blocks] == [[(b"name", value)]] * 3
        assert blocks[1] == blocks[2] == b"\xbe"
    with pytest.raises(HPACKDecodingError):
        HeaderDecoder().decode(b"\xbe", raw=True)
