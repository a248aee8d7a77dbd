# SPDX-License-Identifier: Apache-2.0
"""Where a scenario is played: one member, clients of one front, and ways to harm what lies between.

Scenarios are coroutines and use the asyncio client's names. On asyncio that is what they get; on threads
every ``await`` is a blocking call; in the simulation time is simulated. Harm and time are the stage's.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Coroutine
from typing import Any, Callable

import purecd
from purecd.core import leases
from purecd.core.keptlease import KeptLease
from tests.sim.cluster import Cluster
from tests.sim.front import SimClient
from tests.sim.network import Network
from tests.sim.nodes import ClusterOptions
from tests.sim.tasks import Future
from tests.sim.world import World
from tests.support.proxy import FaultProxy

Scenario = Callable[[Any], Coroutine[Any, Any, None]]


class SimStage:
    """One member and its clients on simulated time.

    Args:
        seed: of the network's habits and of all chance.
    """

    name = "sim"

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        options = ClusterOptions(self.world.rng)
        options.size = 1
        self.node = Cluster(self.world, self.network, options).nodes[0]
        self._clients: list[SimClient] = []

    def play(self, scenario: Scenario) -> None:
        """Play one scenario to its end; raises what it raises."""
        self.world.run(self.world.now + 5, 100_000)  # a leader is elected
        director = self.client()
        task = director.spawn(scenario(self))
        until = self.world.now + 600
        while not task.done and self.world.now < until:
            self.world.run(self.world.now + 1, 2_000_000)
        assert task.done, "the scenario hangs"
        for client in self._clients:
            client.close()
        if task.error is not None:
            raise task.error

    def client(self, **options: Any) -> SimClient:
        """A client of the member."""
        client = SimClient(
            self.world, self.network, f"client{len(self._clients)}", [f"{self.node.name}:1"], **options
        )
        self._clients.append(client)
        return client

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await self._clients[0].sleep(seconds)

    async def hold(self, client: SimClient, ttl: int) -> Any:
        """Grant a lease and keep it alive; it has ``lease_id`` and ``lost``."""
        granted = await client._run(leases.grant(ttl), 5.0)
        kept = KeptLease(granted.id, granted.ttl, granted.sent_at)
        kept.waiter = Future()
        client._streams().attach(kept)
        return kept

    async def cut(self) -> None:
        """Reset every connection."""
        for session in list(self.node.sessions):
            session.socket.cut()

    async def kill(self) -> None:
        """End the member at once."""
        self.node.crash(True)
        await self.sleep(0.3)

    async def start(self) -> None:
        """Start the member again."""
        self.node.restart()
        await self.sleep(3.0)  # it has to elect itself

    async def stop(self) -> None:
        """End the member as SIGTERM does."""
        self.node.shut_down()
        while self.node.up:
            await self.sleep(0.1)

    async def silence(self, silent: bool) -> None:
        """Let nothing through any more, in no direction, or all that waited."""
        for client in self._clients:
            for path in ((client.name, self.node.name), (self.node.name, client.name)):
                self.network.path(*path).block(silent)

    def start_in(self, seconds: float) -> None:
        """Start the member again, in a while."""
        self.world.after(seconds, self.node.restart)


class _RealStage:
    """A member in a process or thread of its own, with a proxy before it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self._proxy: FaultProxy | None = None
        self._starters: list[threading.Timer] = []

    @property
    def proxy(self) -> FaultProxy:
        assert self._proxy is not None
        return self._proxy

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError  # the fronts differ in how

    async def cut(self) -> None:
        self.proxy.reset()
        self.proxy.heal()

    async def kill(self) -> None:
        self.server.kill()
        await self.sleep(0.3)  # its connections are known to have ended

    async def start(self) -> None:
        self.server.start()
        await self.sleep(0.3)  # what ended before has come to be known

    async def stop(self) -> None:
        self.server.stop()

    async def silence(self, silent: bool) -> None:
        if silent:
            self.proxy.blackhole()
        else:
            self.proxy.heal()

    def start_in(self, seconds: float) -> None:
        self._starters.append(threading.Timer(seconds, self.server.start))
        self._starters[-1].start()

    def _join(self) -> None:
        """Wait until what was to be started is."""
        for starter in self._starters:
            starter.join()


class AsyncioStage(_RealStage):
    """Clients on an event loop."""

    name = "asyncio"

    def play(self, scenario: Scenario) -> None:
        """Play one scenario to its end; raises what it raises."""
        with FaultProxy(f"127.0.0.1:{self.server.client_port}") as self._proxy:
            asyncio.run(self._play(scenario))
        self._join()

    async def _play(self, scenario: Scenario) -> None:
        self._clients: list[purecd.AsyncClient] = []
        try:
            await asyncio.wait_for(scenario(self), 50)
        finally:
            for client in self._clients:
                await client.close()

    def client(self, **options: Any) -> purecd.AsyncClient:
        """A client of the member."""
        client = purecd.AsyncClient(self.proxy.endpoint, **options)
        self._clients.append(client)
        return client

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def hold(self, client: Any, ttl: int) -> Any:
        """Grant a lease and keep it alive."""
        return await client.lease(ttl)


class ThreadsStage(_RealStage):
    """Blocking clients, on the thread that plays."""

    name = "threads"

    def play(self, scenario: Scenario) -> None:
        """Play one scenario to its end; raises what it raises."""
        self._clients: list[purecd.Client] = []
        with FaultProxy(f"127.0.0.1:{self.server.client_port}") as self._proxy:
            try:
                scenario(self).send(None)
            except StopIteration:
                pass
            else:
                raise AssertionError("a blocking scenario waited for something")
            finally:
                for client in self._clients:
                    client.close()
                self._join()

    def client(self, **options: Any) -> Any:
        """A client of the member."""
        client = purecd.Client(self.proxy.endpoint, **options)
        self._clients.append(client)
        return Blocking(client)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)  # noqa: ASYNC251  # there is no loop; nothing else runs on this thread

    async def hold(self, client: Any, ttl: int) -> Any:
        """Grant a lease and keep it alive."""
        return await client.lease(ttl)


class Blocking:
    """A blocking object whose methods are awaited, and never wait."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "watch":
            return lambda *args, **kwargs: Blocking(value(*args, **kwargs))
        if inspect.ismethod(value):
            return _awaited(value)
        return Blocking(value) if type(value).__name__ in ("Users", "Roles", "Auth") else value

    async def __aenter__(self) -> Blocking:
        self._inner.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


def _awaited(method: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call
