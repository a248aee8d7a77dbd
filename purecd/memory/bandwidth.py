# SPDX-License-Identifier: Apache-2.0
"""How much the client may have under way: windows that grow with what the connection carries.

1. When data arrives and no probe is out, a PING goes out; what arrives until its answer is the sample.
2. A sample of two thirds of the present estimate, at the highest rate so far, doubles it, up to 16 MiB.
3. Windows, of the connection and of every stream, follow the estimate.

Source: grpc-go internal/transport/bdp_estimator.go (facts: payload, factors, limit).
"""

from __future__ import annotations

PROBE = bytes((2, 4, 16, 16, 9, 14, 7, 7))
LARGEST = 16 << 20
FIRST = 65_535

_ENOUGH = 0.66  # of the estimate
_GROWTH = 2
_SLACK = 1.5  # the answer may have been delayed on its way
_FEW, _WEIGHT = 10, 0.9  # round trips that count alike; from then on how much the newest counts


class Estimate:
    """Octets that fit on the way between client and server, as far as it is known.

    Attributes:
        size: the present estimate, octets.
    """

    def __init__(self) -> None:
        self.size = FIRST
        self._probing = False
        self._sample = 0
        self._sent_at = 0.0
        self._probes = 0
        self._round_trip = 0.0
        self._best_rate = 0.0

    def arrived(self, octets: int, now: float) -> bool:
        """Count data that arrived; whether a probe is to be sent now."""
        if self.size >= LARGEST:
            return False
        if self._probing:
            self._sample += octets
            return False
        self._probing = True
        self._sample = octets
        self._sent_at = now
        self._probes += 1
        return True

    def answered(self, now: float) -> bool:
        """The client answered the probe; whether the estimate grew."""
        if not self._probing:
            return False
        self._probing = False
        newest = now - self._sent_at
        weight = 1 / self._probes if self._probes < _FEW else _WEIGHT
        self._round_trip += (newest - self._round_trip) * weight
        rate = self._sample / (max(self._round_trip, 1e-9) * _SLACK)
        self._best_rate = max(rate, self._best_rate)
        if self._sample < _ENOUGH * self.size or rate < self._best_rate:
            return False
        self.size = min(LARGEST, _GROWTH * self._sample)
        return True
