# SPDX-License-Identifier: Apache-2.0
"""The links of a channel: which are dialled, which one serves, and how each of them ends.

1. While somebody waits and no link is usable, one endpoint is dialled, after 250 ms another, and
   so on; a failed attempt is followed by the next one at once.
2. The first link to get through its greeting becomes the *current* one; the others that were
   being dialled are closed. A replaced link drains: it takes no new streams and ends with its last.
3. GOAWAY makes a link drain at once. The server's own limit of PINGs doubles the keepalive time.
4. A link that answers badly is *avoided*: new calls wait for another one. Once every other
   endpoint was tried for 250 ms in vain it is used again.
5. A link that lived less than 1 s counts as a failed attempt, so a server that accepts and closes
   is not dialled in a tight loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from purecd import errors
from purecd.core.endpoints import Address, Endpoints, Random
from purecd.core.link import Link, LinkState
from purecd.errors import EtcdError
from purecd.wire.http2 import ENHANCE_YOUR_CALM, GoAway

if TYPE_CHECKING:
    from purecd.options import Options

HURRY = 0.25
SHORT_LIFE = 1.0
MAX_KEEPALIVE_TIME = 7200.0
DEBUG_SHOWN = 100
CUT_SHORT = "a signal interrupted its use"


class Links:
    """Connections that come and go; `Channel` says what runs on them.

    Args:
        options: the client's.
        addresses: the parsed endpoints.
        rng: for jitter and the start of the rotation.
        agent: value of ``user-agent``.
        metadata: what every request carries besides.

    Attributes:
        links: all that are not closed, in the order in which they were dialled.
        current: the one that takes new calls, None without one.
        opening: links to be connected by the driver.
        closing: links whose socket the driver closes once their last bytes are written.
        notes: what happened to links, for logs and hooks: (event, endpoint, detail).
    """

    def __init__(
        self,
        options: Options,
        addresses: list[Address],
        rng: Random,
        agent: str,
        metadata: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self.options = options
        self.endpoints = Endpoints(addresses, rng)
        self.links: list[Link] = []
        self.current: Link | None = None
        self.opening: list[Link] = []
        self.closing: list[Link] = []
        self.notes: list[tuple[str, str, str]] = []
        self.closed = False
        self._agent = agent
        self._metadata = metadata
        self._keepalive_time = options.keepalive_time
        self._hurry_at: float | None = None

    # What the channel makes of it.

    def _wanted(self) -> bool:
        """Whether somebody waits for a usable link."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _prepare(self, link: Link) -> None:
        """A link is about to be dialled."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _greet(self, link: Link, now: float) -> None:
        """HTTP/2 is up on a link: begin its greeting."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _collect(self, link: Link, now: float) -> bool:
        """Hand on what the streams of a link received; whether no more follows than waking who watches."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _pump(self, now: float) -> None:
        """The current link may take calls that wait."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _draining(self, link: Link, now: float) -> None:
        """A link takes no new streams."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _gone(self, link: Link, error: EtcdError, now: float) -> None:
        """A link is closed and its streams have ended."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    def _unreachable(self) -> None:
        """The latest attempt at every endpoint failed."""
        raise NotImplementedError  # `Logins` and `Channel` say how

    # Dialling.

    def _being_dialled(self) -> list[Link]:
        return [each for each in self.links if each.state < LinkState.READY]

    def _dial(self, now: float) -> None:
        """See to it that a link is being dialled."""
        if not self.closed and not self._being_dialled():
            self._dial_one(now)

    def _dial_one(self, now: float) -> None:
        """Dial one more endpoint, if there is one that does not wait after a failure."""
        busy = [each.endpoint for each in self._being_dialled()]
        if self.current is not None and len(self.endpoints) > 1:
            busy.append(self.current.endpoint)
        endpoint = self.endpoints.pick(now, busy)
        if endpoint is None:
            self._hurry_at = self.endpoints.next_retry(busy)
            self._give_back(now)
            return
        self._hurry_at = now + HURRY
        link = Link(endpoint, self.options, now, self._keepalive_time, self._agent, self._metadata)
        self._prepare(link)
        self.links.append(link)
        self.opening.append(link)
        self._note("connect", link, "")

    def _give_back(self, now: float) -> None:
        """There is nothing better at the moment: use the current link on, unless it is silent."""
        link = self.current
        if link is None or link.usable:
            return
        link.avoided = False
        if link.ping_sent_at is None:
            link.suspect = False
        if link.usable:
            self._pump(now)

    def _take_back(self, link: Link, now: float) -> None:
        """A link that was turned from is as good as any again."""
        self.endpoints.restore(link.endpoint)
        link.avoided = False
        self._pump(now)

    def _turn_from(self, link: Link, now: float, why: str = "answers badly") -> None:
        """A link answers badly: look for another one."""
        better = self.endpoints.better_than(link.endpoint, now)
        self.endpoints.demote(link.endpoint, now)
        # While one is being dialled already, calls have waited for it as long as they should.
        if link is self.current and better and not self._being_dialled():
            self._note("turn", link, why)
            link.avoided = True
            self._dial_one(now)

    # From dialling to the end.

    def link_opened(self, link: Link, now: float) -> None:
        """The driver's socket is connected."""
        if link.state is not LinkState.CONNECTING:
            return
        try:
            link.opened(now)
        except EtcdError as error:
            self._drop(link, error, now)

    def link_lost(self, link: Link, error: EtcdError, now: float) -> None:
        """The driver's socket failed, or the peer closed it."""
        if link.state is not LinkState.CLOSED:
            self._drop(link, link.lost(error), now)

    def _advance(self, link: Link, now: float) -> None:
        """Move a link on after something arrived."""
        if link.state is LinkState.STARTING:
            if link.conn.ready:
                link.state = LinkState.GREETING
                self._greet(link, now)
        elif link.state is LinkState.READY and link.conn.goaway is not None:
            self._goaway(link, link.conn.goaway, now)
        self._sweep(link, now)

    def _take_over(self, link: Link, now: float) -> bool:
        """A link got through its greeting; whether it becomes the current one."""
        link.state = LinkState.READY
        link.opened_at = now
        self.endpoints.succeeded(link.endpoint, now)
        old = self.current
        # The old one has recovered meanwhile, and a second one to the same endpoint is no better.
        known = old is not None and (old.endpoint is link.endpoint or old.endpoint.demoted_until <= now)
        if known and old is not None and old.usable:
            self._drop(link, None, now)
            return False
        self._note("ready", link, "")
        self.current = link
        self._hurry_at = None
        for other in self._being_dialled():
            self._drop(other, None, now)
        if old is not None:
            self._retire(old, now)
            self._sweep(old, now)
        return True

    def _goaway(self, link: Link, goaway: GoAway, now: float) -> None:
        """The server takes no new streams on a link that served."""
        self._note("goaway", link, _debug(goaway))
        if goaway.code == ENHANCE_YOUR_CALM and self._keepalive_time is not None:
            # gRPC keepalive: after too_many_pings the client doubles its keepalive time.
            self._keepalive_time = min(self._keepalive_time * 2, MAX_KEEPALIVE_TIME)
        self._account(link, _sent_away(goaway), now)
        self._retire(link, now)
        if self._wanted():
            self._dial(now)

    def _retire(self, link: Link, now: float) -> None:
        """Let a link end its streams and take no new ones."""
        link.state = LinkState.DRAINING
        if self.current is link:
            self.current = None
        self._draining(link, now)

    def _sweep(self, link: Link, now: float) -> None:
        """Close a link that drains once its last stream has ended."""
        if link.state is LinkState.DRAINING and not link.conn.open_streams:
            self._drop(link, None, now)

    def leave(self, link: Link, now: float) -> None:
        """Go from a link that drains; whatever is on it goes on elsewhere."""
        if link.state is LinkState.DRAINING:
            self._drop(link, errors.Unavailable("the server is shutting down"), now)

    def _connection_ended(self, link: Link, now: float) -> None:
        """The connection will carry nothing more: it broke a rule, or GOAWAY left nothing to do."""
        conn = link.conn
        if conn.error is not None:
            self._drop(link, conn.error, now)
        elif link.state < LinkState.READY:
            self._drop(link, _sent_away(conn.goaway), now)
        else:
            if link.state is LinkState.READY and conn.goaway is not None:
                self._goaway(link, conn.goaway, now)
            self._drop(link, None, now)

    def _drop(self, link: Link, error: EtcdError | None, now: float) -> None:
        """End a link; `error` tells why, None for a link that is not needed any more."""
        state, link.state = link.state, LinkState.CLOSED
        reason = error if error is not None else errors.Unavailable("connection closed by this side")
        reason.endpoint = reason.endpoint or link.name
        self.closing.append(link)
        self.links.remove(link)
        if self.current is link:
            self.current = None
        if error is None:
            link.conn.close()  # says goodbye with GOAWAY
        else:
            link.conn.receive_eof(reason.message)
        if link in self.opening:
            self.opening.remove(link)
        self._note("closed", link, reason.message if error is not None else "")
        if error is not None and state <= LinkState.READY:
            self._account(link, error, now, state)
        self._collect(link, now)
        self._gone(link, reason, now)
        if self.endpoints.all_failed():
            self._unreachable()
        if self._wanted():
            if error is not None and state < LinkState.READY:
                self._dial_one(now)  # at once, whatever the others being dialled come to
            else:
                self._dial(now)

    def mend(self, now: float) -> None:
        """A signal cut an input short, nobody knows where: give up all connections."""
        for link in [*self.links, *self.opening, *self.closing]:
            link.state = LinkState.CLOSED
            link.torn = True
            if link not in self.closing:
                self.closing.append(link)
                self._note("closed", link, CUT_SHORT)
        self.links.clear()
        self.opening.clear()
        self.current = None
        self._hurry_at = None

    def _account(self, link: Link, error: EtcdError, now: float, state: LinkState = LinkState.READY) -> None:
        """Remember how a link to an endpoint ended."""
        if state < LinkState.READY or now - link.opened_at < SHORT_LIFE:
            self.endpoints.failed(link.endpoint, error, now)
        else:
            self.endpoints.lived(link.endpoint)

    def replace_endpoints(self, addresses: list[Address], now: float) -> None:
        """Use another list from now on; a link to a removed endpoint drains."""
        self.endpoints.replace(addresses)
        for link in list(self.links):
            if link.endpoint in self.endpoints or link.state >= LinkState.DRAINING:
                continue
            if link.state < LinkState.READY:
                self._drop(link, None, now)
            else:
                self._retire(link, now)
                self._sweep(link, now)
        if self._wanted():
            self._dial_one(now)  # a new endpoint need not wait for what the old ones come to

    def _note(self, event: str, link: Link, detail: str) -> None:
        self.notes.append((event, link.name, detail))


def _debug(goaway: GoAway) -> str:
    """The server's own words, as far as they are printable."""
    text = goaway.debug.decode("utf-8", "replace")[:DEBUG_SHOWN]
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _sent_away(goaway: GoAway | None) -> EtcdError:
    """Why a link ended that GOAWAY left nothing to do."""
    detail = f": {_debug(goaway)}" if goaway is not None and goaway.debug else ""
    return errors.Unavailable(f"the server closed the connection (GOAWAY{detail})")
