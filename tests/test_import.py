# SPDX-License-Identifier: Apache-2.0
"""Importing purecd is cheap and starts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"asyncio", "ssl", "google.protobuf", "concurrent.futures", "socket"}


def loaded_by(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `program`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{program}\nimport sys; print(*sys.modules, sep=chr(10))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def bare():
    return loaded_by("pass")


def test_the_package_loads_nothing_heavy(bare):
    assert not (loaded_by("import purecd") - bare) & HEAVY


def test_the_etcd_in_memory_is_loaded_when_it_is_asked_for(bare):
    program = "import purecd; purecd.Client('127.0.0.1:1').close()"
    assert not {name for name in loaded_by(program) if name.partition(".")[0] == "h2"}
    assert "purecd.memory" not in loaded_by(program)
    assert "purecd.memory.server" in loaded_by("import purecd; purecd.memory.MemoryEtcd().close()")


def test_the_blocking_client_loads_neither_asyncio_nor_ssl(bare):
    program = "import purecd; purecd.Client('127.0.0.1:1').close()"
    assert not (loaded_by(program) - bare) & {"asyncio", "ssl"}


def test_the_asyncio_client_does_load_asyncio(bare):
    assert "asyncio" in loaded_by("import purecd; purecd.AsyncClient") - bare


def test_a_get_loads_no_groups_of_commands_and_no_codec_of_names():
    program = (
        "import purecd\n"
        "with purecd.memory.MemoryEtcd() as etcd, purecd.Client(etcd.endpoint) as client: client.get('x')"
    )
    loaded = loaded_by(program)
    assert not loaded & {"purecd.sync.groups", "purecd.core.maintenance"}
    if sys.implementation.name == "cpython":  # PyPy may load it for the socket of the server
        assert "encodings.idna" not in loaded
    assert "purecd.sync.groups" in loaded_by("import purecd; purecd.Client('127.0.0.1:1').leases")


SELDOM = {
    "google.protobuf",
    "purecd.admin_types",
    "purecd.core.keepalive",
    "purecd.core.namespace",
    "purecd.core.ordering",
    "purecd.core.scan",
    "purecd.core.watching",
    "purecd.sync.handles",
    "purecd.sync.leases",
}


def test_the_blocking_client_loads_what_every_program_needs():
    assert not loaded_by("import purecd; purecd.Client('127.0.0.1:1')") & SELDOM


@pytest.mark.parametrize(
    ("use", "loaded"),
    [
        ("client.watch('k', timeout=0.0)", {"purecd.sync.handles", "purecd.core.watching"}),
        ("client.lease(5, timeout=0.0)", {"purecd.sync.leases", "purecd.core.keepalive"}),
        ("client.namespace('a/')", {"purecd.core.namespace"}),
        ("client.ordered()", {"purecd.core.ordering"}),
        ("next(client.scan(timeout=0.0))", {"purecd.core.scan"}),
    ],
)
def test_a_command_loads_what_it_needs(use, loaded):
    program = (
        "import contextlib, purecd\n"
        "with purecd.Client('127.0.0.1:1') as client, contextlib.suppress(ValueError, purecd.EtcdError):\n"
        f"    {use}\n"
    )
    assert loaded <= loaded_by(program)
