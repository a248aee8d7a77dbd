# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of `purecd.pb` and `purecd.core`: codecs, endpoints, ranges, errors, snapshots, watches."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError

from purecd import errors
from purecd.core.endpoints import parse_endpoint
from purecd.core.namespace import Namespace
from purecd.core.snapshot import SnapshotReader
from purecd.pb import decoding, messages, parsing
from purecd.pb.encoding import encode_txn
from purecd.requests import Delete, Get, Txn
from purecd.snapshot_file import SnapshotFile
from tests.pb.reply_cases import REPLIES, outcome, random_reply
from tests.pb.test_encoding import expected_message, random_op

from .taste import Taste

UPB = api_implementation.Type() == "upb"


class _TastyRandom(Random):
    """A `Random` whose choices are the fuzzer's."""

    def __init__(self, taste: Taste) -> None:
        super().__init__(0)
        self._taste = taste

    def random(self) -> float:
        return self._taste.below(2**24) / 2**24

    def getrandbits(self, k: int) -> int:
        return self._taste.below(1 << k) if k else 0

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return self._taste.below(start) if stop is None else start + self._taste.below(stop - start)

    def choice(self, seq: Any) -> Any:
        return self._taste.one_of(list(seq))


def replies(data: bytes) -> None:
    """Z9: whatever octets: a value or `ValueError`, and both decoders say the same."""
    taste = Taste(data)
    name = taste.one_of(sorted(REPLIES))
    octets = taste.rest()
    _compare_decoders(name, octets)


def mutated_replies(data: bytes) -> None:
    """Z9 with valid messages of a strange writer, some octets of them changed."""
    taste = Taste(data)
    name = taste.one_of(sorted(REPLIES))
    changes = [(taste.below(2**16), taste.below(256)) for _ in range(taste.below(4))]
    octets = bytearray(random_reply(_TastyRandom(taste), name))
    for place, value in changes:
        if octets:
            octets[place % len(octets)] = value
    _compare_decoders(name, bytes(octets))


def _compare_decoders(name: str, octets: bytes) -> None:
    mine = outcome(getattr(decoding, f"decode_{name}"), octets)
    if UPB and not _is_pickier(name, octets):
        assert outcome(getattr(parsing, f"decode_{name}"), octets) == mine


def _is_pickier(name: str, octets: bytes) -> bool:
    """Refused by us alone: tags that no writer makes, too long or of field 0.

    And txns nested too deep even where a later member of a oneof replaces them, so that protobuf drops them.
    """
    try:
        getattr(decoding, f"decode_{name}")(octets)
    except ValueError as error:
        text = str(error)
        return text in ("a tag is longer than needed", "field number 0 is not allowed") or "nested" in text
    return False


def requests(data: bytes) -> None:
    """Requests as protobuf reads them: what was meant, in its shortest form."""
    op = random_op(_TastyRandom(Taste(data)))
    octets = encode_txn(Txn(success=[op]))
    try:
        request = messages.TxnRequest.FromString(octets)
    except DecodeError as error:
        raise AssertionError(f"protobuf refuses our request: {op}") from error
    assert request == expected_message(Txn(success=[op]))
    assert len(octets) == request.ByteSize()


def endpoints(data: bytes) -> None:
    """Z10: an endpoint is read or refused with `ValueError`, and never shows what is before an @."""
    text = data.decode("utf-8", "replace")
    for endpoint in (
        text,
        f"http://{text}",
        f"https://{text}",
        f"unix://{text}",
        f"http://user:s3cr3t@{text}",
    ):
        try:
            address = parse_endpoint(endpoint)
        except ValueError as error:
            assert "s3cr3t" not in str(error)
            continue
        assert "s3cr3t" not in endpoint or "s3cr3t" not in address.authority
        if address.path:
            assert "\0" not in address.path
        else:
            assert address.host
            assert address.port is None or 0 < address.port < 65_536
            assert address.host in endpoint
            assert not set(address.authority) & set("@/?#")
            if address.port is not None:
                name, _, port = address.authority.rpartition(":")
                assert int(port) == address.port
                assert name.count(":") in (0, address.host.count(":")), "the port is no part of the name"
        assert address.authority.isascii()
        assert not set(address.authority) & set("\r\n\0 ")


def prefixes(data: bytes) -> None:
    """Z11: a prefix's range holds exactly the keys that begin with it."""
    taste = Taste(data)
    prefix = bytes(taste.one_of((0xFF, 0x00, 0x61, 0xFE)) for _ in range(taste.below(5)))
    key = (prefix if taste.chance(50) else b"") + taste.some(4)
    for request in (Get(prefix, prefix=True), Delete(prefix, prefix=True)):
        begin, end = request.key, request.range_end
        inside = key >= begin and (end == b"\0" or key < end)
        assert inside == key.startswith(prefix) or not key


def namespaces(data: bytes) -> None:
    """Z11: a range below a namespace holds the same keys as the range without it, and no stranger."""
    taste = Taste(data)
    prefix = taste.some(4) or b"\xff"
    key, end = taste.some(4) or b"\0", taste.one_of((b"", b"\0", taste.some(4) or b"\xff"))
    probe = taste.some(5) or b"a"
    begin, stop = Namespace(prefix)._range(key, end)

    def inside(key: bytes, begin: bytes, end: bytes) -> bool:
        return key == begin if not end else key >= begin and (end == b"\0" or key < end)

    assert inside(prefix + probe, begin, stop) == inside(probe, key, end)
    if not probe.startswith(prefix):
        assert not inside(probe, begin, stop), "a key beside the namespace"


def error_texts(data: bytes) -> None:
    """Z13: any code and text give an error that keeps them; unknown ones are never called unapplied."""
    taste = Taste(data)
    code = taste.below(20)
    text = taste.rest().decode("utf-8", "replace")
    error = errors.from_status(code, text)
    assert isinstance(error, errors.EtcdError)
    assert text in str(error) or not text
    if type(error) is errors.RpcError and code in (2, 13, 14, 4, 1):
        assert error.maybe_applied, "an unknown text says nothing about the effect"


def snapshots(data: bytes) -> None:
    """Z14: a snapshot changed or cut anywhere is refused and leaves no file; a whole one is kept."""
    taste = Taste(data)
    body = bytes(512 * (1 + taste.below(3)))
    whole = body + hashlib.sha256(body).digest()
    octets = bytearray(whole)
    if taste.chance(40):
        octets[taste.below(len(octets))] ^= 1 + taste.below(255)
    if taste.chance(40):
        del octets[taste.below(len(octets)) :]
    good = bytes(octets) == whole
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.db"
        reader = SnapshotReader()
        position = 0
        try:
            with SnapshotFile(path) as file:
                for cut in taste.cuts(len(octets)):
                    blob = bytes(octets[position:cut])
                    position = cut
                    left = len(body) - position if position < len(body) else 0
                    response = messages.SnapshotResponse(blob=blob, remaining_bytes=max(left, 0))
                    file.write(reader.receive(response))
                reader.finish()
                file.commit()
        except errors.SnapshotCorrupt:
            assert not good or not path.exists()
            assert os.listdir(folder) == []
        else:
            assert good
            assert path.read_bytes() == whole
