# SPDX-License-Identifier: Apache-2.0
"""The member in memory answers as a real etcd does: the same random requests to both, replies compared.

``make fidelity`` runs more of them. A failure names the seed; `--fidelity-seed` runs it alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from purecd.memory.member import MemberOptions
from purecd.pb import messages as pb
from purecd.testing import EtcdServer
from tests.live import etcds
from tests.memory.comparing import Both, WatchedBoth, final_state
from tests.memory.releases import MODELLED
from tests.memory.requests import AUTH, KV, LEASE, Request, Requests, always
from tests.memory.sides import Memory, Real


def pytest_generate_tests(metafunc: Any) -> None:
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--fidelity-seed")
        metafunc.parametrize("seed", range(first, first + metafunc.config.getoption("--fidelity-seeds")))


def modelled_etcd(wanted: str) -> etcds.Etcd:
    """The etcd to compare with: the one that the member imitates, else the nearest; skips without one."""
    found = {etcd.version: etcd for etcd in etcds.present()}
    for version in (wanted,) if wanted else (MODELLED, *sorted(found, key=_distance)):
        if version in found:
            return found[version]
    pytest.skip(f"no etcd {wanted} here")


def _distance(version: str) -> tuple[int, ...]:
    ours, theirs = ([int(part) for part in each.split(".")] for each in (MODELLED, version))
    return tuple(abs(mine - other) for mine, other in zip(ours, theirs))


@pytest.fixture
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    """A fresh pair."""
    etcd = modelled_etcd(request.config.getoption("--fidelity-etcd"))
    memory = Memory(MemberOptions(version=etcd.version, resync_interval=0.0))
    with EtcdServer(binary=etcd.path) as server:
        real = Real(("127.0.0.1", server.client_port))
        pair = Both(memory, real, etcd.version)
        meet(pair)
        yield pair
        real.close()


def meet(pair: Both) -> None:
    """Let each side learn who it is."""
    for side in (pair.memory, pair.real):
        header = side.call("/etcdserverpb.KV/Range", pb.RangeRequest(key=b"a")).replies[0].header
        side.ids["cluster"], side.ids["member"] = header.cluster_id, header.member_id
        member = side.call("/etcdserverpb.Cluster/MemberList", pb.MemberListRequest()).replies[0].members[0]
        if side is pair.real:
            pair.memory.member.state.cluster.members[pair.memory.ids["member"]] = pb.Member(
                ID=pair.memory.ids["member"],
                name=member.name,
                peerURLs=member.peerURLs,
                clientURLs=member.clientURLs,
            )


@pytest.mark.live
@pytest.mark.timeout(600)
def test_random_requests(both: Both, seed: int, request: pytest.FixtureRequest) -> None:
    requests = Requests(seed, both.memory, both.label)
    both.label += f" seed {seed}"
    watches = Watches(both, requests)
    total = request.config.getoption("--fidelity-requests")
    while both.count < total:
        step(both, requests, watches)
    watches.compare()
    final_state(both, "root" if both.memory.member.state.auth.enabled else "")
    asked = {method for method, _ in both.paths}
    refused = sum(count for (_, code), count in both.paths.items() if code)
    told = f"{refused} refused, {both.events // 2} events"
    print(f"{both.label}: {both.count} requests, {told}; {dict(both.used)}")
    assert len(asked) >= 30
    assert both.count // 20 < refused < both.count * 2 // 3
    assert both.events >= both.count // (20 if requests.alike else 10)


def token_is_good(both: Both, user: str) -> bool:
    memory = both.memory
    return memory.member.tokens.use(memory.tokens.get(user, ""), memory.now) is not None


def step(both: Both, requests: Requests, watches: Watches) -> None:
    rng = requests.rng
    auth = both.memory.member.state.auth
    chance = rng.random()
    if chance < 0.06:
        watches.step()
        return
    if chance < 0.063 and not auth.enabled:
        for each in requests.root_and_on():
            both.ask(each)
        return
    if auth.enabled and chance < 0.066:
        both.ask(Request(AUTH + "AuthDisable", always(pb.AuthDisableRequest()), user="root"))
        return
    if auth.enabled and chance < 0.08:
        both.ask(requests.login(rng.choice(("root", "alice", "bob", "carol"))))
        return
    each = requests.next()
    if each.path.endswith("/Compact"):
        watches.let_catch_up()
    answer = both.ask(each)
    if requests.alike and auth.enabled and not token_is_good(both, "root"):
        both.ask(requests.login("root"))  # with a stale token, each release looks at something else first
    if each.path.endswith("/Compact") and answer.code == 0:
        both.compactions.add(each.make(both.memory).revision)


@pytest.mark.live
def test_leases_expire_with_their_keys(both: Both) -> None:
    watch = WatchedBoth(both, "")
    watch.send(create_request=pb.WatchCreateRequest(key=b"k", range_end=b"l", prev_kv=True))
    both.ask(Request(LEASE + "LeaseGrant", always(pb.LeaseGrantRequest(TTL=1, ID=7))))
    both.ask(Request(LEASE + "LeaseGrant", always(pb.LeaseGrantRequest(TTL=100, ID=8))))
    for key, lease in ((b"k2", 7), (b"k1", 7), (b"k3", 8)):
        both.ask(Request(KV + "Put", always(pb.PutRequest(key=key, lease=lease))))
    alive = [side.open(LEASE + "LeaseKeepAlive") for side in (both.memory, both.real)]
    for lease in (7, 8, 9):
        answers = []
        for side, stream in zip((both.memory, both.real), alive):
            stream.send(pb.LeaseKeepAliveRequest(ID=lease))
            answers.append(side.plain(stream.next(5.0)))
        assert answers[0] == answers[1]
    deadline = time.monotonic() + 20
    while both.memory.member.state.store.revision < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
        both.memory.tick()
    watch.compare(patience=20.0)
    for lease in (7, 8):
        message = pb.LeaseTimeToLiveRequest(ID=lease, keys=True)
        both.ask(Request(LEASE + "LeaseTimeToLive", always(message)))
    both.ask(Request(KV + "Range", always(pb.RangeRequest(key=b"\0", range_end=b"\0"))))
    assert both.memory.member.state.store.revision == 5, "both keys of the lease in one revision"


class Watches:
    """A few streams of watchers, which come and go."""

    def __init__(self, both: Both, requests: Requests) -> None:
        self._both = both
        self._requests = requests
        self._streams: list[WatchedBoth] = []
        self._behind_until = 0.0

    def let_catch_up(self) -> None:
        """Wait until watchers that began in the past are told all; of filtered events nobody tells."""
        time.sleep(max(0.0, self._behind_until - time.monotonic()))

    def compare(self) -> None:
        for stream in self._streams:
            stream.compare_quiet()

    def _user(self, user: str | None = None) -> str:
        """Who may open a stream: `user` if that is good, or if it does not matter."""
        if self._requests.alike and self._both.memory.member.state.auth.enabled:
            return "root"
        return self._requests.user() if user is None else user

    def step(self) -> None:
        """Create, cancel, ask for progress, open or close a stream."""
        rng = self._requests.rng
        if not self._streams or (len(self._streams) < 3 and rng.random() < 0.1):
            self._streams.append(WatchedBoth(self._both, self._user()))
        stream = rng.choice(self._streams)
        stream.compare()
        if stream.user != self._user(stream.user):
            stream.close()  # each release refuses its creates in its own way
            self._streams.remove(stream)
            return
        kind = rng.random()
        if kind < 0.6:
            created = self._requests.watch()
            stream.send(create_request=created)
            if created.start_revision > 0:
                self._behind_until = time.monotonic() + 1.0
        elif kind < 0.8:
            stream.send(cancel_request=pb.WatchCancelRequest(watch_id=rng.randint(-1, 12)))
        elif kind < 0.9:
            stream.compare_quiet()  # watchers have caught up
            stream.send(progress_request=pb.WatchProgressRequest())
        elif kind < 0.95:
            stream.send()
        else:
            stream.close()
            self._streams.remove(stream)
            return
        stream.compare_quiet() if rng.random() < 0.1 else stream.compare()
