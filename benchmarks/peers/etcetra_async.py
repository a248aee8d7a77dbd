# SPDX-License-Identifier: Apache-2.0
"""etcetra: asyncio on grpcio. Its watch fails with an exception of its own, so it has none here."""

from __future__ import annotations

import asyncio

from etcetra import EtcdClient, HostPortPair
from serving import KEY, VALUE, arguments, in_flight, ranges, serve


def main() -> None:
    host, port, _ = arguments()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def connect():
        return await EtcdClient(HostPortPair(host, port)).connect().__aenter__()

    client = loop.run_until_complete(connect())
    key, value = KEY.decode(), VALUE.decode()
    serve(
        {
            "get": in_flight(loop, lambda: client.get(key)),
            "range": ranges(lambda prefix: len(loop.run_until_complete(client.get_prefix(prefix.decode())))),
            "put": in_flight(loop, lambda: client.put(key, value)),
        }
    )


main()
