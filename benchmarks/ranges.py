# SPDX-License-Identifier: Apache-2.0
"""What does reading a range of 10,000 keys of 1 KiB take?

The limit receives the same reply on a bare socket and has protobuf parse its message; it neither cuts
frames nor makes values.
"""

from __future__ import annotations

from harness import peers
from harness.report import Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Team, Worker

import purecd

CLIENTS = (
    peers.RAW._replace(name="receive and parse"),
    peers.PURECD,
    peers.GRPCIO,
    peers.PYTHON_ETCD3,
    peers.PYTHON_ETCD3_MASTER,
    peers.GO,
    peers.AETCD,
    peers.RUST,
    peers.ETCETRA,
    peers.ETCD3GW,
)
KEYS = 10_000


def measure(report: Report, settings: Settings) -> None:
    ranges = settings.scaled(3, 1)
    with server() as etcd:
        with purecd.Client(etcd.endpoint) as client:
            for first in range(0, KEYS, 100):
                puts = [purecd.Put(f"range/{n:05}", b"v" * 1024) for n in range(first, first + 100)]
                client.txn(success=puts)
        with Team(CLIENTS, etcd.endpoint) as team:

            def turn(worker: Worker) -> Answer:
                return worker.do("range", count=ranges, keys=KEYS)

            samples = alternate(team, turn, settings.rounds)
            report.table(f"range of {KEYS:,} keys of 1 KiB", samples, ("time", "cpu"))
            text = f"range of {KEYS:,} keys: time, purecd / receive and parse"
            report.compare("5", text, 1.5, samples, "purecd", "receive and parse", "time")
            report.miss(team.missing)


if __name__ == "__main__":
    run(__file__, __doc__, measure)
