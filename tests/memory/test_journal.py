# SPDX-License-Identifier: Apache-2.0
"""What is kept for the report of a failed test."""

from __future__ import annotations

from purecd.memory.calls import ServerCall, Status
from purecd.memory.journal import KEPT, LONGEST, Journal
from purecd.pb import messages as pb
from tests.memory.test_calls import Outbox


def call(path):
    return ServerCall(path, Outbox())


def test_requests_and_ends_in_order():
    journal = Journal()
    put = call("/etcdserverpb.KV/Put")
    journal.request(put, pb.PutRequest(key=b"k", value=b"v" * 100, lease=7), 100.0)
    journal.ended(put, None, 100.1)
    journal.ended(put, Status(7, "etcdserver: permission denied"), 100.25)
    journal.gone(call("/etcdserverpb.Watch/Watch"), 101.0)
    assert journal.tail(10).splitlines() == [
        "    0.000  KV/Put key=b'k' value=(100 octets) lease=7",
        "    0.250  KV/Put -> 7 etcdserver: permission denied",
        "    1.000  Watch/Watch -> gone",
    ]
    assert journal.tail(1).endswith("gone")
    assert journal.tail(0) == ""


def test_passwords_and_tokens_are_not_shown():
    journal = Journal()
    secret = pb.AuthenticateRequest(name="ann", password="hunter2")
    journal.request(call("/etcdserverpb.Auth/Authenticate"), secret, 1.0)
    assert journal.tail(1).endswith("Auth/Authenticate name='ann' password=***")


def test_messages_in_messages_and_lists():
    journal = Journal()
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k", filters=[0, 1]))
    journal.request(call("/etcdserverpb.Watch/Watch"), create, 1.0)
    assert journal.tail(1).endswith("create_request=(key=b'k' filters=[0, 1])")


def test_it_does_not_grow():
    journal = Journal()
    big = pb.PutRequest(value=b"v" * LONGEST)
    for number in range(KEPT + 10):
        journal.request(call("/etcdserverpb.KV/Put"), big, float(number))
    lines = journal.tail(2 * KEPT).splitlines()
    assert len(lines) == KEPT
    assert lines[-1].endswith(f"KV/Put ({big.ByteSize()} octets)")
