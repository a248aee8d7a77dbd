# SPDX-License-Identifier: Apache-2.0
"""aetcd: asyncio on grpcio."""

from __future__ import annotations

import asyncio

import aetcd
from serving import KEY, VALUE, AsyncWatching, arguments, in_flight, ranges, serve


async def connect() -> aetcd.Client:
    host, port, _ = arguments()
    client = aetcd.Client(host, port, timeout=5, options={"grpc.max_receive_message_length": -1})
    await client.connect()
    return client


def main() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = loop.run_until_complete(connect())

    async def values(prefix):
        watch = await client.watch_prefix(prefix)
        return (event.kv.value async for event in watch)

    serve(
        {
            "get": in_flight(loop, lambda: client.get(KEY)),
            "put": in_flight(loop, lambda: client.put(KEY, VALUE)),
            "range": ranges(lambda prefix: len(list(loop.run_until_complete(client.get_prefix(prefix))))),
            **AsyncWatching(loop, values).works(),
        }
    )


main()
