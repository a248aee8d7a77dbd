# SPDX-License-Identifier: Apache-2.0
"""One page, charts and a summary from what all benchmarks found."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from .charts import bar_chart, table_charts

STYLE = """
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; color: #1c1c1c;
  background: #fff; max-width: 800px; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2.2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25em .6em .25em 0; border-bottom: 1px solid #e6e6e6;
  vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.met { color: #1a7f5a; } .missed { color: #b3261e; font-weight: 600; } .none { color: #777; }
svg { max-width: 100%; height: auto; display: block; margin: .6em 0; }
p.small, li.small { color: #555; font-size: 13px; }
"""
INTRODUCTION = """<p>Clients take turns against one etcd, each in a process and an environment of its own.
Figures are medians of the rounds; ratios are medians of the ratios within a round, to purecd unless something
else is said. "Best rounds" compares the round of each that other work on the machine disturbed least. CPU is
that of the client's process with all its threads. The raw socket sends bytes that were made beforehand and
looks only for what ends a call: nothing on this machine can be quicker.</p>"""
OVERVIEW = (
    ("one_caller", "blocking get, one caller", "time", "get.svg", "One blocking get"),
    ("in_flight", "asyncio, 64 gets in flight", "rate", "asyncio.svg", "64 gets in flight on asyncio"),
    (
        "in_flight",
        "asyncio, 64 gets in flight",
        "cpu",
        "asyncio-cpu.svg",
        "CPU of a get, 64 in flight on asyncio",
    ),
    ("watch", "watch, 100 events a revision", "cpu", "watch.svg", "CPU of an event of a watch"),
)


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write index.html, README.md and the charts that other pages show."""
    (folder / "index.html").write_text(page(results), encoding="utf-8")
    pictures = []
    for name, title, kind, file, caption in OVERVIEW:
        table = find(results, name, title)
        if table is None:
            continue
        rows = [(row["name"], row[kind], row.get(f"{kind} ratio")) for row in table["rows"]]
        better = "more is better" if kind == "rate" else "less is better"
        unit = {"time": "microseconds", "rate": "calls per second", "cpu": "microseconds of client CPU"}[kind]
        (folder / file).write_text(bar_chart(caption, unit, rows, better), encoding="utf-8")
        pictures.append((file, caption))
    (folder / "README.md").write_text(summary(results, pictures), encoding="utf-8")


def find(results: dict[str, Any], name: str, title: str) -> dict[str, Any] | None:
    for table in results["benchmarks"].get(name, {}).get("tables", []):
        if table["title"] == title:
            found: dict[str, Any] = table
            return found
    return None


def goals_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    found = [goal for each in results["benchmarks"].values() for goal in each["goals"]]
    return sorted(found, key=lambda goal: goal["line"])


def machine_line(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"{machine['cores']} cores, {machine['system']}, {machine['python']}, "
        f"protobuf {machine['protobuf']}, etcd {machine['etcd']} on the same machine, not waiting for "
        f"its disk; load before each benchmark: {loads(results)}"
    )


def loads(results: dict[str, Any]) -> str:
    """How busy the machine was with other things."""
    found = [each["load"] for each in results["benchmarks"].values() if "load" in each]
    return f"{min(found):.0f} to {max(found):.0f}" if found else "unknown"


def peers_lines(results: dict[str, Any]) -> list[str]:
    lines = []
    for name, state in sorted(results["peers"].items()):
        if "missing" in state:
            lines.append(f"{name}: missing ({state['missing']})")
            continue
        parts = [state["version"]]
        if state.get("grpcio"):
            parts.append(f"grpcio {state['grpcio']}")
        parts.append(state["python"] if name == "go" else f"Python {state['python']}")
        if state.get("note"):
            parts.append(state["note"])
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


def figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def limit(goal: dict[str, Any]) -> str:
    unit = "" if goal["unit"] == "x" else goal["unit"]
    return f"{'≥' if goal['at_least'] else '≤'} {goal['limit']:g} {unit}".strip()


def verdict(goal: dict[str, Any]) -> str:
    return {True: "met", False: "missed", None: "not measured"}[goal["met"]]


def is_quick(results: dict[str, Any]) -> bool:
    return any(each.get("quick") for each in results["benchmarks"].values())


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    parts = [
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>purecd: benchmarks</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        "<h1>purecd: benchmarks</h1>",
        f"<p>{escape(machine_line(results))}.</p>",
        INTRODUCTION,
    ]
    if is_quick(results):
        parts.append(
            "<p class='missed'>Parts of this were a quick run: it shows that all works, not how fast.</p>"
        )
    parts += [
        "<h2>Goals</h2>",
        "<table><tr><th></th><th>What</th><th>Measured</th><th>Best rounds</th><th>Goal</th><th></th></tr>",
    ]
    for goal in goals_of(results):
        kind = {"met": "met", "missed": "missed"}.get(verdict(goal), "none")
        parts.append(
            f"<tr><td>{escape(goal['line'])}</td><td>{escape(goal['text'])}</td>"
            f"<td class='n'>{figure(goal['measured'])}</td><td class='n'>{figure(goal.get('best'))}</td>"
            f"<td class='n'>{escape(limit(goal))}</td><td class='{kind}'>{verdict(goal)}</td></tr>"
        )
    parts.append("</table>")
    for each in results["benchmarks"].values():
        parts.append(f"<h2>{escape(each['title'])}</h2>")
        for table in each["tables"]:
            parts += table_charts(table)
        parts += [f"<p class='small'>{escape(note)}</p>" for note in each["notes"]]
        parts += [
            f"<p class='small'>Missing: {escape(name)}: {escape(reason)}</p>"
            for name, reason in each["missing"].items()
        ]
    parts.append("<h2>Clients</h2>\n<ul>")
    parts += [f"<li class='small'>{escape(line)}</li>" for line in peers_lines(results)]
    parts.append("</ul>\n</body>\n</html>\n")
    return "\n".join(parts)


def summary(results: dict[str, Any], pictures: list[tuple[str, str]]) -> str:
    """The same in short, as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        (
            "Made by `make bench`; the whole is in [index.html](index.html), figures are in"
            " [results.json](results.json)."
        ),
        "",
        f"Measured on {machine_line(results)}.",
        "",
    ]
    if is_quick(results):
        lines += ["Parts of this were a quick run: it shows that all works, not how fast.", ""]
    for file, caption in pictures:
        lines += [f"![{caption}]({file})", ""]
    lines += ["| | what | measured | best rounds | goal | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for goal in goals_of(results):
        figures = (figure(goal["measured"]), figure(goal.get("best")))
        cells = (goal["line"], goal["text"], *figures, limit(goal), verdict(goal))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Clients:", ""]
    lines += [f"* {line}" for line in peers_lines(results)]
    missing = {
        f"* {name} in {each['name']}: {reason}"
        for each in results["benchmarks"].values()
        for name, reason in each["missing"].items()
    }
    if missing:
        lines += ["", "Could not be measured:", "", *sorted(missing)]
    return "\n".join(lines) + "\n"
