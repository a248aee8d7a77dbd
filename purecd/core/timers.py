# SPDX-License-Identifier: Apache-2.0
"""Many timers, of which the next one is wanted."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64  # abandoned heap items that are not worth a clean-up


class Timers(Generic[K]):
    """One time per key; every operation takes logarithmic time at most, amortized.

    A timer that is moved or removed leaves an item behind in the heap, which is recognized when it comes
    up, or thrown away with others when they outnumber the timers.
    """

    __slots__ = ("_heap", "_pushes", "_times")

    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._pushes = 0  # orders equal times, so keys are never compared

    def __len__(self) -> int:
        return len(self._times)

    def set(self, key: K, when: float) -> None:
        """Start the timer of `key`, or move it."""
        if self._times.get(key) == when:
            return
        self._times[key] = when
        self._pushes += 1
        heappush(self._heap, (when, self._pushes, key))
        if len(self._heap) > 2 * len(self._times) + _SLACK:
            self._heap = [item for item in self._heap if self._times.get(item[2]) == item[0]]
            heapify(self._heap)

    def discard(self, key: K) -> None:
        """Stop the timer of `key`, if there is one."""
        self._times.pop(key, None)

    def first(self) -> float | None:
        """When the next timer is due, None without timers."""
        heap = self._heap
        while heap and self._times.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> K | None:
        """Take out the timer that is due longest, None when none is."""
        first = self.first()
        if first is None or first > now:
            return None
        key = heappop(self._heap)[2]
        del self._times[key]
        return key
