# SPDX-License-Identifier: Apache-2.0
"""The hash by which members compare their stores, and the octets of a snapshot.

1. HashKV is CRC-32C over all records up to a revision as etcd keeps them: revision, then key-value. What
   a compaction is to remove does not count, nor does a tombstone at the compacted revision itself.
2. The file of a snapshot is a format of our own, as long as the client's rule about lengths wants it,
   and no bbolt database: real etcd cannot restore from it.

Source: etcd server/mvcc/{hash,kvstore,revision}.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from purecd.memory.store import Record, Store

POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
MAGIC = b"purecd in-memory snapshot; not a bbolt database\n"
PAGE = 512  # octets that the length of a snapshot is a multiple of, its digest apart


def _table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


TABLE = _table()


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of some octets, or of those before and these."""
    table = TABLE
    crc ^= 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ table[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


def hash_kv(store: Store, revision: int) -> int:
    """Hash of a store up to a revision.

    Args:
        revision: 0 or less for the newest.

    Raises:
        Status: the revision is compacted, or in the future.
    """
    if 0 < revision < store.compacted:
        raise Status(*statuses.COMPACTED)
    if revision > store.revision:
        raise Status(*statuses.FUTURE_REV)
    # A negative one finds no record, as in etcd.
    counted = _counted(store, revision or store.revision)
    return crc32c(b"".join(_stored(record) for record in counted), crc32c(b"key"))


def _counted(store: Store, revision: int) -> Iterable[Record]:
    records = [record for record in store.records() if record.main <= revision]
    newest = {record.kv.key: record for record in records}
    kept = {id(record) for record in newest.values() if not record.deleted}
    for record in records:
        if record.main <= store.compacted and kept and id(record) not in kept:
            continue
        if record.main == store.compacted and record.deleted:
            continue
        yield record


def _stored(record: Record) -> bytes:
    """A record as etcd's database has it, key and value."""
    key = b"%b_%b" % (record.main.to_bytes(8, "big"), record.sub.to_bytes(8, "big"))
    if record.deleted:
        return key + b"t" + pb.KeyValue(key=record.kv.key).SerializeToString()
    return key + record.kv.SerializeToString()


def snapshot(store: Store) -> bytes:
    """All records of a store, in a format of our own."""
    parts = [MAGIC]
    for record in store.records():
        stored = _stored(record)
        parts += [len(stored).to_bytes(4, "big"), stored]
    content = b"".join(parts)
    return content + bytes(-len(content) % PAGE)
