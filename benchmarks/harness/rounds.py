# SPDX-License-Identifier: Apache-2.0
"""Alternating rounds: every contestant has its turn in each, and ratios are taken within a round."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable
from typing import Any, Callable

from .workers import Answer, Failed, Team, Worker

Samples = dict[str, list[dict[str, float]]]
Turn = Callable[[Worker], Answer]


def per_call(answer: Answer) -> dict[str, float]:
    """Figures of one turn: microseconds of time and of CPU per call, and calls per second."""
    count, wall, cpu = answer["count"], answer["wall"], answer["cpu"]
    figures = {"time": wall / count * 1e6, "cpu": cpu / count * 1e6, "rate": count / wall}
    for name in ("latency",):
        if name in answer:
            figures[name] = answer[name] * 1e6
    return figures


def alternate(team: Team, turn: Turn, rounds: int, figures: Callable[[Answer], Any] = per_call) -> Samples:
    """Let every worker take its turn, `rounds` times after one round to warm up.

    Each round begins with another worker, so that none always follows the same. One that fails is dropped,
    with its reason.
    """
    samples: Samples = {}
    for number in range(-1, rounds):
        names = list(team.workers)
        start = number % len(names) if names else 0
        for name in names[start:] + names[:start]:
            try:
                answer = turn(team.workers[name])
            except (Failed, OSError) as error:
                team.drop(name, str(error))
                samples.pop(name, None)
                continue
            if number >= 0:
                samples.setdefault(name, []).append(figures(answer))
        if sys.stderr.isatty():
            end = "\n" if number == rounds - 1 else ""
            print(f"\r  round {max(number + 1, 0)} of {rounds}", end=end, file=sys.stderr, flush=True)
    return samples


def median(samples: Iterable[dict[str, float]], figure: str) -> float:
    return statistics.median(sample[figure] for sample in samples)


def ratio(samples: Samples, one: str, other: str, figure: str) -> float | None:
    """Median of the ratios within each round; None when one of them is missing."""
    if one not in samples or other not in samples:
        return None
    pairs = zip(samples[one], samples[other])
    ratios = [a[figure] / b[figure] for a, b in pairs if b[figure]]
    return statistics.median(ratios) if ratios else None


def best_ratio(samples: Samples, one: str, other: str, figure: str) -> float | None:
    """Ratio of the best rounds: what other work on the machine disturbed least."""
    if one not in samples or other not in samples:
        return None
    best = max if figure == "rate" else min
    a, b = (best(sample[figure] for sample in samples[name]) for name in (one, other))
    return a / b if b else None
