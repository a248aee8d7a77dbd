# SPDX-License-Identifier: Apache-2.0
"""`grpc.aio` with generated stubs and nothing around them."""

from __future__ import annotations

import asyncio

import grpc.aio
import rpc_pb2
import rpc_pb2_grpc
from serving import KEY, VALUE, AsyncWatching, arguments, in_flight, serve

UNLIMITED = [("grpc.max_receive_message_length", -1)]


async def main_channel() -> grpc.aio.Channel:
    host, port, _ = arguments()
    return grpc.aio.insecure_channel(f"{host}:{port}", options=UNLIMITED)


def main() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    channel = loop.run_until_complete(main_channel())
    kv, watch = rpc_pb2_grpc.KVStub(channel), rpc_pb2_grpc.WatchStub(channel)

    async def values(prefix):
        call = watch.Watch()
        end = prefix[:-1] + bytes((prefix[-1] + 1,))
        create = rpc_pb2.WatchCreateRequest(key=prefix, range_end=end)
        await call.write(rpc_pb2.WatchRequest(create_request=create))
        assert (await call.read()).created

        async def values():
            while True:
                for event in (await call.read()).events:
                    yield event.kv.value

        return values()

    serve(
        {
            "get": in_flight(loop, lambda: kv.Range(rpc_pb2.RangeRequest(key=KEY), timeout=5)),
            "put": in_flight(loop, lambda: kv.Put(rpc_pb2.PutRequest(key=KEY, value=VALUE), timeout=5)),
            **AsyncWatching(loop, values).works(),
        }
    )


main()
