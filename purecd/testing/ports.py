# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports on 127.0.0.1 that stay free while a server restarts.

Ports come from below the ranges from which Linux (32768 up) and macOS (49152 up) take the local
ends of outgoing connections, so a port is not lost to one while its server is down. Another
process can still be quicker between the look and the use: starters must try again.
"""

from __future__ import annotations

import random
import socket
import threading

_FIRST, _LAST = 10_000, 32_000
_rng = random.SystemRandom()  # never seeded by a test framework: two runs must not draw alike
_lock = threading.Lock()  # guards _taken
_taken: set[int] = set()


def take_ports(count: int) -> list[int]:
    """`count` ports free right now and not given to anyone else in this process."""
    ports: list[int] = []
    while len(ports) < count:
        port = _rng.randint(_FIRST, _LAST)
        with _lock:
            if port in _taken or not _is_free(port):
                continue
            _taken.add(port)
        ports.append(port)
    return ports


def give_back(ports: list[int]) -> None:
    """Let `ports` be taken again."""
    with _lock:
        _taken.difference_update(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as etcd binds: TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
