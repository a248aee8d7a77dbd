# SPDX-License-Identifier: Apache-2.0
"""What links ask on their own account: greetings, and refreshes of tokens.

1. A link is ready once its greeting is answered; `Tokens` says what is asked and what follows.
2. A member that refuses the password fails all who wait. One that cannot tell at the moment is
   used with the last token, and left if there is another endpoint.
3. One refresh serves all calls whose token was rejected on a link, and all streams. Calls whose
   link is gone or drains need none: the next link has a token of its own.
4. Greetings and refreshes go before the calls that wait, and end after the dial timeout. A refresh
   that ends so leaves its link alone. A login on a new link gets half of that time where there is a last
   token and the member gives a sign of life: without a quorum nobody can log in, and reads that need none
   may go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.endpoints import Address, Random
from purecd.core.failures import call_failed, own_copy
from purecd.core.link import Link, LinkState
from purecd.core.links import Links
from purecd.core.op import Call, Refresh
from purecd.core.tokens import FREE_REFRESHES, REFRESH_GAP, Answer, Greeting, Tokens, is_passing
from purecd.errors import EtcdError

if TYPE_CHECKING:
    from purecd.options import Options

LOGIN_SHARE = 0.5  # of the dial timeout


class Logins(Links):
    """Links that greet and refresh their tokens; `Channel` says what else runs on them.

    Attributes:
        tokens: the credentials, and what is known of the cluster.
        ready: calls, refreshes and sources that ended or got something to read.
    """

    def __init__(
        self,
        options: Options,
        addresses: list[Address],
        rng: Random,
        agent: str,
        metadata: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        super().__init__(options, addresses, rng, agent, metadata)
        self.tokens = Tokens(options)
        self.ready: list[Any] = []

    # What the channel makes of it.

    def _send(self, call: Call, link: Link, now: float) -> None:
        """Open a stream for a call; the link takes one more."""
        raise NotImplementedError  # `Channel` says how

    def _ended_here(self, link: Link, now: float) -> None:
        """A stream ended from this side."""
        raise NotImplementedError  # `Channel` says how

    def judge(self, link: Link, error: EtcdError, now: float) -> None:
        """Draw conclusions about an endpoint from what it answered."""
        raise NotImplementedError  # `Channel` says how

    def _serving(self, link: Link, now: float) -> None:
        """A link has become the current one."""
        raise NotImplementedError  # `Channel` says how

    def _barred(self, error: EtcdError, now: float) -> None:
        """Nobody can log in with these credentials."""
        raise NotImplementedError  # `Channel` says how

    def _refreshed(self, link: Link, ok: bool, error: EtcdError | None, now: float) -> None:
        """A refresh ended."""
        raise NotImplementedError  # `Channel` says how

    def _prepare(self, link: Link) -> None:
        self.tokens.prepare(link)

    # Greetings.

    def _greet(self, link: Link, now: float) -> None:
        self._log_in(link, self.tokens.greeting(), now)

    def _log_in(self, link: Link, greeting: Greeting, now: float) -> None:
        link.login = greeting
        greeting.deadline = now + self.options.dial_timeout
        if link.state is LinkState.GREETING and greeting.purpose == "login" and self.tokens.latest:
            greeting.deadline = now + self.options.dial_timeout * LOGIN_SHARE
        self._push_login(link, now)

    def _push_login(self, link: Link, now: float) -> None:
        """Send the greeting or refresh of a link as soon as its server takes a stream."""
        if link.login.stream is None and link.conn.available_streams() > 0:
            self._send(link.login, link, now)

    def _greeted(self, greeting: Greeting, stream: Any, link: Link, now: float) -> None:
        """The stream of a greeting or refresh ended."""
        if link.state is LinkState.CLOSED:
            return  # `_drop` speaks for the link
        if stream.status.code == 0 and len(stream.messages) == 1:
            greeting.message = stream.messages[0]
        else:
            greeting.error = call_failed(greeting, stream, link.name)
        self._answered(greeting, link, now)

    def _answered(self, greeting: Greeting, link: Link, now: float) -> None:
        link.login = None
        greeting.done = True
        try:
            answer = self.tokens.answered(link, greeting)
        except errors.ClusterMismatch as error:
            self._drop(link, error, now)
            return
        except ValueError as error:
            broken = errors.ProtocolError(f"undecodable reply to {greeting.method.name}")
            broken.__cause__ = error
            self._drop(link, broken, now)
            return
        if link.state is LinkState.GREETING:
            self._greeting_done(link, answer, greeting.error, now)
        else:
            self._refresh_done(link, answer, greeting.error, now)

    def _greeting_done(self, link: Link, answer: Answer, error: EtcdError | None, now: float) -> None:
        if answer is Answer.ASK_CLUSTER:
            self._log_in(link, self.tokens.ask_cluster(), now)
            return
        if answer is Answer.FAILED and error is not None and not is_passing(error):
            self._note("auth-failed", link, error.message)
            error.final = True
            self._barred(error, now)
            self._drop(link, error, now)
            return
        if self._take_over(link, now):
            if error is not None:
                self.judge(link, error, now)
            self._serving(link, now)

    # Refreshes.

    def refresh(self, request: Refresh, now: float) -> None:
        """Get a newer token than a failed call carried; ends with `again` told or an error."""
        call = request.call
        link: Link | None = call.link
        if link is None or link.state is not LinkState.READY or link.generation != call.generation:
            request.again = True
        elif self.tokens.mode in ("cn", "none"):
            # Without a token only "old revision" can pass by itself.
            request.again = isinstance(call.error, errors.AuthOldRevision)
        else:
            link.waiting_refresh.append(request)
            self.start_refresh(link, now)
            return
        request.done = True
        self.ready.append(request)

    def start_refresh(self, link: Link, now: float) -> None:
        """Have the token of a link replaced, unless that is under way."""
        if link.login is not None or link.refresh_at is not None:
            return
        if link.refreshes_in_a_row >= FREE_REFRESHES and now < link.refreshed_at + REFRESH_GAP:
            link.refresh_at = link.refreshed_at + REFRESH_GAP
            return
        greeting = self.tokens.refresh()
        if greeting is not None:
            link.refreshes_in_a_row += 1
            link.refreshed_at = now
            self._log_in(link, greeting, now)

    def _refresh_done(self, link: Link, answer: Answer, error: EtcdError | None, now: float) -> None:
        failed = answer is Answer.FAILED
        # A token of the caller's that was sent and refused: the rejection of the call says it all.
        refused = self.tokens.mode == "static" and isinstance(error, errors.AuthFailed)
        for request in link.waiting_refresh:
            request.again = not failed
            if failed and error is not None and not refused:
                request.error = own_copy(error)
            request.done = True
            self.ready.append(request)
        link.waiting_refresh = []
        self._note("token", link, answer.value)
        self._refreshed(link, not failed, error, now)

    def _login_late(self, link: Link, now: float) -> None:
        """A greeting or refresh got no answer in time."""
        greeting = link.login
        if link.state is LinkState.GREETING and not self._last_token_may_do(link):
            if now < link.deadline:
                greeting.deadline = link.deadline
            else:
                self._drop(link, errors.Unavailable("no answer to the greeting", endpoint=link.name), now)
            return
        if greeting.stream is not None:
            link.conn.reset_stream(greeting.stream)
        greeting.error = errors.DeadlineExceeded(
            "no fresh token in time", method=greeting.method.path, endpoint=link.name
        )
        self._answered(greeting, link, now)
        self._ended_here(link, now)

    def _last_token_may_do(self, link: Link) -> bool:
        login = link.login
        alive: bool = login.stream is not None and link.last_received > login.sent_at
        return login.purpose == "login" and bool(self.tokens.latest) and alive

    def _draining(self, link: Link, now: float) -> None:
        if link.login is None:
            self._release_refreshes(link)

    def _gone(self, link: Link, error: EtcdError, now: float) -> None:
        self._release_refreshes(link)

    def _release_refreshes(self, link: Link) -> None:
        """The next attempt goes to another link, whose token is another."""
        link.refresh_at = None
        for request in link.waiting_refresh:
            request.again = request.done = True
            self.ready.append(request)
        link.waiting_refresh = []

    def mend(self, now: float) -> None:
        """Give up all connections; what waits for their tokens may try again."""
        super().mend(now)
        for link in self.closing:
            self._release_refreshes(link)
