# SPDX-License-Identifier: Apache-2.0
"""Which etcd programs this machine has for the live tests.

The default one is what `find_etcd` finds (with the extra ``purecd[etcd]``, 3.5.1). Others are in
.cache/etcd/<version>/etcd, where ``make etcds`` puts them, and wherever ``$PURECD_ETCDS`` says: paths
of programs, separated as in PATH.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

from purecd.testing import etcd_version, find_etcd

ROOT = Path(__file__).resolve().parents[2]
# Flags for elections ten times quicker than by default; enough on one machine.
QUICK = ("--heartbeat-interval=10", "--election-timeout=100")
WANTED = ("3.4", "3.5", "3.6", "3.7")


class Etcd(NamedTuple):
    """One etcd program, or the etcd in memory.

    Attributes:
        version: such as ``3.5.16``; the id of tests that run on it.
        path: None for the etcd in memory.
    """

    version: str
    path: Path | None


def present() -> list[Etcd]:
    """Every version once: the default one first, the others from old to new."""
    return look()[0]


def number_of(etcd: Etcd) -> tuple[int, ...]:
    """Its version for comparisons, such as (3, 5, 16)."""
    return tuple(map(int, etcd.version.split(".")))


def skipped() -> list[str]:
    """What is missing or does not run, each with the reason."""
    return look()[1]


@cache
def look() -> tuple[list[Etcd], list[str]]:
    """What `present` and `skipped` return, found once per process."""
    found: dict[tuple[int, int, int], Path] = {}
    reasons = []
    try:
        default = [find_etcd()]
    except RuntimeError as error:
        default = []
        reasons.append(str(error))
    named = [Path(path) for path in os.environ.get("PURECD_ETCDS", "").split(os.pathsep) if path]
    for path in [*default, *named, *ROOT.glob(".cache/etcd/*/etcd")]:
        try:
            found.setdefault(etcd_version(path), path)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reasons.append(f"{path} does not run: {error}")
    minors = {f"{major}.{minor}" for major, minor, _ in found}
    reasons.extend(
        f"no {minor} (make etcds fetches it where it can)" for minor in WANTED if minor not in minors
    )
    ordered = [*list(found)[:1], *sorted(list(found)[1:])]
    return [Etcd(".".join(map(str, version)), found[version]) for version in ordered], reasons
