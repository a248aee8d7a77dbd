# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.membership."""

import pytest

from purecd import errors
from purecd.core import methods
from purecd.core.membership import check_version, check_versions, member_endpoints, version_of
from purecd.options import MAX_ENDPOINTS
from purecd.pb import messages
from tests.core.steps import Stepper


def member(number, *urls, name="m", learner=False):
    return messages.Member(ID=number, name=name, clientURLs=urls, isLearner=learner)


def endpoints(current, *members):
    world = Stepper(messages.MemberListResponse(members=members))
    found = world.run(member_endpoints(current))
    (call,) = world.calls
    assert call.method is methods.MEMBER_LIST
    assert call.request.linearizable, "by the word of a quorum"
    return found


def test_all_urls_of_started_voters_in_the_order_of_the_list():
    found = endpoints(
        ["http://a:1"],
        member(1, "http://a:1", "http://a:2"),
        member(2, "http://b:1", name=""),
        member(3, "http://c:1", learner=True),
        member(4, "http://d:1"),
    )
    assert found == ["http://a:1", "http://a:2", "http://d:1"]


@pytest.mark.parametrize("current", [["https://a:1"], ["http://x:1", "https://a:1"], ["unixs:///a"]])
def test_a_list_cannot_talk_a_client_out_of_tls(current):
    found = endpoints(current, member(1, "http://a:1"), member(2, "https://b:1", "http://b:2"))
    assert found == ["https://b:1"]


def test_a_client_without_tls_takes_both():
    assert endpoints(["a:1"], member(1, "http://a:1", "https://a:2")) == ["http://a:1", "https://a:2"]


@pytest.mark.parametrize(
    "members", [[], [member(1, name="")], [member(1, "http://a:1", learner=True)], [member(1)]]
)
def test_no_usable_member_is_an_error(members):
    with pytest.raises(LookupError, match="no endpoint"):
        endpoints(["http://a:1"], *members)
    with pytest.raises(LookupError):
        endpoints(["https://a:1"], member(1, "http://a:1"))


def test_a_list_of_any_length_is_cut():
    many = [member(number, f"http://a:{number}") for number in range(1, MAX_ENDPOINTS + 50)]
    assert endpoints(["http://a:1"], *many) == [f"http://a:{n}" for n in range(1, MAX_ENDPOINTS + 1)]


# Versions.


def check(version, minimum):
    world = Stepper(messages.StatusResponse(version=version))
    found = world.run(check_version("http://a:1", minimum))
    (call,) = world.calls
    assert (call.method, call.endpoint) == (methods.STATUS, "http://a:1")
    return found


@pytest.mark.parametrize("minimum", ["3.4", "3.5", "2.9", "3.5.16", "3.5.9", "3.4.23", "3.5.16-rc.1"])
def test_a_member_that_is_new_enough(minimum):
    assert check("3.5.16", minimum) == "3.5.16"


@pytest.mark.parametrize("minimum", ["3.6", "3.10", "4.0", "3.5.17", "3.6.0"])
def test_a_member_that_is_too_old(minimum):
    with pytest.raises(errors.OldCluster, match=r"3\.5\.16") as caught:
        check("3.5.16", minimum)
    assert caught.value.endpoint == "http://a:1"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.5.16", (3, 5, 16)),
        ("v3.8.0-alpha.0", (3, 8, 0)),
        ("3.6", (3, 6)),
        ("3.10.0", (3, 10, 0)),
        ("3.6-rc.1", (3, 6)),
    ],
)
def test_versions(text, version):
    assert version_of(text) == version


def test_a_pre_release_is_older_than_its_release():
    assert check("3.8.0-alpha.0", "3.8") == check("3.8.0-alpha.0", "3.8.0-alpha.0") == "3.8.0-alpha.0"
    assert check("3.8.1-rc.0", "3.8.0") == "3.8.1-rc.0"
    with pytest.raises(errors.OldCluster):
        check("3.8.0-alpha.0", "3.8.0")


@pytest.mark.parametrize("text", ["", "3", "three.five", "not_decided", "3.x"])
def test_a_member_whose_version_says_nothing(text):
    with pytest.raises(errors.EtcdError, match="version"):
        check(text, "3.4")


def test_one_timeout_for_the_versions_of_all_members():
    world = Stepper(messages.StatusResponse(version="3.5.1"), messages.StatusResponse(version="3.6.0"))
    assert world.run(check_versions(["http://a:1", "http://b:1"], "3.4")) == ["3.5.1", "3.6.0"]
    assert [call.endpoint for call in world.calls] == ["http://a:1", "http://b:1"]


@pytest.mark.parametrize(("minimum", "kind"), [("x", ValueError), (3.5, TypeError), (b"3.5", TypeError)])
def test_a_minimum_that_is_no_version_is_found_before_anything_is_sent(minimum, kind):
    world = Stepper()
    with pytest.raises(kind, match="version"):
        world.run(check_versions(["http://a:1"], minimum))
    assert world.log == []
