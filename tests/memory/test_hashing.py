# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.hashing import PAGE, crc32c, hash_kv, snapshot
from purecd.memory.store import Attachments, Store
from purecd.pb import messages as pb


@pytest.fixture
def store():
    store = Store(Attachments(), lambda revision, changes: None)
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3")):
        write = store.write()
        write.put(key, value, 0)
        write.end()
    write = store.write()
    write.delete_range(b"b", None)
    write.end()
    return store


def test_crc32c():
    # RFC 3720 appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == crc32c(b"6789", crc32c(b"12345")) == 0xE3069283


def test_hash_kv_of_the_records_as_etcd_keeps_them(store):
    def record(main, tombstone=False, **kv):
        key = main.to_bytes(8, "big") + b"_" + bytes(8)
        return key + (b"t" if tombstone else b"") + pb.KeyValue(**kv).SerializeToString()

    first = record(2, key=b"a", create_revision=2, mod_revision=2, version=1, value=b"1")
    second = record(3, key=b"b", create_revision=3, mod_revision=3, version=1, value=b"2")
    third = record(4, key=b"a", create_revision=2, mod_revision=4, version=2, value=b"3")
    assert hash_kv(store, 3) == crc32c(b"key" + first + second)
    assert hash_kv(store, 0) == crc32c(b"key" + first + second + third + record(5, True, key=b"b"))
    store.compact(4)
    assert hash_kv(store, 4) == crc32c(b"key" + second + third)
    for revision, status in ((3, statuses.COMPACTED), (6, statuses.FUTURE_REV)):
        with pytest.raises(Status) as caught:
            hash_kv(store, revision)
        assert (caught.value.code, caught.value.text) == status


def test_a_tombstone_at_the_compacted_revision_does_not_count(store):
    store.compact(5)
    assert [record.main for record in store.records()] == [4, 5]
    kept = store.records()[0].kv.SerializeToString()
    assert hash_kv(store, 5) == crc32c(b"key" + (4).to_bytes(8, "big") + b"_" + bytes(8) + kept)


def test_snapshots_are_whole_pages_and_tell_stores_apart(store):
    before = snapshot(store)
    assert len(before) % PAGE == 0
    assert before.startswith(b"purecd in-memory snapshot")
    store.compact(4)
    assert snapshot(store) != before
