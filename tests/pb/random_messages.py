# SPDX-License-Identifier: Apache-2.0
"""Random protobuf bytes for a message type, valid but as a strange peer might write them.

Fields come in any order and repeatedly, submessages in several pieces, oneofs change their minds, and
fields that are unknown or of an unexpected wire type stand between them.
"""

from __future__ import annotations

from random import Random
from typing import Any

from purecd.pb.encoding import varint

EDGES = [0, 1, 2, 127, 128, 300, 2**14 - 1, 2**14, 2**21, 2**28, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63]
EDGES += [2**64 - 1, 2**64 - 2]

VARINT, FIXED64, LENGTH, GROUP, FIXED32 = 0, 1, 2, 3, 5
TEXTS = ["", "etcdserver: no leader", "ü", "日本", "\0"]


def random_message(rng: Random, descriptor: Any, depth: int = 0) -> bytes:
    """Bytes of one message.

    Args:
        descriptor: the protobuf descriptor of its type.
        depth: levels of messages around it; the deeper, the fewer fields.
    """
    fields = list(descriptor.fields)
    parts = []
    for _ in range(rng.randrange(8 if depth < 3 else 4 if depth < 6 else 2)):
        choice = rng.random()
        if choice < 0.8:
            parts.append(_known(rng, rng.choice(fields), depth))
        elif choice < 0.93:
            known = {field.number for field in fields}
            number = rng.choice([each for each in (7, 15, 16, 99, 2047, 2**29 - 1) if each not in known])
            parts.append(_unknown(rng, number, rng.choice([VARINT, FIXED64, LENGTH, GROUP, FIXED32])))
        else:
            field = rng.choice(fields)
            kinds = {VARINT, FIXED64, LENGTH, GROUP, FIXED32} - {_wire_type(field)}
            parts.append(_unknown(rng, field.number, rng.choice(sorted(kinds))))
    return b"".join(parts)


def _wire_type(field: Any) -> int:
    return LENGTH if field.type in (field.TYPE_MESSAGE, field.TYPE_BYTES, field.TYPE_STRING) else VARINT


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def _block(data: bytes) -> bytes:
    return varint(len(data)) + data


def _known(rng: Random, field: Any, depth: int) -> bytes:
    tag = _tag(field.number, _wire_type(field))
    if field.type == field.TYPE_MESSAGE:
        return tag + _block(random_message(rng, field.message_type, depth + 1))
    if field.type == field.TYPE_STRING:
        return tag + _block(rng.choice(TEXTS).encode())
    if field.type == field.TYPE_BYTES:
        return tag + _block(_bytes(rng))
    return tag + varint(_number(rng))


def _unknown(rng: Random, number: int, wire_type: int, depth: int = 0) -> bytes:
    tag = _tag(number, wire_type)
    if wire_type == VARINT:
        return tag + varint(_number(rng))
    if wire_type == FIXED64:
        return tag + _bytes(rng, 8)
    if wire_type == FIXED32:
        return tag + _bytes(rng, 4)
    if wire_type == LENGTH:
        return tag + _block(_bytes(rng))
    inner = b""
    if depth < 4:
        kinds = [VARINT, FIXED64, LENGTH, GROUP, FIXED32]
        inner = b"".join(
            _unknown(rng, rng.choice([1, 5, 20]), rng.choice(kinds), depth + 1)
            for _ in range(rng.randrange(3))
        )
    return tag + inner + varint(number << 3 | 4)


def _number(rng: Random) -> int:
    return rng.choice(EDGES) if rng.random() < 0.6 else rng.getrandbits(rng.randrange(1, 65))


def _bytes(rng: Random, length: int | None = None) -> bytes:
    if length is None:
        length = rng.choice([0, 1, 3, 5, 20, 127, 128, 300])
    return bytes(rng.getrandbits(8) for _ in range(length))
