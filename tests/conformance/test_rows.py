# SPDX-License-Identifier: Apache-2.0
"""Each row of the tables on each carrier: the wire alone (whole, and octet by octet), threads, asyncio."""

from __future__ import annotations

import gc
import os

import pytest

from tests.conformance.carriers import BUSY, run_on_front, run_on_wire
from tests.conformance.rows_attacks import ATTACKS
from tests.conformance.rows_grpc import GRPC_ROWS
from tests.conformance.rows_h2spec import H2SPEC
from tests.conformance.rows_malformed import MALFORMED_ROWS
from tests.conformance.script import Row, check
from tests.live.fronts import FRONTS

ROWS = [*H2SPEC, *MALFORMED_ROWS, *GRPC_ROWS, *ATTACKS]
MIB = 1 << 20
GROWTH = 4 * MIB
CARRIERS = ["wire", "octets", *FRONTS]
CASES = [(row, carrier) for row in ROWS for carrier in CARRIERS if not (row.big and carrier == "octets")]


def resident() -> int:
    """Octets of memory this process has in use; 0 where nobody tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def run(row: Row, carrier: str) -> float:
    """Run a row and check it; seconds of CPU while there was nothing to do."""
    if carrier in FRONTS:
        front = FRONTS[carrier]()
        try:
            seen, busy = run_on_front(row, front)
        finally:
            front.close()
    else:
        seen, busy = run_on_wire(row, 1 if carrier == "octets" else MIB), 0.0
    check(row, seen)
    return busy


@pytest.mark.parametrize(("row", "carrier"), CASES, ids=[f"{row}-{carrier}" for row, carrier in CASES])
def test_row(row, carrier):
    # What grew for other reasons, or was not collected yet, does so once.
    for _ in range(3):
        before = resident()
        busy = run(row, carrier)
        growth = resident() - before
        if busy < BUSY and growth < GROWTH:
            return
        gc.collect()
    raise AssertionError(f"{busy * 1000:.0f} ms of CPU for nothing, {growth / MIB:.1f} MiB more in use")
