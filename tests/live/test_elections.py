# SPDX-License-Identifier: Apache-2.0
"""Elections against real servers."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

import pytest

import purecd
from purecd import Put, errors
from purecd.core import retry
from purecd.core.methods import Policy, _message
from purecd.pb import messages
from tests.live.fronts import Thread, together

SOON = 10.0  # seconds


def line(client, name):
    """The keys in a line, oldest first."""
    reply = client.get(f"{name}/", prefix=True, sort_by="create_revision")
    return [kv.key for kv in reply.kvs]


def until(condition, timeout=SOON):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, "did not come true in time"
        time.sleep(0.01)


def test_one_leads_after_the_other(client, prefix):
    name = prefix + "election"
    terms = []

    def stand(index):
        with client.election(name, ttl=30) as election:
            token = election.campaign(f"candidate {index}")
            leader = client.election(name).leader()
            assert (leader.value, leader.create_revision) == (f"candidate {index}".encode(), token)
            assert (leader.key, election.held) == (election.key, True)
            terms.append(token)

    together(6, stand)
    assert terms == sorted(set(terms))
    assert client.election(name).leader() is None
    assert line(client, name) == []


def test_proclaiming_and_resigning(client, prefix):
    name = prefix + "election"
    election = client.election(name)
    with pytest.raises(RuntimeError, match="not held"):
        election.proclaim("a")
    with pytest.raises(RuntimeError, match="not held"):
        election.resign()
    token = election.campaign("a", timeout=SOON)
    election.proclaim(b"b")
    leader = election.leader()
    assert (leader.value, leader.create_revision, leader.version) == (b"b", token, 2)
    assert leader.lease == election.lease.id
    assert election.txn(success=[Put(prefix + "k", "v")]).succeeded
    with pytest.raises(RuntimeError, match="already"):
        election.campaign("c")
    election.resign()
    assert (election.held, election.key, election.leader()) == (False, b"", None)
    assert election.campaign("d") > token
    election.resign()


def test_a_leader_that_was_deposed(client, prefix):
    name = prefix + "election"
    election = client.election(name)
    election.campaign("a")
    client.delete(election.key)
    with client.election(name) as other:
        other.campaign("b")
        for ask in (lambda: election.proclaim("c"), lambda: election.txn(success=[Put(prefix, "c")])):
            with pytest.raises(errors.LockLost):
                ask()
        with pytest.raises(errors.LockLost):
            election.resign()
        assert other.leader().value == b"b"


def test_a_candidate_gives_up(client, prefix):
    name = prefix + "election"
    with client.election(name) as election, client.lease(30) as lease:
        election.campaign("a")
        for given in (None, lease):
            other = client.election(name, lease=given)
            with pytest.raises(errors.DeadlineExceeded):
                other.campaign("b", timeout=0.2)
            assert line(client, name) == [election.key]
        candidate = Thread(other.campaign, "b", SOON)
        until(lambda: len(line(client, name)) == 2)
        assert election.leader().value == b"a"
        election.resign()
        assert candidate.result() > 0
        assert client.election(name).leader().value == b"b"
        other.resign()
        assert not lease.lost


@pytest.mark.every_etcd
def test_observing(client, prefix):
    name = prefix + "election"
    election, other = client.election(name), client.election(name)
    with closing(client.election(name).observe(timeout=SOON)) as leaders:
        election.campaign("a")
        assert next(leaders).value == b"a"
        election.proclaim("b")
        assert next(leaders).value == b"b"
        candidate = Thread(other.campaign, "c")
        until(lambda: len(line(client, name)) == 2)
        election.resign()
        candidate.result()
        found = next(leaders)
        assert (found.value, found.create_revision) == (b"c", other.fencing_token)
        other.resign()
        election.campaign("d")
        assert next(leaders).value == b"d"
        election.resign()
    with closing(client.election(name).observe(timeout=0.1)) as leaders, pytest.raises(TimeoutError):
        next(leaders)


def test_observing_across_a_compaction(client, prefix):
    # R-C2: where the history that the observer needs is gone, it looks again.
    name = prefix + "election"
    election = client.election(name)
    with closing(client.election(name).observe(timeout=SOON)) as leaders:
        election.campaign("a")
        assert next(leaders).value == b"a"
        for number in range(10):
            election.proclaim(str(number))
        client.compact(client.get(election.key).header.revision)
        assert next(leaders).value in {b"%d" % number for number in range(10)}
        election.resign()


def test_cancelled_while_it_is_observed(server, prefix):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:

            async def follow():
                async for leader in client.election(prefix + "election").observe():
                    seen.append(leader.value)  # noqa: PERF401 - it is cut short

            seen: list[bytes] = []
            task = asyncio.ensure_future(follow())
            async with client.election(prefix + "election") as election:
                await election.campaign("a")
                while not seen:  # noqa: ASYNC110 - of another task
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert seen == [b"a"]

    asyncio.run(main())


CAMPAIGN = _message("/v3electionpb.Election/Campaign", "v3electionpb.CampaignResponse", Policy.WRITE)
LEADER = _message("/v3electionpb.Election/Leader", "v3electionpb.LeaderResponse", Policy.READ)
RESIGN = _message("/v3electionpb.Election/Resign", "v3electionpb.ResignResponse", Policy.WRITE)


@pytest.mark.every_etcd
def test_the_election_service_of_the_server(server, prefix):
    # It runs what Go's clients run, on the same keys.
    name = prefix + "election"
    with purecd.Client(server.endpoint) as client, client.lease(30) as lease:

        def ask(method, request):
            return client._run(retry.call(method, request), 30.0)

        def stand_by_server():
            request = messages.CampaignRequest(name=name.encode(), lease=lease.id, value=b"go")
            return ask(CAMPAIGN, request).leader

        with client.election(name) as election:
            election.campaign("py")
            assert ask(LEADER, messages.LeaderRequest(name=name.encode())).kv.value == b"py"
            candidate = Thread(stand_by_server)
            until(lambda: len(line(client, name)) == 2)
        leader = candidate.result()
        assert client.election(name).leader().value == b"go"
        assert leader.key == b"%b/%x" % (name.encode(), lease.id)
        ours = Thread(election.campaign, "py again", 30)
        until(lambda: len(line(client, name)) == 2)
        ask(RESIGN, messages.ResignRequest(leader=leader))
        assert ours.result() > leader.rev
        election.resign()
