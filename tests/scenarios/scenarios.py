# SPDX-License-Identifier: Apache-2.0
"""What the client promises, told once and played on every stage.

Each is a coroutine that gets a stage. It is alone on its member, whose store is fresh.
"""

from __future__ import annotations

from typing import Any

from purecd import errors, version
from purecd.core import auth_admin, leases, roles, users
from purecd.requests import Delete, Get, Put

PASSWORD = "secret"
PATIENT = 20.0  # seconds


async def take(watch: Any, count: int) -> list[tuple[bytes, bytes]]:
    """Key and value of the next events."""
    events = [await watch.next(PATIENT) for _ in range(count)]
    return [(event.kv.key, event.kv.value) for event in events]


# Keys.


async def keys_come_and_go(stage: Any) -> None:
    client = stage.client()
    first = await client.put("a", "1")
    assert (await client.get("a")).value == b"1"
    assert (await client.get("a")).kv.mod_revision == first.header.revision
    await client.put("b", "2", prev_kv=True)
    assert [kv.key for kv in (await client.get("", prefix=True)).kvs] == [b"a", b"b"]
    assert (await client.delete("a", prev_kv=True)).prev_kvs[0].value == b"1"
    assert (await client.get("a")).kv is None
    assert (await client.get("a", revision=first.header.revision)).value == b"1"


async def a_transaction_takes_one_branch(stage: Any) -> None:
    client = stage.client()
    for taken in (True, False):
        reply = await client.txn(
            compare=[version("lock") == 0], success=[Put("lock", "me")], failure=[Get("lock"), Delete("x")]
        )
        assert reply.succeeded is taken
    assert reply.responses[0].value == b"me"


async def history_that_is_gone_is_an_error(stage: Any) -> None:
    client = stage.client()
    old = (await client.put("k", "1")).header.revision
    new = (await client.put("k", "2")).header.revision
    await client.compact(new)
    try:
        await client.get("k", revision=old)
    except errors.Compacted as error:
        assert not error.maybe_applied
    else:
        raise AssertionError("a compacted revision was read")


# Retries and deadlines.


async def a_read_waits_for_its_member(stage: Any) -> None:
    client = stage.client()
    await client.put("k", "v")
    await stage.kill()
    stage.start_in(0.5)
    assert (await client.get("k", timeout=PATIENT)).value == b"v"


async def a_write_to_nobody_is_certainly_not_applied(stage: Any) -> None:
    client = stage.client()
    await client.put("k", "before")
    await stage.kill()
    try:
        await client.put("k", "lost", timeout=0.5)
    except errors.EtcdError as error:
        assert not error.maybe_applied, error
    else:
        raise AssertionError("nobody took the write, and it succeeded")
    await stage.start()
    reply = await client.get("k", timeout=PATIENT)
    assert (reply.value, reply.kv.version) == (b"before", 1)


async def a_write_into_silence_may_be_applied(stage: Any) -> None:
    client = stage.client()
    await client.put("k", "before")
    await stage.silence(True)
    try:
        await client.put("k", "after", timeout=0.5)
    except errors.DeadlineExceeded as error:
        assert error.maybe_applied, error
    else:
        raise AssertionError("silence was taken for success")
    await stage.silence(False)
    reply = await client.get("k", timeout=PATIENT)
    assert reply.kv.version <= 2, "it was sent again"


async def no_write_is_made_twice_however_often_connections_break(stage: Any) -> None:
    client = stage.client()
    made = unsure = 0
    for number in range(10):
        await stage.cut()
        try:
            await client.put("k", str(number), timeout=PATIENT)
            made += 1
        except errors.EtcdError as error:
            assert isinstance(error, errors.Unavailable), error
            unsure += error.maybe_applied
    versions = (await client.get("k", timeout=PATIENT)).kv.version
    assert made <= versions <= made + unsure


# Watches.


async def a_watch_goes_on_over_broken_connections(stage: Any) -> None:
    client, other = stage.client(), stage.client()
    async with client.watch("k", prefix=True) as watch:
        expected = []
        for number in range(8):
            if number % 2:
                await stage.cut()
            key = f"k{number}"
            await other.put(key, "v", timeout=PATIENT, idempotent=True)
            expected.append(key.encode())
        seen: list[bytes] = []
        while len(seen) < len(expected):  # a repeated put is an event of its own
            (key_seen, _), *_ = await take(watch, 1)
            if not seen or seen[-1] != key_seen:
                seen.append(key_seen)
        assert seen == expected


async def a_watch_goes_on_over_restarts(stage: Any) -> None:
    client = stage.client()
    async with client.watch("k") as watch:
        for number in range(2):
            await client.put("k", str(number), timeout=PATIENT)
            await stage.kill()
            await stage.start()
        await client.put("k", "last", timeout=PATIENT)
        assert [value for _, value in await take(watch, 3)] == [b"0", b"1", b"last"]


async def a_watch_follows_a_member_that_is_stopped(stage: Any) -> None:
    client = stage.client()
    async with client.watch("k") as watch:
        await client.put("k", "1", timeout=PATIENT)
        await stage.stop()
        await stage.start()
        await client.put("k", "2", timeout=PATIENT)
        assert [value for _, value in await take(watch, 2)] == [b"1", b"2"]


async def a_watch_begins_in_the_past(stage: Any) -> None:
    client = stage.client()
    first = (await client.put("k", "1")).header.revision
    await client.put("other", "x")
    await client.delete("k")
    async with client.watch("k", start_revision=first) as watch:
        events = [await watch.next(PATIENT) for _ in range(2)]
        assert [event.type.name for event in events] == ["PUT", "DELETE"]
        assert events[0].kv.mod_revision == first


