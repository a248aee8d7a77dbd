# SPDX-License-Identifier: Apache-2.0
"""python-etcd3, as released or as its repository has it."""

from __future__ import annotations

import etcd3
from serving import KEY, VALUE, Watching, arguments, ranges, repeat, serve, snapshots


def main() -> None:
    host, port, options = arguments()
    secured = {}
    if options:
        secured = {"ca_cert": options["ca"], "user": options["user"], "password": options["password"]}
    unlimited = {"grpc.max_receive_message_length": -1}.items()
    client = etcd3.client(host=host, port=port, timeout=5, grpc_options=unlimited, **secured)

    def values(prefix):
        events, _ = client.watch_prefix(prefix)
        return (event.value for event in events)

    def save(path):
        with open(path, "wb") as file:
            client.snapshot(file)

    serve(
        {
            "get": repeat(lambda: client.get(KEY)),
            "put": repeat(lambda: client.put(KEY, VALUE)),
            "range": ranges(lambda prefix: len(list(client.get_prefix(prefix)))),
            "snapshot": snapshots(save),
            **Watching(values).works(),
        }
    )


main()
