# SPDX-License-Identifier: Apache-2.0
"""etcd's protobuf messages, in a descriptor pool of our own.

The default pool of a process takes each file name once, so generated modules of two etcd libraries
exclude each other, and they bind to a range of protobuf releases. A private pool built from a
descriptor set does neither. It is built at the first use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

    ClassMaker = Callable[[Any], type[Message]]

_building = RLock()  # held while the pool is built, so that there is one
if hasattr(os, "register_at_fork"):
    # A child in which the lock is held by a thread of its parent would wait for ever.
    os.register_at_fork(
        before=_building.acquire, after_in_parent=_building.release, after_in_child=_building.release
    )


def message_class(name: str) -> type[Message]:
    """Get the class of a message.

    Args:
        name: full name, such as ``etcdserverpb.RangeRequest``.

    Raises:
        KeyError: there is no such message.
    """
    pool, make_class = _pool_and_maker()
    return make_class(pool.FindMessageTypeByName(name))


def descriptor_pool() -> DescriptorPool:
    """The pool that holds all messages, enums and services."""
    return _pool_and_maker()[0]


def _pool_and_maker() -> tuple[DescriptorPool, ClassMaker]:
    with _building:
        return _build()


@cache
def _build() -> tuple[DescriptorPool, ClassMaker]:
    import pkgutil

    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    for file in _files(pkgutil.get_data(__name__, "etcd.binpb") or b""):
        pool.AddSerializedFile(file)
    if hasattr(message_factory, "GetMessageClass"):  # since protobuf 4.22
        return pool, message_factory.GetMessageClass
    factory: Any = message_factory.MessageFactory(pool)
    return pool, factory.GetPrototype


def _files(descriptor_set: bytes) -> Iterator[bytes]:
    """Split a FileDescriptorSet (field 1, repeated) into files, each after those it imports."""
    from purecd.pb.wireformat import span

    pos = 0
    while pos < len(descriptor_set):
        start, pos = span(descriptor_set, pos + 1)
        yield descriptor_set[start:pos]
