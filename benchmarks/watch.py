# SPDX-License-Identifier: Apache-2.0
"""What does an event of a watch cost, and how old is it when it arrives?

CPU per event for 100 events a revision and for one, at a pace that every client keeps up with; the time
from before the put, in another process, to the event in the reader's hands; and the cost of an event beside
10 and beside 1,000 watchers that have none. The raw socket only looks for where values begin.
"""

from __future__ import annotations

import itertools

from harness import peers
from harness.report import Goal, Report, Settings, run, server
from harness.rounds import alternate, per_call
from harness.workers import Answer, Team, Worker

CLIENTS = (
    peers.RAW,
    peers.PURECD,
    peers.PURECD_ASYNC._replace(name="purecd, asyncio"),
    peers.GRPCIO,
    peers.GRPCIO_ASYNC,
    peers.PYTHON_ETCD3,
    peers.PYTHON_ETCD3_MASTER,
    peers.AETCD,
    peers.RUST,
    peers.GO,
)
BATCH = 100
_numbers = itertools.count()


def measure(report: Report, settings: Settings) -> None:
    with server() as etcd, Worker(peers.FEEDER, etcd.endpoint) as feeder:
        with Team(CLIENTS, etcd.endpoint) as team:
            many_events(report, settings, team, feeder)
            one_by_one(report, settings, team, feeder)
            report.miss(team.missing)
    with server() as etcd, Worker(peers.FEEDER, etcd.endpoint) as feeder:
        crowd(report, settings, etcd.endpoint, feeder)


def watched(worker: Worker, feeder: Worker, count: int, stamped: bool = False, **feed: object) -> Answer:
    """Open a watch, feed it, and take what reading the events took."""
    prefix = f"watched/{next(_numbers)}/"
    worker.patience = 60.0  # a client that lost an event waits for ever
    worker.do("watch", prefix=prefix)
    feeder.tell("feed", prefix=prefix, count=count, stamped=stamped, **feed)
    try:
        return worker.do("events", count=count, stamped=stamped)
    finally:
        feeder.answer()


def many_events(report: Report, settings: Settings, team: Team, feeder: Worker) -> None:
    """purecd reads 1,000,000 events in all, the others a tenth of that: the figure is per event."""
    most = settings.scaled(1_000_000, 50_000) // settings.rounds // BATCH * BATCH

    def turn(worker: Worker) -> Answer:
        count = most if worker.name.startswith("purecd") else max(most // 1000 * BATCH, 5 * BATCH)
        return watched(worker, feeder, count, batch=BATCH, rate=25_000.0)

    samples = alternate(team, turn, settings.rounds)
    report.table(f"watch, {BATCH} events a revision", samples, ("cpu",))
    for name in ("purecd", "purecd, asyncio"):
        cpu = [sample["cpu"] for sample in samples.get(name, [])]
        found = sorted(cpu)[len(cpu) // 2] if cpu else None
        text = f"{name}: CPU per event, {most * settings.rounds:,} events"
        report.goal(Goal("4", text, 3.0, found, unit="us", best=min(cpu, default=None)))


def one_by_one(report: Report, settings: Settings, team: Team, feeder: Worker) -> None:
    """One event a revision, 500 a second: the latency of each, and what it costs to be woken for it."""
    count = settings.scaled(500, 100)

    def turn(worker: Worker) -> Answer:
        return watched(worker, feeder, count, stamped=True, rate=500.0)

    samples = alternate(team, turn, settings.rounds)
    report.table("watch, one event a revision, 500 a second", samples, ("latency", "cpu"))
    for name in ("purecd", "purecd, asyncio"):
        text = f"{name}: put to event / raw socket"
        report.compare("4", text, 1.3, samples, name, "raw socket", "latency")


def crowd(report: Report, settings: Settings, endpoint: str, feeder: Worker) -> None:
    """One busy watcher among 10 and among 1,000 of one client."""
    count = settings.scaled(5000, 500)
    crowds = {"10 watchers": 10, "1,000 watchers": 1000}
    with Team((), endpoint) as team:
        for name, size in crowds.items():
            worker = Worker(peers.PURECD_CROWD._replace(name=name), endpoint)
            team.workers[name] = worker
            worker.do("watchers", count=size - 1, prefix=f"idle/{name}/")

        def turn(worker: Worker) -> Answer:
            return watched(worker, feeder, count, rate=2000.0)

        samples = alternate(team, turn, settings.rounds, per_call)
        report.table(
            "watch, one busy among many, one event a revision", samples, ("cpu",), base="10 watchers"
        )
        text = "CPU per event, one busy of 1,000 watchers / of 10"
        report.compare("4", text, 1.1, samples, "1,000 watchers", "10 watchers", "cpu")


if __name__ == "__main__":
    run(__file__, __doc__, measure)
