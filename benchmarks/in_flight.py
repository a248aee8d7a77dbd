# SPDX-License-Identifier: Apache-2.0
"""How many calls a second does one process make on asyncio, and what does each cost?

One call at a time and 64 in flight; the Go client has 64 goroutines, the raw socket sends requests made
beforehand so that 64 are on their way. etcd runs on the same machine, so with many in flight a client also
takes from etcd what it uses itself.
"""

from __future__ import annotations

from harness import peers
from harness.report import Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Team, Worker

CLIENTS = (
    peers.RAW,
    peers.PURECD_ASYNC,
    peers.GRPCIO_ASYNC,
    peers.GO,
    peers.AETCD,
    peers.ETCETRA,
    peers.RUST,
)
IN_FLIGHT = 64


def measure(report: Report, settings: Settings) -> None:
    with server() as etcd, Team(CLIENTS, etcd.endpoint) as team:
        for work in ("put", "get"):
            for tasks in (1, IN_FLIGHT):
                calls = settings.scaled(300, 100) if tasks == 1 else settings.scaled(1920, 640)

                def turn(worker: Worker, work: str = work, tasks: int = tasks, calls: int = calls) -> Answer:
                    if "prepare" in worker.works:
                        worker.do("prepare", work=work, count=calls)
                    return worker.do(work, count=calls, tasks=tasks)

                samples = alternate(team, turn, settings.rounds)
                report.table(f"asyncio, {tasks} {work}s in flight", samples, ("rate", "cpu"))
                if tasks == 1:
                    continue
                for other, figure, limit, at_least in (
                    ("grpc.aio", "rate", 2.0, True),
                    ("grpc.aio", "cpu", 0.35, False),
                    ("Go client", "rate", 0.9, True),
                    ("Go client", "cpu", 1.0, False),
                ):
                    text = f"{work}, 64 in flight: {figure}, purecd / {other}"
                    report.compare("2", text, limit, samples, "purecd", other, figure, at_least=at_least)
        report.miss(team.missing)


if __name__ == "__main__":
    run(__file__, __doc__, measure, rounds=15)
