# SPDX-License-Identifier: Apache-2.0
"""Seeded random requests of every kind, sensible and bad ones.

A request is made for each side by itself, for it may name what that side made up. What it is made from is
drawn once, so both sides get the same.
"""

from __future__ import annotations

import random
from typing import Any, Callable, NamedTuple

from purecd.pb import messages as pb
from tests.memory.releases import MODELLED, Asked, avoided
from tests.memory.sides import Memory, Side

KEYS = (b"a", b"b", b"c", b"d", b"aa", b"ab", b"b\0", b"k1", b"k2", b"k10", b"\0", b"\xff\xff", b"long" * 20)
ENDS = (b"", b"", b"", b"\0", b"b", b"c", b"k2", b"z", b"a", b"\xff\xff\xff")
VALUES = (b"", b"1", b"2", b"three", b"\0\xff", b"x" * 300)
LEASES = tuple(range(101, 107))
USERS = ("root", "alice", "bob", "carol")
ROLES = ("root", "reader", "writer", "part")

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
AUTH = "/etcdserverpb.Auth/"
CLUSTER = "/etcdserverpb.Cluster/"
MAINTENANCE = "/etcdserverpb.Maintenance/"
HEALTH = "/grpc.health.v1.Health/"


class Request(NamedTuple):
    """One call.

    Attributes:
        make: the message for a side.
        learns: name under which a side remembers the id in its reply, empty for none.
        user: whose token goes along, empty for none, or one that nobody has.
    """

    path: str
    make: Callable[[Side], Any]
    learns: str = ""
    user: str = ""