async def a_watch_whose_history_is_gone_says_so(stage: Any) -> None:
    client = stage.client()
    for number in range(3):
        last = (await client.put("k", str(number))).header.revision
    await client.compact(last)
    try:
        async with client.watch("k", start_revision=last - 1) as watch:
            await watch.next(PATIENT)
    except errors.Compacted as error:
        assert error.compact_revision == last
    else:
        raise AssertionError("a watch skipped compacted history")


async def a_slow_reader_loses_nothing(stage: Any) -> None:
    client, other = stage.client(watch_buffer_events=3), stage.client()
    async with client.watch("k") as watch:
        for number in range(30):
            await other.put("k", str(number))
        assert [value for _, value in await take(watch, 30)] == [b"%d" % number for number in range(30)]


async def the_end_of_one_watch_is_no_matter_to_another(stage: Any) -> None:
    client = stage.client()
    async with client.watch("k") as staying:
        async with client.watch("k") as leaving:
            await client.put("k", "1")
            assert await take(leaving, 1) == [(b"k", b"1")]
        await client.put("k", "2")
        assert [value for _, value in await take(staying, 2)] == [b"1", b"2"]


# Leases.


async def a_lease_is_kept_over_broken_connections(stage: Any) -> None:
    client = stage.client()
    lease = await stage.hold(client, 2)
    await client.put("k", "v", lease=_id(lease))
    for _ in range(3):
        await stage.sleep(0.9)
        await stage.cut()
    assert not lease.lost
    assert (await client.get("k", timeout=PATIENT)).value == b"v"


async def a_lease_that_is_gone_is_lost(stage: Any) -> None:
    client, other = stage.client(), stage.client()
    lease = await stage.hold(client, 2)
    await client.put("k", "v", lease=_id(lease))
    await other.put("k2", "v")
    await _run(other, leases.revoke(_id(lease)))
    for _ in range(30):
        if lease.lost:
            break
        await stage.sleep(0.2)
    assert lease.lost
    assert (await client.get("k")).kv is None


def _id(lease: Any) -> int:
    identifier: int = lease.lease_id if hasattr(lease, "lease_id") else lease.id
    return identifier


async def _run(client: Any, op: Any) -> Any:
    result = client._run(op, PATIENT)
    return await result if hasattr(result, "__await__") else result


# Logins.


async def login_on(client: Any) -> None:
    """Make root and a user, and switch auth on."""
    await _run(client, users.add("root", PASSWORD))
    await _run(client, users.grant_role("root", "root"))
    await _run(client, users.add("ann", PASSWORD))
    await _run(client, roles.add("reader"))
    await _run(client, roles.grant_permission("reader", "open/", prefix=True, allow="readwrite"))
    await _run(client, users.grant_role("ann", "reader"))
    await _run(client, auth_admin.enable())


async def a_token_that_is_forgotten_is_replaced(stage: Any) -> None:
    await login_on(stage.client())
    ann = stage.client(user="ann", password=PASSWORD)
    await ann.put("open/k", "1", timeout=PATIENT)
    await stage.kill()
    await stage.start()
    await ann.put("open/k", "2", timeout=PATIENT)
    assert (await ann.get("open/k", timeout=PATIENT)).kv.version == 2


async def what_is_not_permitted_is_refused(stage: Any) -> None:
    await login_on(stage.client())
    ann = stage.client(user="ann", password=PASSWORD)
    for attempt in (ann.put("closed", "1", timeout=PATIENT), ann.get("closed", timeout=PATIENT)):
        try:
            await attempt
        except errors.PermissionDenied as error:
            assert not error.maybe_applied
        else:
            raise AssertionError("it was permitted")
    try:
        async with ann.watch("closed") as watch:
            await watch.next(PATIENT)
    except errors.PermissionDenied:
        pass
    else:
        raise AssertionError("the watch was permitted")


async def a_watch_outlives_the_login(stage: Any) -> None:
    """Auth is switched off while a watch has a token, and the member restarts."""
    await login_on(stage.client())
    root = stage.client(user="root", password=PASSWORD)
    async with root.watch("k") as watch:
        await root.put("k", "1", timeout=PATIENT)
        assert await take(watch, 1) == [(b"k", b"1")]
        await _run(root, auth_admin.disable())
        await stage.kill()
        await stage.start()
        await root.put("k", "2", timeout=PATIENT)
        assert await take(watch, 1) == [(b"k", b"2")]


ALL = [
    keys_come_and_go,
    a_transaction_takes_one_branch,
    history_that_is_gone_is_an_error,
    a_read_waits_for_its_member,
    a_write_to_nobody_is_certainly_not_applied,
    a_write_into_silence_may_be_applied,
    no_write_is_made_twice_however_often_connections_break,
    a_watch_goes_on_over_broken_connections,
    a_watch_goes_on_over_restarts,
    a_watch_follows_a_member_that_is_stopped,
    a_watch_begins_in_the_past,
    a_watch_whose_history_is_gone_says_so,
    a_slow_reader_loses_nothing,
    the_end_of_one_watch_is_no_matter_to_another,
    a_lease_is_kept_over_broken_connections,
    a_lease_that_is_gone_is_lost,
    a_token_that_is_forgotten_is_replaced,
    what_is_not_permitted_is_refused,
    a_watch_outlives_the_login,
]
