# SPDX-License-Identifier: Apache-2.0
"""Traces for OpenTelemetry, by the hooks of a client; needs ``pip install purecd[opentelemetry]``.

    client = purecd.Client("127.0.0.1:2379", hooks=[OpenTelemetryHook()])

Each attempt of a call is a span of kind CLIENT, a child of the caller's current span. Its name is
the method without the leading slash, its attributes are ``rpc.system.name``, ``rpc.method``,
``rpc.response.status_code``, ``server.address``, ``server.port``, ``error.type`` and, of our own,
``purecd.attempt``. Keys and values appear nowhere.

Source: OpenTelemetry semantic conventions for RPC client spans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd.core.endpoints import parse_endpoint
from purecd.hooks import CallEvent, Hook

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider


class OpenTelemetryHook(Hook):
    """Makes a span of each attempt.

    Args:
        tracer_provider: who makes the spans, the global one when None.

    Raises:
        RuntimeError: the package is not installed.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise RuntimeError("tracing needs the extra: pip install purecd[opentelemetry]") from error
        from purecd import __version__

        self._trace = trace
        self._tracer = trace.get_tracer("purecd", __version__, tracer_provider)

    def call_started(self, method: str, attempt: int) -> Span:
        """Begin its span."""
        name = method.lstrip("/")
        return self._tracer.start_span(
            name,
            kind=self._trace.SpanKind.CLIENT,
            attributes={"rpc.system.name": "grpc", "rpc.method": name, "purecd.attempt": attempt},
        )

    def call_ended(self, state: Any, event: CallEvent) -> None:
        """End its span."""
        span: Span | None = state
        if span is None:  # it failed to begin
            return
        if span.is_recording():
            span.set_attributes(_server(event.endpoint))
            if event.code is not None:
                span.set_attribute("rpc.response.status_code", event.code.name)
            if event.error is not None:
                kind = type(event.error).__name__
                span.set_attribute("error.type", kind)
                message = getattr(event.error, "message", "") or kind
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, message))
        span.end()


def _server(endpoint: str) -> dict[str, str | int]:
    """Which server an endpoint is, in the conventions' words."""
    if not endpoint:
        return {}
    address = parse_endpoint(endpoint)
    if address.path:
        return {"server.address": address.path, "network.transport": "unix"}
    attributes: dict[str, str | int] = {"server.address": address.host}
    if address.port is not None:
        attributes["server.port"] = address.port
    return attributes
