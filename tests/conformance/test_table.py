# SPDX-License-Identifier: Apache-2.0
"""docs/conformance.md names tests that exist, and every row that runs."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.test_rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
TABLE = dict(re.findall(r"^\| ([HGD]\d+) \| (.*) \|$", PAGE, re.MULTILINE))
BY_ROW = "tests/conformance/test_rows.py::test_row"


def test_every_test_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > len(TABLE)
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)


def test_rows_that_run_are_those_of_the_table():
    assert {row for row, text in TABLE.items() if BY_ROW in text} - {"D13"} == {row.id for row in ROWS}


def test_the_table_has_all_rows():
    expected = [f"H{n}" for n in (*range(1, 14), *range(20, 39))]
    expected += [f"G{n}" for n in (*range(1, 8), *range(10, 23), 24, 26, *range(30, 46))] + [
        f"D{n}" for n in range(1, 17)
    ]
    assert list(TABLE) == expected
