# SPDX-License-Identifier: Apache-2.0
"""Requests into bytes and replies from bytes, for the calls where speed counts.

Decoders go through protobuf where it is its C implementation (upb), and are by hand elsewhere: on PyPy,
free-threaded Python, musl and others. Protobuf is loaded when a reply is large or a few have come; those
before are decoded by hand.

Tiny replies are always decoded by hand where that takes no longer. Protobuf's code is not in the processor's
caches when it is used once a call: with them emptied a get of 169 octets took 17 us by hand and 28 by
protobuf, a put 10 and 18; with them full 3.5 and 2.8, 1.1 and 1.3.
"""

from __future__ import annotations

from purecd.pb import decoding, parsing
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

decode_range = parsing.decoder(
    "RangeResponse", parsing.get_reply, decoding.decode_range, tiny=parsing.TINY, with_data=True
)
decode_put = parsing.decoder("PutResponse", parsing.put_reply, decoding.decode_put, tiny=parsing.TINY)
decode_delete = parsing.decoder(
    "DeleteRangeResponse", parsing.delete_reply, decoding.decode_delete, tiny=parsing.TINY
)
decode_txn = parsing.decoder("TxnResponse", parsing.txn_reply, decoding.decode_txn, tiny=parsing.TINY)
decode_compact = parsing.decoder("CompactionResponse", parsing.compact_reply, decoding.decode_compact)
decode_watch = parsing.decoder("WatchResponse", parsing.watch_response, decoding.decode_watch, with_data=True)
decode_keepalive = parsing.decoder("LeaseKeepAliveResponse", parsing.keepalive, decoding.decode_keepalive)

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
