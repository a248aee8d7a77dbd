# SPDX-License-Identifier: Apache-2.0
"""One run of a load under a fault: its phases, its figures, and what every run must show."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.live.fronts import FrontUnderTest
from tests.support.history import Change, Operation
from tests.support.load import Load
from tests.support.observer import Observer
from tests.support.recorder import ConnectionLog, longest_gap, overshoot

SLACK = 1.5
"""Seconds over a deadline, or over a bound of recovery, that a busy machine may take; the aim is 0.1."""

RECOVERY = 3.0
"""Seconds after which every call must succeed again."""


class Trial:
    """A load, and the moments at which the fault came and went.

    Args:
        name: of the test, for the line of figures.
        fronts: the load runs through a client of each.
        endpoints: what the clients are told.
        client_options: more options of the clients.
        load_options: more options of the load.
    """

    def __init__(
        self,
        name: str,
        fronts: Sequence[FrontUnderTest],
        endpoints: Any,
        *,
        seed: int = 0,
        client_options: dict[str, Any] | None = None,
        **load_options: Any,
    ) -> None:
        self.name = name
        self.fronts = fronts
        self.connections = ConnectionLog()
        options = {"hooks": [self.connections], **(client_options or {})}
        self.clients = [front.client(endpoints, **options) for front in fronts]
        self.load = Load(self.clients, seed=seed, **load_options)
        self.fault_at = self.healed_at = self.stopped_at = 0.0
        self.figures: dict[str, Any] = {}
        self.changes: list[Change] = []
        self._last_fault = ""

    @property
    def operations(self) -> list[Operation]:
        """Every call so far."""
        return self.load.recorder.operations

    # Phases.

    def warm_up(self, seconds: float = 2.0) -> None:
        """Start the load; every call must succeed."""
        self.load.start()
        self.load.run(seconds)
        failed = [each for each in self.operations if each.error is not None]
        assert not failed, failed
        assert len(self.operations) > 5 * seconds, "too little load to show anything"

    def fault(self) -> None:
        """The fault begins now."""
        self.fault_at = time.monotonic()

    def heal(self) -> None:
        """The fault is over now."""
        self.healed_at = time.monotonic()

    def run(self, seconds: float) -> None:
        """Let the load go on."""
        self.load.run(seconds)

    def wind_down(
        self, endpoint: str, *, seconds: float = RECOVERY + SLACK + 1, live: Observer | None = None
    ) -> None:
        """Go on long enough to see the recovery, stop, and read what happened."""
        if not self.healed_at:
            self.heal()
        self.load.run(seconds)
        self.load.stop()
        self.stopped_at = time.monotonic()
        self.changes = self.load.finish(endpoint, live)

    def in_use(self) -> Counter[str]:
        """How many connections each endpoint serves, by the latest news of them."""
        counts: Counter[str] = Counter()
        for _, event, endpoint, _ in self.connections.events:
            if event in ("ready", "closed"):
                counts[endpoint] += 1 if event == "ready" else -1
        return +counts

    # Figures.

    def errors(self) -> list[Operation]:
        """Calls that failed since the fault began."""
        return [each for each in self.operations if each.error is not None]

    def unavailable(self) -> float:
        """Seconds from the fault until a call that began after it succeeded."""
        answers = [
            each.returned_at
            for each in self.operations
            if each.called_at >= self.fault_at and each.outcome == "ok" and not each.serializable
        ]
        return min(answers, default=self.stopped_at) - self.fault_at

    def recovery(self) -> float:
        """Seconds from the end of the fault until the last call began that failed."""
        return max((each.called_at - self.healed_at for each in self.errors()), default=0.0)

    def resumed(self) -> float:
        """Seconds from the end of the fault until the first call succeeded."""
        answers = [
            each.returned_at
            for each in self.operations
            if each.returned_at > self.healed_at and each.outcome == "ok" and not each.serializable
        ]
        return min(answers, default=self.stopped_at) - self.healed_at

    def watch_resumed(self) -> float:
        """Seconds from the end of the fault until every whole watch had delivered something."""
        firsts = [
            min((each for each in reader.moments if each > self.healed_at), default=self.stopped_at)
            for reader in self.load.readers
            if not reader.record.exclude
        ]
        return max(firsts, default=self.healed_at) - self.healed_at

    def watch_gap(self) -> float:
        """The longest silence of any whole watch since the fault, while something was written, seconds."""
        gaps = []
        for reader in self.load.readers:
            if not reader.record.exclude:
                moments = [each for each in reader.moments if self.fault_at <= each <= self.stopped_at]
                edges = [self.fault_at, *moments, self.stopped_at]
                gaps.append(max(after - before for before, after in zip(edges, edges[1:])))
        return max(gaps, default=0.0)

    def report(self, **more: Any) -> dict[str, Any]:
        """Print the figures in one line."""
        operations = self.operations
        failed = self.errors()
        during = [each for each in operations if each.called_at >= self.fault_at]
        self.figures = {
            "calls": len(operations),
            "unknown": sum(each.outcome == "unknown" for each in operations),
            "failed": sum(each.outcome == "failed" for each in operations),
            "errors": dict(Counter(type(each.error).__name__ for each in failed)),
            "unavailable_s": self.unavailable(),
            "longest_gap_s": longest_gap(operations, self.fault_at, self.stopped_at),
            "slowest_call_s": max((each.returned_at - each.called_at for each in during), default=0.0),
            "overshoot_ms": max(0.0, overshoot(operations)) * 1000,
            "recovery_s": max(0.0, self.recovery()),
            "resumed_s": self.resumed(),
            "watch_resumed_s": self.watch_resumed(),
            "watch_gap_s": self.watch_gap(),
            "leases_lost_s": [round(each - self.fault_at, 2) for each in self.load.lost_at],
            "connects": len(self.connections.times("connect", self.fault_at)),
            **more,
        }
        rounded = {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in self.figures.items()
        }
        print(f"FIGURES {json.dumps({'test': self.name, **rounded})}")
        return self.figures

    # What every run must show.

    def check(self) -> None:
        """The base of every row: nothing lost, doubled, misreported or stuck, and all well in the end."""
        wrong = self.load.problems(self.changes)
        assert not wrong, "\n".join(wrong[:20])
        late = overshoot(self.operations)
        assert late < SLACK, f"a call ended {late:.2f} s after its deadline"
        assert self.recovery() < RECOVERY + SLACK, self.late_failures()
        assert self.resumed() < RECOVERY + SLACK
        assert self.watch_resumed() < RECOVERY + SLACK

    def late_failures(self) -> str:
        """The last calls that failed after the fault was over."""
        return "\n".join(
            f"{each.called_at - self.healed_at:.2f} s after: {each.name} {each.error!r}"
            for each in self.errors()
            if each.called_at > self.healed_at
        )
