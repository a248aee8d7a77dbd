# SPDX-License-Identifier: Apache-2.0
"""etcd-client-py: asyncio on a core in Rust."""

from __future__ import annotations

import asyncio

from etcd_client import Client
from serving import KEY, VALUE, AsyncWatching, arguments, in_flight, ranges, serve


def main() -> None:
    host, port, _ = arguments()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def connect():
        return await Client([f"http://{host}:{port}"]).connect().__aenter__()

    client = loop.run_until_complete(connect())

    async def read(prefix):
        return await client.get_prefix(prefix)

    async def values(prefix):
        watch = client.watch_prefix(prefix)
        events = watch.__aiter__()
        first = asyncio.ensure_future(events.__anext__())  # the watch opens when it is read
        await asyncio.sleep(0.5)  # there is no word from it when it is open

        async def values():
            yield bytes((await first).value)
            async for event in events:
                yield bytes(event.value)

        return values()

    serve(
        {
            "get": in_flight(loop, lambda: client.get(KEY)),
            "put": in_flight(loop, lambda: client.put(KEY, VALUE)),
            "range": ranges(lambda prefix: len(loop.run_until_complete(read(prefix)))),
            **AsyncWatching(loop, values).works(),
        }
    )


main()
