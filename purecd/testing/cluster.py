# SPDX-License-Identifier: Apache-2.0
"""A real etcd cluster for tests, one process per member."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from purecd.testing.etcd import BIND_ATTEMPTS, POLL_INTERVAL, AddressInUse, EtcdServer, TlsFiles

_Self = TypeVar("_Self", bound="EtcdCluster")


class EtcdCluster:
    """`size` etcd members on 127.0.0.1, started together.

    As a context manager it starts on entry and is closed on exit. Members are `EtcdServer`
    objects to stop, kill, pause and restart one by one.

    Args:
        size: count of members, usually 1, 3 or 5.
        args, binary, tls, fsync: for every member, as in `EtcdServer`.

    Attributes:
        members: in the order of their names, ``member0`` first; running or not.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        args: Sequence[str] = (),
        binary: str | os.PathLike[str] | None = None,
        tls: bool | TlsFiles = False,
        fsync: bool = False,
    ) -> None:
        if size < 1:
            raise ValueError(f"a cluster has at least one member, not {size}")
        self.members = [
            EtcdServer(f"member{index}", args=args, binary=binary, tls=tls, fsync=fsync)
            for index in range(size)
        ]
        self._served = False  # whether all have served, so their addresses must stay
        self._introduce()

    @property
    def endpoints(self) -> list[str]:
        """Client URLs of all members, running or not."""
        return [member.endpoint for member in self.members]

    def start(self) -> None:
        """Start every member that is not running, at the same time, and wait until all serve.

        Raises:
            RuntimeError: a member did not come up; the end of its log is in the text.
        """
        for attempt in range(BIND_ATTEMPTS):
            for member in self.members:
                if not member.running:
                    member.start(wait=False)
            try:
                self._wait_ready()
            except AddressInUse:
                if attempt == BIND_ATTEMPTS - 1:
                    raise
                self._move()
            else:
                self._served = True
                return

    def stop(self) -> None:
        """End all members in order (SIGTERM), one after the other.

        Told all at once, a leader tries for 7 s to hand over to a member that is stopping too.
        """
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        """End all members at once (SIGKILL)."""
        for member in self.members:
            member.kill()

    def close(self, *, keep_log: bool = False) -> None:
        """Kill all members and remove what they left; the logs stay with `keep_log`."""
        for member in self.members:
            member.close(keep_log=keep_log)

    def leader(self, timeout: float = 15.0) -> EtcdServer:
        """Wait until exactly one member that answers says that it leads.

        A leader cut off from the others goes on saying so for up to an election timeout.

        Raises:
            TimeoutError: no agreement within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            leaders = [member for member in self.members if _leads(member)]
            if len(leaders) == 1:
                return leaders[0]
            if time.monotonic() > deadline:
                states = ", ".join(f"{m.name} {'runs' if m.running else 'is down'}" for m in self.members)
                raise TimeoutError(f"{len(leaders)} leaders after {timeout:g} s; {states}")
            time.sleep(POLL_INTERVAL)

    def followers(self) -> list[EtcdServer]:
        """The running members that do not lead."""
        leader = self.leader()
        return [member for member in self.members if member.running and member is not leader]

    def rolling_restart(self) -> Iterator[EtcdServer]:
        """Restart the members one after the other, in order; yields each when it serves again."""
        for member in self.members:
            member.restart()
            yield member

    def __enter__(self: _Self) -> _Self:
        try:
            self.start()
        except BaseException:
            self.close(keep_log=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        add_note = getattr(error, "add_note", None)  # from Python 3.11 on
        if add_note is not None:
            add_note("etcd's logs: " + ", ".join(str(member.log_path) for member in self.members))
        self.close(keep_log=error is not None)

    def _introduce(self) -> None:
        everyone = {member.name: member.peer_url for member in self.members}
        for member in self.members:
            member.initial_cluster = everyone

    def _wait_ready(self, timeout: float = 30.0) -> None:
        # One turn for each, so that a member that ends is seen although others wait for it.
        deadline = time.monotonic() + timeout
        waiting = self.members
        while waiting := [member for member in waiting if not member.is_ready()]:
            if time.monotonic() > deadline:
                waiting[0].wait_ready(0.0)  # raises, with the end of its log
            time.sleep(POLL_INTERVAL)

    def _move(self) -> None:
        if self._served:
            time.sleep(0.2)  # others know the ports: perhaps whoever took one leaves
            return
        for member in self.members:
            member.kill()
            member.wipe()
            member.change_ports()
        self._introduce()


def _leads(member: EtcdServer) -> bool:
    try:
        return member.running and member.metric("etcd_server_is_leader") == 1
    except (OSError, http.client.HTTPException):
        return False  # paused, or just going
