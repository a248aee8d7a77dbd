# SPDX-License-Identifier: Apache-2.0
"""What a member needs of consensus, and the log of a member that is alone.

1. What changes something is proposed to the log. Once it is agreed upon, every member applies it, in the
   order of the log; the proposer is given the outcome of its own applying.
2. A linearizable read asks for a read index first: it goes on when this member has applied all that
   was agreed upon when it asked.
3. What only the leader knows (deadlines of leases) is asked of it.

Source: etcd server/etcdserver/v3_server.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Protocol

if TYPE_CHECKING:
    from purecd.memory.calls import Status
    from purecd.memory.member import Member

Outcome = Any  # a reply message, or a Status: how a call ends
Done = Callable[[Outcome], None]


class NotApplied(Exception):
    """What a call needs is in a command that this member has not applied yet.

    Attributes:
        index: of that command.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Command(NamedTuple):
    """What is proposed: a request and what its proposer adds to it.

    Attributes:
        request: the message of the RPC; nobody changes it any more.
        username: whom it is made for, empty for none.
        auth_revision: of the auth store when that was found out, 0 for none.
        token: letters that a new token begins with.
        member_id: of a member to add.
    """

    request: Any
    username: str = ""
    auth_revision: int = 0
    token: str = ""
    member_id: int = 0


class Log(Protocol):
    """Consensus, as one member sees it."""

    def term(self, member: Member) -> int:
        """The raft term."""
        ...

    def leader_id(self, member: Member) -> int:
        """Member id of the leader, 0 when there is none."""
        ...

    def committed(self, member: Member) -> int:
        """Index of the last entry that is agreed upon."""
        ...

    def propose(self, member: Member, command: Command, done: Done, now: float) -> None:
        """Agree on a command, let all members apply it, then call `done` with the outcome.

        `done` is called once, with a `Status` when it came to nothing or nobody knows.
        """

    def read_index(self, member: Member, done: Callable[[Status | None], None], now: float) -> None:
        """Call `done` when the member has applied all that is agreed upon now; with a Status if not."""

    def ask_leader(
        self, member: Member, question: Callable[[Member, float, Done], None], done: Done, now: float
    ) -> None:
        """Let the leader answer a question, which it calls `done` for."""

    def move_leader(self, member: Member, target: int, done: Done, now: float) -> None:
        """Make another member the leader, then call `done` with None or a Status."""


class Solo(Log):
    """The log of a member that is alone: what is proposed is agreed upon at once.

    Args:
        term: the raft term; a new member elects itself in the second, and in the next at each restart.
    """

    def __init__(self, term: int = 2) -> None:
        self._term = term

    def term(self, member: Member) -> int:
        return self._term

    def leader_id(self, member: Member) -> int:
        return member.member_id

    def committed(self, member: Member) -> int:
        return member.index

    def propose(self, member: Member, command: Command, done: Done, now: float) -> None:
        done(member.apply(command, now))

    def read_index(self, member: Member, done: Callable[[Status | None], None], now: float) -> None:
        done(None)

    def ask_leader(
        self, member: Member, question: Callable[[Member, float, Done], None], done: Done, now: float
    ) -> None:
        question(member, now, done)

    def move_leader(self, member: Member, target: int, done: Done, now: float) -> None:
        done(None)
