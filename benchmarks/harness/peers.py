# SPDX-License-Identifier: Apache-2.0
"""The clients that are compared: what each needs, where it lives, and why it is missing if it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "benchmarks" / "peers"
HOME = ROOT / ".cache" / "peers"
REPOSITORY = "git+https://github.com/kragniz/python-etcd3"


class Environment(NamedTuple):
    """A virtual environment for one client, or a folder with a program.

    Attributes:
        name: folder below `HOME`.
        packages: what pip installs there.
        distribution: whose version is told.
        pythons: minor versions of Python to look for first; the client is at its best there.
        note: what a reader of the figures must know.
    """

    name: str
    packages: tuple[str, ...]
    distribution: str
    pythons: tuple[str, ...] = ()
    note: str = ""

    @property
    def python(self) -> Path:
        return HOME / self.name / "bin" / "python"


ENVIRONMENTS = (
    Environment("grpcio", ("grpcio", "grpcio-tools"), "grpcio", note="stubs alone, nothing around them"),
    Environment(
        "python-etcd3",
        ("etcd3==0.12.0", "protobuf>=3.20,<3.21", "grpcio"),
        "etcd3",
        # protobuf 3.20, the newest that its generated code takes, is compiled up to Python 3.10 only.
        pythons=("3.10", "3.9"),
        note="as released in 2020; its generated code needs protobuf 3.20",
    ),
    Environment(
        "python-etcd3-master",
        (os.environ.get("PYTHON_ETCD3", REPOSITORY), "grpcio", "protobuf"),
        "etcd3",
        note="the state of its repository, on current grpcio; PYTHON_ETCD3 may name a folder with it",
    ),
    Environment("aetcd", ("aetcd",), "aetcd"),
    Environment("etcd3gw", ("etcd3gw",), "etcd3gw", note="JSON over HTTP/1.1, through etcd's gateway"),
    Environment("etcetra", ("etcetra",), "etcetra"),
    Environment("etcd-client-py", ("etcd-client-py",), "etcd-client-py", note="a core in Rust"),
)


PYPYS = (
    Environment("pypy3.9", ("h2", "hpack", "protobuf"), "protobuf", ("pypy3.9", "pypy3")),
    Environment("pypy3.11", ("h2", "hpack", "protobuf"), "protobuf", ("pypy3.11", "pypy3")),
)


def pypy(name: str) -> str:
    """The interpreter of one of `PYPYS`.

    Raises:
        Failed: it is missing.
    """
    if reason := why_missing(name):
        raise Failed(reason)
    return str(HOME / name / "bin" / "python")


class Failed(RuntimeError):
    """A client cannot do what it was told; the text says why."""


class Client(NamedTuple):
    """A client to measure.

    Attributes:
        name: as tables show it.
        program: file below `PROGRAMS`.
        environment: where it runs; "" for that of the benchmark, "go" for the compiled program.
    """

    name: str
    program: str
    environment: str = ""


RAW = Client("raw socket", "raw.py")
PURECD = Client("purecd", "purecd_sync.py")
PURECD_ASYNC = Client("purecd", "purecd_async.py")
FEEDER = Client("feeder", "feeder.py")
PURECD_CROWD = Client("purecd", "purecd_crowd.py")
DECODER = Client("decoder", "decoder.py")
GRPCIO = Client("grpcio", "grpcio_sync.py", "grpcio")
GRPCIO_ASYNC = Client("grpc.aio", "grpcio_async.py", "grpcio")
PYTHON_ETCD3 = Client("python-etcd3", "python_etcd3.py", "python-etcd3")
PYTHON_ETCD3_MASTER = Client("python-etcd3 (repository)", "python_etcd3.py", "python-etcd3-master")
AETCD = Client("aetcd", "aetcd_async.py", "aetcd")
ETCD3GW = Client("etcd3gw", "gateway.py", "etcd3gw")
ETCETRA = Client("etcetra", "etcetra_async.py", "etcetra")
RUST = Client("etcd-client-py", "rust_async.py", "etcd-client-py")
GO = Client("Go client", "go", "go")


def command(client: Client) -> list[str] | str:
    """The program of a client as a command, or the reason why there is none."""
    if client.environment == "go":
        program = HOME / "go" / "client"
        return [str(program)] if program.exists() else why_missing("go")
    if not client.environment:
        return [sys.executable, str(PROGRAMS / client.program)]
    if reason := why_missing(client.environment):
        return reason
    return [str(HOME / client.environment / "bin" / "python"), str(PROGRAMS / client.program)]


def why_missing(environment: str) -> str:
    """Why a client cannot be measured here; "" when it can."""
    state = read_state().get(environment)
    if state is None:
        return "not installed: run `make bench-peers`"
    return str(state.get("missing", ""))


def read_state() -> dict[str, dict[str, str]]:
    """What `make bench-peers` found, by environment: ``version`` and ``python``, or ``missing``."""
    try:
        state: dict[str, dict[str, str]] = json.loads((HOME / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return state


def write_state(environment: str, state: dict[str, str]) -> None:
    whole = {**read_state(), environment: state}
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "state.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def describe(environment: Environment) -> dict[str, str]:
    """Versions of an installed environment."""
    code = (
        "import sys, importlib.metadata as m\n"
        "print(m.version(sys.argv[1])); print(sys.version.split()[0])\n"
        "try: print(m.version('grpcio'))\n"
        "except m.PackageNotFoundError: print('')"
    )
    done = subprocess.run(
        [str(environment.python), "-c", code, environment.distribution],
        capture_output=True,
        text=True,
        check=True,
    )
    version, python, grpcio = (done.stdout + "\n").split("\n")[:3]
    state = {"version": version, "python": python, "note": environment.note}
    if grpcio and environment.distribution != "grpcio":
        state["grpcio"] = grpcio
    return state
