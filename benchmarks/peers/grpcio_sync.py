# SPDX-License-Identifier: Apache-2.0
"""grpcio with generated stubs and nothing around them, blocking."""

from __future__ import annotations

import os
import queue

import grpc
import rpc_pb2
import rpc_pb2_grpc
from serving import KEY, VALUE, Watching, arguments, ranges, repeat, serve, snapshots

UNLIMITED = [("grpc.max_receive_message_length", -1)]


def prefix_end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def connect(target, options):
    """A channel, and the metadata of each call: the token of a login."""
    if not options:
        return grpc.insecure_channel(target, options=UNLIMITED), None
    with open(options["ca"], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    channel = grpc.secure_channel(target, credentials, options=UNLIMITED)
    request = rpc_pb2.AuthenticateRequest(name=options["user"], password=options["password"])
    token = rpc_pb2_grpc.AuthStub(channel).Authenticate(request, timeout=5).token
    return channel, (("token", token),)


def main() -> None:
    host, port, options = arguments()
    channel, metadata = connect(f"{host}:{port}", options)
    maintenance = rpc_pb2_grpc.MaintenanceStub(channel)
    kv, watch = rpc_pb2_grpc.KVStub(channel), rpc_pb2_grpc.WatchStub(channel)

    def values(prefix):
        requests = queue.SimpleQueue()
        create = rpc_pb2.WatchCreateRequest(key=prefix, range_end=prefix_end(prefix))
        requests.put(rpc_pb2.WatchRequest(create_request=create))
        responses = watch.Watch(iter(requests.get, None))
        assert next(responses).created
        return (event.kv.value for response in responses for event in response.events)

    def read(prefix):
        request = rpc_pb2.RangeRequest(key=prefix, range_end=prefix_end(prefix))
        return len(kv.Range(request, timeout=60).kvs)

    def save(path):
        with open(path, "wb") as file:
            for response in maintenance.Snapshot(rpc_pb2.SnapshotRequest()):
                file.write(response.blob)
            file.flush()
            os.fsync(file.fileno())

    serve(
        {
            "get": repeat(lambda: kv.Range(rpc_pb2.RangeRequest(key=KEY), timeout=5, metadata=metadata)),
            "put": repeat(
                lambda: kv.Put(rpc_pb2.PutRequest(key=KEY, value=VALUE), timeout=5, metadata=metadata)
            ),
            "range": ranges(read),
            "snapshot": snapshots(save),
            **Watching(values).works(),
        }
    )


main()
