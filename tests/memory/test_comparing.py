# SPDX-License-Identifier: Apache-2.0
"""What the comparison lets pass, and what it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from purecd.memory.calls import Status
from purecd.memory.member import MemberOptions
from purecd.pb import messages as pb
from tests.memory.comparing import DIFFERENCES, Both, Difference, Near, final_state
from tests.memory.releases import UNLIKE
from tests.memory.requests import KV, LEASE, MAINTENANCE, Request, Requests, always
from tests.memory.sides import Memory

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fidelity.md"


def pair() -> Both:
    """Two members in memory, of which the second stands for the real one."""
    memory, other = (Memory(MemberOptions(resync_interval=0.0)) for _ in range(2))
    real: Any = other
    return Both(memory, real, "3.5.30")


def test_the_page_names_what_may_differ():
    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(named) == sorted([*DIFFERENCES, *UNLIKE])


def test_equals_pass():
    both = pair()
    requests = Requests(1, both.memory)
    for _ in range(400):
        both.ask(requests.next())
    final_state(both, "root" if both.memory.member.state.auth.enabled else "")


@pytest.mark.parametrize(
    "plant",
    [
        lambda store: setattr(store, "revision", store.revision + 1),
        lambda store: store._current[b"b"].kv.MergeFrom(pb.KeyValue(lease=5)),
        lambda store: store._live.remove(b"b"),
        lambda store: setattr(store, "compacted", 3),
        lambda store: store._histories[b"a"].pop(0),
    ],
)
def test_what_is_planted_is_found(plant):
    both = pair()
    for key in (b"a", b"b", b"a"):
        both.ask(Request(KV + "Put", always(pb.PutRequest(key=key, value=b"v"))))
    real: Any = both.real
    plant(real.member.state.store)
    with pytest.raises((Difference, KeyError)):
        final_state(both, "")


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ((KV + "Put", pb.PutRequest(key=b"k")), pb.PutResponse()),
        ((KV + "Range", pb.RangeRequest(key=b"a")), Status(11, "etcdserver: mvcc: required revision")),
        (
            (LEASE + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=7)),
            pb.LeaseTimeToLiveResponse(ID=7, TTL=5),
        ),
        ((MAINTENANCE + "Status", pb.StatusRequest()), pb.StatusResponse(version="3.5.29", dbSize=1)),
    ],
)
def test_wrong_replies_are_found(request_, reply):
    both = pair()
    both.ask(Request(LEASE + "LeaseGrant", always(pb.LeaseGrantRequest(TTL=600, ID=7))))
    member: Any = both.real
    answer = member.call

    def wrong(path, request, token=""):
        good = answer(path, request, token)
        if isinstance(reply, Status):
            return good._replace(replies=[], code=reply.code, text=reply.text)
        return good._replace(replies=[reply])

    member.call = wrong
    with pytest.raises(Difference):
        both.ask(Request(request_[0], always(request_[1])))


def test_near():
    assert Near(5) == Near(6)
    assert Near(5) != Near(7)
    assert Near(5) != 5
