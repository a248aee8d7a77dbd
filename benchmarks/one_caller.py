# SPDX-License-Identifier: Apache-2.0
"""What does a get or a put cost, one caller waiting for each?

Time and client CPU per call, of every client and of a raw socket that sends bytes made beforehand.
Clients for asyncio await one call at a time.
"""

from __future__ import annotations

from harness import peers
from harness.report import Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Team, Worker

CLIENTS = (
    peers.RAW,
    peers.PURECD,
    peers.GRPCIO,
    peers.PYTHON_ETCD3,
    peers.PYTHON_ETCD3_MASTER,
    peers.GO,
    peers.RUST,
    peers.AETCD,
    peers.ETCETRA,
    peers.ETCD3GW,
)


def measure(report: Report, settings: Settings) -> None:
    calls = settings.scaled(300, 100)
    with server() as etcd, Team(CLIENTS, etcd.endpoint) as team:
        for work in ("put", "get"):

            def turn(worker: Worker, work: str = work) -> Answer:
                if "prepare" in worker.works:
                    worker.do("prepare", work=work, count=calls)
                return worker.do(work, count=calls)

            samples = alternate(team, turn, settings.rounds)
            report.table(f"blocking {work}, one caller", samples, ("time", "cpu"))
            for other, figure, limit in (
                ("raw socket", "time", 1.35),
                ("raw socket", "cpu", 2.2),
                ("grpcio", "time", 0.5),
                ("grpcio", "cpu", 0.4),
            ):
                text = f"{work}: {figure}, purecd / {other}"
                report.compare("1", text, limit, samples, "purecd", other, figure)
        report.miss(team.missing)


if __name__ == "__main__":
    run(__file__, __doc__, measure, rounds=15)
