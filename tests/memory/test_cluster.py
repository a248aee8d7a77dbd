# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.memory.cluster import Cluster, new_member_id, parsed_urls
from purecd.pb import messages as pb


def refusal(function, *args):
    with pytest.raises(Status) as caught:
        function(*args)
    return caught.value.code, caught.value.text


@pytest.fixture
def cluster():
    return Cluster([pb.Member(ID=5, name="a", peerURLs=["http://a:1"], clientURLs=["http://a:2"])])


def test_members_come_and_go(cluster):
    cluster.add(pb.Member(ID=3, peerURLs=["http://b:1"]))
    assert [each.ID for each in cluster.listed()] == [3, 5]
    assert cluster.started_voters() == (1, 2)
    cluster.started(3, "b", ["http://b:2"])
    assert (cluster.started_voters(), cluster.members[3].peerURLs) == ((2, 2), ["http://b:1"])
    cluster.remove(3)
    assert refusal(cluster.remove, 3) == statuses.MEMBER_NOT_FOUND
    assert refusal(cluster.add, pb.Member(ID=3)) == statuses.MEMBER_NOT_FOUND, "an id never comes back"


def test_what_may_not_be_added(cluster):
    assert refusal(cluster.add, pb.Member(ID=5)) == statuses.MEMBER_EXIST
    assert refusal(cluster.add, pb.Member(ID=6, peerURLs=["http://a:1"])) == statuses.PEER_URL_EXISTS
    cluster.add(pb.Member(ID=6, isLearner=True))
    assert refusal(cluster.add, pb.Member(ID=7, isLearner=True)) == statuses.TOO_MANY_LEARNERS


def test_updating_and_promoting(cluster):
    assert refusal(cluster.update, 9, ["http://x:1"]) == statuses.MEMBER_NOT_FOUND
    cluster.add(pb.Member(ID=6, peerURLs=["http://b:1"], isLearner=True))
    assert refusal(cluster.update, 6, ["http://a:1"]) == statuses.PEER_URL_EXISTS
    cluster.update(5, ["http://c:1"])
    assert (cluster.members[5].peerURLs, cluster.members[5].name) == (["http://c:1"], "a")
    cluster.promote(6)
    assert refusal(cluster.promote, 6) == statuses.MEMBER_NOT_LEARNER
    assert refusal(cluster.promote, 9) == statuses.MEMBER_NOT_FOUND


def test_an_updated_learner_is_none_any_more(cluster):
    # So do etcd 3.5 up to 3.5.30.
    cluster.add(pb.Member(ID=6, peerURLs=["http://b:1"], isLearner=True))
    cluster.update(6, ["http://b:3"])
    assert not cluster.members[6].isLearner


@pytest.mark.parametrize(
    "urls",
    [
        [],
        ["ftp://x:1"],
        ["http://x"],
        ["http://x:1/path"],
        ["http://x:1", "nothing"],
        ["http://x:port"],
        ["x:1"],
    ],
)
def test_bad_urls(urls):
    assert refusal(parsed_urls, urls) == statuses.MEMBER_BAD_URLS


def test_good_urls():
    urls = ["https://b:1", " http://a:1 ", "unix://sock"]
    assert parsed_urls(urls) == ["http://a:1", "https://b:1", "unix://sock"]


def test_ids_come_from_urls_and_time():
    assert new_member_id(["http://a:1"], 5) == new_member_id(["http://a:1"], 5)
    assert len({new_member_id(["http://a:1"], each) for each in range(5)}) == 5


def test_a_copy_shares_nothing_that_changes(cluster):
    copy = Cluster()
    copy.copy_from(cluster)
    copy.remove(5)
    assert list(cluster.members) == [5]
    assert not cluster.removed
