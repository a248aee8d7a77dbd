# SPDX-License-Identifier: Apache-2.0
"""What do 10,000 watchers and 10,000 kept leases on one client cost?

Memory of each, CPU while nothing happens (leases of 60 seconds are renewed all the while), and what a get
costs beside them, against a client that has neither, in alternating rounds.
"""

from __future__ import annotations

import statistics

from harness import peers
from harness.report import Goal, Report, Settings, run, server
from harness.rounds import alternate
from harness.workers import Answer, Team, Worker

KIB = 1024


def measure(report: Report, settings: Settings) -> None:
    many = settings.scaled(10_000, 1000)
    calls = settings.scaled(2000, 300)
    with server() as etcd, Team((), etcd.endpoint) as team:
        empty, full = (
            Worker(peers.PURECD_CROWD._replace(name=name), etcd.endpoint)
            for name in ("empty client", "full client")
        )
        team.workers = {"empty client": empty, "full client": full}
        full.do("put", count=1)
        for worker in (empty, full):
            worker.do("get", count=300)  # all code is loaded before memory is counted
        sizes = memory(report, full, many)
        for what, size in sizes.items():
            report.goal(Goal("6", f"memory of each of {many:,} {what}", 8.0, size, unit="KiB"))
        idle(report, settings, team)

        def turn(worker: Worker) -> Answer:
            return worker.do("get", count=calls)

        samples = alternate(team, turn, settings.rounds)
        report.table(
            f"get beside {many:,} watchers and leases", samples, ("time", "cpu"), base="empty client"
        )
        for figure in ("time", "cpu"):
            text = f"a get: {figure}, full client / empty client"
            report.compare("6", text, 1.2, samples, "full client", "empty client", figure)


def memory(report: Report, worker: Worker, many: int) -> dict[str, float]:
    """Make them; KiB of each."""
    sizes = {}
    rows = []
    for what in ("watchers", "leases"):
        worker.do(what, count=20)  # what the first of a kind brings with it is not counted
        answer = worker.do(what, count=many)
        sizes[what] = answer["bytes"] / KIB
        rows.append({"name": what, "memory": sizes[what], "time": answer["wall"] / many * 1e6})
    units = {"memory": "KiB", "time": "us"}
    report.rows(
        f"each of {many:,}: memory, and time to make it (16 threads)", rows, ("memory", "time"), units
    )
    return sizes


def idle(report: Report, settings: Settings, team: Team) -> None:
    """CPU of a client that is not used, in percent of one core."""
    seconds = settings.scaled(30, 5)
    rows = []
    for name, worker in team.workers.items():
        worker.do("idle", seconds=2)  # the first renewals of new leases
        percents = [100 * worker.do("idle", seconds=seconds)["cpu"] / seconds for _ in range(2)]
        rows.append({"name": name, "idle": statistics.mean(percents)})
    report.rows("CPU of an idle client, per cent of a core", rows, ("idle",), {"idle": "%"})
    report.goal(Goal("6", "CPU of the idle full client", 2.0, rows[-1]["idle"], unit="%"))


if __name__ == "__main__":
    run(__file__, __doc__, measure)
