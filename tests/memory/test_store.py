# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.store import NO_END, Attachments, Record, Store, range_end


class Leases(Attachments):
    def __init__(self):
        self.told = []

    def attach(self, lease_id, key):
        self.told.append(("attach", lease_id, key))

    def detach(self, lease_id, key):
        self.told.append(("detach", lease_id, key))


@pytest.fixture
def commits():
    return []


@pytest.fixture
def store(commits):
    return Store(Leases(), lambda revision, changes: commits.append((revision, changes)))


def put(store, key, value=b"", lease=0):
    write = store.write()
    write.put(key, value, lease)
    write.end()
    return store.revision


def delete(store, key, end=None):
    write = store.write()
    count, _ = write.delete_range(key, end)
    write.end()
    return count


def keys(found):
    return [kv.key for kv in found.kvs]


def refusal(function, *args, **options):
    with pytest.raises(Status) as caught:
        function(*args, **options)
    return caught.value.code, caught.value.text


def test_range_end_of_requests():
    assert range_end(b"") is None
    assert range_end(b"\0") == NO_END
    assert range_end(b"z") == b"z"


def test_put_counts_versions_from_creation(store):
    assert store.revision == 1
    assert put(store, b"k", b"1") == 2
    assert put(store, b"k", b"2") == 3
    (kv,) = store.range(b"k", None).kvs
    assert (kv.create_revision, kv.mod_revision, kv.version, kv.value) == (2, 3, 2, b"2")
    delete(store, b"k")
    put(store, b"k", b"3")
    (kv,) = store.range(b"k", None).kvs
    assert (kv.create_revision, kv.mod_revision, kv.version) == (5, 5, 1)


def test_ranges(store):
    for key in (b"b", b"a", b"d", b"c"):
        put(store, key)
    assert keys(store.range(b"a", None)) == [b"a"]
    assert keys(store.range(b"b", b"d")) == [b"b", b"c"]
    assert keys(store.range(b"b", NO_END)) == [b"b", b"c", b"d"]
    assert keys(store.range(b"c", b"a")) == []
    assert keys(store.range(b"x", None)) == []
    limited = store.range(b"a", NO_END, limit=2)
    assert (keys(limited), limited.total, limited.revision) == ([b"a", b"b"], 4, 5)
    counted = store.range(b"a", NO_END, count_only=True)
    assert (counted.kvs, counted.total) == ([], 4)


def test_ranges_in_the_past(store):
    put(store, b"a", b"1")
    put(store, b"b", b"1")
    delete(store, b"a")
    put(store, b"b", b"2")
    assert keys(store.range(b"a", NO_END, revision=2)) == [b"a"]
    assert keys(store.range(b"a", NO_END, revision=3)) == [b"a", b"b"]
    past = store.range(b"a", NO_END, revision=4, limit=1)
    assert ([kv.value for kv in past.kvs], past.total, past.revision) == ([b"1"], 1, 5)
    assert keys(store.range(b"a", None, revision=3)) == [b"a"]
    assert store.range(b"a", None, revision=4).total == 0
    assert refusal(store.range, b"a", None, revision=6) == statuses.FUTURE_REV


def test_a_transaction_takes_one_revision_and_reads_its_own_changes(store, commits):
    put(store, b"a", b"1")
    write = store.write()
    assert write.delete_range(b"x", None) == (0, 2)
    assert write.range(b"a", None).revision == 2
    assert write.put(b"b", b"2", 0) == 3
    assert keys(write.range(b"a", NO_END)) == [b"a", b"b"]
    assert write.range(b"a", None).revision == 3
    assert write.delete_range(b"a", b"b") == (1, 3)
    assert keys(write.range(b"a", NO_END, revision=2)) == [b"a"]
    assert store.revision == 2, "not committed"
    write.end()
    assert store.revision == 3
    revision, changes = commits[-1]
    assert revision == 3
    assert [(each.kv.key, each.main, each.sub, each.deleted) for each in changes] == [
        (b"b", 3, 0, False),
        (b"a", 3, 1, True),
    ]


