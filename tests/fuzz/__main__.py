# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing with atheris: ``python -m tests.fuzz [--seconds 600] [TARGET ...]``.

Each target runs in a process of its own and keeps what it learned in ``.cache/fuzz/TARGET``. An input
that fails is shown and written to ``tests/fuzz/regressions/TARGET``, from where the test suite tries it
for ever after. Ends with 1 when there was one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGRESSIONS = Path(__file__).parent / "regressions"
PACKAGES = [
    "purecd.wire",
    "purecd.core",
    "purecd.pb",
    "purecd.errors",
    "purecd.requests",
    "purecd.snapshot_file",
]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Coverage-guided fuzzing.")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        fuzz(options.targets[0], options.seconds)
    from tests.fuzz.targets import TARGETS

    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    with ThreadPoolExecutor(options.jobs) as pool:
        reports = list(pool.map(lambda name: in_a_process(name, options.seconds), options.targets or TARGETS))
    return int(any(reports))


def in_a_process(name: str, seconds: int) -> bool:
    """Fuzz one target; whether it failed."""
    command = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(seconds), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    output = done.stdout + done.stderr
    ran = re.findall(r"Done (\d+) runs", output)
    features = re.findall(r"ft: (\d+)", output)
    if done.returncode == 0 and ran:
        print(
            f"{name}: {ran[-1]} executions in {seconds} s, {features[-1] if features else 0} features",
            flush=True,
        )
        return False
    print(f"{name}: FAILED\n{output[-3000:]}", flush=True)
    return True


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process; never returns."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # may be missing

    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus = ROOT / ".cache" / "fuzz" / name
    crashes = REGRESSIONS / name
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={target.longest}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={crashes}/", str(corpus)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
