# SPDX-License-Identifier: Apache-2.0
"""Fetch other etcd versions into .cache/etcd/<version>/etcd, for the live tests.

Two ways, each skipped with the reason said when this machine cannot take it:

* Debian's package ``etcd-server`` of several releases. apt runs on a private configuration
  below .cache/apt: the system's own sources, lists and packages stay as they are, only the
  address of its Debian mirror is read from them.
* Built by Go from the module ``go.etcd.io/etcd/server/v3``, newest patch of each minor
  version asked for.

    python tools/get_etcds.py [--no-build]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
ETCDS = CACHE / "etcd"

SUITES = ("bookworm", "trixie", "sid")
MINORS = ("3.6", "3.7")
MODULE = "go.etcd.io/etcd/server/v3"
MAIN = """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""


class Skipped(Exception):
    """This machine cannot provide that etcd; the text says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch other etcd versions into .cache/etcd.")
    parser.add_argument("--no-build", action="store_true", help="do not build 3.6 and 3.7 with Go")
    options = parser.parse_args()
    skipped = 0
    for what, get in jobs(build=not options.no_build):
        started = time.monotonic()
        try:
            path = get()
        except Skipped as reason:
            skipped += 1
            print(f"skipped  {what}: {reason}", flush=True)
        else:
            seconds = time.monotonic() - started
            print(
                f"got      {what}: {version_of(path)} in {path.relative_to(ROOT)} ({seconds:.0f} s)",
                flush=True,
            )
    present = sorted(path.parent.name for path in ETCDS.glob("*/etcd"))
    print(f"present  {', '.join(present) or 'none'}; {skipped} skipped")


def jobs(build: bool) -> Iterator[tuple[str, Callable[[], Path]]]:
    """(what, function that returns the program's path) per etcd."""
    for suite in SUITES:
        yield f"Debian {suite}", partial(from_debian, suite)
    for minor in MINORS if build else ():
        yield f"Go module {minor}", partial(from_go, minor)


# --- Debian ---------------------------------------------------------------------------------


def from_debian(suite: str) -> Path:
    """The etcd of Debian release `suite`."""
    for tool in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(tool) is None:
            raise Skipped(f"no {tool}")
    config = private_apt(suite)
    run(["apt-get", "-qq", "-c", str(config), "update"], config.parent)
    policy = run(["apt-cache", "-c", str(config), "policy", "etcd-server"], config.parent)
    found = re.search(r"Candidate: (\S+?)[-+~]\S*$", policy, re.MULTILINE)
    if found is None:
        raise Skipped("no package etcd-server")
    target = ETCDS / found.group(1) / "etcd"
    if target.exists():
        return target
    run(["apt-get", "-qq", "-c", str(config), "download", "etcd-server"], config.parent)
    (package,) = config.parent.glob("etcd-server_*.deb")
    run(["dpkg", "-x", str(package), "root"], config.parent)
    package.unlink()
    return install(config.parent / "root/usr/bin/etcd", target)


def private_apt(suite: str) -> Path:
    """Write a private apt configuration that knows only `suite`; its path."""
    base = CACHE / "apt" / suite
    shutil.rmtree(base / "root", ignore_errors=True)
    for package in base.glob("*.deb"):
        package.unlink()
    sources = base / "etc/sources.list.d"
    folders = ["etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "log"]
    for folder in (sources, *(base / name for name in folders)):
        folder.mkdir(parents=True, exist_ok=True)
    (base / "status").touch()
    (sources / "purecd.sources").write_text(
        f"Types: deb\nURIs: {debian_mirror()}\nSuites: {suite}\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    config = base / "apt.conf"
    config.write_text(
        f'Dir::Etc "{base}/etc";\nDir::State "{base}/state";\nDir::State::status "{base}/status";\n'
        f'Dir::Cache "{base}/cache";\nDir::Log "{base}/log";\nAPT::Sandbox::User "root";\n'
        'Acquire::Languages "none";\n'
    )
    return config


def debian_mirror() -> str:
    """Address of the Debian mirror that this machine's own apt uses."""
    etc = Path("/etc/apt")
    sources = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for source in sources:
        if not source.is_file():
            continue
        for line in source.read_text().splitlines():
            if line.lstrip().startswith("#"):
                continue
            found = re.search(r"https?://\S+/debian/?(?=\s|$)", line)
            if found:
                return found.group()
    raise Skipped("no Debian mirror in the apt sources")


# --- Go -------------------------------------------------------------------------------------


def from_go(minor: str) -> Path:
    """etcd `minor`, newest patch version, built from its Go module."""
    if shutil.which("go") is None:
        raise Skipped("no go")
    work = CACHE / "go" / minor
    work.mkdir(parents=True, exist_ok=True)
    version = newest_patch(minor, work)
    target = ETCDS / version / "etcd"
    if target.exists():
        return target
    (work / "main.go").write_text(MAIN)
    (work / "go.mod").unlink(missing_ok=True)
    (work / "go.sum").unlink(missing_ok=True)
    run(["go", "mod", "init", "etcd"], work)
    run(["go", "get", f"{MODULE}@v{version}"], work)
    run(["go", "mod", "tidy"], work)
    run(["go", "build", "-trimpath", "-ldflags=-s -w", "-o", "etcd", "."], work)
    return install(work / "etcd", target)


def newest_patch(minor: str, work: Path) -> str:
    """Newest released version of the Go module whose number starts with `minor`."""
    listed = run(["go", "list", "-m", "-versions", MODULE], work).split()
    patches = [int(v[len(minor) + 2 :]) for v in listed if re.fullmatch(rf"v{re.escape(minor)}\.\d+", v)]
    if not patches:
        raise Skipped(f"no version {minor}.x of {MODULE} is served")
    return f"{minor}.{max(patches)}"


# --- both -----------------------------------------------------------------------------------


def run(command: list[str], cwd: Path) -> str:
    """Output of `command` run in `cwd`; raises `Skipped` with the end of its errors."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        raise Skipped(f"{' '.join(command[:2])} took more than 900 s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Skipped(f"{' '.join(command[:2])} failed: {last}")
    return done.stdout


def install(binary: Path, target: Path) -> Path:
    """Put `binary` at `target` once it has been seen to run here."""
    version_of(binary)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(str(binary), str(target))
    return target


def version_of(binary: Path) -> str:
    """What ``etcd --version`` says, such as ``3.5.16``."""
    first = run([str(binary), "--version"], CACHE).splitlines()[0]
    return first.rpartition(" ")[2]


if __name__ == "__main__":
    main()
