# SPDX-License-Identifier: Apache-2.0
import random

from hpack import Decoder

from tests.sim.headers import HeaderEncoder

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
