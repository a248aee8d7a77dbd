# SPDX-License-Identifier: Apache-2.0
"""A member asked directly, without a connection, at times that the test chooses."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from purecd.memory.calls import ServerCall, Status
from purecd.memory.member import Member, MemberOptions
from purecd.pb import messages as pb

KV, LEASE, WATCH = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Watch/"
AUTH, CLUSTER = "/etcdserverpb.Auth/", "/etcdserverpb.Cluster/"
MAINTENANCE, HEALTH = "/etcdserverpb.Maintenance/", "/grpc.health.v1.Health/"


class Asked:
    """One call: takes what it is answered.

    Attributes:
        replies: not taken yet.
        backlog: what the member is told that waits.
        status: None while the call goes on, and when it ended well.
    """

    def __init__(self, member: Member, path: str, now: float, token: str = "", **metadata: str) -> None:
        self.replies: deque[Any] = deque()
        self.backlog = 0
        self.status: Status | None = None
        if token:
            metadata["token"] = token
        self.call = ServerCall(path, self, metadata=metadata)
        self.handler = member.start(self.call, now)

    def send(self, message: Any) -> None:
        self.replies.append(type(message).FromString(message.SerializeToString()))

    def end(self, status: Status | None) -> None:
        self.status = status

    def take(self) -> list[Any]:
        """All replies so far."""
        taken = list(self.replies)
        self.replies.clear()
        return taken


class Alone:
    """A member that is alone, and a clock that the test sets.

    Attributes:
        now: seconds.
    """

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.member = Member(rng=random.Random(1), options=MemberOptions(**options))

    def ask(self, path: str, request: Any, token: str = "", **metadata: str) -> Any:
        """Make a unary call that is answered at once.

        Raises:
            Status: that is what it was answered.
        """
        asked = self.begin(path, request, token, **metadata)
        assert asked.call.finished, "not answered yet"
        if asked.status is not None:
            raise asked.status
        (reply,) = asked.take()
        return reply

    def begin(self, path: str, request: Any = None, token: str = "", **metadata: str) -> Asked:
        """Begin a call, and send a request if there is one."""
        asked = Asked(self.member, path, self.now, token, **metadata)
        if request is not None:
            asked.handler.receive(request, self.now)
        return asked

    def refusal(self, path: str, request: Any, token: str = "", **metadata: str) -> tuple[int, str]:
        """Code and text that a call is refused with."""
        try:
            reply = self.ask(path, request, token, **metadata)
        except Status as status:
            return status.code, status.text
        raise AssertionError(f"answered {reply}")

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> int:
        """Put a key; returns the revision."""
        revision: int = self.ask(KV + "Put", pb.PutRequest(key=key, value=value, **fields)).header.revision
        return revision

    def keys(self) -> dict[bytes, bytes]:
        """All keys with their values."""
        reply = self.ask(KV + "Range", pb.RangeRequest(key=b"\0", range_end=b"\0"))
        return {kv.key: kv.value for kv in reply.kvs}

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the member do what becomes due meanwhile."""
        until = self.now + seconds
        while (due := self.member.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.member.handle_timer(self.now)
        self.now = until

    def with_auth(self) -> str:
        """Switch auth on with a user `root`; returns its token. A user `alice` may read [a, c)."""
        for method, request in (
            ("UserAdd", pb.AuthUserAddRequest(name="root", password="r")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root")),
            ("UserAdd", pb.AuthUserAddRequest(name="alice", password="a")),
            ("RoleAdd", pb.AuthRoleAddRequest(name="reader")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="alice", role="reader")),
            (
                "RoleGrantPermission",
                pb.AuthRoleGrantPermissionRequest(
                    name="reader", perm=pb.Permission(key=b"a", range_end=b"c", permType=0)
                ),
            ),
            ("AuthEnable", pb.AuthEnableRequest()),
        ):
            self.ask(AUTH + method, request)
        return self.login("root", "r")

    def login(self, name: str, password: str) -> str:
        """Log in; returns the token."""
        request = pb.AuthenticateRequest(name=name, password=password)
        token: str = self.ask(AUTH + "Authenticate", request).token
        return token
