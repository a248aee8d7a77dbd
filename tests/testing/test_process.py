# SPDX-License-Identifier: Apache-2.0
"""Guarded processes end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from purecd.testing.process import reap, spawn, tail

ROOT = Path(__file__).resolve().parents[2]

# Starts a guarded `sleep`, prints its pid, then ends the way that the argument says.
STARTER = """
import os, signal, sys, time
from purecd.testing.process import spawn
with open(os.devnull, "wb") as null:
    print(spawn(["sleep", "60"], dict(os.environ), null).pid, flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
if sys.argv[1] == "exit":
    sys.exit()
if sys.argv[1] == "abort":
    os._exit(1)
if sys.argv[1] == "fork":
    if os.fork() == 0:
        time.sleep(60)  # a forked child that lives on must not keep the guard waiting
"""


def start(how: str) -> tuple[subprocess.Popen[str], int]:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert starter.stdout is not None
    return starter, int(starter.stdout.readline())


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while exists(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan's zombie counts as gone: who collects it is not ours to choose.
    asked = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return not asked.stdout.startswith("Z") and asked.stdout.strip() != ""


@pytest.mark.parametrize("how", ["exit", "abort", "fork"])
def test_it_ends_when_its_starter_ends(how):
    starter, pid = start(how)
    with starter:
        starter.wait(20)
        wait_gone(pid)
        os.killpg(starter.pid, signal.SIGKILL) if how == "fork" else None


def test_it_ends_when_its_starter_is_killed():
    starter, pid = start("wait")
    with starter:
        assert exists(pid)
        starter.kill()
        starter.wait()
        wait_gone(pid)


def test_reap_gives_the_status_and_the_output_is_kept(tmp_path):
    path = tmp_path / "output"
    with path.open("wb") as output:
        process = spawn(["sh", "-c", "echo said; echo warned >&2; exit 3"], dict(os.environ), output)
    assert reap(process) == 3
    assert path.read_text() == "said\nwarned\n"


def test_reap_does_not_wait_for_ever(tmp_path):
    with (tmp_path / "output").open("wb") as output:
        process = spawn(["sleep", "60"], dict(os.environ), output)
    with pytest.raises(subprocess.TimeoutExpired):
        reap(process, timeout=0.01)
    process.kill()
    assert reap(process) == -signal.SIGKILL


def test_tail_takes_whole_lines_from_the_end(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(f"line {number} {'x' * 100}\n" for number in range(1000)))
    assert [line.split()[1] for line in tail(path, lines=3).splitlines()] == ["997", "998", "999"]
    assert tail(tmp_path / "missing") == ""
