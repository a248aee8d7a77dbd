# SPDX-License-Identifier: Apache-2.0
"""Run every benchmark and put what they found into one JSON file and one page with charts."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import page, peers
from harness.report import machine

HERE = Path(__file__).resolve().parent
QUESTIONS = (
    "one_caller",
    "in_flight",
    "threads",
    "watch",
    "ranges",
    "snapshot",
    "growth",
    "startup",
    "tls_auth",
    "pure_protobuf",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--rounds", type=int, default=0, help="turns of each contestant")
    parser.add_argument(
        "--out", type=Path, default=peers.ROOT / "docs" / "benchmarks", help="folder to write to"
    )
    parser.add_argument(
        "only", nargs="*", help=f"some of {', '.join(QUESTIONS)}; the others stay as they were"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "results.json"
    results: dict[str, Any] = {"machine": {}, "peers": {}, "benchmarks": {}}
    if options.only and target.exists():
        results = json.loads(target.read_text(encoding="utf-8"))
    failed = []
    for name in options.only or QUESTIONS:
        found = run(name, options.quick, options.rounds)
        if found is None:
            failed.append(name)
            continue
        results["benchmarks"][name] = found
        write(options.out, results)  # after each: what was measured is not lost when a later one is stopped
    print(f"\nwritten: {target} and {options.out / 'index.html'}")
    for name in failed:
        print(f"FAILED: {name}")
    return 1 if failed else 0


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write the JSON file, the page and its charts."""
    known = results["benchmarks"]
    results["benchmarks"] = {name: known[name] for name in QUESTIONS if name in known}
    results["machine"] = machine()
    results["peers"] = peers.read_state()
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.write(folder, results)


def run(name: str, quick: bool, rounds: int) -> dict[str, Any] | None:
    """Run one script in a process of its own; what it found, None when it failed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(target), *(["--quick"] * quick)]
        command += ["--rounds", str(rounds)] if rounds else []
        if subprocess.run(command, check=False).returncode:
            return None
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        return found


if __name__ == "__main__":
    sys.exit(main())
