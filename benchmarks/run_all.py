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

from harness import peers
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
        found = run(name, options.quick)
        if found is None:
            failed.append(name)
        else:
            results["benchmarks"][name] = found
    results["machine"] = machine()
    results["peers"] = peers.read_state()
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {target}")
    for name in failed:
        print(f"FAILED: {name}")
    return 1 if failed else 0


def run(name: str, quick: bool) -> dict[str, Any] | None:
    """Run one script in a process of its own; what it found, None when it failed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(target), *(["--quick"] * quick)]
        if subprocess.run(command, check=False).returncode:
            return None
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        return found


if __name__ == "__main__":
    sys.exit(main())
