# SPDX-License-Identifier: Apache-2.0
"""What programs ask of etcd within one key space: a client's, or that of a namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from purecd.aio.binding import awaitable
from purecd.aio.driver import Driver
from purecd.aio.handles import AsyncWatch
from purecd.aio.leases import AsyncLease
from purecd.core import kv, leases
from purecd.core import scan as scans
from purecd.core.namespace import Namespace
from purecd.core.op import Op
from purecd.core.ordering import Ordering
from purecd.core.watch import watch_request
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.requests import Text
from purecd.types import KeyValue

if TYPE_CHECKING:
    from purecd.aio.elections import AsyncElection
    from purecd.aio.locks import AsyncLock

T = TypeVar("T")


class AsyncCommands:
    """Commands on keys, watches and leases."""

    get = awaitable(kv.get)
    put = awaitable(kv.put)
    delete = awaitable(kv.delete)
    txn = awaitable(kv.txn)
    compact = awaitable(kv.compact)

    def scan(
        self,
        key: Text = "",
        range_end: Text | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        page: int = 1000,
        revision: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> AsyncIterator[KeyValue]:
        """Go through any number of keys with ``async for``, in key order, all as of one revision.

        Args:
            key: the first of ``[key, range_end)``; all keys when nothing else is given.
            range_end: where the range ends, exclusive.
            prefix: go through all keys that start with `key`.
            from_key: go through `key` and all keys after it.
            page: how many keys to ask for at once.
            revision: as of this revision, 0 for the one when it begins.
            serializable: let the member answer from what it has, which may be old.
            keys_only: leave the values out.
            timeout: seconds for each page.

        Raises:
            Compacted: the revision was compacted while this went on.
        """
        state = scans.Scan(
            key,
            range_end,
            prefix=prefix,
            from_key=from_key or (not key and range_end is None and not prefix),
            page=page,
            revision=revision,
            serializable=serializable,
            keys_only=keys_only,
        )
        return self._pages(state, timeout)

    async def _pages(self, state: scans.Scan, timeout: Timeout) -> AsyncIterator[KeyValue]:
        try:
            while True:
                page = await self._run(scans.next_page(state), timeout)
                if page is None:
                    return
                for kv in page.kvs:
                    yield kv
        finally:
            await self._run(scans.end(state), timeout)

    def watch(
        self,
        key: Text,
        range_end: Text | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
        exclude: Iterable[str] = (),
        fragment: bool = True,
        require_leader: bool = False,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> AsyncWatch:
        """Watch a key or a range; ``async with`` waits until the server has the watch.

        Args:
            key: the key, or the first of ``[key, range_end)``.
            range_end: where the range ends, exclusive.
            prefix: watch all keys that start with `key`; an empty key means all keys.
            from_key: watch `key` and all keys after it.
            start_revision: first revision to report, 0 for what happens from now on.
            prev_kv: have each event carry what was there before.
            progress_notify: have the server report progress while nothing changes.
            exclude: kinds of events to leave out, ``"put"`` or ``"delete"``.
            fragment: let the server send large responses in pieces; they are put together again.
            require_leader: end the watch with `NoLeader` when the member loses its leader.
            timeout: seconds until the server must have the watch; events are waited for without limit.

        Raises:
            PermissionDenied: the user may not read all of the range.
            DeadlineExceeded: no endpoint took the watch in time.
        """
        request = watch_request(
            key,
            range_end,
            prefix=prefix,
            from_key=from_key,
            start_revision=start_revision,
            prev_kv=prev_kv,
            progress_notify=progress_notify,
            exclude=exclude,
            fragment=fragment,
            require_leader=require_leader,
        )
        return AsyncWatch(self, request, timeout)

    async def lease(
        self,
        ttl: int,
        *,
        lease_id: int = 0,
        keep_alive: bool = True,
        on_lost: Callable[[AsyncLease], None] | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> AsyncLease:
        """Grant a lease, and keep it alive until it is closed.

        Args:
            ttl: seconds until the server drops it when nobody renews it.
            lease_id: an id of the caller's choice, 0 for a random one.
            keep_alive: renew it in the background, at a third of its TTL.
            on_lost: called once, on the event loop, when it was lost.
            timeout: seconds for the grant.

        Raises:
            LeaseExist: there is a lease with this id.
        """
        granted = await self._run(leases.grant(ttl, lease_id=lease_id), timeout)
        lease = AsyncLease(self, granted.id, granted.ttl, granted.sent_at, on_lost)
        if keep_alive:
            lease.keep_alive()
        return lease

    def lock(
        self,
        name: Text,
        *,
        ttl: int = 60,
        lease: AsyncLease | None = None,
        timeout: float | None = None,
    ) -> AsyncLock:
        """A lock that one holder has at a time; ``async with`` or `acquire` waits for it.

        Args:
            name: of the lock. Its contenders are the keys below ``name/``, so the names of locks must not
                continue each other at a slash.
            ttl: seconds until others get it when this process dies. While it is held or waited for it has a
                lease of its own.
            lease: one that is kept alive already, to be used instead. It is not revoked with the lock, and
                stands in the line of each lock once.
            timeout: seconds that acquiring it may take, None for no limit.

        Raises:
            ValueError: `name` is empty.
        """
        from purecd.aio.locks import AsyncLock

        return AsyncLock(self, name, ttl, lease, timeout)

    def election(self, name: Text, *, ttl: int = 60, lease: AsyncLease | None = None) -> AsyncElection:
        """An election, to stand in or to watch.

        Args:
            name: of the election, not that of a lock, too. Its candidates are the keys below ``name/``.
            ttl: seconds until another leads when this process dies. While it leads or waits it has a lease of
                its own.
            lease: one that is kept alive already, to be used instead. It is not revoked by resigning.

        Raises:
            ValueError: `name` is empty.
        """
        from purecd.aio.elections import AsyncElection

        return AsyncElection(self, name, ttl, lease)

    def namespace(self, prefix: Text) -> AsyncNamespaced:
        """The same client, seen from below a prefix: keys there, and only those.

        Args:
            prefix: what all keys start with, separator included, such as ``"app/"``.
        """
        return AsyncNamespaced(self, Namespace(prefix))

    def ordered(self) -> AsyncOrdered:
        """The same client, whose reads never go back in time.

        A serializable read may be answered by a member that is behind. Through this view an
        answer older than an earlier one of the view is not believed: another member is asked,
        and when none is as far, `NoGreaterRevision` is raised.
        """
        return AsyncOrdered(self)

    # What a key space is made of.

    def _run(self, op: Op[T], timeout: Timeout) -> Coroutine[Any, Any, T]:
        """Run an operation in this key space."""
        raise NotImplementedError  # clients and their views say how

    def _tell_watch(self, event: str, detail: str) -> None:
        """Log what happened to a watch, and tell the hooks."""
        raise NotImplementedError  # clients and their views say how

    def _streams(self) -> Driver:
        """The driver of watches."""
        raise NotImplementedError  # clients and their views say how

    def _leases(self) -> Driver:
        """The driver of leases."""
        raise NotImplementedError  # clients and their views say how


class AsyncView(AsyncCommands):
    """A view of a client: it uses the client's connections, and ends with it. Views nest."""

    def __init__(self, parent: AsyncCommands) -> None:
        self._parent = parent

    def _inside(self, op: Op[T]) -> Op[T]:
        """The operation as this view runs it."""
        raise NotImplementedError  # each view says how

    def _run(self, op: Op[T], timeout: Timeout) -> Coroutine[Any, Any, T]:
        return self._parent._run(self._inside(op), timeout)

    def _tell_watch(self, event: str, detail: str) -> None:
        self._parent._tell_watch(event, detail)

    def _streams(self) -> Driver:
        return self._parent._streams()

    def _leases(self) -> Driver:
        return self._parent._leases()


class AsyncOrdered(AsyncView):
    """A view whose reads never go back in time; made by ``client.ordered()``."""

    def __init__(self, parent: AsyncCommands) -> None:
        super().__init__(parent)
        self._ordering = Ordering(nullcontext())

    def __repr__(self) -> str:
        return f"<ordered view of {self._parent!r}>"

    @property
    def revision(self) -> int:
        """The highest revision of the store that an answer told of."""
        return self._ordering.revision

    def _inside(self, op: Op[T]) -> Op[T]:
        return self._ordering.run(op)


class AsyncNamespaced(AsyncView):
    """A view that lives below a prefix; made by ``client.namespace(prefix)``."""

    def __init__(self, parent: AsyncCommands, namespace: Namespace) -> None:
        super().__init__(parent)
        self._namespace = namespace

    def __repr__(self) -> str:
        return f"<{self._namespace.prefix!r} of {self._parent!r}>"

    @property
    def prefix(self) -> bytes:
        """What all keys of this view start with, as seen by its parent."""
        return self._namespace.prefix

    def _inside(self, op: Op[T]) -> Op[T]:
        return self._namespace.run(op)
