# SPDX-License-Identifier: Apache-2.0
"""All fuzz targets by name, and how many octets of input make sense for each."""

from __future__ import annotations

from typing import Callable, NamedTuple

from . import core_targets as core
from . import watch_targets as watch
from . import wire_targets as wire
from .h2_target import like_h2

Target = Callable[[bytes], None]


class Fuzzed(NamedTuple):
    """A target.

    Attributes:
        row: of the project's list of fuzz targets.
        longest: octets of input.
    """

    run: Target
    row: str
    longest: int


TARGETS: dict[str, Fuzzed] = {
    "frame_writer": Fuzzed(wire.frame_writer, "Z1", 200),
    "connection": Fuzzed(wire.connection, "Z2", 400),
    "raw_connection": Fuzzed(wire.raw_connection, "Z2", 300),
    "like_h2": Fuzzed(like_h2, "Z3", 400),
    "header_blocks": Fuzzed(wire.header_blocks, "Z4", 400),
    "header_round_trip": Fuzzed(wire.header_round_trip, "Z4", 300),
    "request_headers": Fuzzed(wire.request_headers, "Z5", 200),
    "primitives": Fuzzed(wire.primitives, "Z6", 200),
    "deframer": Fuzzed(wire.deframer, "Z7", 400),
    "odd_messages": Fuzzed(wire.odd_messages, "Z7", 300),
    "statuses": Fuzzed(wire.statuses, "Z8", 300),
    "replies": Fuzzed(core.replies, "Z9", 300),
    "mutated_replies": Fuzzed(core.mutated_replies, "Z9", 600),
    "requests": Fuzzed(core.requests, "Z9", 400),
    "endpoints": Fuzzed(core.endpoints, "Z10", 80),
    "prefixes": Fuzzed(core.prefixes, "Z11", 20),
    "namespaces": Fuzzed(core.namespaces, "Z11", 30),
    "timeouts": Fuzzed(wire.timeouts, "Z11", 16),
    "watches": Fuzzed(watch.watches, "Z12", 120),
    "lies": Fuzzed(watch.lies, "Z12", 200),
    "error_texts": Fuzzed(core.error_texts, "Z13", 100),
    "snapshots": Fuzzed(core.snapshots, "Z14", 40),
}
