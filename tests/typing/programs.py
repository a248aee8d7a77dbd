# SPDX-License-Identifier: Apache-2.0
"""What type checkers make of programs that use purecd; `make lint` reads it, nothing runs it.

Checked with ``mypy --strict`` and pyright. A line with ``type: ignore`` is a mistake that must be found: mypy
reports those that are not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Union

import purecd
from purecd import errors

if TYPE_CHECKING:
    from typing_extensions import assert_type


def reads_and_writes(client: purecd.Client) -> None:
    found = client.get("k", serializable=True, timeout=1)
    assert_type(found, purecd.GetReply)
    assert_type(found.value, Optional[bytes])
    assert_type(found.kvs[0], purecd.KeyValue)
    assert_type(found.header.revision, int)
    assert_type(client.put("k", b"v", lease=7, timeout=None), purecd.PutReply)
    assert_type(client.delete("k", prefix=True).deleted, int)
    assert_type(client.compact(7), purecd.CompactReply)
    assert_type([kv.value for kv in client.scan("k", prefix=True)], "list[bytes]")


def transactions(client: purecd.Client) -> None:
    reply = client.txn(
        compare=[purecd.version("k") == 0, purecd.mod_revision("k") < 7, purecd.value("k") == b"v"],
        success=[purecd.Put("k", "v"), purecd.Get("k"), purecd.Txn(success=[purecd.Delete("k")])],
        failure=[purecd.Get("k")],
    )
    assert_type(reply.succeeded, bool)
    assert_type(reply.gets[0].value, Optional[bytes])
    assert_type(reply.puts[0].prev_kv, Optional[purecd.KeyValue])
    assert_type(reply.txns[0].deletes[0].deleted, int)
    for response in reply.responses:
        assert_type(response, Union[purecd.GetReply, purecd.PutReply, purecd.DeleteReply, purecd.TxnReply])
        if isinstance(response, purecd.GetReply):
            assert_type(response.value, Optional[bytes])
    print(reply.responses[0].value)  # type: ignore[union-attr]  # which kind it is must be asked


def watches_and_leases(client: purecd.Client) -> None:
    with client.watch("k", prefix=True, start_revision=7) as watch:
        for event in watch:
            assert_type(event, purecd.Event)
            assert_type(event.type, purecd.EventType)
            assert_type(event.prev_kv, Optional[purecd.KeyValue])
        assert_type(watch.next(timeout=1), Optional[purecd.Event])
    with client.lease(10) as lease:
        client.put("k", "v", lease=lease)
        assert_type(lease.remaining, float)
        with client.lock("jobs", lease=lease) as lock:
            assert_type(lock.fencing_token, int)
            assert_type(lock.txn(success=[purecd.Put("k", "v")]), purecd.TxnReply)
        client.lock("jobs", lease=7)  # type: ignore[arg-type]  # it must be kept alive
    assert_type(client.lock("jobs").acquire(timeout=1), int)
    with client.election("scheduler") as election:
        assert_type(election.campaign("me"), int)
        assert_type(election.leader(), Optional[purecd.KeyValue])
        for leader in election.observe():
            assert_type(leader, purecd.KeyValue)
    below = client.namespace("app/")
    assert_type(below.get("k"), purecd.GetReply)


def administration(client: purecd.Client) -> None:
    assert_type(client.members.list().members[0].name, str)
    assert_type(client.leases.time_to_live(7).ttl, int)
    assert_type(client.roles.get("r").permissions[0].key, bytes)
    client.users.add("u", "password")


def failures(client: purecd.Client) -> None:
    try:
        client.get("k", revision=1)
    except errors.Compacted as error:
        assert_type(error.compact_revision, int)
    except purecd.EtcdError as error:
        assert_type(error.maybe_applied, bool)
        assert_type(error.code, Optional[purecd.StatusCode])


async def on_an_event_loop() -> None:
    async with purecd.AsyncClient("127.0.0.1:2379", timeout=5) as client:
        putting = client.put("k", "v")
        assert_type(await putting, purecd.PutReply)
        assert_type(await client.get("k"), purecd.GetReply)
        assert_type((await client.txn(success=[purecd.Get("k")])).gets, "list[purecd.GetReply]")
        assert_type((await client.members.list()).members[0].id, int)
        async with client.watch("k") as watch:
            async for event in watch:
                assert_type(event, purecd.Event)
        async with await client.lease(10) as lease:
            await client.put("k", "v", lease=lease)
        async for kv in client.scan("k", prefix=True):
            assert_type(kv, purecd.KeyValue)


def mistakes(client: purecd.Client) -> None:
    client.get(7)  # type: ignore[arg-type]
    client.get("k", revison=7)  # type: ignore[call-arg]
    client.get("k", timeout="1")  # type: ignore[arg-type]
    client.put("k", 7)  # type: ignore[arg-type]
    client.txn(success=["k"])  # type: ignore[list-item]
    client.get("k").value.decode()  # type: ignore[union-attr]
    purecd.Client(timout=1)  # type: ignore[call-arg]
