# SPDX-License-Identifier: Apache-2.0
"""What does a program pay before its first answer: importing, connecting, one get?

Every figure is that of a fresh process. Time and memory of the import are taken around it, within the
process; the time to the first reply is that of the whole process, the interpreter's start and end included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from harness import peers
from harness.report import Report, Settings, run, server
from harness.rounds import Samples

IMPORT = """
import json, os, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, wall, cpu = resident(), time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps(dict(wall=wall, cpu=cpu, memory=resident() - before)))
"""


class Subject(NamedTuple):
    """A client to start.

    Attributes:
        name: as tables show it.
        environment: where it runs, "" for that of the benchmark.
        statement: what imports it.
        get: what makes one get, `host` and `port` given.
    """

    name: str
    environment: str
    statement: str
    get: str


ETCD3_GET = "import etcd3; print(etcd3.client(host, port).get('bench/key'))"
SUBJECTS = (
    Subject(
        "purecd",
        "",
        "import purecd",
        "import purecd\nwith purecd.Client(f'{host}:{port}') as client: print(client.get('bench/key'))",
    ),
    Subject("purecd.Client", "", "import purecd; purecd.Client", ""),
    Subject("purecd.AsyncClient", "", "import purecd; purecd.AsyncClient", ""),
    Subject("python-etcd3", "python-etcd3", "import etcd3", ETCD3_GET),
    Subject("python-etcd3 (repository)", "python-etcd3-master", "import etcd3", ETCD3_GET),
    Subject(
        "grpcio",
        "grpcio",
        "import grpc, rpc_pb2, rpc_pb2_grpc",
        "import grpc, rpc_pb2, rpc_pb2_grpc\n"
        "kv = rpc_pb2_grpc.KVStub(grpc.insecure_channel(f'{host}:{port}'))\n"
        "print(kv.Range(rpc_pb2.RangeRequest(key=b'bench/key')))",
    ),
    Subject("aetcd", "aetcd", "import aetcd", ""),
    Subject(
        "etcd3gw",
        "etcd3gw",
        "import etcd3gw",
        "import etcd3gw; print(etcd3gw.Etcd3Client(host, port).get('bench/key'))",
    ),
)


def measure(report: Report, settings: Settings) -> None:
    rounds = settings.scaled(15, 3)
    present = []
    for subject in SUBJECTS:
        reason = peers.why_missing(subject.environment) if subject.environment else ""
        if reason:
            report.miss({subject.name: reason})
        else:
            present.append(subject)
    imports: Samples = {}
    replies: Samples = {}
    with server() as etcd, tempfile.TemporaryDirectory() as compiled:
        host, port = etcd.endpoint.rpartition("/")[2].split(":")
        for number in range(-1, rounds):
            for subject in present:
                found = import_once(subject, compiled)
                reply = first_reply(subject, host, int(port), compiled) if subject.get else None
                if number < 0:
                    continue  # it wrote the compiled modules
                imports.setdefault(subject.name, []).append(found)
                if reply is not None:
                    replies.setdefault(subject.name, []).append(reply)
    units = {"time": "ms", "cpu": "CPU ms", "memory": "MiB"}
    report.table("import, fresh process", imports, ("time", "cpu", "memory"), units=units)
    others = ("python-etcd3", "python-etcd3 (repository)")
    for name in ("purecd", "purecd.Client"):
        for figure in ("time", "memory"):
            for other in others:
                text = f"import of {name}: {figure}, / {other}"
                report.compare("7", text, 0.5, imports, name, other, figure)
    report.table("first reply of a fresh process", replies, ("time", "cpu"), units=units)
    for other in others:
        text = f"first reply of a fresh process: time, purecd / {other}"
        report.compare("7", text, 0.6, replies, "purecd", other, "time")


def spawn(subject: Subject, code: str, compiled: str) -> str:
    """Run code in a fresh process.

    Args:
        compiled: folder where compiled modules are kept, for all alike, whatever this machine's settings.
    """
    python = (
        str(peers.HOME / subject.environment / "bin" / "python") if subject.environment else sys.executable
    )
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables["PYTHONPYCACHEPREFIX"] = compiled
    variables["PYTHONPATH"] = "" if subject.environment else str(peers.ROOT)
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, env=variables, timeout=60
    )
    return done.stdout


def import_once(subject: Subject, compiled: str) -> dict[str, float]:
    found = json.loads(spawn(subject, IMPORT.format(statement=subject.statement), compiled))
    return {"time": found["wall"] * 1e3, "cpu": found["cpu"] * 1e3, "memory": found["memory"] / 2**20}


def first_reply(subject: Subject, host: str, port: int, compiled: str) -> dict[str, float]:
    """Time and CPU from starting a process until it has ended, milliseconds."""
    code = f"host, port = {host!r}, {port}\n{subject.get}".replace("\\\n", "\n")
    before, wall = os.times(), time.perf_counter()
    spawn(subject, code, compiled)
    wall, after = time.perf_counter() - wall, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"time": wall * 1e3, "cpu": cpu * 1e3}


if __name__ == "__main__":
    run(__file__, __doc__, measure)
