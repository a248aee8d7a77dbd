# SPDX-License-Identifier: Apache-2.0
"""What do a get and a put cost with TLS and a login, against grpcio with the same?"""

from __future__ import annotations

from harness import peers
from harness.report import Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Failed, Team, Worker

import purecd

USER, PASSWORD = "root", "secret"
CLIENTS = (peers.RAW, peers.PURECD, peers.GRPCIO, peers.PYTHON_ETCD3, peers.PYTHON_ETCD3_MASTER)


def measure(report: Report, settings: Settings) -> None:
    calls = settings.scaled(300, 100)
    with server(tls=True) as etcd, Team((), etcd.endpoint) as team:
        ca = str(etcd.ca_file)
        with purecd.Client(etcd.endpoint, tls=purecd.Tls(ca_cert=ca)) as client:
            client.users.add(USER, PASSWORD)
            client.users.grant_role(USER, "root")
            client.auth.enable()
        for client in CLIENTS:
            try:
                options = (f"ca={ca}", f"user={USER}", f"password={PASSWORD}")
                team.workers[client.name] = Worker(client, etcd.endpoint, options)
            except Failed as error:
                team.drop(client.name, str(error))
        for work in ("put", "get"):

            def turn(worker: Worker, work: str = work) -> Answer:
                if "prepare" in worker.works:
                    worker.do("prepare", work=work, count=calls)
                return worker.do(work, count=calls)

            samples = alternate(team, turn, settings.rounds)
            report.table(f"blocking {work}, one caller, TLS and a login", samples, ("time", "cpu"))
            for figure in ("time", "cpu"):
                text = f"TLS and login, {work}: {figure}, purecd / grpcio"
                report.compare("7", text, 0.7, samples, "purecd", "grpcio", figure)
        report.miss(team.missing)


if __name__ == "__main__":
    run(__file__, __doc__, measure, rounds=15)
