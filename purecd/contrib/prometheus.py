# SPDX-License-Identifier: Apache-2.0
"""Metrics for Prometheus, by the hooks of a client; needs ``pip install purecd[prometheus]``.

    metrics = PrometheusHook()
    client = purecd.Client("127.0.0.1:2379", hooks=[metrics])

| metric                             | labels              | what                                |
| ---------------------------------- | ------------------- | ----------------------------------- |
| ``purecd_attempts_total``          | ``method, code``    | attempts that ended                 |
| ``purecd_attempt_seconds``         | ``method``          | how long they took, histogram       |
| ``purecd_attempts_in_flight``      | ``method``          | attempts under way                  |
| ``purecd_connection_events_total`` | ``event, endpoint`` | what happened to connections        |
| ``purecd_watch_events_total``      | ``event``           | watches opened, closed and failed   |

``method`` is such as ``KV/Put``. ``code`` is the name of a gRPC status, ``OK`` included, or of the
exception where there is no status; ``event`` is one of those that `purecd.hooks` lists. No label
comes from keys or values, so their number stays small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from purecd.hooks import CallEvent, Hook

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusHook(Hook):
    """Counts and times all attempts of the clients that it is given to.

    One of these serves any number of clients; two of them need two registries or namespaces.

    Args:
        registry: where the metrics are registered, prometheus_client's own when None.
        namespace: what their names begin with.
        buckets: upper bounds of the histogram, seconds.

    Raises:
        RuntimeError: the package is not installed.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = "purecd",
        buckets: Sequence[float] = BUCKETS,
    ) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise RuntimeError("metrics need the extra: pip install purecd[prometheus]") from error
        where: Any = {
            "namespace": namespace,
            "registry": prometheus.REGISTRY if registry is None else registry,
        }
        self._attempts = prometheus.Counter(
            "attempts", "Attempts of etcd calls that ended.", ["method", "code"], **where
        )
        self._seconds = prometheus.Histogram(
            "attempt_seconds", "Seconds that attempts took.", ["method"], buckets=buckets, **where
        )
        self._in_flight = prometheus.Gauge("attempts_in_flight", "Attempts under way.", ["method"], **where)
        self._connections = prometheus.Counter(
            "connection_events", "What happened to connections.", ["event", "endpoint"], **where
        )
        self._watches = prometheus.Counter(
            "watch_events", "Watches opened, closed and failed.", ["event"], **where
        )

    def call_started(self, method: str, attempt: int) -> Any:
        """Count it as under way."""
        self._in_flight.labels(_short(method)).inc()

    def call_ended(self, state: Any, event: CallEvent) -> None:
        """Count and time it."""
        method = _short(event.method)
        code = event.code.name if event.code is not None else type(event.error).__name__
        self._in_flight.labels(method).dec()
        self._attempts.labels(method, code).inc()
        self._seconds.labels(method).observe(event.seconds)

    def connection(self, event: str, endpoint: str, detail: str) -> None:
        """Count it."""
        self._connections.labels(event, endpoint).inc()

    def watch(self, event: str, detail: str) -> None:
        """Count it."""
        self._watches.labels(event).inc()


def _short(method: str) -> str:
    """``KV/Put`` of ``/etcdserverpb.KV/Put``."""
    return method.rpartition(".")[2]
