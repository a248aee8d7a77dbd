# SPDX-License-Identifier: Apache-2.0
"""purecd, blocking."""

from __future__ import annotations

import sys

from serving import KEY, VALUE, Watching, arguments, ranges, repeat, serve, snapshots

import purecd


def main() -> None:
    _, _, options = arguments()
    secured = {}
    if options:
        secured = {
            "tls": purecd.Tls(ca_cert=options["ca"]),
            "user": options["user"],
            "password": options["password"],
        }
    client = purecd.Client(sys.argv[1], **secured)

    def values(prefix):
        watch = client.watch(prefix, prefix=True)
        return (event.kv.value for event in watch)

    serve(
        {
            "get": repeat(lambda: client.get(KEY)),
            "put": repeat(lambda: client.put(KEY, VALUE)),
            "range": ranges(lambda prefix: len(client.get(prefix, prefix=True).kvs)),
            "snapshot": snapshots(lambda path: client.maintenance.snapshot(path)),
            **Watching(values).works(),
        }
    )


main()
