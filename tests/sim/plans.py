# SPDX-License-Identifier: Apache-2.0
"""What goes wrong: a plan drawn from the seed, and the end of all trouble after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from purecd.memory.log import Command
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.front import SimClient
    from tests.sim.network import Network, Path
    from tests.sim.nodes import Node
    from tests.sim.world import World

DURATIONS = (0.05, 0.5, 2.0, 6.0, 15.0)


class Plan:
    """Faults for one run.

    Args:
        auth: the cluster has users, who can be troubled.

    Attributes:
        healed: no fault is active, and none will come.
    """

    def __init__(
        self, world: World, network: Network, cluster: Cluster, clients: list[SimClient], auth: bool
    ) -> None:
        self.world = world
        self.network = network
        self.cluster = cluster
        self.clients = clients
        self.healed = False
        self._blocked: dict[Path, None] = {}
        kinds: list[Callable[[], None]] = [self.crash, self.shut_down, self.stop_member, self.isolate]
        kinds += [self.move_leader, self.slow_disk, self.lose_replies, self.no_space, self.stop_client]
        kinds += [self.block, self.block_one_way, self.swizzle, self.stall, self.reset, self.half_close]
        if auth:
            kinds += [self.change_auth, self.switch_auth_off, self.forget_tokens]
        # Most runs see only some kinds of fault: what many would hide, few may show.
        self._kinds = world.rng.some(kinds)
        self._gap = world.rng.pick((0.5, 2.0, 8.0))

    def begin(self) -> None:
        """Let things go wrong from now on."""
        self._next()

    def _next(self) -> None:
        if not self.healed:
            delay = self._gap * 2 * self.world.rng.random()
            self.world.after(delay, self._strike)

    def _strike(self) -> None:
        if not self.healed:
            kind = self.world.rng.pick(self._kinds)
            self.world.counts[f"fault {kind.__name__}"] += 1
            self.world.note("fault", kind.__name__)
            kind()
            self._next()

    def _duration(self) -> float:
        return self.world.rng.pick(DURATIONS) * self.world.rng.between(0.5, 1.5)

    def _node(self) -> Node:
        """A member; the leader more often than not."""
        leader = self.cluster.leader
        if leader is not None and self.world.rng.chance(0.4):
            return leader
        return self.world.rng.pick(self.cluster.nodes)

    def _later(self, action: Callable[..., None], *arguments: Any) -> None:
        self.world.after(self._duration(), lambda: action(*arguments))

    # Members.

    def crash(self) -> None:
        """SIGKILL, and a start some time later."""
        node = self._node()
        if node.up:
            node.crash(rudely=self.world.rng.chance(0.5))
        self._later(self._restart, node)

    def _restart(self, node: Node) -> None:
        if not node.up:
            node.restart()

    def shut_down(self) -> None:
        """SIGTERM, and a start some time later."""
        node = self._node()
        if node.up and not node.stopped and node.host.up:
            node.shut_down()
        self.world.after(8.0 + self._duration(), lambda: self._restart(node))

    def stop_member(self) -> None:
        """SIGSTOP, later SIGCONT."""
        node = self._node()
        if node.up and not node.stopped:
            node.stop(True)
        self._later(self._go_on, node)

    def _go_on(self, node: Node) -> None:
        if node.stopped:
            node.stop(False)

    def isolate(self) -> None:
        """A member reaches no other member; clients reach it."""
        node = self._node()
        node.isolate(True)
        self._later(node.isolate, False)

    def move_leader(self) -> None:
        """Another member becomes the leader, at whatever moment."""
        able = [node for node in self.cluster.nodes if node.healthy]
        if able and self.cluster.has_quorum:
            self.cluster._lead(self.world.rng.pick(able))

    def slow_disk(self) -> None:
        """A member applies late."""
        node = self._node()
        node.slow = self.world.rng.pick((0.2, 2.0))
        self._later(setattr, node, "slow", 0.0)

    def lose_replies(self) -> None:
        """What was applied is not answered."""
        self.cluster.lossy = True
        self._later(setattr, self.cluster, "lossy", False)

    def no_space(self) -> None:
        """The quota is reached; the last writes are stored and refused all the same."""
        self.cluster.set_quota(1)
        self._later(self.make_space)

    def make_space(self) -> None:
        """The quota is gone, and so are the alarms."""
        self.cluster.set_quota(0)
        for _, number in list(self.cluster.alarms):
            self.cluster.append(Command(pb.AlarmRequest(action=2, memberID=number, alarm=1), "root"))

    # Users.

    def change_auth(self) -> None:
        """A user comes or goes: whoever was identified before is refused once."""
        self.cluster.change_users()

    def switch_auth_off(self) -> None:
        """Auth is switched off for a while."""
        self.cluster.switch_auth(False)
        self._later(self.cluster.switch_auth, True)

    def forget_tokens(self) -> None:
        """A member forgets who logged in."""
        node = self._node()
        if node.up:
            node.member.tokens.clear()

    # The network.

    def _paths(self) -> tuple[Path, Path]:
        client, node = self.world.rng.pick(self.clients), self._node()
        return self.network.path(client.name, node.name), self.network.path(node.name, client.name)

    def _block(self, path: Path) -> None:
        if path not in self._blocked:
            self._blocked[path] = None
            path.block(True)

    def _open(self, *paths: Path) -> None:
        for path in paths:
            if path in self._blocked:
                del self._blocked[path]
                path.block(False)

    def block(self) -> None:
        """Nothing comes through between a client and a member."""
        out, back = self._paths()
        self._block(out)
        self._block(back)
        self._later(self._open, out, back)

    def block_one_way(self) -> None:
        """Nothing comes through in one direction."""
        path = self.world.rng.pick(self._paths())
        self._block(path)
        self._later(self._open, path)

    def swizzle(self) -> None:
        """Connections are blocked one after the other, and opened in another order."""
        for client in self.clients:
            for node in self.cluster.nodes:
                for path in (
                    self.network.path(client.name, node.name),
                    self.network.path(node.name, client.name),
                ):
                    if self.world.rng.chance(0.5):
                        self.world.after(self.world.rng.random(), lambda path=path: self._swizzled(path))  # type: ignore[misc]  # bound now

    def _swizzled(self, path: Path) -> None:
        if not self.healed:
            self._block(path)
            self._later(self._open, path)

    def stall(self) -> None:
        """A packet is lost on each connection of a path."""
        for pipe in list(self.world.rng.pick(self._paths()).pipes):
            pipe.stall(self.world.rng.pick((0.2, 1.0, 3.0)))

    def _sockets(self) -> list[Any]:
        return [
            socket
            for client in self.clients
            for driver in client.drivers.values()
            for socket in driver.sockets()
        ]

    def reset(self) -> None:
        """A connection breaks, and whatever is on it."""
        sockets = self._sockets()
        if sockets:
            self.world.rng.pick(sockets).cut()

    def half_close(self) -> None:
        """A member's side of a connection ends, after what it sent."""
        sockets = self._sockets()
        if sockets:
            self.world.rng.pick(sockets).peer.finish()

    # Clients.

    def stop_client(self) -> None:
        """A client's process stands still for a while."""
        client = self.world.rng.pick(self.clients)
        if not client.stopped:
            client.stop(True)
            self._later(client.stop, False)

    # The end of all trouble.

    def heal(self) -> None:
        """Mend everything; nothing goes wrong from now on."""
        self.healed = True
        self.world.note("healed")
        cluster = self.cluster
        cluster.lossy = False
        self.make_space()
        self._open(*list(self._blocked))
        cluster.switch_auth(True)
        for node in cluster.nodes:
            node.slow = 0.0
            if node.up and not node.host.up:
                node.crash(rudely=False)  # it was shutting down
            if not node.up:
                node.restart()
            if node.stopped:
                node.stop(False)
            if node.isolated:
                node.isolate(False)
        for client in self.clients:
            if client.stopped:
                client.stop(False)
