# SPDX-License-Identifier: Apache-2.0
"""Elections in the asyncio front."""

from __future__ import annotations

from collections.abc import AsyncIterator

from purecd.aio.contenders import AsyncContender
from purecd.core import elections, locks
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import Text, as_bytes
from purecd.types import KeyValue


class AsyncElection(AsyncContender):
    """An election: one candidate leads at a time, and all can see who, by its proposal.

    It is won in the order of coming, lives by a lease, and can be lost, as a lock can; what a leader writes
    goes through `txn` or `guard`, or carries the `fencing_token`. In an ``async with`` statement the leader
    resigns at the end of the block. An `AsyncElection` stands for one candidate at a time.

    Go's ``concurrency.Election``, ``etcdctl elect`` and the election service of etcd take part in the same
    election.

    Attributes:
        name: of the election; its candidates are the keys below ``name/``.
    """

    _kind = "Election"

    async def __aenter__(self) -> AsyncElection:
        return self

    async def campaign(self, proposal: Text = b"", timeout: Timeout = None) -> int:
        """Stand for election, and wait until it is won.

        Args:
            proposal: what observers see of the leader: its address, say.
            timeout: seconds to wait, None for no limit.

        Returns:
            The `fencing_token`.

        Raises:
            DeadlineExceeded: it was not won in time. It leaves no trace.
            LockLost: the lease was lost while waiting.
            RuntimeError: this `AsyncElection` leads or waits, or its lease is in this election by another.

        Sends: Lease/LeaseGrant, unless a lease was given; KV/Txn; while others are ahead KV/Range and
            Watch/Watch. Repeatable. Lease/LeaseRevoke, or KV/Txn in a given lease, when it gives up.
        """
        await self._take(locks.acquire, timeout, as_bytes("proposal", proposal))
        return self.fencing_token

    async def proclaim(self, proposal: Text, timeout: Timeout = DEFAULT_TIMEOUT) -> None:
        """Change the proposal, without an election.

        Args:
            proposal: what observers see from now on.
            timeout: seconds for the whole command.

        Raises:
            LockLost: it does not lead any more; nothing was done.
            RuntimeError: it was not elected.

        Sends: KV/Txn, again only when it was certainly not applied.
        """
        op = elections.proclaim(self._held(), as_bytes("proposal", proposal))
        await self._owner._run(op, timeout)

    async def resign(self, timeout: Timeout = DEFAULT_TIMEOUT) -> None:
        """Lead no longer.

        Args:
            timeout: seconds for the whole command.

        Raises:
            LockLost: it did not lead any more.
            RuntimeError: it was not elected, or has resigned before.
            EtcdError: it may lead still, at most until its lease ends. It can resign again.

        Sends: KV/Txn, repeatable; Lease/LeaseRevoke, unless a lease was given.
        """
        await self._let_go(timeout)

    async def leader(self, timeout: Timeout = DEFAULT_TIMEOUT) -> KeyValue | None:
        """Who leads: its key, with the proposal as value; None when nobody does.

        Args:
            timeout: seconds for the whole command.

        Sends: KV/Range, repeatable.
        """
        found: KeyValue | None = await self._owner._run(elections.leader(self.name), timeout)
        return found

    async def observe(self, timeout: Timeout = None) -> AsyncIterator[KeyValue]:
        """Follow who leads: the present leader first, then each other one, and each other proposal.

        What is followed by more at once may be left out. While nobody leads nothing comes.

        Args:
            timeout: seconds to wait for each, None for no limit.

        Raises:
            DeadlineExceeded: nothing new came in time.
        """
        observer = elections.Observer(self.name)
        try:
            while True:
                yield await self._owner._run(elections.next_leader(observer), timeout)
        finally:
            await self._owner._run(elections.end(observer), None)
