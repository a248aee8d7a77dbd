# SPDX-License-Identifier: Apache-2.0
"""The network between the members of a cluster, to be partitioned.

Each member is reached by the others through a proxy on 127.0.0.1. Whose connection it is says the
header ``X-Server-From`` of its first request, so that a pair of members can be kept apart in both
directions, whichever of them dialled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from purecd.testing import EtcdCluster, EtcdServer
from tests.support.observer import gateway


class PeerNetwork:
    """Proxies between the members of a cluster that was not started yet; a context manager."""

    def __init__(self, cluster: EtcdCluster) -> None:
        self._cluster = cluster
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="PeerNetwork", daemon=True)
        self._apart: set[frozenset[str]] = set()
        self._names: dict[str, str] = {}  # hexadecimal id to name
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.AbstractServer] = []

    def __enter__(self) -> PeerNetwork:
        self._thread.start()
        urls = {member.name: self._do(self._listen(member)) for member in self._cluster.members}
        for member in self._cluster.members:
            member.initial_cluster = urls
            member.args.append(f"--initial-advertise-peer-urls={urls[member.name]}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def split(self, *groups: Iterable[EtcdServer]) -> None:
        """Let nothing pass between members of different groups; what was sent arrives after `heal`."""
        if not self._names:
            for member in gateway(self._cluster.members[0].endpoint, "cluster/member/list", {})["members"]:
                self._names[f"{int(member['ID']):x}"] = member["name"]
        sides = [{member.name for member in group} for group in groups]
        self._apart = {
            frozenset((one, other))
            for side in sides
            for one in side
            for different in sides
            if different is not side
            for other in different
        }

    def isolate(self, member: EtcdServer) -> None:
        """Cut one member off from all others."""
        self.split([member], [each for each in self._cluster.members if each is not member])

    def heal(self) -> None:
        """Let everything pass again."""
        self._apart = set()

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self, member: EtcdServer) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(member, reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # an end went away, or the test is over
            finally:
                writer.close()
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports close themselves in the next turn

    async def _serve(
        self, target: EtcdServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        source = _header(head, b"x-server-from")
        await self._passage(source, target)
        back, forth = await asyncio.open_connection("127.0.0.1", target.peer_port)
        try:
            forth.write(head)
            pumps = [
                asyncio.ensure_future(self._pump(reader, forth, source, target)),
                asyncio.ensure_future(self._pump(back, writer, source, target)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            forth.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str, target: EtcdServer
    ) -> None:
        while data := await reader.read(65536):
            await self._passage(source, target)
            writer.write(data)
            await writer.drain()

    async def _passage(self, source: str, target: EtcdServer) -> None:
        """Wait until the two may talk."""
        while frozenset((self._names.get(source, source), target.name)) in self._apart:  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.02)


def _header(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().decode()
    return ""
