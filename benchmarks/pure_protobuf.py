# SPDX-License-Identifier: Apache-2.0
"""What do calls and replies cost where protobuf has no compiled core, and on PyPy?

On CPython the same calls run with protobuf's C core and with its pure Python, in alternating rounds. On
PyPy, warmed up, a get is compared with one on CPython, and decoding a range of 1,000 keys with protobuf's.
"""

from __future__ import annotations

from harness import peers
from harness.report import Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Failed, Team, Worker

import purecd

PURE = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
KEYS = 1000
COMPILED, INTERPRETED = "CPython, compiled protobuf", "CPython, pure protobuf"
PYPYS = ("pypy3.9", "pypy3.11")


def measure(report: Report, settings: Settings) -> None:
    with server() as etcd, Team((), etcd.endpoint) as team:
        with purecd.Client(etcd.endpoint) as client:
            for first in range(0, KEYS, 100):
                puts = [purecd.Put(f"range/{n:05}", b"v" * 100) for n in range(first, first + 100)]
                client.txn(success=puts)
            client.put("bench/key", b"v" * 100)
        team.workers[COMPILED] = Worker(peers.PURECD, etcd.endpoint)
        team.workers[INTERPRETED] = Worker(peers.PURECD, etcd.endpoint, environment=PURE)
        for name in PYPYS:
            try:
                team.workers[name] = Worker(peers.PURECD, etcd.endpoint, python=peers.pypy(name))
            except Failed as error:
                team.drop(name, str(error))
        calls(report, settings, team)
        report.miss(team.missing)
    decoding(report, settings)


def calls(report: Report, settings: Settings, team: Team) -> None:
    count, ranges = settings.scaled(2000, 300), settings.scaled(50, 5)
    for name in PYPYS:
        if name in team.workers:
            team.workers[name].do("get", count=settings.scaled(40_000, 3000))
            team.workers[name].do("range", count=settings.scaled(1000, 50), keys=KEYS)

    def get(worker: Worker) -> Answer:
        return worker.do("get", count=count)

    def read(worker: Worker) -> Answer:
        return worker.do("range", count=ranges, keys=KEYS)

    samples = alternate(team, get, settings.rounds)
    report.table("get, one caller", samples, ("time", "cpu"), base=COMPILED)
    text = "get: CPU, pure / compiled protobuf"
    report.compare("8", text, 1.5, samples, INTERPRETED, COMPILED, "cpu")
    for name in PYPYS:
        report.compare("8", f"get: CPU, {name} / CPython", 1.0, samples, name, COMPILED, "cpu")
    samples = alternate(team, read, settings.rounds)
    report.table(f"range of {KEYS:,} keys of 100 bytes", samples, ("time", "cpu"), base=COMPILED)
    text = f"range of {KEYS:,} keys: CPU, pure / compiled protobuf"
    report.compare("8", text, 5.0, samples, INTERPRETED, COMPILED, "cpu")


def decoding(report: Report, settings: Settings) -> None:
    """Decode one range again and again, no etcd involved."""
    count = settings.scaled(200, 20)
    for name in ("CPython", *PYPYS):
        with Team((), "") as team:
            for work in ("by hand", "protobuf"):
                try:
                    python = "" if name == "CPython" else peers.pypy(name)
                    worker = Worker(peers.DECODER._replace(name=work), "-", environment=PURE, python=python)
                except Failed as error:
                    report.miss({f"{name}, decoding": str(error)})
                    break
                team.workers[work] = worker

            def turn(worker: Worker) -> Answer:
                return worker.do(worker.name, count=count, keys=KEYS)

            if len(team.workers) < 2:
                continue
            for worker in team.workers.values():
                worker.do(worker.name, count=count * 5, keys=KEYS)
            samples = alternate(team, turn, settings.rounds)
            report.table(f"decoding {KEYS:,} keys, {name}, pure protobuf", samples, ("cpu",), base="by hand")
            if name != "CPython":
                text = f"decoding {KEYS:,} keys on {name}: protobuf / purecd"
                report.compare("8", text, 5.0, samples, "protobuf", "by hand", "cpu", at_least=True)


if __name__ == "__main__":
    run(__file__, __doc__, measure)
