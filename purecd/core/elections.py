# SPDX-License-Identifier: Apache-2.0
"""Elections: whose turn it is in the line of the election's name leads; its key has the proposal.

Standing for election is waiting for a lock (`locks.acquire`), and resigning is letting go of it
(`locks.release`).

Source: etcd client/v3/concurrency/election.go, server/etcdserver/api/v3election. That client takes itself for
elected though its own key is gone, and observers of an empty line believe the first key that they hear of;
here both look again.
"""

from __future__ import annotations

from purecd import errors
from purecd.core import kv, methods, retry
from purecd.core.line import Place
from purecd.core.locks import GONE
from purecd.core.op import Attach, Next, Op
from purecd.core.watch import close_watch, watch_request
from purecd.core.watcher import Watcher
from purecd.requests import Put, Txn
from purecd.types import GetReply, KeyValue, WatchResponse


def proclaim(place: Place, proposal: bytes) -> Op[None]:
    """Change the proposal of who leads.

    Raises:
        LockLost: somebody else may lead by now; nothing was done.

    Sends: KV/Txn, again only when it was certainly not applied.
    """
    change = Put(place.key, proposal, lease=place.kept.lease_id)
    reply = yield from retry.call(methods.TXN, Txn([place.is_there], [change]))
    if not reply.succeeded:
        raise place.lost(GONE)
    place.value = proposal


def leader(name: bytes) -> Op[KeyValue | None]:
    """The leader's key, with its proposal; None when nobody leads.

    Sends: KV/Range, repeatable.
    """
    return (yield from _first(name)).kv


def _first(name: bytes) -> Op[GetReply]:
    return (yield from kv.get(name + b"/", prefix=True, sort_by="create_revision", limit=1))


class Observer:
    """What an observer of an election has seen.

    Attributes:
        leader: the last one told of.
        watcher: on its key, or on the whole line while that is empty.
    """

    __slots__ = ("leader", "name", "watcher")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.leader: KeyValue | None = None
        self.watcher: Watcher | None = None


def next_leader(observer: Observer) -> Op[KeyValue]:
    """Wait for another leader, or another proposal of the same one. What is followed by more may be left out.

    Sends: KV/Range and Watch/Watch for each leader.
    """
    while True:
        if observer.watcher is not None:
            proposal = yield from _news(observer.watcher)
            if proposal is not None:
                observer.leader = proposal
                return proposal
            yield from end(observer)
        reply = yield from _first(observer.name)
        yield from _follow(observer, reply)
        found = reply.kv
        if found is not None and found != observer.leader:
            observer.leader = found
            return found


def _follow(observer: Observer, reply: GetReply) -> Op[None]:
    """Watch the leader, or whether there will be one."""
    prefix, found = observer.name + b"/", reply.kv
    start = reply.header.revision + 1
    if found is not None:
        request = watch_request(found.key, start_revision=start)
    else:
        request = watch_request(prefix, prefix=True, start_revision=start, exclude=("delete",))
    observer.watcher = Watcher(request)
    yield Attach(observer.watcher)


def _news(watcher: Watcher) -> Op[KeyValue | None]:
    """The leader's next proposal; None when one has to look who leads."""
    while True:
        try:
            response: WatchResponse | None = yield Next(watcher)
        except errors.Compacted:
            return None
        if response is None:
            raise errors.ClientClosed("the client was closed")
        if response.events:
            if watcher.request.range_end or not all(event.is_modify for event in response.events):
                return None
            return response.events[-1].kv


def end(observer: Observer) -> Op[None]:
    """Stop observing."""
    watcher, observer.watcher = observer.watcher, None
    if watcher is not None:
        yield from close_watch(watcher)
