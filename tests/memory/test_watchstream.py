# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory.watchstream import CONGESTION
from purecd.pb import messages as pb
from tests.memory.asking import AUTH, KV, WATCH, Alone

COMPACTED = "etcdserver: mvcc: required revision has been compacted"


class Stream:
    """A stream of Watch; what it is told is shown by the fields that matter."""

    def __init__(self, alone, token=""):
        self.alone = alone
        self.asked = alone.begin(WATCH + "Watch", token=token)

    def send(self, **request):
        self.asked.handler.receive(pb.WatchRequest(**request), self.alone.now)
        return self.take()

    def create(self, key=b"k", **fields):
        return self.send(create_request=pb.WatchCreateRequest(key=key, **fields))

    def cancel(self, watch_id):
        return self.send(cancel_request=pb.WatchCancelRequest(watch_id=watch_id))

    def progress(self):
        return self.send(progress_request=pb.WatchProgressRequest())

    def take(self):
        return [shown(reply) for reply in self.asked.take()]


def shown(reply):
    found = {
        field.name: value for field, value in reply.ListFields() if field.name not in ("header", "events")
    }
    found["revision"] = reply.header.revision
    if reply.events:
        found["events"] = [(each.kv.key, each.kv.mod_revision) for each in reply.events]
    return found


def created(watch_id, revision=1):
    return {"created": True, "revision": revision} | ({"watch_id": watch_id} if watch_id else {})


def refused(reason, revision=1, watch_id=-1):
    response = {"created": True, "canceled": True, "cancel_reason": reason, "revision": revision}
    return response | ({"watch_id": watch_id} if watch_id else {})


@pytest.fixture
def alone():
    return Alone()


@pytest.fixture
def stream(alone):
    return Stream(alone)


def test_ids(stream):
    assert stream.create() == [created(0)]
    assert stream.create(watch_id=1) == [created(1)]
    assert stream.create() == [created(2)]
    assert stream.create(watch_id=2) == [refused("mvcc: duplicate watch ID provided on the WatchStream")]
    assert stream.cancel(1) == [{"canceled": True, "watch_id": 1, "revision": 1}]
    assert stream.cancel(1) == []
    assert stream.create(watch_id=1) == [created(1)]
    assert stream.create() == [created(3)]


def test_refusals(stream):
    assert stream.create(b"b", range_end=b"b") == [refused("mvcc: watcher range is empty")]
    assert stream.create(start_revision=-1) == [refused(COMPACTED)]
    assert stream.create(b"b", range_end=b"\0") == [created(0)]
    assert stream.send() == []


def test_an_empty_key_is_the_first_one(alone, stream):
    stream.create(b"")
    stream.create(b"", range_end=b"\0")
    alone.put(b"\0")
    alone.put(b"k")
    assert stream.take() == [
        {"revision": 2, "events": [(b"\0", 2)]},
        {"revision": 2, "events": [(b"\0", 2)], "watch_id": 1},
        {"revision": 3, "events": [(b"k", 3)], "watch_id": 1},
    ]


def test_history_then_what_comes(alone, stream):
    alone.put(b"k")
    alone.put(b"k")
    assert stream.create(start_revision=2) == [created(0, 3)]
    alone.put(b"k")
    assert stream.take() == []
    alone.pass_time(0.2)
    assert stream.take() == [{"revision": 4, "events": [(b"k", 2), (b"k", 3), (b"k", 4)]}]


def test_compaction(alone, stream):
    for _ in range(4):
        alone.put(b"k")
    alone.ask(KV + "Compact", pb.CompactionRequest(revision=4))
    assert stream.create(start_revision=3) == [created(0, 5)]
    assert stream.create() == [created(1, 5)]
    alone.pass_time(0.2)
    assert stream.take() == [{"canceled": True, "compact_revision": 4, "revision": 0}]
    assert stream.progress() == [], "the client has not let go of the first one yet"
    assert stream.cancel(0) == [{"canceled": True, "revision": 5}]
    assert stream.progress() == [{"watch_id": -1, "revision": 5}]


def test_requested_progress(alone, stream):
    assert stream.progress() == [], "there is no watcher"
    stream.create()
    assert stream.progress() == [{"watch_id": -1, "revision": 1}]
    alone.put(b"x")
    stream.create(start_revision=1)
    assert stream.progress() == [], "one has not caught up"
    alone.pass_time(0.2)
    assert stream.progress() == [{"watch_id": -1, "revision": 2}]
    stream.create(start_revision=4)
    assert stream.progress() == [], "one begins in the future"


def test_progress_by_itself(alone):
    alone = Alone(progress_interval=10.0)
    stream = Stream(alone)
    stream.create(progress_notify=True)
    stream.create(watch_id=5)
    assert alone.member.next_timer() is not None
    alone.pass_time(11.0)
    assert stream.take() == [{"revision": 1}]
    alone.put(b"k")
    stream.take()
    alone.pass_time(11.0)
    assert stream.take() == [], "it had an event since"
    alone.pass_time(11.0)
    assert stream.take() == [{"revision": 2}]
    stream.cancel(0)
    assert alone.member.next_timer() is None