def test_a_transaction_that_changes_nothing_takes_no_revision(store, commits):
    write = store.write()
    write.delete_range(b"x", NO_END)
    write.end()
    assert (store.revision, commits) == (1, [])


def test_leases_are_told(store):
    put(store, b"k", lease=7)
    put(store, b"k", lease=8)
    put(store, b"k")
    put(store, b"k", lease=7)
    delete(store, b"k")
    assert store.leases.told == [
        ("attach", 7, b"k"),
        ("detach", 7, b"k"),
        ("attach", 8, b"k"),
        ("detach", 8, b"k"),
        ("attach", 7, b"k"),
        ("detach", 7, b"k"),
    ]


def test_compact_keeps_what_reads_from_there_on_see(store):
    put(store, b"a", b"1")  # 2
    put(store, b"a", b"2")  # 3
    put(store, b"b", b"1")  # 4
    delete(store, b"b")  # 5
    put(store, b"a", b"3")  # 6
    put(store, b"c", b"1")  # 7
    store.compact(6)
    assert refusal(store.range, b"a", None, revision=5) == statuses.COMPACTED
    assert [kv.value for kv in store.range(b"a", NO_END, revision=6).kvs] == [b"3"]
    assert [(each.main, each.kv.key) for each in store.records()] == [(6, b"a"), (7, b"c")]
    assert store.count_records() == 2
    assert store.size == len(b"a3c1")
    assert refusal(store.compact, 6) == statuses.COMPACTED
    assert refusal(store.compact, 8) == statuses.FUTURE_REV


def test_compact_keeps_a_tombstone_of_its_own_revision_until_the_next_one(store):
    put(store, b"a")  # 2
    delete(store, b"a")  # 3
    put(store, b"b")  # 4
    store.compact(3)
    assert [(each.main, each.deleted) for each in store.records()] == [(3, True), (4, False)]
    assert [[each.main for each in changes] for changes in store.changes_since(3)] == [[3], [4]]
    store.compact(4)
    assert [each.main for each in store.records()] == [4]


def test_compact_of_what_never_was(store):
    # An etcd that never compacted compacts revision 0 once.
    assert refusal(store.compact, -1) == statuses.COMPACTED
    store.compact(0)
    assert refusal(store.compact, 0) == statuses.COMPACTED


def test_changes_since(store):
    for key in (b"a", b"b", b"c"):
        put(store, key)
    assert [changes[0].kv.key for changes in store.changes_since(3)] == [b"b", b"c"]
    assert list(store.changes_since(5)) == []


def test_before(store, commits):
    put(store, b"a", b"1")
    put(store, b"a", b"2")
    _, (record,) = commits[-1]
    before = store.before(record)
    assert before is not None
    assert before.value == b"1"
    _, (first,) = commits[0]
    assert store.before(first) is None
    store.compact(3)
    assert store.before(record) is None


def test_a_copy_shares_nothing_that_changes(store):
    put(store, b"a", b"1")
    copy = Store(Leases(), lambda revision, changes: None)
    copy.copy_from(store)
    put(store, b"a", b"2")
    delete(copy, b"a")
    assert [kv.value for kv in store.range(b"a", None).kvs] == [b"2"]
    assert copy.range(b"a", None).total == 0
    assert (copy.revision, copy.count_records()) == (3, 2)


def test_many_keys_in_any_order(store):
    count = 3000
    numbers = [(each * 7919) % count for each in range(count)]
    write = store.write()
    for each in numbers:
        write.put(b"%06d" % each, b"", 0)
    write.end()
    assert keys(store.range(b"001000", b"001003")) == [b"001000", b"001001", b"001002"]
    assert delete(store, b"000100", b"002900") == 2800
    assert store.range(b"\0", NO_END).total == 200
    assert isinstance(store.records()[0], Record)
