# SPDX-License-Identifier: Apache-2.0
"""Install the clients that benchmarks compare with, each in an environment of its own below .cache/peers.

One that cannot be installed is noted with its reason, and named as missing by every benchmark. What is
installed already is kept; remove its folder to have it anew. Names given as arguments are installed alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.peers import ENVIRONMENTS, HOME, PROGRAMS, PYPYS, ROOT, Environment, describe, write_state


def main() -> int:
    wanted = sys.argv[1:] or [*(each.name for each in (*ENVIRONMENTS, *PYPYS)), "go"]
    for environment in (*ENVIRONMENTS, *PYPYS):
        if environment.name in wanted:
            note(environment.name, install(environment))
    if "go" in wanted:
        note("go", build_go())
    return 0


def note(name: str, state: dict[str, str]) -> None:
    write_state(name, state)
    print(f"{name:22}", state.get("version") or "MISSING: " + state["missing"], flush=True)


def install(environment: Environment) -> dict[str, str]:
    """Make the environment; returns what is to be noted about it."""
    try:
        if not environment.python.exists():
            python = interpreter(environment)
            run([python, "-m", "venv", "--clear", str(HOME / environment.name)])
        pip = [str(environment.python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        run([*pip, *environment.packages])
        if environment.name == "grpcio":
            generate_stubs(environment)
        return describe(environment)
    except (subprocess.CalledProcessError, OSError, LookupError) as error:
        text = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or [str(error)]
        errors = [line for line in text if "error" in line.lower()] or text
        return {"missing": errors[-1][:300]}


def interpreter(environment: Environment) -> str:
    """The Python for an environment: one of those it prefers where there is one, else this one.

    Raises:
        LookupError: it needs a PyPy that is not here.
    """
    if environment in PYPYS:
        return find_pypy(environment)
    pyenv = shutil.which("pyenv")
    done = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False) if pyenv else None
    versions = Path(done.stdout.strip()) / "versions" if done else Path("/nowhere")
    for version in environment.pythons:
        for found in (shutil.which(f"python{version}"), *versions.glob(f"{version}.*/bin/python")):
            # One of pyenv's shims may name a version that is not switched on.
            if found and subprocess.run([found, "-Ic", ""], capture_output=True, check=False).returncode == 0:
                return str(found)
    return sys.executable


def find_pypy(environment: Environment) -> str:
    """A PyPy of the version in the environment's name; PYPY may list more places, one `:` between."""
    wanted = environment.name.removeprefix("pypy")
    places = [*filter(None, os.environ.get("PYPY", "").split(":"))]
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
    for name in (*places, *environment.pythons):
        found = shutil.which(name)
        if found is None:
            continue
        done = subprocess.run([found, "-Ic", ask], capture_output=True, text=True, check=False)
        if done.stdout.split() == [wanted, "pypy"]:
            return found
    raise LookupError(f"there is no PyPy {wanted}; PYPY may name one")


def generate_stubs(environment: Environment) -> None:
    """What a user of grpcio alone does: compile the protocol files with its own tools."""
    protos = [str(path) for path in sorted((ROOT / "protos").glob("*.proto"))]
    where = subprocess.run(
        [str(environment.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    compiler = [str(environment.python), "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}"]
    run([*compiler, f"--python_out={where}", f"--grpc_python_out={where}", *protos])


def build_go() -> dict[str, str]:
    """Compile the program that drives the Go client."""
    go = shutil.which("go")
    if go is None:
        return {"missing": "there is no Go compiler"}
    source = PROGRAMS / "go"
    try:
        run([go, "build", "-o", str(HOME / "go" / "client"), "."], cwd=source)
    except subprocess.CalledProcessError as error:
        return {"missing": (error.stderr.strip().splitlines() or [str(error)])[-1][:300]}
    version = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for line in (source / "go.mod").read_text(encoding="utf-8").splitlines():
        if "go.etcd.io/etcd/client/v3 " in line:
            return {"version": line.split()[-1], "python": version, "note": "goroutines on one client"}
    raise AssertionError("go.mod does not name the client")


def run(command: list[str], cwd: Path | None = None) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)


if __name__ == "__main__":
    sys.exit(main())
