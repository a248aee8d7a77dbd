# SPDX-License-Identifier: Apache-2.0
"""Namespaces: operations whose keys all live below a prefix, and never see that they do.

1. A key k becomes prefix + k; a range ``[k, e)`` becomes ``[prefix + k, prefix + e)``, and one
   without an end stops where the prefix stops. The key that is exactly the prefix is outside.
2. Keys in answers lose the prefix again; revisions, counts and headers are the store's own.
3. Leases belong to the whole cluster; of a lease's keys only those below the prefix are shown.

It works on effects, so every operation that reads, writes or watches can be run in it.

Source: etcd client/v3/namespace/{kv,watch,lease,util}.go. Its range end for a prefix that ends
in 0xff takes in one foreign key; ours does not.
"""

from __future__ import annotations

from typing import Any, TypeVar

from purecd import errors
from purecd.core import methods
from purecd.core.op import Attach, Call, Effect, Next, Op
from purecd.core.serverstream import ServerStream
from purecd.core.watcher import Watcher
from purecd.requests import NO_END, Compare, Delete, Get, Put, Text, Txn, as_bytes, prefix_end
from purecd.types import DeleteReply, Event, GetReply, KeyValue, PutReply, TxnReply, WatchResponse

T = TypeVar("T")

_KV = (methods.RANGE, methods.PUT, methods.DELETE_RANGE, methods.TXN, methods.TXN_READ)


class Namespace:
    """A prefix, and the way into and out of it."""

    __slots__ = ("_end", "_size", "prefix")

    def __init__(self, prefix: Text) -> None:
        self.prefix = as_bytes("prefix", prefix)
        if not self.prefix:
            raise ValueError("the prefix of a namespace is empty")
        self._size = len(self.prefix)
        self._end = prefix_end(self.prefix)

    def below(self, prefix: Text) -> Namespace:
        """A namespace in this one."""
        return Namespace(self.prefix + as_bytes("prefix", prefix))

    def run(self, op: Op[T]) -> Op[T]:
        """The same operation, inside."""
        try:
            effect = op.send(None)
            while True:
                try:
                    result = yield self._enter(effect)
                    reply = self._leave(effect, result)
                except BaseException as error:
                    effect = op.throw(error)
                else:
                    effect = op.send(reply)
        except StopIteration as end:
            value: T = end.value
            return value

    # Into the namespace.

    def _enter(self, effect: Effect) -> Effect:
        if isinstance(effect, Call):
            if effect.method in _KV:
                effect.request = self._request(effect.request)
        elif isinstance(effect, Attach):
            source = effect.source
            if isinstance(source, Watcher):
                request = source.request
                key, end = self._range(request.key, request.range_end)
                source.request = request._replace(key=key, range_end=end)
            elif isinstance(source, ServerStream) and source.method.path == methods.RANGE_STREAM.path:
                # As with a server that does not have it: the caller reads pages instead.
                raise errors.from_status(12, "RangeStream is not supported in a namespace")
        return effect

    def _range(self, key: bytes, end: bytes) -> tuple[bytes, bytes]:
        if end == NO_END:
            end = self._end
        elif end:
            end = self.prefix + end
        return self.prefix + key, end

    def _request(self, request: Any) -> Any:
        if isinstance(request, Txn):
            # Made anew: PyPy 3.11's _replace calls the constructor with all fields.
            return Txn(
                compare=tuple(self._compare(each) for each in request.compare),
                success=tuple(self._request(each) for each in request.success),
                failure=tuple(self._request(each) for each in request.failure),
            )
        if isinstance(request, Put):
            return request.with_key_range(self.prefix + request.key)
        assert isinstance(request, (Get, Delete))
        return request.with_key_range(*self._range(request.key, request.range_end))

    def _compare(self, compare: Compare) -> Compare:
        return compare.with_key_range(*self._range(compare.key, compare.range_end))

    # Out of it.

    def _leave(self, effect: Effect, result: Any) -> Any:
        if isinstance(effect, Call):
            if effect.method in _KV:
                return self._reply(result)
            if effect.method is methods.LEASE_TIME_TO_LIVE:
                kept = [key[self._size :] for key in result.keys if key.startswith(self.prefix)]
                del result.keys[:]
                result.keys.extend(kept)
        elif isinstance(effect, Next) and isinstance(result, WatchResponse) and result.events:
            return result._replace(events=[self._event(each) for each in result.events])
        return result

    def _reply(self, reply: Any) -> Any:
        if isinstance(reply, GetReply):
            return reply._replace(kvs=[self._strip(each) for each in reply.kvs])
        if isinstance(reply, PutReply):
            return reply._replace(prev_kv=self._strip_any(reply.prev_kv))
        if isinstance(reply, DeleteReply):
            return reply._replace(prev_kvs=[self._strip(each) for each in reply.prev_kvs])
        assert isinstance(reply, TxnReply)
        return reply._replace(responses=[self._reply(each) for each in reply.responses])

    def _event(self, event: Event) -> Event:
        return event._replace(kv=self._strip(event.kv), prev_kv=self._strip_any(event.prev_kv))

    def _strip_any(self, kv: KeyValue | None) -> KeyValue | None:
        return None if kv is None else self._strip(kv)

    def _strip(self, kv: KeyValue) -> KeyValue:
        return kv._replace(key=kv.key[self._size :])
