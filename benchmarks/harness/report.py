# SPDX-License-Identifier: Apache-2.0
"""What a benchmark says in the end: tables, goals, who was missing; printed and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from purecd.testing import EtcdServer

from .rounds import Samples, best_ratio, median, ratio

UNITS = {"time": "us", "cpu": "CPU us", "rate": "per second", "latency": "us"}


class Settings(NamedTuple):
    """How much to measure.

    Attributes:
        quick: a short run, to see that all works rather than to believe its figures.
        rounds: turns of each contestant.
    """

    quick: bool
    rounds: int

    def scaled(self, full: int, quick: int) -> int:
        """One of two sizes."""
        return quick if self.quick else full


class Goal(NamedTuple):
    """Something that must hold, and what was measured.

    Attributes:
        line: which of the goals it belongs to, such as ``1``.
        text: what is compared.
        limit: the bound.
        measured: None when it could not be.
        at_least: whether the bound is a lower one.
        unit: of both; "x" for ratios.
        best: the same of the best rounds alone, where that is another number.
    """

    line: str
    text: str
    limit: float
    measured: float | None
    at_least: bool = False
    unit: str = "x"
    best: float | None = None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        sign = ">=" if self.at_least else "<="
        shown = "-" if self.measured is None else f"{self.measured:.3g}"
        best = "" if self.best is None else f" (best rounds {self.best:.3g})"
        return f"{self.line:3} {self.text:74} {shown:>7} {sign} {self.limit:g} {self.unit:6} {word}{best}"


class Report:
    """All that one benchmark found.

    Args:
        name: of the script.
        title: its question.
    """

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.tables: list[dict[str, Any]] = []
        self.goals: list[Goal] = []
        self.missing: dict[str, str] = {}
        self.notes: list[str] = []

    def table(
        self,
        title: str,
        samples: Samples,
        figures: tuple[str, ...],
        base: str = "purecd",
        units: dict[str, str] | None = None,
    ) -> None:
        """Keep medians, and ratios to `base` within rounds; print them."""
        rows = []
        for name, rounds in samples.items():
            row: dict[str, Any] = {"name": name}
            for figure in figures:
                row[figure] = median(rounds, figure)
                row[f"{figure} ratio"] = ratio(samples, name, base, figure)
                row[f"{figure} rounds"] = [round(sample[figure], 4) for sample in rounds]
            rows.append(row)
        self.rows(title, rows, figures, units)

    def rows(
        self,
        title: str,
        rows: list[dict[str, Any]],
        figures: tuple[str, ...],
        units: dict[str, str] | None = None,
    ) -> None:
        """Keep and print a table made elsewhere: each row has a ``name`` and the figures."""
        all_units = {**UNITS, **(units or {})}
        self.tables.append(
            {
                "title": title,
                "figures": list(figures),
                "units": {figure: all_units.get(figure, "") for figure in figures},
                "rows": rows,
            }
        )
        print(f"\n{title}")
        for row in rows:
            cells = []
            for figure in figures:
                value = row.get(figure)
                cell = "-" if value is None else f"{value:,.1f} {all_units.get(figure, '')}"
                against = row.get(f"{figure} ratio")
                cells.append(f"{cell:>22}" + (f" ({against:5.2f} x)" if against is not None else ""))
            print(f"  {row['name']:28}" + "".join(cells), flush=True)

    def compare(
        self,
        line: str,
        text: str,
        limit: float,
        samples: Samples,
        one: str,
        other: str,
        figure: str,
        *,
        at_least: bool = False,
    ) -> None:
        """Hold the ratio of a figure of two contestants against a goal."""
        found, best = ratio(samples, one, other, figure), best_ratio(samples, one, other, figure)
        self.goal(Goal(line, text, limit, found, at_least, best=best))

    def goal(self, goal: Goal) -> None:
        self.goals.append(goal)
        print(f"  goal {goal}", flush=True)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def miss(self, missing: dict[str, str]) -> None:
        """Name clients that could not be measured."""
        for name, reason in missing.items():
            self.missing[name] = reason
            print(f"  missing: {name}: {reason}", flush=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "tables": self.tables,
            "goals": [{**goal._asdict(), "met": goal.met} for goal in self.goals],
            "missing": self.missing,
            "notes": self.notes,
        }


def run(script: str, doc: str, measure: Callable[[Report, Settings], None], rounds: int = 7) -> None:
    """A benchmark's main: read the arguments, measure, write what was found.

    Args:
        rounds: turns of each contestant unless told otherwise; many and short where a turn is quick.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="a short run, to see that all works")
    parser.add_argument("--rounds", type=int, default=0, help="turns of each contestant")
    parser.add_argument("--json", type=Path, help="file to write what was found to")
    options = parser.parse_args()
    settings = Settings(options.quick, options.rounds or (3 if options.quick else rounds))
    report = Report(Path(script).stem, doc.strip().splitlines()[0])
    print(f"== {report.name}: {report.title}", flush=True)
    started, load = time.monotonic(), os.getloadavg()[0]
    measure(report, settings)
    found = {
        **report.as_json(),
        "seconds": round(time.monotonic() - started, 1),
        "load": round(load, 1),
        "quick": options.quick,
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.flush()


def server(**more: Any) -> EtcdServer:
    """An etcd to measure against; it does not wait for the disk, which is nobody's to win."""
    return EtcdServer(**more)


def machine() -> dict[str, Any]:
    """What figures depend on, told in general words."""
    from google.protobuf.internal import api_implementation

    from purecd.testing.binary import etcd_version, find_etcd

    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "protobuf": api_implementation.Type(),
        "etcd": ".".join(map(str, etcd_version(find_etcd()))),
    }
