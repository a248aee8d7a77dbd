# SPDX-License-Identifier: Apache-2.0
"""Values that reads, writes and watches return: immutable named tuples.

Fields stand in the order of etcd's messages, so that decoders can build them positionally. Revisions
count changes of the whole store; a `version` counts the puts of one key since it was created.

Source: etcd api/mvccpb/kv.proto, api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Union

from purecd.records import NamedTuple

SHOWN_BYTES = 64  # `repr` shows no more of a key or value


def brief(data: bytes) -> str:
    """`repr` of `data`, cut after the first 64 bytes."""
    if len(data) <= SHOWN_BYTES:
        return repr(data)
    return f"<{len(data)} bytes, {data[:SHOWN_BYTES]!r}...>"


class Header(NamedTuple):
    """Who answered, and the state of the store at that time.

    All fields are 0 where the server sends no header.

    Attributes:
        cluster_id: the answering cluster, unsigned 64-bit.
        member_id: the answering member, unsigned 64-bit.
        revision: revision of the store when the answer was made; 0 in membership replies.
        raft_term: election term of the answering member.
    """

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


EMPTY_HEADER = Header()


class KeyValue(NamedTuple):
    """One key as it was at a revision.

    Attributes:
        key: 1 byte or more.
        create_revision: revision of the put that created the key.
        mod_revision: revision of the last put.
        version: puts since creation, 1 for a new key.
        value: empty also when only keys were asked for.
        lease: id of the lease the key is attached to, 0 for none.
    """

    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    value: bytes = b""
    lease: int = 0

    def __repr__(self) -> str:
        return (
            f"KeyValue(key={brief(self.key)}, create_revision={self.create_revision}, "
            f"mod_revision={self.mod_revision}, version={self.version}, value={brief(self.value)}, "
            f"lease={self.lease})"
        )


class GetReply(NamedTuple):
    """What a get found.

    Attributes:
        header: see `Header`; its revision is the store's, also when an old revision was read.
        kvs: the keys, in the order asked for; empty with `count_only`.
        more: True when `limit` cut keys off.
        count: keys in the range, not limited and not filtered by revisions.
    """

    header: Header = EMPTY_HEADER
    kvs: list[KeyValue] = []  # noqa: RUF012 - never changed
    more: bool = False
    count: int = 0  # type: ignore[assignment]  # hides tuple.count

    @property
    def kv(self) -> KeyValue | None:
        """The first key, None when nothing was found."""
        return self.kvs[0] if self.kvs else None

    @property
    def value(self) -> bytes | None:
        """Value of the first key, None when nothing was found."""
        return self.kvs[0].value if self.kvs else None


class PutReply(NamedTuple):
    """Outcome of a put.

    Attributes:
        prev_kv: the key before the put, if it existed and was asked for.
    """

    header: Header = EMPTY_HEADER
    prev_kv: KeyValue | None = None


class DeleteReply(NamedTuple):
    """Outcome of a delete.

    Attributes:
        deleted: number of keys deleted; when 0, the store got no new revision.
        prev_kvs: the deleted keys, if asked for.
    """

    header: Header = EMPTY_HEADER
    deleted: int = 0
    prev_kvs: list[KeyValue] = []  # noqa: RUF012 - never changed


class TxnReply(NamedTuple):
    """Outcome of a transaction.

    Attributes:
        header: use this one; headers of the replies inside hold a revision at most.
        succeeded: True when all compares held, so the success branch ran.
        responses: one reply for each operation of the branch that ran, in order.
    """

    header: Header = EMPTY_HEADER
    succeeded: bool = False
    responses: list[OpReply] = []  # noqa: RUF012 - never changed

    @property
    def gets(self) -> list[GetReply]:
        """The replies of the gets among `responses`, in order."""
        return [each for each in self.responses if isinstance(each, GetReply)]

    @property
    def puts(self) -> list[PutReply]:
        """The replies of the puts among `responses`, in order."""
        return [each for each in self.responses if isinstance(each, PutReply)]

    @property
    def deletes(self) -> list[DeleteReply]:
        """The replies of the deletes among `responses`, in order."""
        return [each for each in self.responses if isinstance(each, DeleteReply)]

    @property
    def txns(self) -> list[TxnReply]:
        """The replies of the transactions among `responses`, in order."""
        return [each for each in self.responses if isinstance(each, TxnReply)]


OpReply = Union[GetReply, PutReply, DeleteReply, TxnReply]


class CompactReply(NamedTuple):
    """Outcome of a compaction."""

    header: Header = EMPTY_HEADER


class EventType(IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class Event(NamedTuple):
    """One change of one key.

    Attributes:
        type: kind of change; a number that is no `EventType` is kept as an int.
        kv: the key after the change; of a deleted key only `key` and `mod_revision` are set.
        prev_kv: the key before the change, if it existed, was asked for and is not compacted.
    """

    type: EventType = EventType.PUT
    kv: KeyValue = KeyValue()
    prev_kv: KeyValue | None = None

    @property
    def is_create(self) -> bool:
        """True for a put that created the key."""
        return self.type == EventType.PUT and self.kv.create_revision == self.kv.mod_revision

    @property
    def is_modify(self) -> bool:
        """True for a put on a key that existed."""
        return self.type == EventType.PUT and self.kv.create_revision != self.kv.mod_revision

    @property
    def is_delete(self) -> bool:
        """True for a deletion, also by an expired lease."""
        return self.type == EventType.DELETE

    @property
    def key(self) -> bytes:
        """The changed key."""
        return self.kv.key

    @property
    def value(self) -> bytes:
        """The new value, empty for a deletion."""
        return self.kv.value


class WatchResponse(NamedTuple):
    """One message of a watch stream.

    Attributes:
        watch_id: the watcher meant; -1 means every watcher of the stream, or none.
        created: True in the answer to a create request.
        canceled: True when the watcher has ended.
        compact_revision: set when the wanted revision is compacted: the oldest that is left.
        cancel_reason: text of the server's error, or empty.
        fragment: True when the next response continues this one.
        events: oldest first; events of one revision are never split over two whole responses.
    """

    header: Header = EMPTY_HEADER
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: list[Event] = []  # noqa: RUF012 - never changed

    @property
    def is_progress(self) -> bool:
        """True when it only tells that all changes up to `header.revision` were delivered."""
        return not (
            self.events or self.canceled or self.created or self.compact_revision or not self.header.revision
        )
