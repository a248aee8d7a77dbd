# SPDX-License-Identifier: Apache-2.0
"""How many gets a second do 1, 4, 16 and 64 threads make that share one client?"""

from __future__ import annotations

from harness import peers
from harness.report import Goal, Report, Settings, run, server
from harness.rounds import alternate, median
from harness.workers import Answer, Team, Worker

CLIENTS = (peers.PURECD, peers.GRPCIO, peers.PYTHON_ETCD3, peers.PYTHON_ETCD3_MASTER, peers.ETCD3GW, peers.GO)
AGAINST_GRPCIO = {1: 2.0, 4: 2.0, 16: 2.0, 64: 1.5}


def measure(report: Report, settings: Settings) -> None:
    calls = settings.scaled(960, 320)
    rates: dict[int, float] = {}
    with server() as etcd, Team(CLIENTS, etcd.endpoint) as team:
        team.workers["purecd"].do("put", count=1)
        for threads, limit in AGAINST_GRPCIO.items():

            def turn(worker: Worker, threads: int = threads) -> Answer:
                return worker.do("get", count=calls, threads=threads)

            samples = alternate(team, turn, settings.rounds)
            report.table(f"get, {threads} threads on one client", samples, ("rate", "cpu"))
            rates[threads] = median(samples["purecd"], "rate")
            text = f"{threads} threads: gets per second, purecd / grpcio"
            report.compare("3", text, limit, samples, "purecd", "grpcio", "rate", at_least=True)
            if threads > 1:
                text = f"{threads} threads: gets per second, purecd / purecd with one thread"
                report.goal(Goal("3", text, 1.0, rates[threads] / rates[1], True))
        report.miss(team.missing)


if __name__ == "__main__":
    run(__file__, __doc__, measure, rounds=11)
