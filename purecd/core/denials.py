# SPDX-License-Identifier: Apache-2.0
"""Refused creates of watches: which are final, and which only mean that a token is stale.

1. Only an answer that cannot mean "stale token" is final at once. A stream keeps its token for
   life, servers forget tokens, and some say ``permission denied`` for a token they forgot, even
   after auth was turned off.
2. Such a denial is told apart from a real one by a *permission read* with the stream's token on
   the stream's link: a read of the same range at a revision that does not exist, so nothing is
   read. The server checks the token first, then the permission, then the revision.
3. A stale token is replaced on the link that refused it, once for all who wait, at most once a
   second after three times without success. The create is then repeated with the new token.
4. A watcher is re-created at most six times (three where there is no token to replace); it
   starts again from zero when it succeeds, or when its link is lost.
5. What a proxy or a member says only because it cannot tell at the moment is asked again after
   a pause, without counting.

    refused --final--> error
       | passing -----> again, after a pause
       | denied ------> permission read --denied--> error
       |                       | stale                | permitted
       | stale ----------------+                      |
       +--> refresh the token --replaced--------------+--> again, counted
                   +--no token to be had--> error

Source: etcd server/etcdserver/api/v3rpc/watch.go (isWatchPermitted), server/auth/store.go;
etcd pull requests 13577, 14296 and 14322 for the differences between releases.
"""

from __future__ import annotations

import copy
import enum
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.actions import CheckPermission, Refresh
from purecd.core.watcher import Watcher
from purecd.core.watchstream import MuxStream
from purecd.errors import EtcdError, StatusCode
from purecd.records import NamedTuple

if TYPE_CHECKING:
    from purecd.core.endpoints import Random

MAX_TRIES = 6
MAX_TOKENLESS_TRIES = 3
FREE_REFRESHES = 3
REFRESH_GAP = 1.0  # seconds between further ones
RETRY_PAUSE = 0.1  # seconds, doubled with each further try

_FIRST_BACKOFF, _BACKOFF_FACTOR, _MAX_BACKOFF = 0.001, 1.25, 0.1
_BACKOFF_JITTER = 0.2

_PASSING_CODES = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED)


def backoff(failures: int, rng: Random) -> float:
    """Seconds to wait after so many failures in a row: none after the first, then 1.25 ms to 100 ms."""
    if failures <= 1:
        return 0.0
    # Capped before the power is taken, which would overflow after some thousand failures.
    pause = min(_FIRST_BACKOFF * _BACKOFF_FACTOR ** min(failures - 1, 50), _MAX_BACKOFF)
    return pause * (1 - _BACKOFF_JITTER + 2 * _BACKOFF_JITTER * rng.random())


class Verdict(enum.Enum):
    """What a refusal can mean."""

    STALE = "the token is not valid any more"
    DENIED = "not permitted, or a stale token"
    PASSING = "cannot tell at the moment"
    FINAL = "refused"


def classify(error: EtcdError, watch_id: int, has_token: bool, refreshable: bool) -> Verdict:
    """Tell what the refusal of a create means.

    Args:
        error: from the `cancel_reason`.
        watch_id: in the response; servers that send -1 name stale tokens separately.
        has_token: whether the stream was opened with a token.
        refreshable: whether there is a password or a token to log in with.
    """
    if errors.is_stale_token(error):
        return Verdict.STALE
    if isinstance(error, errors.PermissionDenied):
        if refreshable and not has_token:
            return Verdict.STALE  # servers up to 3.4.21 and 3.5.5 report the missing token that way
        return Verdict.DENIED if watch_id >= 0 else Verdict.FINAL
    if error.code == StatusCode.UNAVAILABLE or error.received_code in _PASSING_CODES:
        return Verdict.PASSING
    return Verdict.FINAL


class Decision(NamedTuple):
    """What becomes of a watcher that was held: ended with `error`, or created again after `pause` seconds."""

    watcher: Watcher
    error: EtcdError | None
    pause: float


class _Case:
    """A watcher that waits for a permission read or for a token.

    Attributes:
        error: the refusal, None for a create that was never answered.
        checking: the permission read is under way.
        counted: the re-create counts as a try.
    """

    __slots__ = ("checking", "counted", "error", "stream")

    def __init__(self, stream: MuxStream, error: EtcdError | None, checking: bool, counted: bool) -> None:
        self.stream = stream
        self.error = error
        self.checking = checking
        self.counted = counted