class Requests:
    """A seeded source of requests.

    Args:
        memory: where the current revision is looked up.
        version: the release that is asked. Only the one that is imitated is asked what releases answer
            differently (`releases.UNLIKE`).
    """

    def __init__(self, seed: int, memory: Memory, version: str = MODELLED) -> None:
        self.rng = random.Random(seed)
        self._store = memory.member.state.store
        self._auth = memory.member.state.auth
        self._memory = memory
        self._made_up = 0
        self._urls = 1
        self._kinds: list[tuple[Callable[[], Request], int]] = [
            (self.range, 26),
            (self.put, 24),
            (self.delete, 6),
            (self.txn, 18),
            (self.compact, 2),
            (self.grant, 5),
            (self.lease, 9),
            (self.administration, 7),
            (self.maintenance, 4),
            (self.cluster, 3),
            (self.odd, 1),
        ]
        self.alike = version != MODELLED
        self._avoided = avoided(version)

    def next(self) -> Request:
        """The next request, for whoever it is made while auth is on."""
        while True:
            request = self._any()
            if not self._avoided or not self._unlike(request):
                return request

    def _any(self) -> Request:
        kinds, weights = zip(*self._kinds)
        request: Request = self.rng.choices(kinds, weights)[0]()
        if request.user or request.path.endswith("/Authenticate"):
            return request
        return request._replace(user=self.user())

    def _unlike(self, request: Request) -> bool:
        service, method = request.path.rsplit(".", 1)[1].split("/")
        asked = Asked(service, method, request.make(self._memory), request.user, self._auth.enabled)
        return any(each.concerns(asked) for each in self._avoided)

    def user(self) -> str:
        """Who makes the next request."""
        if not self._auth.enabled:
            return self.rng.choice(("", "", "", "stale", "garbage"))
        return self.rng.choice(("root",) * 8 + ("alice", "alice", "bob", "carol", "", "stale", "garbage"))

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _key(self) -> bytes:
        return b"" if self._chance(0.02) else self.rng.choice(KEYS)

    def _range(self) -> tuple[bytes, bytes]:
        """A key and the end of a range.

        Whether somebody may read a range that ends before it begins is a matter of how etcd's tree of
        permissions is balanced: there is none of them while auth is on.
        """
        key, end = self._key(), self.rng.choice(ENDS)
        return key, b"" if self._auth.enabled and end not in (b"", b"\0") and end <= key else end

    def _revision(self, share: float = 0.3) -> int:
        """Mostly 0; else one around the current and the compacted revision."""
        if not self._chance(share):
            return 0
        now, compacted = self._store.revision, self._store.compacted
        if self.alike:
            return self.rng.randint(max(1, compacted), now + 1)
        near = (now, now - 1, now + 1, now + 1000, compacted, compacted - 1, compacted + 1, -1, 1)
        return self.rng.choice((*near, self.rng.randint(max(1, compacted), now)))

    def _range_message(self) -> Any:
        rng = self.rng
        key, end = self._range()
        message = pb.RangeRequest(
            key=key,
            range_end=end,
            limit=rng.choice((0, 0, 0, 1, 2, 5, -1)),
            revision=self._revision(),
            sort_order=rng.choice((0, 0, 1, 2) if self.alike else (0, 0, 1, 2, 3)),
            sort_target=rng.choice((0, 0, 1, 2, 3, 4)),
            serializable=self._chance(0.3),
            keys_only=self._chance(0.15),
            count_only=self._chance(0.1),
        )
        for field in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self._chance(0.08):
                setattr(message, field, self._revision(1.0))
        return message

    def range(self) -> Request:
        """A range."""
        message = self._range_message()
        return Request(KV + "Range", lambda side: message)

    def _lease_id(self) -> int:
        return self.rng.choice((0, 0, 0, *LEASES, 999))

    def _put_message(self) -> Any:
        message = pb.PutRequest(
            key=self._key(),
            value=self.rng.choice(VALUES),
            lease=self._lease_id() if self._chance(0.3) else 0,
            prev_kv=self._chance(0.3),
            ignore_value=self._chance(0.1),
            ignore_lease=self._chance(0.1),
        )
        if message.ignore_value and self._chance(0.8):
            message.ClearField("value")
        if message.ignore_lease and self._chance(0.8):
            message.ClearField("lease")
        return message

    def put(self) -> Request:
        """A put; once in a while one that is too long."""
        if self._chance(0.004):
            size = self.rng.choice((1_500_000, 1_600_000))
            return Request(KV + "Put", lambda side: pb.PutRequest(key=b"big", value=b"v" * size))
        message = self._put_message()
        return Request(KV + "Put", lambda side: message)

    def _delete_message(self) -> Any:
        key, end = self._range()
        if self._chance(0.6):
            end = b""
        return pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=self._chance(0.5))

    def delete(self) -> Request:
        """A deletion."""
        message = self._delete_message()
        return Request(KV + "DeleteRange", lambda side: message)

    def _compare(self) -> Any:
        rng = self.rng
        compare = pb.Compare(
            result=rng.choice((0, 0, 1, 2, 3)), target=rng.randint(0, 4), key=self._key(), range_end=b""
        )
        if self._chance(0.2):
            compare.key, compare.range_end = self._range()
        union = rng.choice((compare.target,) * 8 + (0, 3))  # of another kind now and then
        name = ("version", "create_revision", "mod_revision", "value", "lease")[union]
        numbers = (0, 1, 2, self._store.revision, rng.randint(1, self._store.revision), 101)
        if self._chance(0.95):
            setattr(compare, name, rng.choice(VALUES) if name == "value" else rng.choice(numbers))
        return compare

    def _operation(self, depth: int) -> Any:
        kind = self.rng.choices(("range", "put", "delete", "txn", "none"), (8, 8, 4, 2 if depth else 0, 0.2))[
            0
        ]
        if kind == "range":
            ranged = self._range_message()
            if self._chance(0.7) or (self.alike and ranged.revision > self._store.revision):
                ranged.revision = 0
            return pb.RequestOp(request_range=ranged)
        if kind == "put":
            return pb.RequestOp(request_put=self._put_message())
        if kind == "delete":
            return pb.RequestOp(request_delete_range=self._delete_message())
        if kind == "txn":
            return pb.RequestOp(request_txn=self._txn_message(depth - 1))
        return pb.RequestOp()

    def _txn_message(self, depth: int) -> Any:
        rng = self.rng
        if self._chance(0.1):  # only reads
            reads = [pb.RequestOp(request_range=self._range_message()) for _ in range(rng.randint(0, 3))]
            return pb.TxnRequest(compare=[self._compare()], success=reads)
        return pb.TxnRequest(
            compare=[self._compare() for _ in range(rng.choice((0, 1, 1, 2)))],
            success=[self._operation(depth) for _ in range(rng.choice((0, 1, 1, 2, 3)))],
            failure=[self._operation(depth) for _ in range(rng.choice((0, 0, 1, 2)))],
        )

    def txn(self) -> Request:
        """A transaction; once in a while one with too many operations."""
        if self._chance(0.02):
            count = self.rng.choice((128, 129))
            many = pb.TxnRequest(compare=[pb.Compare(key=b"a", version=0, result=3)] * count)
            return Request(KV + "Txn", lambda side: many)
        message = self._txn_message(2)
        return Request(KV + "Txn", lambda side: message)

    def compact(self) -> Request:
        """A compaction, not too often one that leaves no history."""
        back = self.rng.choice((0, 3, 10, 30, 30))
        revision = self._revision(1.0) if self._chance(0.4) else max(1, self._store.revision - back)
        message = pb.CompactionRequest(revision=revision, physical=True)
        return Request(KV + "Compact", lambda side: message)

    def grant(self) -> Request:
        """A grant, of a few ids or of whichever the member chooses."""
        ttl = self.rng.choice((600, 1000, 5000, 10**10, 9_000_000_000))  # none ends in a run
        lease_id = self.rng.choice((*LEASES, 0))
        learns = ""
        if lease_id == 0:
            self._made_up += 1
            learns = f"lease{self._made_up}"
        message = pb.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        return Request(LEASE + "LeaseGrant", lambda side: message, learns)

    def _any_lease(self) -> Callable[[Side], int]:
        name = f"lease{self.rng.randint(1, max(1, self._made_up))}"
        known = self.rng.choice((*LEASES, 0, 999, 777, -5))
        return (lambda side: side.id(name)) if self._chance(0.3) else (lambda side: known)

    def lease(self) -> Request:
        """Something about a lease."""
        lease = self._any_lease()
        keys = self._chance(0.6)
        kind = self.rng.choices(("revoke", "ttl", "leases"), (3, 5, 2))[0]
        if kind == "revoke":
            return Request(LEASE + "LeaseRevoke", lambda side: pb.LeaseRevokeRequest(ID=lease(side)))
        if kind == "ttl":
            return Request(
                LEASE + "LeaseTimeToLive", lambda side: pb.LeaseTimeToLiveRequest(ID=lease(side), keys=keys)
            )
        return Request(LEASE + "LeaseLeases", lambda side: pb.LeaseLeasesRequest())

    def administration(self) -> Request:
        """Something about users and roles; root keeps its password and role while auth is on."""
        rng = self.rng
        name, role = rng.choice((*USERS, "", "nobody")), rng.choice((*ROLES, "", "nothing"))
        key, end = rng.choice((*KEYS, b"")), rng.choice(ENDS)
        permission = pb.Permission(permType=rng.randint(0, 2), key=key, range_end=end)
        grant = pb.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        if self._chance(0.05):
            grant.ClearField("perm")
        other = name if name != "root" else "alice"
        password = rng.choice((other, other, "", "p" * 73)) if self._chance(0.3) else name
        options = pb.UserAddOptions(no_password=True) if self._chance(0.1) else None
        add = pb.AuthUserAddRequest(name=name, password=password if name != "root" else "root")
        if options is not None and name != "root":
            add.options.CopyFrom(options)
        choices: list[tuple[str, Any, float]] = [
            ("UserAdd", add, 4),
            ("UserGet", pb.AuthUserGetRequest(name=name), 3),
            ("UserList", pb.AuthUserListRequest(), 2),
            ("UserDelete", pb.AuthUserDeleteRequest(name=other), 1),
            ("UserChangePassword", pb.AuthUserChangePasswordRequest(name=other, password=password), 1),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user=name, role=role), 5),
            ("UserRevokeRole", pb.AuthUserRevokeRoleRequest(name=name, role=role), 1.5),
            ("RoleAdd", pb.AuthRoleAddRequest(name=role), 4),
            ("RoleGet", pb.AuthRoleGetRequest(role=role), 3),
            ("RoleList", pb.AuthRoleListRequest(), 2),
            ("RoleDelete", pb.AuthRoleDeleteRequest(role=role), 0.7),
            ("RoleGrantPermission", grant, 6),
            (
                "RoleRevokePermission",
                pb.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end),
                2,
            ),
            ("AuthEnable", pb.AuthEnableRequest(), 1),
            ("AuthDisable", pb.AuthDisableRequest(), 0.7),
            ("AuthStatus", pb.AuthStatusRequest(), 2),
            ("Authenticate", pb.AuthenticateRequest(name=name, password=password), 4),
        ]
        method, message, _ = rng.choices(choices, [weight for _, _, weight in choices])[0]
        return Request(AUTH + method, lambda side: message)

    def root_and_on(self) -> list[Request]:
        """What makes root able to switch auth on, the users known, and does it."""
        made: list[tuple[str, Any]] = [
            ("UserAdd", pb.AuthUserAddRequest(name="root", password="root")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root")),
            *(("UserAdd", pb.AuthUserAddRequest(name=name, password=name)) for name in USERS[1:]),
            ("RoleAdd", pb.AuthRoleAddRequest(name="reader")),
            ("RoleGrantPermission", _permission("reader", 0, b"a", b"c")),
            ("RoleAdd", pb.AuthRoleAddRequest(name="writer")),
            ("RoleGrantPermission", _permission("writer", 2, b"k", b"l")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="alice", role="reader")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="alice", role="writer")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="bob", role="reader")),
            ("AuthEnable", pb.AuthEnableRequest()),
        ]
        requests = [Request(AUTH + method, always(message)) for method, message in made]
        return requests + [self.login(name) for name in USERS]

    def login(self, name: str) -> Request:
        """A login with the password that the user had at first."""
        return Request(AUTH + "Authenticate", always(pb.AuthenticateRequest(name=name, password=name)))

    def maintenance(self) -> Request:
        """Something about the member itself."""
        rng = self.rng
        alarm = pb.AlarmRequest(
            action=rng.choice((0, 0, 1, 2, 2)), alarm=rng.choice((0, 1, 1, 2)), memberID=5
        )
        if alarm.action == 1 and self._chance(0.6):
            alarm.action = 0
        # A learner that was updated counts as a voter, and moving the leader there would never end.
        member = self._memory.member.state.cluster.members.get(self._memory.id("learner"))
        other = "nobody" if member is not None and not member.isLearner else "learner"
        choices: list[tuple[str, Callable[[Side], Any]]] = [
            ("Alarm", always(alarm)),
            ("Alarm", always(alarm)),
            ("Status", always(pb.StatusRequest())),
            ("HashKV", always(pb.HashKVRequest(revision=self._revision(0.6)))),
            ("HashKV", always(pb.HashKVRequest())),
            ("Defragment", always(pb.DefragmentRequest())),
            ("MoveLeader", lambda side: pb.MoveLeaderRequest(targetID=side.id("member"))),
            ("MoveLeader", lambda side: pb.MoveLeaderRequest(targetID=side.id(other))),
            ("Downgrade", always(pb.DowngradeRequest(version=rng.choice(("3.4", "3.4.0", "3.3", "x", ""))))),
            ("Downgrade", always(pb.DowngradeRequest(action=2))),
            ("Downgrade", always(pb.DowngradeRequest(action=9))),
        ]
        method, make = rng.choice(choices)
        return Request(MAINTENANCE + method, make)

    def cluster(self) -> Request:
        """Something about members; never what costs the quorum."""
        rng = self.rng
        # The id of a member comes from its URLs and the second: no two with the same URLs in one second.
        self._urls += 1
        fresh, last = (f"http://127.0.0.1:{self._urls - back}" for back in (0, 1))
        urls = rng.choice(([fresh], [fresh, f"{fresh}0"], [last, fresh], ["ftp://x:1"], [], ["http://x"]))
        # An etcd that is to update another member with bad URLs dies.
        who = rng.choice(("learner", "learner", "member", "nobody"))
        choices: list[tuple[str, Callable[[Side], Any], str, int]] = [
            ("MemberList", always(pb.MemberListRequest(linearizable=self._chance(0.5))), "", 3),
            ("MemberAdd", always(pb.MemberAddRequest(peerURLs=urls, isLearner=True)), "learner", 3),
            ("MemberRemove", lambda side: pb.MemberRemoveRequest(ID=side.id(who) or 7), "", 2),
            (
                "MemberUpdate",
                lambda side: pb.MemberUpdateRequest(ID=side.id("learner") or 7, peerURLs=[fresh]),
                "",
                1,
            ),
            ("MemberPromote", lambda side: pb.MemberPromoteRequest(ID=side.id(who) or 7), "", 2),
        ]
        method, make, learns, _ = rng.choices(choices, [weight for *_, weight in choices])[0]
        return Request(CLUSTER + method, make, learns)

    def watch(self) -> Any:
        """What creates a watcher."""
        rng = self.rng
        key, end = self._range()
        start = self._revision(0.4)
        if self.alike and 0 < start == self._store.compacted:
            start += 1  # up to 3.5.15 and 3.4.33 a deletion of that revision is not told
        return pb.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=start,
            prev_kv=self._chance(0.4),
            watch_id=rng.choice((0, 0, 0, 0, 1, 5, 9)),
            filters=rng.choice(((), (), (), (0,), (1,), (0, 1))),
            fragment=self._chance(0.2),
        )

    def odd(self) -> Request:
        """What is no business of etcd, or nearly none."""
        path, message = self.rng.choice(
            (
                (HEALTH + "Check", pb.HealthCheckRequest()),
                (HEALTH + "Check", pb.HealthCheckRequest(service="etcdserverpb.KV")),
            )
        )
        return Request(path, always(message))


def always(message: Any) -> Callable[[Side], Any]:
    """The same message for both sides."""
    return lambda side: message


def _permission(role: str, kind: int, key: bytes, end: bytes) -> Any:
    return pb.AuthRoleGrantPermissionRequest(
        name=role, perm=pb.Permission(permType=kind, key=key, range_end=end)
    )
