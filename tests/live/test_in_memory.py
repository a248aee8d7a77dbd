# SPDX-License-Identifier: Apache-2.0
"""The choice of tests for the etcd in memory names tests that exist, and its flags are etcd's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.live import in_memory

HERE = Path(__file__).parent


def test_what_is_chosen_exists():
    defined: set[str] = set()
    for module in in_memory.MODULES:
        text = (HERE / f"{module}.py").read_text(encoding="utf-8")
        defined.update(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE))
    assert set(in_memory.NOT) <= defined
    assert in_memory.QUICK <= in_memory.MODULES


@pytest.mark.memory
def test_flags_of_etcd_are_options_of_the_member():
    with in_memory.server(args=["--auth-token-ttl", "3", "--max-txn-ops=5"]) as server:
        assert (server.options.auth_token_ttl, server.options.max_txn_ops) == (3.0, 5)
    with pytest.raises(ValueError, match="has no --listen"):
        in_memory.server(args=["--listen=1"])
