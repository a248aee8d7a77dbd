# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.pb import messages as pb
from tests.memory.asking import KV, Alone
from tests.memory.logs import SlowLog


@pytest.fixture
def alone():
    return Alone()


def test_replies_are_headed(alone):
    header = alone.ask(KV + "Put", pb.PutRequest(key=b"k")).header
    member = alone.member
    assert (header.cluster_id, header.member_id, header.revision, header.raft_term) == (
        member.cluster_id,
        member.member_id,
        2,
        2,
    )
    assert alone.ask(KV + "Range", pb.RangeRequest(key=b"k", revision=1)).header.revision == 2
    assert alone.ask(KV + "Compact", pb.CompactionRequest(revision=2)).header.revision == 2
    empty = alone.ask(KV + "Txn", pb.TxnRequest())
    assert (empty.succeeded, empty.header.revision, empty.header.member_id) == (True, 2, member.member_id)


@pytest.mark.parametrize(
    ("method", "request_", "status"),
    [
        ("Range", pb.RangeRequest(), statuses.EMPTY_KEY),
        ("Range", pb.RangeRequest(key=b"k", revision=9), statuses.FUTURE_REV),
        ("Put", pb.PutRequest(), statuses.EMPTY_KEY),
        ("Put", pb.PutRequest(key=b"k", lease=9), statuses.LEASE_NOT_FOUND),
        ("Put", pb.PutRequest(key=b"k", value=b"v" * 1_600_000), statuses.REQUEST_TOO_LARGE),
        ("DeleteRange", pb.DeleteRangeRequest(), statuses.EMPTY_KEY),
        ("Txn", pb.TxnRequest(success=[pb.RequestOp()]), statuses.KEY_NOT_FOUND),
        ("Txn", pb.TxnRequest(compare=[pb.Compare(key=b"k")] * 129), statuses.TOO_MANY_OPS),
        ("Compact", pb.CompactionRequest(revision=2), statuses.FUTURE_REV),
    ],
)
def test_refusals(alone, method, request_, status):
    assert alone.refusal(KV + method, request_) == status
    assert alone.member.state.store.revision == 1


def test_only_administrators_compact():
    alone = Alone()
    alone.with_auth()
    refused = alone.refusal(KV + "Compact", pb.CompactionRequest(revision=1), token=alone.login("alice", "a"))
    assert refused == statuses.PERMISSION_DENIED


def test_what_waits_for_the_log_and_what_does_not():
    alone = Alone()
    log = alone.member.log = SlowLog()
    put = alone.begin(KV + "Put", pb.PutRequest(key=b"k", value=b"v"))
    read = alone.begin(KV + "Range", pb.RangeRequest(key=b"k"))
    read_in_txn = alone.begin(
        KV + "Txn", pb.TxnRequest(success=[pb.RequestOp(request_range=pb.RangeRequest(key=b"k"))])
    )
    local = alone.ask(KV + "Range", pb.RangeRequest(key=b"k", serializable=True))
    assert (local.count, put.call.finished, read.call.finished, read_in_txn.call.finished) == (
        0,
        False,
        False,
        False,
    )
    log.agree(alone.now)
    assert read.take()[0].kvs[0].value == b"v"
    assert read_in_txn.take()[0].responses[0].response_range.count == 1
    assert put.take()[0].header.revision == 2


def test_a_log_that_does_not_answer():
    alone = Alone()
    log = alone.member.log = SlowLog()
    calls = [
        alone.begin(KV + "Put", pb.PutRequest(key=b"k")),
        alone.begin(KV + "Range", pb.RangeRequest(key=b"k")),
    ]
    log.refuse(Status(*statuses.TIMEOUT))
    assert [(call.status.code, call.status.text) for call in calls] == [statuses.TIMEOUT] * 2


def test_an_outcome_that_comes_after_the_client_is_gone_is_lost():
    alone = Alone()
    log = alone.member.log = SlowLog()
    put = alone.begin(KV + "Put", pb.PutRequest(key=b"k", value=b"v"))
    put.call.cancel(alone.now)
    log.agree(alone.now)
    assert put.take() == []
    assert alone.member.state.store.revision == 2, "it was carried out all the same"
