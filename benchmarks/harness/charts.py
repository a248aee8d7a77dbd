# SPDX-License-Identifier: Apache-2.0
"""Bar charts as static SVG: no script, no network, readable on light and dark pages."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, LABELS, VALUES, BAR, GAP, HEAD = 760, 210, 150, 18, 7, 46
OURS, LIMIT, OTHERS = "#1a7f5a", "#9a9a9a", "#5b7fb4"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
BETTER = {"rate": "more is better", "MiB/s": "more is better"}


def bar_chart(title: str, unit: str, rows: list[tuple[str, float, float | None]], better: str = "") -> str:
    """A chart with a bar for each row, in the order given.

    Args:
        unit: of the values.
        rows: name, value, and how many times purecd's it is (None when there is nothing to compare).
        better: what to look for, such as ``less is better``.
    """
    longest = max((value for _, value, _ in rows), default=0.0) or 1.0
    height = HEAD + len(rows) * (BAR + GAP) + 8
    room = WIDTH - LABELS - VALUES
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' "
            f"height='{height}' role='img' aria-label='{escape(title, quote=True)}'>"
        ),
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
        f"<text x='12' y='20' {FONT} font-size='15' font-weight='600' fill='#1c1c1c'>{escape(title)}</text>",
        f"<text x='12' y='37' {FONT} font-size='11' fill='#666666'>{escape(_join(unit, better))}</text>",
    ]
    for number, (name, value, ratio) in enumerate(rows):
        top = HEAD + number * (BAR + GAP)
        length = max(value / longest * room, 1.0)
        times = f" ({ratio:.2f} x)" if ratio is not None and abs(ratio - 1) > 1e-9 else ""
        weight = "600" if is_ours(name) else "400"
        middle = top + BAR - 5
        parts += [
            (
                f"<text x='{LABELS - 8}' y='{middle}' {FONT} font-size='12' font-weight='{weight}' "
                f"text-anchor='end' fill='#1c1c1c'>{escape(name)}</text>"
            ),
            f"<rect x='{LABELS}' y='{top}' width='{length:.1f}' height='{BAR}' fill='{colour(name)}'/>",
            (
                f"<text x='{LABELS + length + 6:.1f}' y='{middle}' {FONT} font-size='12' "
                f"fill='#1c1c1c'>{escape(shown(value) + times)}</text>"
            ),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def table_charts(table: dict[str, Any]) -> list[str]:
    """A chart for each figure of a table."""
    charts = []
    for figure in table["figures"]:
        rows = [
            (row["name"], row[figure], row.get(f"{figure} ratio"))
            for row in table["rows"]
            if row.get(figure) is not None
        ]
        if rows:
            unit = table["units"].get(figure, "")
            named = figure if figure not in unit.lower() else ""
            better = BETTER.get(figure, "less is better")
            charts.append(bar_chart(table["title"], _join(named, unit), rows, better))
    return charts


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def is_ours(name: str) -> bool:
    return name.startswith(("purecd", "by hand", "full client"))


def colour(name: str) -> str:
    if is_ours(name):
        return OURS
    limits = ("raw socket", "receive and parse", "read the bytes", "empty client")
    return LIMIT if name in limits else OTHERS


def shown(value: float) -> str:
    """A figure with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
