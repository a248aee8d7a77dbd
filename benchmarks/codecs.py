# SPDX-License-Identifier: Apache-2.0
"""What encoding a request and decoding a reply cost: by hand, and through protobuf.

Prints microseconds per message and the ratio of protobuf to the code by hand, in one run. Run it with
PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python to compare with protobuf in pure Python, and on PyPy.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any, Callable

from google.protobuf.internal import api_implementation

from purecd.pb import decoding, encoding, messages, parsing
from purecd.requests import Get, Put, Txn, version


def microseconds(call: Callable[[], object], seconds: float = 0.04, rounds: int = 5) -> float:
    """Best mean of several rounds."""
    count = 1
    while _timed(call, count) < seconds:
        count *= 2
    return min(_timed(call, count) for _ in range(rounds)) / count * 1e6


def _timed(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def range_reply(keys: int) -> bytes:
    """A range as etcd sends it, 100 bytes of value per key."""
    kvs = [
        messages.KeyValue(
            key=b"registry/pods/%06d" % number,
            create_revision=100_000 + number,
            mod_revision=200_000 + number,
            version=3,
            value=b"v" * 100,
        )
        for number in range(keys)
    ]
    return messages.RangeResponse(header=header(), kvs=kvs, count=keys).SerializeToString()


def header() -> messages.ResponseHeader:
    return messages.ResponseHeader(
        cluster_id=14841639068965178418, member_id=10276657743932975437, revision=300_000, raft_term=7
    )


def watch_reply(events: int) -> bytes:
    kv = messages.KeyValue(key=b"k" * 20, create_revision=9, mod_revision=10, version=1, value=b"v" * 100)
    return messages.WatchResponse(
        header=header(), watch_id=1, events=[messages.Event(kv=kv)] * events
    ).SerializeToString()


def proto_put(put: Put) -> bytes:
    return messages.PutRequest(key=put.key, value=put.value).SerializeToString()


def proto_range(get: Get) -> bytes:
    return messages.RangeRequest(key=get.key, limit=get.limit).SerializeToString()


def proto_txn(txn: Txn) -> bytes:
    request: Any = messages.TxnRequest()
    compare = request.compare.add()
    compare.key, compare.version = b"k", 0
    request.success.add().request_put.MergeFrom(messages.PutRequest(key=b"k", value=b"v"))
    request.failure.add().request_range.MergeFrom(messages.RangeRequest(key=b"k"))
    data: bytes = request.SerializeToString()
    return data


def show(name: str, by_hand: Callable[[], object], protobuf: Callable[[], object]) -> None:
    ours, theirs = microseconds(by_hand), microseconds(protobuf)
    sys.stdout.write(f"{name:24}{ours:10.2f} us by hand {theirs:10.2f} us protobuf  x {theirs / ours:.2f}\n")


def main() -> None:
    sys.stdout.write(f"protobuf is {api_implementation.Type()}; Python {sys.version.split()[0]}\n")
    get, put = Get(b"jobs/000001"), Put(b"jobs/000001", b"v" * 100)
    txn = Txn([version(b"k") == 0], [Put(b"k", b"v")], [Get(b"k")])
    show("encode a get", partial(encoding.encode_range, get), partial(proto_range, get))
    show("encode a put", partial(encoding.encode_put, put), partial(proto_put, put))
    show("encode a txn", partial(encoding.encode_txn, txn), partial(proto_txn, txn))
    for keys in (1, 1000):
        data = range_reply(keys)
        show(f"decode {keys} keys", partial(decoding.decode_range, data), partial(parsing.decode_range, data))
    data = messages.PutResponse(header=header()).SerializeToString()
    show("decode a put", partial(decoding.decode_put, data), partial(parsing.decode_put, data))
    for events in (1, 1000):
        data = watch_reply(events)
        show(
            f"decode {events} events",
            partial(decoding.decode_watch, data),
            partial(parsing.decode_watch, data),
        )
    parse = messages.RangeResponse.FromString
    data = range_reply(1000)
    sys.stdout.write(f"protobuf's own parsing of 1000 keys {microseconds(partial(parse, data)):10.2f} us\n")
    sys.stdout.write(
        f"make and encode a get {microseconds(lambda: encoding.encode_range(Get(b'k'))):6.2f} us\n"
    )
    sys.stdout.write(
        f"make and encode a put {microseconds(lambda: encoding.encode_put(Put(b'k', b'v'))):6.2f} us\n"
    )


if __name__ == "__main__":
    main()
