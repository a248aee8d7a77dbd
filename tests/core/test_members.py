# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.members."""

import pytest

from purecd.admin_types import Member, MemberAddReply, MembersReply
from purecd.core import members, methods
from purecd.core.methods import Policy
from purecd.pb import messages
from purecd.types import EMPTY_HEADER, Header
from tests.core.steps import Stepper, first_call

ON_WIRE = messages.ResponseHeader(cluster_id=1, member_id=2, raft_term=4)
HEADER = Header(1, 2, 0, 4)
BIG = 2**64 - 1

STARTED = Member(BIG, "m1", ("http://a:2380",), ("http://a:2379", "http://b:2379"), False)
STARTED_ON_WIRE = messages.Member(
    ID=BIG, name="m1", peerURLs=["http://a:2380"], clientURLs=["http://a:2379", "http://b:2379"]
)
LEARNER = Member(5, "", ("https://c:2380",), (), True)
LEARNER_ON_WIRE = messages.Member(ID=5, peerURLs=["https://c:2380"], isLearner=True)


@pytest.mark.parametrize(("serializable", "linearizable"), [(False, True), (True, False)])
def test_listing(serializable, linearizable):
    world = Stepper(messages.MemberListResponse(header=ON_WIRE, members=[STARTED_ON_WIRE, LEARNER_ON_WIRE]))
    reply = world.run(members.list_all(serializable=serializable))
    assert reply == MembersReply(HEADER, (STARTED, LEARNER))
    (call,) = world.calls
    assert call.request == messages.MemberListRequest(linearizable=linearizable)
    assert call.method is methods.MEMBER_LIST


def test_a_proxy_sends_no_header():
    assert Stepper(messages.MemberListResponse()).run(members.list_all()) == MembersReply(EMPTY_HEADER, ())


@pytest.mark.parametrize("is_learner", [False, True])
def test_adding(is_learner):
    answer = messages.MemberAddResponse(
        header=ON_WIRE, member=LEARNER_ON_WIRE, members=[STARTED_ON_WIRE, LEARNER_ON_WIRE]
    )
    world = Stepper(answer)
    urls = [" https://c:2380", "unix:///run/peer"]
    reply = world.run(members.add(urls, is_learner=is_learner))
    assert reply == MemberAddReply(HEADER, LEARNER, (STARTED, LEARNER))
    assert not reply.member.is_started
    # The URLs are sent as given.
    assert world.calls[0].request == messages.MemberAddRequest(peerURLs=urls, isLearner=is_learner)


@pytest.mark.parametrize(
    ("operation", "method", "expected", "reply"),
    [
        (
            members.remove(BIG),
            methods.MEMBER_REMOVE,
            messages.MemberRemoveRequest(ID=BIG),
            messages.MemberRemoveResponse,
        ),
        (
            members.promote(5),
            methods.MEMBER_PROMOTE,
            messages.MemberPromoteRequest(ID=5),
            messages.MemberPromoteResponse,
        ),
        (
            members.update(5, iter(["http://d:1"])),
            methods.MEMBER_UPDATE,
            messages.MemberUpdateRequest(ID=5, peerURLs=["http://d:1"]),
            messages.MemberUpdateResponse,
        ),
    ],
)
def test_changes(operation, method, expected, reply):
    world = Stepper(reply(header=ON_WIRE, members=[STARTED_ON_WIRE]))
    assert world.run(operation) == MembersReply(HEADER, (STARTED,))
    (call,) = world.calls
    assert call.method is method
    assert call.method.policy is Policy.WRITE
    assert call.request == expected


GOOD_URLS = ["http://10.0.0.4:2380", "https://[::1]:2380", "unix://path", "unixs:path", " http://a:1 "]
BAD_URLS = [
    "",
    "10.0.0.4:2380",
    "ftp://a:2380",
    "http://a",
    "http://:2380",
    "http://a:",
    "http://a:99999",
    "http://a:port",
    "http://a:2380/",
    "http://a:2380/path",
    "http://[::1:2380",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_good_urls_are_sent(url):
    assert first_call(members.add([url])).request.peerURLs == [url]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_urls_are_refused_before_anything_is_sent(url):
    for operation in (lambda: members.add(["http://a:1", url]), lambda: members.update(5, [url])):
        with pytest.raises(ValueError, match="URL"):
            next(operation())


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda: members.add([]), ValueError),
        (lambda: members.add("http://a:2380"), TypeError),
        (lambda: members.add([b"http://a:2380"]), TypeError),  # type: ignore[list-item]
        (lambda: members.update(5, []), ValueError),
        (lambda: members.update(-1, ["http://a:1"]), ValueError),
        (lambda: members.remove("8e9e05c52164694d"), TypeError),  # type: ignore[arg-type]
        (lambda: members.promote(2**64), ValueError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(operation, error):
    with pytest.raises(error):
        next(operation())
