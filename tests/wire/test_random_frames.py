# SPDX-License-Identifier: Apache-2.0
"""Random frames, mostly legal: nothing raises, and how the octets are cut changes nothing.

What makes and judges them are two of the fuzz targets; here they run on every interpreter.
"""

import random

import pytest

from tests.fuzz.wire_targets import connection, raw_connection


@pytest.mark.parametrize("seed", range(400))
def test_cuts_change_nothing(seed):
    connection(random.Random(seed).randbytes(400))


def test_random_octets_never_raise():
    rng = random.Random(7)
    for _ in range(200):
        raw_connection(rng.randbytes(200))
