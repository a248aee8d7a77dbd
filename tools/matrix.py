# SPDX-License-Identifier: Apache-2.0
"""Run the unit tests on other interpreters and with the lowest allowed dependencies.

    python tools/matrix.py [pytest arguments]

With them run the live tests of the mark ``matrix``, against the etcd in memory. Left to ``make test`` are
the suites that try the same code in yet more ways and take long: fuzzing, conformance, scenarios, simulation.
The runs: oldest and newest CPython on this machine, the oldest once more with the lowest
dependencies, and PyPy. Interpreters are looked for on PATH and, where there is pyenv, among
its versions. What is missing is said and skipped; exit status 1 when a run failed or ran no test.
As many runs go on at once as there are cores; each shows its output when it has ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 9)
LEFT_OUT = ("fuzz", "conformance", "scenarios", "sim")
ASK = "import ensurepip, platform, sys, venv; print(platform.python_implementation(), *sys.version_info[:3])"


class Interpreter(NamedTuple):
    name: str  # CPython or PyPy
    version: tuple[int, ...]
    path: str

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


class Run(NamedTuple):
    label: str
    interpreter: Interpreter
    options: tuple[str, ...]


def main() -> int:
    present = sorted(set(interpreters()), key=lambda one: one.version)
    results = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for ended in as_completed([pool.submit(test, run) for run in runs(present)]):
            result, output = ended.result()
            print(f"== {result}\n{output}", flush=True)
            results.append(result)
    if not any(one.name == "PyPy" for one in present):
        results.append("skipped  PyPy: no pypy3 with venv and version 3.9 or newer on this machine")
    print("== matrix\n" + "\n".join(results))
    return 1 if any(line.startswith("FAILED") for line in results) or len(results) < 2 else 0


def runs(present: list[Interpreter]) -> Iterator[Run]:
    """What to run, given the interpreters present, oldest first."""
    cpythons = [one for one in present if one.name == "CPython"]
    if cpythons:
        yield Run("oldest, lowest dependencies", cpythons[0], ("--lowest",))
        yield Run("oldest", cpythons[0], ())
    if len(cpythons) > 1:
        yield Run("newest", cpythons[-1], ())
    pypys = [one for one in present if one.name == "PyPy"]
    if pypys:
        yield Run("PyPy", pypys[0], ())


def test(run: Run) -> tuple[str, str]:
    """Run the unit tests in an environment of its own; the result in one line, and the output."""
    started = time.monotonic()
    name = f"{run.interpreter.name}-{'.'.join(map(str, run.interpreter.version))}{''.join(run.options)}"
    folder = ROOT / ".cache" / "matrix" / name
    made = [run.interpreter.path, "tools/fresh_venv.py", str(folder), "--group", "test", *run.options]
    tested = [
        str(folder / "bin/python"),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",  # runs at the same time would share it
        "-m",
        "(matrix or not live) and not faults",
        *(f"--ignore=tests/{folder}" for folder in LEFT_OUT),
        *sys.argv[1:],
    ]
    output, status = "", "passed"
    for command in (made, tested):
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        output += done.stdout
        # Fails as well when pytest collected nothing (its status 5).
        if done.returncode:
            status = "FAILED"
            break
    seconds = time.monotonic() - started
    return f"{status}  {run.label}: {run.interpreter} ({seconds:.0f} s)", output


def interpreters() -> Iterator[Interpreter]:
    """Every interpreter here that is new enough and can make virtual environments."""
    names = [
        "python3",
        "pypy3",
        *(f"{kind}3.{minor}" for minor in range(9, 20) for kind in ("python", "pypy")),
    ]
    paths = [path for path in map(shutil.which, names) if path]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        paths += map(str, Path(root, "versions").glob("*/bin/python"))
    for path in paths:
        asked = subprocess.run([path, "-c", ASK], capture_output=True, text=True, env=_environment())
        name, *version = asked.stdout.split() or [""]
        found = tuple(map(int, version))
        if asked.returncode == 0 and found >= OLDEST:
            yield Interpreter(name, found, str(Path(path).absolute()))


def _environment() -> dict[str, str]:
    # An active virtual environment must not decide what another interpreter imports.
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


if __name__ == "__main__":
    sys.exit(main())
