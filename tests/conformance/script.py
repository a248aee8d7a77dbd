# SPDX-License-Identifier: Apache-2.0
"""A small language for what a server does to a client, and for what the client must make of it.

A `Row` is written once and run on each carrier (`carriers`): the wire alone, threads, asyncio. When
its steps begin, the greeting on stream 1 is over and two requests wait: a read on `Ids.other`, which
must get its answer whatever happens, and a write on `Ids.call`, which is what the row is about.

The octets come from `tests.wire.peer`, which knows nothing of `purecd`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, TypeVar, Union

from purecd import errors
from purecd.errors import StatusCode
from tests.wire import peer as octets

T = TypeVar("T")
REPLY = bytes.fromhex("0a06 0801 1002 1805")
"""A good reply to any call: field 1, the header with cluster 1, member 2, revision 5."""


def filled(size: int) -> bytes:
    """The same of `size` octets, at least 140, by a field that nobody knows: number 15."""
    octets = 1
    while True:
        fill = size - len(REPLY) - 1 - octets
        length = bytes(
            [fill >> 7 * at & 0x7F | (0x80 if fill >> 7 * (at + 1) else 0) for at in range(octets)]
        )
        if not fill >> 7 * octets:
            return REPLY + b"\x7a" + length + bytes(fill)
        octets += 1


class Ids(NamedTuple):
    """Streams a script may name."""

    over: int = 1  # the greeting; both sides have ended it
    other: int = 3
    call: int = 5
    idle: int = 105


IDS = Ids()


class Expect(NamedTuple):
    """Wait for a frame of the client that no earlier `Expect` took."""

    kind: int
    flags: int = 0


class Close(NamedTuple):
    """End the connection, ``fin`` or ``rst``."""

    how: str


Step = Union[bytes, Expect, Close]
FIN, RST = Close("fin"), Close("rst")


def given(value: T, steps: Callable[[Ids, T], Sequence[Step]]) -> Callable[[Ids], Sequence[Step]]:
    """Steps that are made of a value."""
    return lambda i: steps(i, value)


class Scope(NamedTuple):
    """What the server sees: RST_STREAM or GOAWAY with a code, or the end without either."""

    what: str  # "nothing", "stream", "connection", "ended"
    code: int = -1


NOTHING = Scope("nothing")
ENDED = Scope("ended")  # by the server, or after its GOAWAY


def STREAM(code: int) -> Scope:
    return Scope("stream", code)


def CONN(code: int) -> Scope:
    return Scope("connection", code)


class Outcome(NamedTuple):
    """What the caller of the write sees; `kind` None for a reply."""

    kind: type[errors.EtcdError] | None = None
    code: StatusCode | None = None
    maybe_applied: bool = False


OK = Outcome()
LOST = Outcome(errors.Unavailable, StatusCode.UNAVAILABLE, True)
BROKEN = Outcome(errors.ProtocolError, StatusCode.INTERNAL, True)
TOO_LARGE = Outcome(errors.MessageTooLarge, StatusCode.RESOURCE_EXHAUSTED, True)


def status(code: StatusCode, maybe_applied: bool = True) -> Outcome:
    """An error that the server's own word, or its HTTP status, makes."""
    kind = {
        StatusCode.UNAVAILABLE: errors.Unavailable,
        StatusCode.CANCELLED: errors.Canceled,
        StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    }
    return Outcome(kind.get(code, errors.RpcError), code, maybe_applied)


class Row(NamedTuple):
    """One case of the table.

    Attributes:
        id: of the row in docs/conformance.md.
        name: what the server does.
        steps: that in octets; an answer to the write is added where a reply is expected
            and `answered` is false, and one to the read unless `other` is given.
        answered: the steps hold the whole answer to the write.
        other: the answer to the read.
        connections: how many the client makes in all; None: two where the first ends, else one.
        settings: of the server, in its first frame.
        hello: these octets come in place of the server's SETTINGS and of everything else.
        text: part of the error's message.
        big: too long to be fed octet by octet.
        options: of the client.
        wire: options of `Http2Connection`, the carrier being the wire.
    """

    id: str
    name: str
    steps: Callable[[Ids], Sequence[Step]]
    scope: Scope = NOTHING
    outcome: Outcome = OK
    answered: bool = False
    other: Callable[[Ids], bytes] = lambda i: octets.answer(i.other, REPLY)
    connections: int | None = None
    settings: tuple[tuple[int, int], ...] = ()
    hello: bool = False
    text: str = ""
    big: bool = False
    options: Mapping[str, Any] = {}
    wire: Mapping[str, int] = {}

    @property
    def expected_connections(self) -> int:
        if self.connections is not None:
            return self.connections
        return 2 if self.scope.what in ("connection", "ended") else 1

    def __str__(self) -> str:
        return f"{self.id}-{self.name}"


class Seen(NamedTuple):
    """What came of a row.

    Attributes:
        frames: of the client on its first connection, in order, after the two requests.
        call: what became of the write.
        message: of its error.
        other: whether the read was answered.
        later: whether a read after all that was answered.
        connections: how many there were.
        left: the client ended the first connection.
    """

    frames: list[octets.Frame]
    call: Outcome
    message: str
    other: bool
    later: bool
    connections: int
    left: bool


def outcome_of(error: errors.EtcdError) -> Outcome:
    return Outcome(type(error), error.code, error.maybe_applied)


def check(row: Row, seen: Seen) -> None:
    """Hold what came of a row against the row."""
    ends = [frame for frame in seen.frames if frame.kind in (octets.RST_STREAM, octets.GOAWAY)]
    shown = (seen, row.scope, row.outcome)
    assert seen.call == row.outcome, shown
    assert row.text in seen.message, shown
    if row.hello:
        return
    assert seen.other, shown
    assert seen.later, shown
    assert seen.connections == row.expected_connections, shown
    if row.scope.what == "nothing":
        assert not ends, shown
    elif row.scope.what == "stream":
        assert ends == [(octets.RST_STREAM, 0, IDS.call, octets.u32(row.scope.code))], shown
    elif row.scope.what == "connection":
        # RFC 9113 §6.8: last stream 0, for the server never opened one.
        assert ends[-1] == (octets.GOAWAY, 0, 0, octets.u32(0) + octets.u32(row.scope.code)), shown
        assert seen.left, shown
    if row.scope.what != "stream" and row.scope.what != "nothing":
        assert not [frame for frame in ends if frame.kind == octets.RST_STREAM], shown
