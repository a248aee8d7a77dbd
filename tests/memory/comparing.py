# SPDX-License-Identifier: Apache-2.0
"""Sends the same requests to both sides and compares what comes back, field by field.

What may differ has a name in `DIFFERENCES`, and code of its own that looks at it and at nothing else. The
table is explained in docs/fidelity.md.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, NamedTuple

from purecd.pb import messages as pb
from tests.memory.requests import AUTH, CLUSTER, KV, LEASE, MAINTENANCE, Request, always
from tests.memory.sides import Memory, Plain, Real, Side
from tests.support.rawclient import Answer

DIFFERENCES = {
    "order-of-ties": "keys that are equal in what they are ordered by come in any order",
    "keys-of-lease": "the keys of a lease come in any order",
    "ttl": "seconds left differ by one at most",
    "order-of-leases": "leases come in the order of their deadlines, which depend on the clock",
    "order-of-alarms": "alarms come in any order",
    "order-of-members": "members come in the order of their ids, which are made up",
    "newer-fields": "fields that etcd 3.6 added to HashKV and Status",
    "sizes": "octets of the database, of Status",
    "raft-index": "the log of a real member begins with entries about the cluster, of Status",
    "token": "tokens are random",
    "lease-of-keys-only": "3.7 leaves the lease out with the value",
    "space-after-alarms": "of Status, which 3.7 leaves out",
    "hash-of-compaction": "HashKV of the revision of a compaction is for a long time what was computed then",
}
SORT_FIELDS = ("key", "version", "create_revision", "mod_revision", "value")


class Difference(AssertionError):
    """The two sides answered differently."""


class Both:
    """Both sides, and what they are asked.

    Attributes:
        count: requests so far.
        events: told to watchers of both.
        paths: how often each RPC was asked, by path and code of the answer.
        used: how often each named difference was made use of.
    """

    def __init__(self, memory: Memory, real: Real, label: str) -> None:
        self.memory = memory
        self.real = real
        self.label = label
        self.count = 0
        self.events = 0
        self.paths: Counter[tuple[str, int]] = Counter()
        self.used: Counter[str] = Counter()
        self.compactions: set[int] = set()

    def ask(self, request: Request) -> Answer:
        """Send a request to both; returns the answer of the member in memory.

        Raises:
            Difference: they are not the same.
        """
        self.count += 1
        answers = [self._send(side, request) for side in (self.memory, self.real)]
        mine = answers[0]
        self.paths[request.path.rpartition("/")[2], mine.code] += 1
        for side, answer in zip((self.memory, self.real), answers):
            self._learn(side, request, answer)
        message = request.make(self.memory)
        shown = [
            self._shown(side, request, message, answer)
            for side, answer in zip((self.memory, self.real), answers)
        ]
        if shown[0] != shown[1]:
            self.fail(request, message, shown[0], shown[1])
        return mine

    def fail(self, what: object, message: object, mine: object, theirs: object) -> None:
        """Tell about a difference."""
        path = what.path if isinstance(what, Request) else what
        raise Difference(
            f"{self.label}, request {self.count}: {path}\n{message}\nmemory: {mine}\n  etcd: {theirs}"
        )

    def _send(self, side: Side, request: Request) -> Answer:
        token = side.tokens.get(request.user, "")
        return side.call(request.path, request.make(side), token)

    def _learn(self, side: Side, request: Request, answer: Answer) -> None:
        if answer.code or not answer.replies:
            return
        reply = answer.replies[0]
        if isinstance(reply, pb.AuthenticateResponse):
            name = request.make(side).name
            side.tokens.setdefault("stale", reply.token)
            side.tokens[name] = reply.token
        elif request.learns:
            side.ids[request.learns] = (
                reply.ID if isinstance(reply, pb.LeaseGrantResponse) else reply.member.ID
            )

    def _shown(self, side: Side, request: Request, message: Any, answer: Answer) -> Plain:
        """An answer in the form in which it is compared."""
        if request.path.endswith("/HashKV") and message.revision in self.compactions:
            self._note("hash-of-compaction")
            return None
        shown = [side.plain(reply) for reply in answer.replies]
        for plain in shown:
            self._ease(request.path.rpartition("/")[2], message, plain)
        return {"code": answer.code, "text": answer.text, "replies": shown}

    def _ease(self, method: str, message: Any, plain: Plain) -> None:
        """Take out of a reply what may differ."""
        for newer in ("hash_revision", "storageVersion", "dbSizeQuota", "downgradeInfo"):
            if newer in plain and not self.label.startswith("3.5"):
                self._note("newer-fields")
                del plain[newer]
        if method == "Range":
            self._ease_range(message, plain)
        elif method == "Txn":
            self._ease_txn(message, plain)
        elif method == "LeaseTimeToLive":
            self._ease_ttl(plain)
        elif method == "LeaseLeases" and "leases" in plain:
            self._note("order-of-leases")
            plain["leases"].sort(key=lambda lease: str(lease["ID"]))
        elif "alarms" in plain:
            self._note("order-of-alarms")
            plain["alarms"].sort(key=lambda alarm: alarm["alarm"])
        elif "members" in plain:
            self._note("order-of-members")
            plain["members"].sort(key=lambda member: str(member["ID"]))
        elif method == "Status":
            self._note("sizes")
            self._note("raft-index")
            for field in ("dbSize", "dbSizeInUse", "raftIndex", "raftAppliedIndex"):
                plain[field] = plain.get(field, 0) > 0
            if self.label.startswith("3.7") and "errors" in plain:
                self._note("space-after-alarms")
                plain["errors"] = [each.rstrip() for each in plain["errors"]]
            plain.get("errors", []).sort()
        elif method == "Authenticate":
            self._note("token")
            plain["token"] = plain["token"].partition(".")[0].isalpha() and len(plain["token"]) >= 18

    def _note(self, name: str) -> None:
        assert name in DIFFERENCES
        self.used[name] += 1

    def _ease_range(self, message: Any, plain: Plain) -> None:
        """Keys in a fixed order among those that are equal in what they are ordered by.

        Where the limit cuts through equal ones, any of them may come; then only what they are ordered
        by is compared.
        """
        kvs = plain.get("kvs", [])
        if message.keys_only and self.label.startswith("3.7"):
            self._note("lease-of-keys-only")
            for kv in kvs:
                kv.pop("lease", None)
        if message.sort_target == 0 or len(kvs) < 2:
            return
        field = SORT_FIELDS[message.sort_target]
        order = [kv.get(field, 0 if field != "value" else b"") for kv in kvs]
        if message.keys_only and field == "value":
            self._note("order-of-ties")
            kvs.sort(key=lambda kv: kv["key"])
            if plain.get("more"):
                plain["kvs"] = len(kvs)
            return
        if len(set(order)) == len(order) and not plain.get("more"):
            return
        self._note("order-of-ties")
        if plain.get("more"):
            last = order[-1]
            kept = [kv for kv, by in zip(kvs, order) if by != last]
            plain["cut"] = (last, len(order) - len(kept))
            plain["kvs"] = kvs = kept
            order = [by for by in order if by != last]
        places = {by: place for place, by in reversed(list(enumerate(order)))}
        kvs.sort(key=lambda kv: (places[kv.get(field, 0 if field != "value" else b"")], kv["key"]))

    def _ease_txn(self, message: Any, plain: Plain) -> None:
        branch = message.success if plain.get("succeeded") else message.failure
        for operation, response in zip(branch, plain.get("responses", [])):
            if "response_range" in response:
                self._ease_range(operation.request_range, response["response_range"])
            elif "response_txn" in response:
                self._ease_txn(operation.request_txn, response["response_txn"])

    def _ease_ttl(self, plain: Plain) -> None:
        if "keys" in plain:
            self._note("keys-of-lease")
            plain["keys"].sort()
        left = plain.get("TTL", 0)
        if left > 0:
            self._note("ttl")
            # Both clocks run on alike from the grant on, a request's length apart.
            plain["TTL"] = Near(left)


class Near:
    """A number that equals those that differ from it by one at most."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Near) and abs(self.number - other.number) <= 1

    __hash__ = None  # type: ignore[assignment]  # equality is loose

    def __repr__(self) -> str:
        return f"about {self.number}"


