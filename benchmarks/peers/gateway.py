# SPDX-License-Identifier: Apache-2.0
"""etcd3gw, over etcd's HTTP gateway."""

from __future__ import annotations

from etcd3gw import Etcd3Client
from serving import KEY, VALUE, arguments, ranges, repeat, serve


def main() -> None:
    host, port, _ = arguments()
    client = Etcd3Client(host, port, timeout=5)
    serve(
        {
            "get": repeat(lambda: client.get(KEY)),
            "range": ranges(lambda prefix: len(client.get_prefix(prefix))),
            "put": repeat(lambda: client.put(KEY, VALUE)),
        }
    )


main()
