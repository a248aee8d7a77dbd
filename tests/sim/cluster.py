# SPDX-License-Identifier: Apache-2.0
"""A simulated cluster: members of `purecd.memory`, and a log that they agree on.

The members are the real ones; what is simulated is how they agree. There is one log, and what is in it
stays. Everything that raft leaves open on the way there is decided by chance:

1. A proposal goes to the leader. Without one it waits for one; sent to one that is gone or cut off it is
   lost, or finds its way into the log later. Its member gives up after 7 s and cannot tell which.
2. Each member applies the log in order, each with a delay of its own. A reply can get lost between
   applying and answering, too.
3. A linearizable read waits until its member has applied what was agreed upon when it asked.
4. A leader that is stopped, crashed or cut off is replaced after an election timeout, by a majority only. The
   new one gives all leases their whole time again.
5. A member that is started again begins with an older part of the log, and catches up.
"""

from __future__ import annotations

from typing import Any, Callable

from purecd.memory import statuses
from purecd.memory.auth import hashed
from purecd.memory.calls import ServerCall, Status
from purecd.memory.log import Command, Done
from purecd.memory.member import Member
from purecd.memory.store import Record
from purecd.pb import messages as pb
from tests.sim.history import History
from tests.sim.network import Network, Socket
from tests.sim.nodes import CLUSTER_ID, REQUEST_TIMEOUT, ClusterOptions, Node, Proposal
from tests.sim.tap import Sending
from tests.sim.world import Timer, World

ELECTION = (1.0, 1.9)  # seconds without a leader
READ_RETRY = 0.5
ASK_AGAIN = 0.05
PASSWORD = "secret"
TIMED_OUT = (statuses.TIMEOUT, statuses.TIMEOUT_DUE_TO_LEADER_FAIL, statuses.TIMEOUT_DUE_TO_CONNECTION_LOST)


