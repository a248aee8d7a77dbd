# SPDX-License-Identifier: Apache-2.0
"""Make a virtual environment with this project and one dependency group in it.

    python tools/fresh_venv.py FOLDER [--group test] [--lowest]

Run by the interpreter that the environment is for. What is there already is brought up to
date, so a second run is quick. An etcd program is installed with it, if there is one for this machine.
``--lowest`` takes the lowest version that pyproject.toml allows of each run-time dependency.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a virtual environment with this project in it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group", help="dependency group of pyproject.toml to install as well")
    parser.add_argument("--lowest", action="store_true", help="lowest allowed run-time dependencies")
    options = parser.parse_args()
    python = options.folder / "bin" / "python"
    print(f"preparing {options.folder}; the first time takes a while", flush=True)
    if not python.exists():
        # Links, as `python -m venv` makes them: without, Debian's PyPy copies all of /usr/lib.
        venv.create(options.folder, symlinks=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)  # 25.1 knows --group
    rest = ["--group", f"{ROOT / 'pyproject.toml'}:{options.group}"] if options.group else []
    if options.lowest:
        rest += lowest()
    with_etcd = subprocess.run([*pip, "--editable", f"{ROOT}[etcd]", *rest])
    if with_etcd.returncode != 0:
        print("once more without the etcd program, which is not made for every machine", flush=True)
        subprocess.run([*pip, "--editable", str(ROOT), *rest], check=True)
    return 0


def lowest() -> list[str]:
    """Each run-time dependency of pyproject.toml at its lower bound, as ``name==version``."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib came with 3.11
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    if block is None:
        sys.exit("pyproject.toml has no dependencies list")
    bounds = re.findall(r'"([\w-]+)>=([\d.]+),', block.group(1))
    return [f"{name}=={version}" for name, version in bounds]


if __name__ == "__main__":
    sys.exit(main())
