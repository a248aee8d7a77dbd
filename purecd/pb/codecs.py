# SPDX-License-Identifier: Apache-2.0
"""Requests into bytes and replies from bytes, for the calls where speed counts.

Decoders go through protobuf where it is its C implementation (upb), and are by hand elsewhere: on PyPy,
free-threaded Python, musl and others. Descriptors are not loaded before the first reply.
"""

from __future__ import annotations

from google.protobuf.internal import api_implementation

from purecd.pb.encoding import (
    encode_compact,
    encode_delete,
    encode_keepalive,
    encode_put,
    encode_range,
    encode_txn,
    encode_watch_cancel,
    encode_watch_create,
    encode_watch_progress,
)

if api_implementation.Type() == "upb":
    from purecd.pb.parsing import (
        decode_compact,
        decode_delete,
        decode_keepalive,
        decode_put,
        decode_range,
        decode_txn,
        decode_watch,
    )
else:
    from purecd.pb.decoding import (
        decode_compact,
        decode_delete,
        decode_keepalive,
        decode_put,
        decode_range,
        decode_txn,
        decode_watch,
    )

__all__ = [
    "decode_compact",
    "decode_delete",
    "decode_keepalive",
    "decode_put",
    "decode_range",
    "decode_txn",
    "decode_watch",
    "encode_compact",
    "encode_delete",
    "encode_keepalive",
    "encode_put",
    "encode_range",
    "encode_txn",
    "encode_watch_cancel",
    "encode_watch_create",
    "encode_watch_progress",
]
