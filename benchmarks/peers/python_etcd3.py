# SPDX-License-Identifier: Apache-2.0
"""python-etcd3, as released or as its repository has it."""

from __future__ import annotations

import etcd3
from serving import KEY, VALUE, Watching, arguments, repeat, serve


def main() -> None:
    host, port, _ = arguments()
    client = etcd3.client(
        host=host, port=port, timeout=5, grpc_options={"grpc.max_receive_message_length": -1}.items()
    )

    def values(prefix):
        events, _ = client.watch_prefix(prefix)
        return (event.value for event in events)

    serve(
        {
            "get": repeat(lambda: client.get(KEY)),
            "put": repeat(lambda: client.put(KEY, VALUE)),
            **Watching(values).works(),
        }
    )


main()
