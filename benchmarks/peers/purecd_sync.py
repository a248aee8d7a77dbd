# SPDX-License-Identifier: Apache-2.0
"""purecd, blocking."""

from __future__ import annotations

import sys

from serving import KEY, VALUE, Watching, repeat, serve

import purecd


def main() -> None:
    client = purecd.Client(sys.argv[1])

    def values(prefix):
        watch = client.watch(prefix, prefix=True)
        return (event.kv.value for event in watch)

    serve(
        {
            "get": repeat(lambda: client.get(KEY)),
            "put": repeat(lambda: client.put(KEY, VALUE)),
            **Watching(values).works(),
        }
    )


main()
