# SPDX-License-Identifier: Apache-2.0
"""F19: calls cut short by the caller at any moment, sampled: task.cancel() and KeyboardInterrupt."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
import time

import pytest

import purecd
from tests.support import observer
from tests.support.history import Operation, Step, check
from tests.support.proxy import FaultProxy
from tests.support.recorder import Recorder, keep_reply, send

SAMPLES = 400


def checked(server, operations):
    """What the log says to operations of which some were cut short."""
    until = observer.put(server.endpoint, "end", "end")
    changes = [each for each in observer.read_log(server.endpoint, until) if each.key != "end"]
    return check(operations, changes)


def operation(recorder, rng):
    kind = rng.choice(["put", "put", "get", "txn"])
    key = f"k{rng.randrange(3)}"
    if kind == "get":
        return Operation("get", (Step("get", key),), timeout=10)
    if kind == "put":
        return Operation("put", (Step("put", key, recorder.unique()),), timeout=10)
    return Operation("txn", (Step("get", key), Step("put", "t", recorder.unique())), timeout=10)


class OneOff:
    """Records one operation at a time of the asyncio client."""

    def __init__(self, client):
        self.client = client

    async def run(self, each):
        step = each.success[0]
        each.called_at = time.monotonic()
        if each.name == "put":
            reply = await self.client.put(step.key, step.value)
        elif each.name == "get":
            reply = await self.client.get(step.key)
        else:
            requests = [purecd.Get(step.key), purecd.Put("t", each.success[1].value)]
            reply = await self.client.txn([], requests, [])
        each.returned_at = time.monotonic()
        each.outcome, each.revision = "ok", reply.header.revision
        if each.name == "txn":
            value = reply.responses[0].value
            each.results = (value and value.decode(), None)
        else:
            value = getattr(reply, "value", None)
            each.results = (value and value.decode(),)


def test_f19_tasks_cancelled_at_any_moment(start_server, seed):
    server = start_server()
    rng = random.Random(seed)
    recorder = Recorder()
    unseen: list[dict] = []

    async def main(proxy):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        async with purecd.AsyncClient(proxy.endpoint) as client:
            one = OneOff(client)
            cancelled = 0
            for number in range(SAMPLES):
                each = operation(recorder, rng)
                recorder.operations.append(each)
                task = asyncio.ensure_future(one.run(each))
                if number % 2:
                    for _ in range(rng.randrange(12)):
                        await asyncio.sleep(0)
                else:
                    await asyncio.sleep(rng.random() * 0.003)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    cancelled += 1
                if number % 25 == 0:
                    after = operation(recorder, rng)
                    recorder.operations.append(after)
                    await asyncio.wait_for(one.run(after), 5)
            watches = await cancelled_watches(client, rng)
            assert len(asyncio.all_tasks()) == 1
            return cancelled, watches

    async def cancelled_watches(client, rng):
        cancelled = 0
        for _ in range(100):
            watch = client.watch("k", prefix=True)

            async def use(watch=watch):
                async with watch:
                    await watch.next(None)

            task = asyncio.ensure_future(use())
            await asyncio.sleep(rng.random() * 0.004)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled += 1
        deadline = time.monotonic() + 5
        while server.metric("etcd_debugging_mvcc_watcher_total") > 0:
            assert time.monotonic() < deadline, "watchers are left on the server"
            await asyncio.sleep(0.05)
        return cancelled

    with FaultProxy(server.endpoint) as proxy:
        cancelled, watches = asyncio.run(main(proxy))
        connections = proxy.connections
    figures = {"cancelled": cancelled, "watches": watches, "connections": connections}
    print(f"FIGURES {json.dumps({'test': 'test_f19[aio]', **figures})}")
    assert not unseen
    assert cancelled > SAMPLES / 4
    assert connections <= 2, "cancelling ends calls, not connections"
    assert not checked(server, recorder.operations)


# A socket that is cut off from its maker in the very line that makes it is closed with the garbage.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_f19_interrupts_at_any_moment(start_server, seed):
    server = start_server()
    rng = random.Random(seed)
    recorder = Recorder()
    armed = False

    def interrupt(number, frame):
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        with FaultProxy(server.endpoint) as proxy, purecd.Client(proxy.endpoint) as client:
            client.get("k")
            for number in range(SAMPLES):
                each = operation(recorder, rng)
                recorder.operations.append(each)
                each.called_at = time.monotonic()
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + rng.random() * 0.0015)
                    reply = send(client, each)
                    armed = False
                except KeyboardInterrupt:
                    interrupted += 1
                else:
                    each.returned_at = time.monotonic()
                    keep_reply(each, reply)
                    each.outcome = "ok"
                finally:
                    armed = False
                if number % 25 == 0:
                    after = recorder.perform(client, operation(recorder, rng))
                    assert after.outcome == "ok", after
                    assert after.returned_at - after.called_at < 5
            connections = proxy.connections
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    figures = {"interrupted": interrupted, "connections": connections, "threads": threading.active_count()}
    print(f"FIGURES {json.dumps({'test': 'test_f19[threads]', **figures})}")
    assert interrupted > SAMPLES / 10
    assert not checked(server, recorder.operations)
