# SPDX-License-Identifier: Apache-2.0
"""Metrics by the real package, of calls to a real etcd."""

from __future__ import annotations

import subprocess
import sys

import pytest

import purecd
import purecd.hooks
from purecd import errors
from purecd.contrib.prometheus import PrometheusHook
from tests.live.fronts import Thread
from tests.support.peers import Silent, refused_endpoint

prometheus_client = pytest.importorskip("prometheus_client")


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


def test_attempts_are_counted_and_timed(front, server, registry):
    client = front.client(server.endpoint, hooks=[PrometheusHook(registry)])
    for _ in range(3):
        client.put("prometheus", "v")
    client.get("prometheus")
    with pytest.raises(errors.KeyNotFound):
        client.put("nothing there", ignore_value=True)

    def sample(name, **labels):
        return registry.get_sample_value(f"purecd_{name}", labels)

    assert sample("attempts_total", method="KV/Put", code="OK") == 3
    assert sample("attempts_total", method="KV/Put", code="INVALID_ARGUMENT") == 1
    assert sample("attempts_total", method="KV/Range", code="OK") == 1
    assert sample("attempt_seconds_count", method="KV/Put") == 4
    assert 0 < sample("attempt_seconds_sum", method="KV/Put") < 5
    assert sample("attempts_in_flight", method="KV/Put") == 0
    assert sample("connection_events_total", event="ready", endpoint=server.endpoint) == 1
    text = prometheus_client.generate_latest(registry).decode()
    assert "nothing there" not in text


def test_watches_are_counted(front, server, registry):
    client = front.client(server.endpoint, hooks=[PrometheusHook(registry, namespace="mine")])
    with client.watch("prometheus"):
        assert registry.get_sample_value("mine_watch_events_total", {"event": "opened"}) == 1
        assert registry.get_sample_value("mine_watch_events_total", {"event": "closed"}) is None
    assert registry.get_sample_value("mine_watch_events_total", {"event": "closed"}) == 1


def test_what_is_in_flight(front, registry):
    with Silent() as peer:
        client = front.client(peer.endpoint, hooks=[PrometheusHook(registry)])
        waiting = Thread(client.get, "k")
        in_flight = {"method": "KV/Range"}
        while not registry.get_sample_value("purecd_attempts_in_flight", in_flight):
            assert not waiting.done
        client.close()
        with pytest.raises(errors.ClientClosed):
            waiting.result()
        assert registry.get_sample_value("purecd_attempts_in_flight", in_flight) == 0


def test_each_attempt_counts(front, registry):
    client = front.client(refused_endpoint(), hooks=[PrometheusHook(registry)], fail_fast=True)
    with pytest.raises(errors.Unavailable):
        client.get("k", timeout=5)
    labels = {"method": "KV/Range", "code": "UNAVAILABLE"}
    assert registry.get_sample_value("purecd_attempts_total", labels) == 1


def test_one_hook_serves_several_clients(front, server, registry):
    hook = PrometheusHook(registry)
    for _ in range(2):
        front.client(server.endpoint, hooks=[hook]).put("prometheus", "v")
    labels = {"method": "KV/Put", "code": "OK"}
    assert registry.get_sample_value("purecd_attempts_total", labels) == 2
    with pytest.raises(ValueError, match="purecd_attempts"):
        PrometheusHook(registry)


def test_an_exception_without_a_code_is_named(registry):
    hook = PrometheusHook(registry)
    hook.call_started("/etcdserverpb.KV/Put", 1)
    event = purecd.hooks.CallEvent("/etcdserverpb.KV/Put", 1, "", None, KeyboardInterrupt(), 0.1, 3, 0)
    hook.call_ended(None, event)
    labels = {"method": "KV/Put", "code": "KeyboardInterrupt"}
    assert registry.get_sample_value("purecd_attempts_total", labels) == 1


def test_the_package_is_loaded_only_when_used():
    program = """
import sys, purecd.contrib.prometheus
assert "prometheus_client" not in sys.modules
sys.modules["prometheus_client"] = None
try:
    purecd.contrib.prometheus.PrometheusHook()
except RuntimeError as error:
    assert "purecd[prometheus]" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
