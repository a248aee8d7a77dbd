# SPDX-License-Identifier: Apache-2.0
"""Spans by the real SDK, of calls to a real etcd."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

import purecd
import purecd.hooks
from purecd import errors
from purecd.contrib.opentelemetry import OpenTelemetryHook
from tests.support.peers import Closing

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def test_a_call_is_a_span(front, server, provider, exporter):
    client = front.client(server.endpoint, hooks=[OpenTelemetryHook(provider)])
    client.put("secret key", "secret value")
    (span,) = exporter.get_finished_spans()
    assert span.name == "etcdserverpb.KV/Put"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "etcdserverpb.KV/Put",
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "server.port": server.client_port,
        "purecd.attempt": 1,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    assert 0 < span.end_time - span.start_time < 5e9
    assert "secret" not in span.to_json()


def test_an_error_is_told(front, server, provider, exporter):
    client = front.client(server.endpoint, hooks=[OpenTelemetryHook(provider)])
    with pytest.raises(errors.FutureRev):
        client.get("k", revision=10**9)
    (span,) = exporter.get_finished_spans()
    assert span.attributes["rpc.response.status_code"] == "OUT_OF_RANGE"
    assert span.attributes["error.type"] == "FutureRev"
    assert span.status.status_code is StatusCode.ERROR
    assert "future revision" in span.status.description


def test_attempts_are_numbered(front, server, provider, exporter):
    with Closing() as peer:
        client = front.client(peer.endpoint, hooks=[OpenTelemetryHook(provider)], fail_fast=True)
        with pytest.raises(errors.Unavailable):
            client.get("k", timeout=3)
    spans = exporter.get_finished_spans()
    assert [span.attributes["purecd.attempt"] for span in spans] == list(range(1, len(spans) + 1))
    assert all("server.port" not in span.attributes for span in spans), "it was sent nowhere"


def test_the_callers_span_is_the_parent_on_threads(server, provider, exporter):
    tracer = provider.get_tracer("test")
    with purecd.Client(server.endpoint, hooks=[OpenTelemetryHook(provider)]) as client:
        with tracer.start_as_current_span("work") as work:
            client.put("k", "v")
            client.get("k")
        client.get("k")
    put, get, parent, alone = exporter.get_finished_spans()
    assert parent.name == "work"
    assert put.parent.span_id == get.parent.span_id == work.get_span_context().span_id
    assert alone.parent is None


def test_the_callers_span_is_the_parent_on_asyncio(server, provider, exporter):
    tracer = provider.get_tracer("test")

    async def main():
        async def one(index):
            with tracer.start_as_current_span(f"work {index}"):
                await client.get(f"k{index}")

        async with purecd.AsyncClient(server.endpoint, hooks=[OpenTelemetryHook(provider)]) as client:
            await asyncio.gather(*(one(index) for index in range(5)))

    asyncio.run(main())
    spans = exporter.get_finished_spans()
    works = {span.context.span_id for span in spans if span.name.startswith("work")}
    gets = [span for span in spans if span.name == "etcdserverpb.KV/Range"]
    assert len(works) == len(gets) == 5
    assert {span.parent.span_id for span in gets} == works


@pytest.mark.parametrize(
    "endpoint, expected",
    [
        ("", {}),
        ("etcd.example", {"server.address": "etcd.example"}),
        ("https://[::1]:2379", {"server.address": "::1", "server.port": 2379}),
        ("unix:///run/etcd", {"server.address": "/run/etcd", "network.transport": "unix"}),
    ],
)
def test_how_endpoints_are_named(provider, exporter, endpoint, expected):
    hook = OpenTelemetryHook(provider)
    span = hook.call_started("/etcdserverpb.KV/Put", 2)
    hook.call_ended(
        span,
        purecd.hooks.CallEvent("/etcdserverpb.KV/Put", 2, endpoint, None, KeyboardInterrupt(), 0.1, 3, 0),
    )
    hook.call_ended(None, purecd.hooks.CallEvent("/etcdserverpb.KV/Put", 2, "", None, None, 0.1, 3, 0))
    (ended,) = exporter.get_finished_spans()
    attributes = dict(ended.attributes)
    assert attributes.pop("error.type") == "KeyboardInterrupt"
    assert ended.status.description == "KeyboardInterrupt"
    for name in ("rpc.system.name", "rpc.method", "purecd.attempt"):
        attributes.pop(name)
    assert attributes == expected


def test_without_a_provider_there_is_the_global_one(server, front):
    # It makes spans that record nothing until the program sets one up.
    assert front.client(server.endpoint, hooks=[OpenTelemetryHook()]).get("k").header.revision


def test_the_package_is_loaded_only_when_used():
    program = """
import sys, purecd.contrib.opentelemetry
assert "opentelemetry" not in sys.modules
sys.modules["opentelemetry"] = None
try:
    purecd.contrib.opentelemetry.OpenTelemetryHook()
except RuntimeError as error:
    assert "purecd[opentelemetry]" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
