# SPDX-License-Identifier: Apache-2.0
"""Decoding a range by purecd's own code and through protobuf, without a connection."""

from __future__ import annotations

from serving import serve

from purecd.pb import decoding, messages, parsing


def reply(keys: int) -> bytes:
    """A range as etcd sends it, 100 bytes of value per key."""
    kvs = [
        messages.KeyValue(
            key=b"range/%05d" % number,
            create_revision=100_000 + number,
            mod_revision=200_000 + number,
            version=3,
            value=b"v" * 100,
        )
        for number in range(keys)
    ]
    header = messages.ResponseHeader(cluster_id=2**63, member_id=2**62, revision=300_000, raft_term=7)
    return messages.RangeResponse(header=header, kvs=kvs, count=keys).SerializeToString()


def main() -> None:
    made: dict[int, bytes] = {}

    def work(decode):
        def repeat(count: int, keys: int) -> None:
            if keys not in made:
                made[keys] = reply(keys)
            data = made[keys]
            for _ in range(count):
                assert len(decode(data).kvs) == keys

        return repeat

    serve({"by hand": work(decoding.decode_range), "protobuf": work(parsing.decode_range)})


main()
