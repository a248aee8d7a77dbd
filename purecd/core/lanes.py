# SPDX-License-Identifier: Apache-2.0
"""A lane: the watch streams of one kind, and what follows when one of them ends.

| the stream ended with                            | then                                      |
| ------------------------------------------------ | ----------------------------------------- |
| connection lost, Unavailable, Internal           | resume                                    |
| OK, Canceled, Unknown, DeadlineExceeded,         | resume, five times without progress       |
| ENHANCE_YOUR_CALM, a broken rule of gRPC         |                                           |
| a stale token, where there is one to replace     | refresh, resume                           |
| ``no leader``, where a leader is required        | the watchers end                          |
| anything else                                    | the watchers end                          |

1. The first failure is followed at once, the next after 1.25 ms, growing to 100 ms. A message or
   a life of 1 s starts this over.
2. Progress is a life of 1 s or a message other than the answer to a create: a peer that accepts
   creates and then ends the stream makes none.
3. Streams that end together count as one failure: each counts from what its forerunners had.

Source: etcd client/v3/watch.go (isHaltErr), which pauses for Unavailable only, never starts
over, and ends all watchers where this resumes a limited number of times.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.denials import backoff
from purecd.core.watcher import Watcher
from purecd.core.watchstream import MuxStream
from purecd.errors import EtcdError, StatusCode
from purecd.wire.status import STREAM_RESET

if TYPE_CHECKING:
    from purecd.core.endpoints import Random

LONG_LIFE = 1.0  # seconds
MAX_BOUNDED = 5
ANSWER_TIMEOUT = 10.0  # seconds
ANSWER_TIMEOUT_REFUSED = 5.0  # servers 3.4.0 to 3.4.7 read no further after a refusal
MAX_DOUBLINGS = 3

_RESUMED = (StatusCode.UNAVAILABLE, StatusCode.INTERNAL)
_BOUNDED = (StatusCode.OK, StatusCode.CANCELLED, StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED)


class Fate(enum.Enum):
    """What becomes of the watchers of a stream that ended."""

    RESUME = "resume"
    BOUNDED = "resume, a limited number of times"
    REFRESH = "replace the token, then resume"
    HALT = "end"


def fate(error: EtcdError, require_leader: bool, refreshable: bool) -> Fate:
    """Tell what the end of a stream means for its watchers; see the table above."""
    if errors.is_stale_token(error):
        if refreshable:
            return Fate.REFRESH
        return Fate.BOUNDED if isinstance(error, errors.AuthOldRevision) else Fate.HALT
    if isinstance(error, errors.NoLeader) and require_leader:
        return Fate.HALT
    if isinstance(error, errors.ProtocolError):
        return Fate.BOUNDED
    if error.elsewhere or error.code in _RESUMED:
        return Fate.RESUME
    if error.code in _BOUNDED:
        return Fate.BOUNDED
    if error.code == StatusCode.RESOURCE_EXHAUSTED and error.message.startswith(STREAM_RESET):
        return Fate.BOUNDED
    return Fate.HALT


class Lane:
    """The streams of one kind, and the watchers waiting for a place on one.

    Attributes:
        streams: open ones, oldest first.
        waiting: in the order in which they are to be placed.
        resume_at: no stream is opened before, monotonic seconds.
        failures: in a row, for the pause.
        bounded: ends without progress in a row, of the kind whose number is limited.
        unanswered: streams in a row that did not answer a create.
    """

    __slots__ = ("bounded", "failures", "require_leader", "resume_at", "streams", "unanswered", "waiting")

    def __init__(self, require_leader: bool) -> None:
        self.require_leader = require_leader
        self.streams: list[MuxStream] = []
        self.waiting: dict[Watcher, None] = {}
        self.resume_at = float("-inf")
        self.failures = 0
        self.bounded = 0
        self.unanswered = 0

    def opened(self, stream: MuxStream) -> None:
        """A stream continues what its forerunners began."""
        stream.failures = self.failures
        stream.bounded = self.bounded
        stream.unanswered = self.unanswered
        self.streams.append(stream)

    def room(self, link: Any, generation: int, max_watchers: int) -> MuxStream | None:
        """A stream of this link and token that takes another watcher."""
        for stream in reversed(self.streams):
            if stream.live < max_watchers and stream.generation == generation and stream.link is link:
                return stream
        return None

    def accepted(self, stream: MuxStream) -> None:
        """A create was accepted."""
        stream.proven = True
        stream.failures = stream.unanswered = self.failures = self.unanswered = 0

    def flows(self, stream: MuxStream) -> None:
        """A stream delivers something."""
        stream.fruitful = stream.proven = True
        stream.failures = stream.bounded = self.failures = self.bounded = 0

    def failed(self, stream: MuxStream, now: float, rng: Random) -> None:
        """A stream ended by itself: pause before the next one."""
        if now - stream.opened_at >= LONG_LIFE:
            stream.failures = stream.bounded = self.failures = self.bounded = 0
        self.failures = max(self.failures, stream.failures + 1)
        self.resume_at = max(self.resume_at, now + backoff(self.failures, rng))

    def exhausted(self, stream: MuxStream) -> bool:
        """Count an end of the limited kind; whether it was one too many."""
        self.bounded = max(self.bounded, stream.bounded + 1)
        return self.bounded > MAX_BOUNDED

    def went_silent(self, stream: MuxStream) -> None:
        """A stream did not answer a create in time."""
        self.unanswered = max(self.unanswered, stream.unanswered + 1)


def answer_due(stream: MuxStream) -> float:
    """When the oldest unanswered create of a stream has waited too long, monotonic seconds."""
    patience = ANSWER_TIMEOUT_REFUSED if stream.refused else ANSWER_TIMEOUT
    return stream.asked_at + patience * float(1 << min(stream.unanswered, MAX_DOUBLINGS))
