# SPDX-License-Identifier: Apache-2.0
"""Run seeds: ``python -m tests.sim --seed 7 --trace``, or many: ``python -m tests.sim --seeds 200``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from tests.sim import planted
from tests.sim.run import MOST_DOUBT, Outcome, doubt, simulate


def main() -> int:
    """Run what the arguments ask for; 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and show the end of its trace when it fails")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all notes as they come")
    parser.add_argument("--seeds", type=int, default=200, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--bug", choices=sorted(planted.BUGS), help="with --seed: with this bug planted into the client"
    )
    parser.add_argument(
        "--planted", action="store_true", help="find each planted bug; tells after how many seeds"
    )
    arguments = parser.parse_args()
    if arguments.planted:
        return find_planted(arguments.first, arguments.seeds, arguments.jobs)
    if arguments.seed is not None:
        with planted.planted(arguments.bug) if arguments.bug else nullcontext():
            return show(simulate(arguments.seed, arguments.trace))
    return run_many(range(arguments.first, arguments.first + arguments.seeds), arguments.jobs)


def show(outcome: Outcome) -> int:
    """Print how one seed went."""
    if outcome.failure:
        print(*outcome.notes, sep="\n")
        print(outcome.failure)
    print(f"seed {outcome.seed}: digest {outcome.digest}, {outcome.seconds:.0f} s, {dict(outcome.counts)}")
    return 1 if outcome.failure else 0


def run_many(seeds: Iterable[int], jobs: int) -> int:
    """Run seeds in several processes and print what came of them."""
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    failed, number, seconds = [], 0, 0.0
    with ProcessPoolExecutor(jobs) as pool:
        for outcome in pool.map(simulate, seeds, chunksize=4):
            number += 1
            seconds += outcome.seconds
            counts += outcome.counts
            if outcome.failure:
                failed.append(outcome.seed)
                print(
                    f"seed {outcome.seed} FAILED: {outcome.failure.strip().splitlines()[-1][:300]}",
                    flush=True,
                )
    report(number, seconds, counts, time.perf_counter() - began)
    print(f"{len(failed)} failed" + (f"; again: python -m tests.sim --seed {failed[0]}" if failed else ""))
    return 1 if failed or doubt(counts) > MOST_DOUBT else 0


def report(number: int, seconds: float, counts: Counter[str], wall: float) -> None:
    """Print the figures of many seeds."""
    calls = {kind: counts[f"calls {kind}"] for kind in ("ok", "failed", "ambiguous", "cancelled")}
    total = sum(calls.values()) or 1
    print(f"{number} seeds, {seconds / 3600:.1f} simulated hours in {wall:.0f} s ({seconds / wall:.0f} s/s)")
    print(f"calls: {total}: " + ", ".join(f"{value} {kind}" for kind, value in calls.items()), end="")
    print(f"; {100 * calls['ambiguous'] / total:.2f} % ambiguous")
    print(
        f"writes: {counts['writes']}: {counts['writes called open']} said to be open, where "
        f"{counts['writes open']} were: {doubt(counts):.3f} times as many, {MOST_DOUBT} at most (S5)"
    )
    print(f"events: {counts['events']}, leases lost: {counts['leases lost']}, dials: {counts['dials']}")
    faults = {kind[6:]: count for kind, count in counts.items() if kind.startswith("fault ")}
    print(
        f"faults: {sum(faults.values())}: " + ", ".join(f"{faults[kind]} {kind}" for kind in sorted(faults))
    )


def find_planted(first: int, limit: int, jobs: int) -> int:
    """Look for each planted bug; 1 when one is not found within `limit` seeds."""
    missed = 0
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {name: pool.submit(planted.find, name, first, limit) for name in planted.BUGS}
        for name, found in waiting.items():
            seeds, what = found.result()
            missed += not seeds
            result = f"found after {seeds} seeds: {what}" if seeds else f"NOT FOUND in {limit} seeds"
            print(f"{name}: {result}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