class Seen(NamedTuple):
    """What a watcher was told, one thing after the other."""

    what: str
    detail: Plain


class WatchedBoth:
    """One stream of Watch on both sides.

    Attributes:
        user: who opened it.
    """

    def __init__(self, both: Both, user: str) -> None:
        self._both = both
        self.user = user
        path = "/etcdserverpb.Watch/Watch"
        self._streams = [
            side.open(path, token=side.tokens.get(user, "")) for side in (both.memory, both.real)
        ]
        self._seen: list[dict[int, list[Seen]]] = [{}, {}]

    def send(self, **request: Any) -> None:
        """Send the same request to both."""
        for stream in self._streams:
            stream.send(pb.WatchRequest(**request))

    def close(self) -> None:
        """Give the stream up on both sides."""
        for stream in self._streams:
            stream.reset()

    def compare(self, patience: float = 5.0) -> None:
        """Wait until the real one has told what the one in memory has, and compare.

        Raises:
            Difference: it has told something else.
        """
        mine, theirs = self._streams
        self._both.memory.tick()
        while (reply := mine.next()) is not None:
            self._add(0, reply)
        until = time.monotonic() + patience
        while _count(self._seen[1]) < _count(self._seen[0]) and time.monotonic() < until:
            reply = theirs.next(0.5)
            if reply is not None:
                self._add(1, reply)
        for watch_id in sorted({*self._seen[0], *self._seen[1]}):
            told = [seen.get(watch_id, []) for seen in self._seen]
            if told[0] != told[1]:
                same = next((i for i, (a, b) in enumerate(zip(*told)) if a != b), min(map(len, told)))
                after = f"watcher {watch_id}, after {same} of {len(told[0])} and {len(told[1])}"
                self._both.fail("Watch", after, told[0][same : same + 3], told[1][same : same + 3])
        self._seen = [{}, {}]

    def compare_quiet(self) -> None:
        """See that the real one has nothing more to tell.

        Raises:
            Difference: it has.
        """
        self.compare()
        reply = self._streams[1].next(0.3)
        if reply is not None:
            self._both.fail("Watch", "", "nothing more", reply)

    def _add(self, place: int, reply: Any) -> None:
        side: Side = (self._both.memory, self._both.real)[place]
        plain = side.plain(reply)
        seen = self._seen[place].setdefault(reply.watch_id, [])
        events = plain.pop("events", [])
        if not events:
            seen.append(Seen("response", plain))
        self._both.events += len(events)
        for event in events:
            seen.append(Seen("event", event))
        if events and reply.header.revision < reply.events[-1].kv.mod_revision:
            self._both.fail("Watch", "revision of the header", "", reply)


def _count(seen: dict[int, list[Seen]]) -> int:
    return sum(len(each) for each in seen.values())


def final_state(both: Both, user: str) -> None:
    """Compare all keys in every revision that is left, and what else the sides know."""
    store = both.memory.member.state.store
    revisions = range(max(1, store.compacted), store.revision + 1)
    asked: list[tuple[str, Any]] = [
        (KV + "Range", pb.RangeRequest(key=b"\0", range_end=b"\0", revision=each))
        for each in revisions[-200:]
    ]
    asked += [(MAINTENANCE + "HashKV", pb.HashKVRequest(revision=each)) for each in revisions[-20:]]
    asked += [
        (LEASE + "LeaseLeases", pb.LeaseLeasesRequest()),
        (AUTH + "UserList", pb.AuthUserListRequest()),
        (AUTH + "RoleList", pb.AuthRoleListRequest()),
        (CLUSTER + "MemberList", pb.MemberListRequest()),
        (MAINTENANCE + "Status", pb.StatusRequest()),
    ]
    for path, message in asked:
        both.ask(Request(path, always(message), user=user))
