# SPDX-License-Identifier: Apache-2.0
"""What does a snapshot of 1 GiB to disk take, in time and memory?

The limit reads the bytes from a bare socket and forgets them. purecd also verifies the checksum and syncs the
file; of the others, grpcio's stubs and the Go client sync it and no one verifies.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import peers
from harness.report import Goal, Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Team, Worker

import purecd

CLIENTS = (
    peers.RAW._replace(name="read the bytes"),
    peers.PURECD,
    peers.GRPCIO,
    peers.PYTHON_ETCD3,
    peers.PYTHON_ETCD3_MASTER,
    peers.GO,
)
MIB = 1 << 20


def figures(answer: Answer) -> dict[str, float]:
    size = answer["bytes"] / MIB
    return {
        "seconds": answer["wall"],
        "MiB/s": size / answer["wall"],
        "cpu": answer["cpu"],
        "memory": answer["grown"] / MIB,
    }


def measure(report: Report, settings: Settings) -> None:
    size = settings.scaled(1024, 64)
    rounds = min(settings.rounds, 3)
    with server() as etcd, tempfile.TemporaryDirectory() as folder:
        with purecd.Client(etcd.endpoint, timeout=60.0) as client:
            for number in range(size):
                client.put(f"large/{number}", number.to_bytes(4, "big") * (MIB // 4))
        with Team(CLIENTS, etcd.endpoint) as team:

            def turn(worker: Worker) -> Answer:
                return worker.do("snapshot", path=str(Path(folder) / "snapshot.db"))

            samples = alternate(team, turn, rounds, figures)
            units = {"seconds": "s", "cpu": "CPU s", "memory": "MiB", "MiB/s": "MiB/s"}
            title = f"snapshot of {size:,} MiB to disk; memory: growth of the peak"
            report.table(title, samples, ("seconds", "MiB/s", "cpu", "memory"), units=units)
            text = f"snapshot of {size:,} MiB: time, purecd / read the bytes"
            report.compare("5", text, 1.5, samples, "purecd", "read the bytes", "seconds")
            grown = max((each["memory"] for each in samples.get("purecd", [])), default=None)
            report.goal(
                Goal("5", "snapshot: growth of purecd's memory over all rounds", 16.0, grown, unit="MiB")
            )
            report.miss(team.missing)


if __name__ == "__main__":
    run(__file__, __doc__, measure)
