# SPDX-License-Identifier: Apache-2.0
"""purecd on asyncio."""

from __future__ import annotations

import asyncio
import sys

from serving import KEY, VALUE, AsyncWatching, in_flight, serve

import purecd


def main() -> None:
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(connect())

    async def values(prefix):
        watch = await client.watch(prefix, prefix=True).__aenter__()
        return (event.kv.value async for event in watch)

    serve(
        {
            "get": in_flight(loop, lambda: client.get(KEY)),
            "put": in_flight(loop, lambda: client.put(KEY, VALUE)),
            **AsyncWatching(loop, values).works(),
        }
    )
    loop.run_until_complete(client.close())


async def connect() -> purecd.AsyncClient:
    return await purecd.AsyncClient(sys.argv[1]).__aenter__()


main()