class Cluster:
    """All members, and the log.

    Attributes:
        entries: what is agreed upon: each command, with its proposal.
        revisions: of the store after each of them.
        history: what came of them.
        refusals: errors that calls were answered with, by the member's end of the connection and the stream.
        lossy: replies get lost between applying and answering.
    """

    def __init__(self, world: World, network: Network, options: ClusterOptions) -> None:
        self.world = world
        self.options = options
        self.history = History()
        self.entries: list[tuple[Command, Proposal | None]] = []
        self.revisions: list[int] = []
        self.refusals: dict[tuple[Socket, int], Status] = {}
        self.lossy = False
        self.leader: Node | None = None
        self.current_term = 2
        self._leader_incarnation = 0
        self.identified: Callable[[str, Any, ServerCall], None] = lambda peer, conn, call: None
        self._blocked: list[Proposal] = []  # without a leader
        self._unsettled: list[Proposal] = []  # a leader without a majority has them
        self._reads: list[tuple[Node, Done]] = []
        self._election: Timer | None = None
        self._reference = Member(
            rng=world.rng,  # type: ignore[arg-type]  # has what is used of one
            log=self,
            cluster_id=CLUSTER_ID,
            options=options.member,
        )
        self._reference.demote(world.now)
        self._reference.state.store.committed = self._committed
        rates = (1 + options.drift, 1 - options.drift, 1.0)
        self.nodes = [Node(self, number, rates[number]) for number in range(options.size)]
        for node in self.nodes:
            network.add(node.host)
        self._lead(self.nodes[world.rng.below(len(self.nodes))])

    def answer(self, sending: Sending) -> Status | None:
        """The error that a request was answered with, None if there is none."""
        return self.refusals.get((sending.socket.peer, sending.stream_id))

    # What an administrator does, who is not a client here.

    def set_quota(self, octets: int) -> None:
        """Give all members another quota, 0 for none; the reference has none, and stores what they do."""
        for node in self.nodes:
            node.member.state._quota = octets

    @property
    def alarms(self) -> dict[tuple[int, int], None]:
        """Kind and member of each alarm."""
        return self._reference.state.alarms

    def create_users(self) -> None:
        """Make `root`, and switch auth on."""
        for request in (
            pb.AuthUserAddRequest(name="root", hashedPassword=hashed(PASSWORD, "salt")),
            pb.AuthUserGrantRoleRequest(user="root", role="root"),
            pb.AuthEnableRequest(),
        ):
            self._administer(request)

    def _administer(self, request: Any) -> None:
        self.append(Command(request, "root", self._reference.state.auth.revision))

    def change_users(self) -> None:
        """Raise the auth revision."""
        if self._reference.state.auth.enabled:
            self._administer(pb.AuthRoleAddRequest(name=f"r{len(self.entries)}"))

    def switch_auth(self, on: bool) -> None:
        """Switch auth on or off, if there are users."""
        auth = self._reference.state.auth
        if "root" in auth.users and auth.enabled is not on:
            self._administer(pb.AuthEnableRequest() if on else pb.AuthDisableRequest())

    # What members ask of their log.

    def _node(self, member: Member) -> Node:
        node: Node = getattr(member, "node", self.nodes[0])
        return node

    def term(self, member: Member) -> int:
        """The raft term."""
        return self.current_term

    def leader_id(self, member: Member) -> int:
        """Member id of the leader, 0 when this member sees none."""
        if self.leader is None or self._node(member).isolated:
            return 0
        return self.leader.member.member_id

    def committed(self, member: Member) -> int:
        """Index of the last entry that is agreed upon."""
        return len(self.entries)

    def propose(self, member: Member, command: Command, done: Done, now: float) -> None:
        """Try to get a command into the log."""
        proposal = Proposal(self._node(member), command, done)
        proposal.timer = self.world.after(REQUEST_TIMEOUT, lambda: self._give_up(proposal))
        self._hop(lambda: self._arrive(proposal))

    def _hop(self, action: Callable[[], None]) -> None:
        """From member to member, and on to the disk."""
        self.world.after(self.world.rng.between(0.0002, 0.003), action)

    def _arrive(self, proposal: Proposal) -> None:
        leader = self.leader
        if leader is None:
            self._blocked.append(proposal)
            return
        proposal.reached = True
        cut_off = proposal.node is not leader and proposal.node.isolated
        if cut_off or leader.stopped or not self._leads(leader):
            return  # lost
        term = self.current_term
        self._hop(lambda: self._agree(proposal, term))

    def _agree(self, proposal: Proposal, term: int) -> None:
        if self.current_term != term or not self.led:
            self._unsettled.append(proposal)
            return
        self.append(proposal.command, proposal)

    def append(self, command: Command, proposal: Proposal | None = None) -> Any:
        """Agree on a command; what comes of it."""
        if proposal is not None:
            proposal.index = len(self.entries)
        self.entries.append((command, proposal))
        history = self.history
        before = history.revision
        outcome = self._reference.apply(command, self.world.now)
        self.revisions.append(history.revision)
        history.commanded(command.request, outcome, before, self.world.now)
        for node in self.nodes:
            node.learn()
        return outcome

    def _committed(self, revision: int, changes: list[Record]) -> None:
        self.history.changed(revision, [(each.kv.key, each.kv, each.deleted) for each in changes])

    def _give_up(self, proposal: Proposal) -> None:
        rng = self.world.rng
        status = rng.pick(TIMED_OUT) if proposal.reached else (4, "context deadline exceeded")
        proposal.node.soon(lambda: proposal.finish(Status(*status)))

    def read_index(self, member: Member, done: Callable[[Status | None], None], now: float) -> None:
        """Let a read go on when the member is up to date."""
        node = self._node(member)
        incarnation = node.incarnation
        until = self.world.now + REQUEST_TIMEOUT
        waiting = True

        def end(status: Status | None) -> None:
            nonlocal waiting
            if waiting and node.incarnation == incarnation:
                waiting = False
                done(status)
                node.settle()

        def ask() -> None:
            if not waiting:
                return
            if self.led and node.healthy:
                index = len(self.entries)
                self._hop(lambda: node.within(lambda: node.when_applied(index, lambda: end(None))))
            elif self.world.now >= until:
                node.soon(lambda: end(Status(*statuses.TIMEOUT)))
            else:
                self.world.after(READ_RETRY, ask)

        self._reads.append((node, end))
        self._hop(ask)

    def ask_leader(
        self, member: Member, question: Callable[[Member, float, Done], None], done: Done, now: float
    ) -> None:
        """Let the leader answer something; the member waits for it, also for one that hangs."""
        node = self._node(member)
        until = self.world.now + REQUEST_TIMEOUT
        incarnation = node.incarnation
        waiting = True

        def end(outcome: Any) -> None:
            nonlocal waiting
            if waiting and node.incarnation == incarnation:
                waiting = False
                done(outcome)
                node.settle()

        def answered(outcome: Any) -> None:
            self._hop(lambda: node.within(lambda: end(outcome)))

        def ask() -> None:
            leader = self.leader
            if self.world.now >= until:
                node.soon(lambda: end(Status(*statuses.TIMEOUT)))
            elif (
                leader is None or not leader.up or (leader is not node and (leader.isolated or node.isolated))
            ):
                self.world.after(ASK_AGAIN, ask)
            else:
                index = len(self.entries)  # etcd waits for it: the lease may be granted there
                leader.within(
                    lambda: leader.when_applied(index, lambda: self._put(question, leader, answered))
                )
                self.world.at(
                    until, lambda: node.soon(lambda: end(Status(*statuses.TIMEOUT_WAIT_APPLIED_INDEX)))
                )

        self._hop(ask)

    def _put(self, question: Callable[[Member, float, Done], None], leader: Node, answered: Done) -> None:
        question(leader.member, leader.clock(), answered)

    def move_leader(self, member: Member, target: int, done: Done, now: float) -> None:
        """Make another member the leader."""
        self._lead(self.nodes[target - 1])
        done(None)

    # Who leads.

    @property
    def has_quorum(self) -> bool:
        """Whether a majority takes part."""
        return sum(node.healthy for node in self.nodes) * 2 > len(self.nodes)

    def _leads(self, node: Node) -> bool:
        """Whether the process that became the leader is still there."""
        return node.up and node.incarnation == self._leader_incarnation

    @property
    def led(self) -> bool:
        """Whether there is a leader that reaches a majority."""
        leader = self.leader
        return leader is not None and leader.healthy and self._leads(leader) and self.has_quorum

    def changed(self) -> None:
        """A member came or went: without a leader that reaches a majority there will be another."""
        if self.led:
            self._settle_proposals()
        elif self._election is None:
            self._election = self.world.after(self.world.rng.between(*ELECTION), self._elect)

    def _elect(self) -> None:
        self._election = None
        if self.led:
            return  # it came back in time
        self.unseat()
        able = [node for node in self.nodes if node.healthy]
        if self.has_quorum:
            self._lead(self.world.rng.pick(able))
        else:
            self.changed()

    def unseat(self) -> None:
        """Nobody leads."""
        if self.leader is not None and self.leader.up and not self.leader.stopped:
            self.leader.member.demote(self.leader.clock())
        self.leader = None
        for node in self.nodes:
            if node.up and not node.stopped:
                node.member.lose_leader(node.clock())
                node.settle()

    def _lead(self, node: Node) -> None:
        """Make a member the leader."""
        if self.leader is node and self._leads(node):
            return
        if self.leader is not None and self.leader.up and not self.leader.stopped:
            self.leader.member.demote(self.leader.clock())
        self.leader = node
        self._leader_incarnation = node.incarnation
        self.current_term += 1
        self.world.note(node.name, "leads term", self.current_term)
        node.member.promote(node.clock())
        node.settle()
        reads, self._reads = self._reads, []
        for reader, end in reads:
            if self.world.rng.chance(0.5):
                reader.within(lambda end=end: end(Status(*statuses.LEADER_CHANGED)))  # type: ignore[misc]  # bound now
        self._settle_proposals()

    def _settle_proposals(self) -> None:
        """There is a leader: what waited for one goes on, and what the last one left is kept or lost."""
        blocked, self._blocked = self._blocked, []
        for proposal in blocked:
            if proposal.done is not None:
                self._arrive(proposal)
        unsettled, self._unsettled = self._unsettled, []
        for proposal in unsettled:
            if self.world.rng.chance(0.5):
                self.append(proposal.command, proposal)
