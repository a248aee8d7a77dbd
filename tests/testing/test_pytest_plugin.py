# SPDX-License-Identifier: Apache-2.0
"""The fixtures for users, in a pytest run of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# By module instead of by entry point, so it is the one beside this test and there only once.
PLUGIN = ("-p", "no:purecd", "-p", "purecd.testing.pytest_plugin", "-p", "no:cacheprovider")


@pytest.mark.live
def test_fixtures_give_a_real_etcd_and_failures_show_its_log(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        """
        pids = []

        def test_server(etcd_server):
            pids.append(etcd_server.pid)
            assert etcd_server.metric("etcd_server_is_leader") == 1

        def test_the_next_is_another_one(etcd_server):
            assert etcd_server.pid not in pids
            raise ValueError("on purpose")

        def test_cluster(etcd_cluster):
            assert len(etcd_cluster.endpoints) == 3
            raise ValueError("on purpose")
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*log of etcd default*", "*ready to serve client requests*"])
    result.stdout.fnmatch_lines([f"*log of etcd member{index}*" for index in range(3)])


def test_the_etcd_in_memory_is_fresh_and_failures_show_what_it_was_asked(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        """
        import purecd

        def use(server):
            with purecd.Client(server.endpoint) as client:
                before = client.get("k").count
                client.put("k", "v")
            return before

        def test_server(memory_etcd):
            assert use(memory_etcd) == 0

        def test_the_next_is_another_one(memory_etcd):
            assert use(memory_etcd) == 0
            raise ValueError("on purpose")
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*requests to etcd default in memory*", "*KV/Put key=b'k'*"])


def test_loading_the_plugin_loads_no_helper_and_no_client():
    script = "import sys, purecd.testing.pytest_plugin; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "purecd.testing.pytest_plugin" in loaded
    rooms = {f"purecd.{room}" for room in ("core", "sync", "aio", "wire", "pb", "memory")}
    heavy = {"purecd.testing.etcd", *rooms}
    assert not loaded & heavy


def test_importing_the_helpers_does_not_import_pytest():
    script = "import sys, purecd.testing; purecd.testing.EtcdCluster; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_an_unknown_name_is_an_attribute_error():
    import purecd.testing

    with pytest.raises(AttributeError, match="has no attribute 'Etcd'"):
        _ = purecd.testing.Etcd
