# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace
from typing import Any

import pytest

from purecd.memory import statuses
from purecd.memory.calls import Status
from tests.sim.tap import DATA, GOAWAY, HEADERS, RST_STREAM, Sendings, Tap
from tests.sim.world import InvariantError

REPLY = (DATA, 0, b"\0\0\0\0\0")
TRAILERS = (HEADERS, 1, b"")
REFUSED = (RST_STREAM, 0, b"\0\0\0\7")
CANCELED = (RST_STREAM, 0, b"\0\0\0\x08")


def frame(kind, flags, payload, stream_id=1):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


class Wire:
    """One connection with a write on its first stream."""

    def __init__(self):
        self.refusals = {}
        self.sendings = Sendings(lambda sending: self.refusals.get(sending.stream_id))
        socket: Any = SimpleNamespace()  # it only has to be the same
        self.tap = Tap("c0 to m0", socket, self.sendings.whole, lambda message: None, lambda: 3)
        self.tap.sent(b"." * 24)

    def write(self, stream_id=1, end=None):
        octets = frame(HEADERS, 0, b"", stream_id) + frame(DATA, 1, b"\0\0\0\0\x03~7~", stream_id)
        self.tap.sent(octets[:end])


@pytest.fixture
def wire():
    return Wire()


def test_a_write_is_open_from_its_last_octet_on(wire):
    wire.write(end=-1)
    assert (wire.sendings.left(7), wire.sendings.left_open(7)) == (False, False)
    wire.tap.sent(b"~")
    assert (wire.sendings.left(7), wire.sendings.left_open(7)) == (True, True)


@pytest.mark.parametrize(
    ("frames", "status", "left_open"),
    [
        ([REPLY], None, True),  # an error may follow
        ([REPLY, TRAILERS], None, False),
        ([TRAILERS], statuses.REQUEST_TOO_LARGE, False),
        ([TRAILERS], statuses.NO_LEADER, False),
        ([TRAILERS], statuses.NO_SPACE, True),
        ([TRAILERS], statuses.TIMEOUT, True),
        ([TRAILERS], None, True),  # of a member that did not say why
        ([], statuses.REQUEST_TOO_LARGE, True),  # it has not arrived
        ([REFUSED], None, False),
        ([CANCELED], None, True),
    ],
)
def test_what_settles_a_write(wire, frames, status, left_open):
    wire.write()
    if status is not None:
        wire.refusals[1] = Status(*status)
    for each in frames:
        wire.tap.received(frame(*each))
    assert wire.sendings.left_open(7) is left_open


@pytest.mark.parametrize(("last", "left_open"), [(0, False), (1, True)])
def test_goaway_settles_what_it_leaves_out(wire, last, left_open):
    wire.write()
    wire.tap.received(frame(GOAWAY, 0, bytes((0, 0, 0, last)) + bytes(4), 0))
    assert wire.sendings.left_open(7) is left_open


@pytest.mark.parametrize(
    ("frames", "status", "right"),
    [
        ([], None, False),
        ([], statuses.NO_LEADER, False),  # it has not arrived
        ([TRAILERS], statuses.NO_LEADER, True),
        ([TRAILERS], statuses.TIMEOUT, False),
        ([REFUSED], None, True),
    ],
)
def test_s4_a_write_is_sent_again_only_after_it_was_refused(wire, frames, status, right):
    wire.write()
    if status is not None:
        wire.refusals[1] = Status(*status)
    for each in frames:
        wire.tap.received(frame(*each))
    if right:
        wire.write(stream_id=3)
    else:
        with pytest.raises(InvariantError, match="S4"):
            wire.write(stream_id=3)
