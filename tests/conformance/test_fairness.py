# SPDX-License-Identifier: Apache-2.0
"""How much of a flood comes between others and their turn, counted in frames and turns, not in time.

On asyncio all clients share a thread, and a flood could have all of it: there a connection gets no more than
`FRAMES_AT_ONCE` frames in a turn of the loop. Threads of other clients share nothing with it but the
interpreter, which gives each its share; they never take a frame of the flood themselves.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from statistics import median
from typing import Any

import pytest

import purecd
from purecd import errors
from purecd.aio.driver import FRAMES_AT_ONCE
from purecd.sync.transport import LARGE_SIZE
from purecd.wire import receiving
from purecd.wire.http2 import Http2Connection
from tests.conformance.frames import EIGHT
from tests.conformance.hostile import MIB, Flood, Hostile
from tests.conformance.script import REPLY
from tests.support.answering import Answering, eventually
from tests.wire.peer import (
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    answer,
    data,
    frame,
    headers,
    parse,
    u32,
)

CALL = 3
CALLS = 40
# A message that comes an octet at a time makes progress, so no budget ends this flood.
ENDLESS = Flood(
    headers(CALL) + data(CALL, b"\0" + u32(100 * MIB)),
    frame(PING, 0, 0, EIGHT) * 9 + data(CALL, b"x"),
    10_000_000,
)


class Taken:
    """Pings of a flood, as they are processed.

    Attributes:
        by: count, by thread.
        octets: most that a connection was given at once.
    """

    def __init__(self) -> None:
        self.by: Counter[int] = Counter()
        self.octets = 0

    @property
    def frames(self) -> int:
        return sum(self.by.values())


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    taken = Taken()
    on_ping = receiving._HANDLERS[PING]
    receive_data = Http2Connection.receive_data

    def counting(conn: Any, *args: Any) -> None:
        taken.by[threading.get_ident()] += 1
        on_ping(conn, *args)

    def measuring(conn: Any, octets: bytes, now: float = 0.0) -> None:
        taken.octets = max(taken.octets, len(octets))
        receive_data(conn, octets, now)

    handlers = (*receiving._HANDLERS[:PING], counting, *receiving._HANDLERS[PING + 1 :])
    monkeypatch.setattr(receiving, "_HANDLERS", handlers)
    monkeypatch.setattr(Http2Connection, "receive_data", measuring)
    return taken


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.close()


class Turns:
    """Counts the turns of a loop."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._next = self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._next.cancel()


class Neighbour(asyncio.Protocol):
    """The server of another client, in its loop: answers every call at once, and notes when.

    Attributes:
        answered: turns and frames of the flood at the last answer.
    """

    def __init__(self, turns: Turns, taken: Taken) -> None:
        self._turns, self._taken = turns, taken
        self._received = b""
        self.answered = (0, 0)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(frame(SETTINGS, 0, 0))

    def data_received(self, octets: bytes) -> None:
        self._received += octets
        frames = self._received[24:]  # after the preface
        size = 0
        while len(frames) - size >= 9 and len(frames) - size >= 9 + _length(frames, size):
            size += 9 + _length(frames, size)
        self._received = self._received[:24] + frames[size:]
        for each in parse(frames[:size]):
            if each.kind in (HEADERS, DATA) and each.flags & END_STREAM:
                self._transport.write(answer(each.stream_id, REPLY))
                self.answered = (self._turns.count, self._taken.frames)


def _length(frames: bytes, at: int) -> int:
    return int.from_bytes(frames[at : at + 3], "big")


def test_a_flood_gets_some_frames_of_each_turn(taken: Taken, hostile: Hostile) -> None:
    waits: list[int] = []
    between: list[int] = []

    async def call_beside_the_flood(flooded: str) -> None:
        turns = Turns()
        neighbour = Neighbour(turns, taken)
        server = await asyncio.get_running_loop().create_server(lambda: neighbour, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with purecd.AsyncClient(f"127.0.0.1:{port}") as client, purecd.AsyncClient(flooded) as victim:
            await client.get("k")
            call = asyncio.ensure_future(victim.put("k", "v", timeout=None))
            while taken.frames < FRAMES_AT_ONCE:
                await client.get("k")
            for _ in range(CALLS):
                await client.get("k")
                turn, frames = neighbour.answered
                waits.append(turns.count - turn)
                between.append(taken.frames - frames)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
        turns.stop()
        server.close()
        await server.wait_closed()

    with hostile.flood(ENDLESS) as flooded:
        asyncio.run(asyncio.wait_for(call_beside_the_flood(flooded), 60))
        hostile.seen()
    print(f"FIGURES {taken.frames} frames; from answer to caller {max(waits)} turns, {max(between)} frames")
    # A turn that has begun counts, too.
    assert all(frames <= FRAMES_AT_ONCE * (wait + 1) for wait, frames in zip(waits, between))
    assert median(waits) <= 4, "the kernel may hold back one or the other"
    assert sum(between) > CALLS * FRAMES_AT_ONCE / 4, "there was a flood"


def test_threads_of_others_take_no_frame_of_a_flood(taken: Taken, hostile: Hostile) -> None:
    with Answering() as good, hostile.flood(ENDLESS) as flooded:
        with purecd.Client(good.endpoint) as client, purecd.Client(flooded) as victim:

            def write() -> None:
                with suppress(errors.ClientClosed):
                    victim.put("k", "v", timeout=None)

            thread = threading.Thread(target=write)
            thread.start()
            eventually(lambda: taken.frames > 1000)
            before = taken.frames
            for _ in range(CALLS):
                client.get("k")
            eventually(lambda: taken.frames > before + 1000)
            assert good.paths == ["Range"] * CALLS
            assert threading.get_ident() not in taken.by
            assert len(taken.by) == 1
            victim.close()
            thread.join()
        hostile.seen()
    assert taken.octets <= LARGE_SIZE, "between two chances of others to have the interpreter"
