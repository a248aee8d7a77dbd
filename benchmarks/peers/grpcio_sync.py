# SPDX-License-Identifier: Apache-2.0
"""grpcio with generated stubs and nothing around them, blocking."""

from __future__ import annotations

import queue

import grpc
import rpc_pb2
import rpc_pb2_grpc
from serving import KEY, VALUE, Watching, arguments, repeat, serve

UNLIMITED = [("grpc.max_receive_message_length", -1)]


def prefix_end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def main() -> None:
    host, port, _ = arguments()
    channel = grpc.insecure_channel(f"{host}:{port}", options=UNLIMITED)
    kv, watch = rpc_pb2_grpc.KVStub(channel), rpc_pb2_grpc.WatchStub(channel)

    def values(prefix):
        requests = queue.SimpleQueue()
        create = rpc_pb2.WatchCreateRequest(key=prefix, range_end=prefix_end(prefix))
        requests.put(rpc_pb2.WatchRequest(create_request=create))
        responses = watch.Watch(iter(requests.get, None))
        assert next(responses).created
        return (event.kv.value for response in responses for event in response.events)

    serve(
        {
            "get": repeat(lambda: kv.Range(rpc_pb2.RangeRequest(key=KEY), timeout=5)),
            "put": repeat(lambda: kv.Put(rpc_pb2.PutRequest(key=KEY, value=VALUE), timeout=5)),
            **Watching(values).works(),
        }
    )


main()