def test_prev_kv_and_filters(alone, stream):
    alone.put(b"k", b"1")
    stream.create(prev_kv=True, filters=[0])
    alone.put(b"k", b"2")
    alone.ask(KV + "DeleteRange", pb.DeleteRangeRequest(key=b"k"))
    (response,) = stream.asked.take()
    (event,) = response.events
    assert (event.type, event.kv, event.prev_kv.value) == (1, pb.KeyValue(key=b"k", mod_revision=4), b"2")


def test_fragments(alone):
    alone = Alone(max_request_bytes=1000)
    alone.member._rules = alone.member._rules._replace(max_response=1000)
    stream = Stream(alone)
    stream.create(range_end=b"l", fragment=True)
    stream.create(range_end=b"l", watch_id=7)
    operations = [
        pb.RequestOp(request_put=pb.PutRequest(key=b"k%d" % each, value=b"v" * 150)) for each in range(6)
    ]
    alone.ask(KV + "Txn", pb.TxnRequest(success=operations[:3]))
    alone.ask(KV + "Txn", pb.TxnRequest(success=operations[:2]))
    assert [len(each["events"]) for each in stream.take()] == [3, 3, 2, 2]
    alone.member.options = alone.member.options._replace(max_request_bytes=10_000)
    alone.ask(KV + "Txn", pb.TxnRequest(success=operations))
    replies = stream.asked.take()
    parts = [reply for reply in replies if reply.watch_id == 0]
    assert [part.fragment for part in parts] == [True, False]
    assert [event.kv.key for part in parts for event in part.events] == [b"k%d" % each for each in range(6)]
    assert all(part.ByteSize() < 1000 for part in parts)
    assert {part.header.revision for part in parts} == {4}
    (whole,) = (reply for reply in replies if reply.watch_id == 7)
    assert (whole.fragment, len(whole.events)) == (False, 6)


def test_permission(alone):
    alone.with_auth()
    stream = Stream(alone, alone.login("alice", "a"))
    denial = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    assert stream.create(b"a", range_end=b"c") == [created(0)]
    assert stream.create(b"x") == [refused(denial)]
    assert stream.create(b"a", range_end=b"d") == [refused(denial)]
    # Of a range without an end etcd 3.5.30 checks the key alone.
    assert stream.create(b"b", range_end=b"\0") == [created(1)]
    stale = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
    assert Stream(alone, "nonsense").create() == [refused(stale)]
    empty = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
    assert Stream(alone).create() == [refused(empty)]


def test_the_permission_of_old_members():
    alone = Alone(version="3.5.1")
    alone.with_auth()
    token = alone.login("alice", "a")
    stream = Stream(alone, token)
    denial = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    assert stream.create(b"a") == [created(0)]
    assert stream.create(b"a", watch_id=3) == [created(3)]
    assert stream.create(b"x") == [refused(denial, watch_id=0)]
    alone.ask(AUTH + "AuthDisable", pb.AuthDisableRequest(), token=alone.login("root", "r"))
    alone.put(b"a")
    assert stream.take() == [{"revision": 2, "events": [(b"a", 2)], "watch_id": 3}], "id 0 hears no more"
    assert stream.create(b"a") == [refused(denial, 2, watch_id=0)], (
        "the token is looked at though auth is off"
    )


def test_the_progress_of_old_members():
    alone = Alone(version="3.5.7")
    stream = Stream(alone)
    assert stream.progress() == [{"watch_id": -1, "revision": 1}]
    alone.put(b"k")
    stream.create(start_revision=1)
    assert stream.progress() == [{"watch_id": -1, "revision": 2}], "ahead of the event"


def test_a_congested_stream(alone, stream):
    stream.create()
    stream.asked.backlog = CONGESTION + 1
    alone.put(b"k")
    assert stream.progress() == []
    alone.pass_time(0.3)
    assert stream.take() == []
    stream.asked.backlog = 0
    alone.pass_time(0.3)
    assert stream.take() == [{"revision": 2, "events": [(b"k", 2)]}]


def test_half_close_changes_nothing_and_reset_ends_all(alone, stream):
    stream.create()
    stream.asked.handler.half_close(alone.now)
    alone.put(b"k")
    assert len(stream.take()) == 1
    stream.asked.call.cancel(alone.now)
    alone.put(b"k")
    assert stream.take() == []
    assert not alone.member._watches


def test_a_token_from_the_future_is_waited_for(alone):
    root = alone.with_auth()
    index = alone.member.index
    stream = Stream(alone, f"{'x' * 16}.{index + 2}")
    assert stream.create() == []
    assert stream.progress() == [], "nor is anything after it looked at"
    alone.ask(KV + "Put", pb.PutRequest(key=b"k"), token=root)
    alone.pass_time(0.1)
    assert stream.take() == []
    alone.ask(KV + "Put", pb.PutRequest(key=b"k"), token=root)
    alone.pass_time(0.1)
    stale = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
    assert stream.take() == [refused(stale, 3)]