class Denials:
    """All watchers whose create was refused and whose fate is open.

    Args:
        auth_mode: ``"none"``, ``"password"``, ``"static"`` or ``"cn"``.
        rng: for jitter.
        actions: where `CheckPermission` and `Refresh` go.

    Attributes:
        decisions: to be taken and carried out by the owner after every input.
    """

    def __init__(self, auth_mode: str, rng: Random, actions: list[Any]) -> None:
        self.refreshable = auth_mode in ("password", "static")
        self.decisions: list[Decision] = []
        self._static = auth_mode == "static"
        self._rng = rng
        self._actions = actions
        self._cases: dict[Watcher, _Case] = {}
        self._link: Any = None
        self._generation = 0
        self._refreshing = False
        self._refresh_at: float | None = None
        self._failures = 0
        self._in_a_row = 0
        self._refreshed_at = float("-inf")

    # Links.

    def link_ready(self, link: Any, generation: int) -> None:
        """Another link takes over; whoever waited for an answer on the old one tries there."""
        self.link_gone()
        self._link = link
        self._generation = generation

    def reset(self) -> None:
        """Forget all cases; their watchers begin anew."""
        self._cases.clear()
        self.decisions.clear()
        self.link_gone()

    def link_gone(self) -> None:
        """No token can be had and no read made on the link any more."""
        self._link = None
        self._refreshing = False
        self._refresh_at = None
        self._failures = 0
        for watcher, case in self._cases.items():
            watcher.tries = 0
            if case.checking:
                case.stream.held -= 1
            self._again(watcher)
        self._cases.clear()

    # Refusals.

    def refused(
        self, watcher: Watcher, stream: MuxStream, error: EtcdError, watch_id: int, now: float
    ) -> None:
        """The create of a watcher was refused; it waits for a decision, which may be there at once."""
        verdict = classify(error, watch_id, stream.has_token, self.refreshable)
        if verdict is Verdict.PASSING:
            self._passing(watcher)
        elif verdict is Verdict.FINAL or watcher.tries >= MAX_TRIES:
            self._fail(watcher, error)
        elif stream.link is not self._link:
            self._again(watcher)
        elif stream.generation != self._generation:
            self._counted(watcher)
        elif verdict is Verdict.DENIED:
            self._cases[watcher] = _Case(stream, error, checking=True, counted=True)
            stream.held += 1
            self._actions.append(CheckPermission(stream, watcher))
        else:
            self._stale(watcher, stream, error, now)

    def permission_answer(self, watcher: Watcher, error: EtcdError | None, now: float) -> None:
        """The permission read for a watcher ended; None if it returned, against all expectation, a result."""
        case = self._cases.get(watcher)
        if case is None or not case.checking:
            return
        del self._cases[watcher]
        stream = case.stream
        stream.held -= 1
        denial = case.error
        assert denial is not None
        if isinstance(error, errors.PermissionDenied):
            self._fail(watcher, denial)
        elif error is None:
            self._counted(watcher)
        elif errors.is_stale_token(error) or isinstance(error, errors.DeadlineExceeded):
            # A member that waits for the raft index of a token it never saw does not answer at all.
            if stream.generation != self._generation:
                self._counted(watcher)
            else:
                self._stale(watcher, stream, error if errors.is_stale_token(error) else denial, now)
        elif error.code in _PASSING_CODES:
            self._passing(watcher)
        else:
            self._counted(watcher)

    def stream_stale(
        self, watchers: list[Watcher], stream: MuxStream, error: EtcdError | None, now: float
    ) -> None:
        """A stream was lost for its token: it ended with `error`, or (None) never answered a create."""
        if stream.link is not self._link or stream.generation != self._generation:
            for watcher in watchers:
                self._again(watcher)
            return
        for watcher in watchers:
            self._cases[watcher] = _Case(stream, error, checking=False, counted=False)
        self._want_refresh(now)

    def forget(self, watcher: Watcher) -> None:
        """The watcher ended otherwise."""
        case = self._cases.pop(watcher, None)
        if case is not None and case.checking:
            case.stream.held -= 1

    def accepted(self) -> None:
        """A create succeeded."""
        self._in_a_row = 0

    def pauses(self, stream: MuxStream) -> bool:
        """Whether creates of the stream had better wait: they would meet the same refusal."""
        if self._refreshing and not self._failures and stream.generation == self._generation:
            return True
        return stream.held > 0 and not stream.proven

    # Tokens.

    def _stale(self, watcher: Watcher, stream: MuxStream, error: EtcdError, now: float) -> None:
        if self.refreshable:
            self._cases[watcher] = _Case(stream, error, checking=False, counted=True)
            self._want_refresh(now)
        elif isinstance(error, errors.AuthOldRevision) and watcher.tries < MAX_TOKENLESS_TRIES:
            # The identity was taken just before users or roles changed.
            watcher.tries += 1
            self._again(watcher, RETRY_PAUSE * 2 ** (watcher.tries - 1))
        else:
            self._fail(watcher, error)

    def _want_refresh(self, now: float) -> None:
        if self._refreshing or self._refresh_at is not None:
            return
        if self._in_a_row >= FREE_REFRESHES and now < self._refreshed_at + REFRESH_GAP:
            self._refresh_at = self._refreshed_at + REFRESH_GAP
        else:
            self._refresh()

    def _refresh(self) -> None:
        self._refreshing = True
        self._refresh_at = None
        self._actions.append(Refresh(self._link, self._generation))

    def refreshed(self, generation: int, now: float) -> None:
        """The link has another token, or none any more because auth is off."""
        if generation == self._generation:
            self.refresh_failed(None, now)
            return
        self._generation = generation
        self._refreshing = False
        self._refresh_at = None
        self._failures = 0
        self._in_a_row += 1
        self._refreshed_at = now
        for watcher, case in self._waiting():
            if case.counted:
                self._counted(watcher)
            else:
                self._again(watcher)

    def refresh_failed(self, error: EtcdError | None, now: float) -> None:
        """There is no other token: the login failed, or (static token) auth is on and refuses it."""
        if not self._refreshing:
            return
        self._refreshing = False
        if error is not None and is_passing(error):
            self._failures += 1
            pause = backoff(self._failures, self._rng)
            if not self._cases:
                return
            if pause:
                self._refresh_at = now + pause
            else:
                self._refresh()
            return
        self._failures = 0
        for watcher, case in self._waiting():
            denial = case.error
            if error is not None and not (self._static and isinstance(error, errors.AuthFailed)):
                own = copy.copy(error)
                own.__cause__ = denial
                self._fail(watcher, own)
            elif denial is None:
                self._again(watcher)
            else:
                self._fail(watcher, denial)

    def _waiting(self) -> list[tuple[Watcher, _Case]]:
        """Take out all who wait for a token."""
        waiting = [(watcher, case) for watcher, case in self._cases.items() if not case.checking]
        for watcher, _ in waiting:
            del self._cases[watcher]
        return waiting

    # Decisions.

    def _fail(self, watcher: Watcher, error: EtcdError) -> None:
        self.decisions.append(Decision(watcher, error, 0.0))

    def _again(self, watcher: Watcher, pause: float = 0.0) -> None:
        self.decisions.append(Decision(watcher, None, pause))

    def _passing(self, watcher: Watcher) -> None:
        watcher.transients += 1
        self._again(watcher, backoff(watcher.transients, self._rng))

    def _counted(self, watcher: Watcher) -> None:
        watcher.tries += 1
        self._again(watcher, RETRY_PAUSE * 2 ** (watcher.tries - 3) if watcher.tries >= 3 else 0.0)

    # Time.

    def next_timer(self) -> float | None:
        """When `handle_timer` must be called next, monotonic seconds."""
        return self._refresh_at

    def handle_timer(self, now: float) -> None:
        """Start the refresh that was put off."""
        if self._refresh_at is None or now < self._refresh_at:
            return
        self._refresh_at = None
        if any(not case.checking for case in self._cases.values()):
            self._refresh()


def is_passing(error: EtcdError) -> bool:
    """Whether a login that failed like this may succeed a little later."""
    return error.code in _PASSING_CODES or isinstance(error, errors.TooManyRequests)
