# SPDX-License-Identifier: Apache-2.0
"""Servers that attack their client: floods, and peers that never read (D1 to D9, H36).

What all have to pass: another client in the same process is answered all the while, memory does not
grow by more than `GROWTH`, and the connection is ended, or read no further, within `SOON`. Every day a
flood is as long as it takes to see that, and comes to one front where both do the same with it;
``make faults`` sends a million frames to each.
"""

from __future__ import annotations

import sys
import time

import pytest

from purecd import errors
from tests.conformance.frames import EIGHT
from tests.conformance.hostile import MIB, Flood, Hostile, endure
from tests.wire.peer import (
    CONTINUATION,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    data,
    frame,
    headers,
    setting,
    u32,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory in use is read from /proc")

MILLION = 1_000_000
DAILY = 40_000
"""Frames of a short flood; the client takes 10,000 of most kinds."""
GROWTH = 16 * MIB
SOON = 2.0
RESPONSIVE = 0.1
"""Seconds within which another client is answered; a busy machine may take more, see `BUSY`."""
BUSY = 3.0

ping = frame(PING, 0, 0, EIGHT)
CALL, OVER = 3, 1  # the write waits on one, the other is over

FLOODS = {
    "D1 PING": Flood(b"", ping, MILLION),
    "D1 PING, nothing read": Flood(b"", ping, MILLION, reads=False),
    "D1 SETTINGS": Flood(b"", frame(SETTINGS, 0, 0), MILLION),
    "D1 SETTINGS, nothing read": Flood(b"", frame(SETTINGS, 0, 0), MILLION, reads=False),
    "D2 DATA on a closed stream": Flood(b"", data(OVER, b"x"), MILLION),
    "D2 HEADERS on a closed stream": Flood(b"", headers(OVER), MILLION),
    "D2 RST_STREAM on a closed stream": Flood(b"", frame(RST_STREAM, 0, OVER, u32(8)), MILLION),
    "D4 empty DATA": Flood(headers(CALL), data(CALL, b""), MILLION),
    "D4 PRIORITY": Flood(b"", frame(PRIORITY, 0, CALL, bytes(5)), MILLION),
    "D4 unknown frames": Flood(b"", frame(0x50, 0, 0), MILLION),
    "D4 WINDOW_UPDATE": Flood(b"", frame(WINDOW_UPDATE, 0, 0, u32(1)), MILLION),
    "D7 CONTINUATION": Flood(frame(HEADERS, 0, CALL), frame(CONTINUATION, 0, CALL), MILLION),
    "D11 SETTINGS of 64 entries": Flood(b"", frame(SETTINGS, 0, 0, setting(0xF0, 1) * 64), MILLION),
}


@pytest.fixture(scope="module")
def hostile():
    server = Hostile()
    yield server
    server.close()


only_on = pytest.mark.parametrize("front", ["threads"], indirect=True)
"""For what is decided below the fronts."""


def hold(cost, *, most=GROWTH):
    """What every attack has to pass."""
    print(
        f"FIGURES {cost.sent} sent, ended after {cost.seconds:.2f} s, {cost.growth / MIB:.1f} MiB more, "
        f"others answered within {cost.slowest * 1000:.0f} ms, the client sent {cost.frames}"
    )
    assert cost.growth < most
    assert cost.slowest < RESPONSIVE + BUSY


def end(front, hostile, flood):
    """A flood that the client has to end."""
    cost = endure(front, hostile, flood)
    hold(cost)
    assert type(cost.error) is errors.Unavailable
    assert "advance no stream" in str(cost.error) or "CONTINUATION" in str(cost.error)
    assert cost.seconds < SOON + BUSY
    assert cost.goaway in (ENHANCE_YOUR_CALM, -1), "it may be lost among what nobody reads"
    assert cost.frames.get(str(RST_STREAM), 0) <= 1, "one per stream"


@only_on
@pytest.mark.parametrize("name", [name for name in FLOODS if "PING" not in name])
def test_a_flood_ends_the_connection(front, hostile, name):
    end(front, hostile, FLOODS[name]._replace(times=DAILY))


@pytest.mark.parametrize("name", [name for name in FLOODS if "PING" in name])
def test_a_flood_of_pings_ends_the_connection(front, hostile, name):
    end(front, hostile, FLOODS[name]._replace(times=DAILY))


@pytest.mark.faults
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_a_million_frames_ends_the_connection(front, hostile, name):
    end(front, hostile, FLOODS[name])


# With progress in between no budget ends it, so nothing may be kept.
NEVER_READ = Flood(
    headers(CALL) + data(CALL, b"\0" + u32(100 * MIB)), ping * 9 + data(CALL, b"x"), MILLION, reads=False
)


def test_replies_that_nobody_reads_are_bounded(front, hostile):
    # D1: the client stops reading, too, at 100 replies.
    cost = endure(front, hostile, NEVER_READ._replace(patience=0.7))
    hold(cost)
    assert type(cost.error) is errors.Unavailable
    assert cost.stalled
    assert cost.sent < MILLION, "the server's socket is full"


@pytest.mark.faults
def test_deadlines_hold_while_replies_wait(front, hostile):
    cost = endure(front, hostile, NEVER_READ, timeout=10)
    hold(cost)
    assert type(cost.error) is errors.DeadlineExceeded
    assert cost.seconds < 10 + BUSY


def octet_by_octet(size):
    """All but the last octet of a message, each in a frame of its own."""
    return Flood(headers(CALL) + data(CALL, b"\0" + u32(size)), data(CALL, b"x"), size - 1)


@only_on
def test_a_message_octet_by_octet(front, hostile):
    # D5: the frames of a message share one buffer.
    cost = endure(front, hostile, octet_by_octet(MIB // 4), timeout=1)
    hold(cost)
    assert cost.growth < 4 * MIB


@pytest.mark.faults
def test_a_mebioctet_octet_by_octet(front, hostile):
    cost = endure(front, hostile, octet_by_octet(4 * MIB), timeout=30)
    hold(cost)
    assert cost.growth < 4 * MIB + 4 * MIB, "one buffer, which grows by copying"


@only_on
def test_a_window_octet_by_octet(front, hostile):
    # H38: a client that sends what it may at once would send 65,000 frames of one octet.
    grow = frame(WINDOW_UPDATE, 0, 0, u32(1)) + frame(WINDOW_UPDATE, 0, CALL, u32(1))
    started = time.process_time()
    cost = endure(front, hostile, Flood(b"", grow, 4000), timeout=1.5, value=bytes(200_000))
    hold(cost)
    assert time.process_time() - started < 2
    assert 4 <= cost.frames["0"] < 20


WIDE_OPEN = frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1 - 65_535)) + frame(SETTINGS, 0, 0, setting(4, 2**31 - 1))


@pytest.mark.parametrize("writes", [10, pytest.param(60, marks=pytest.mark.faults)])
def test_a_server_that_talks_and_does_not_read(front, hostile, writes):
    # H36: what is written does not pile up, and deadlines hold.
    value = bytes(MIB * 14 // 10)
    flood = Flood(WIDE_OPEN, ping, 10_000, reads=False, pause=0.05)
    cost = endure(front, hostile, flood, timeout=0.15, value=value, writes=writes)
    hold(cost, most=2 * writes * len(value))  # errors keep their calls until they are collected
    assert type(cost.error) is errors.DeadlineExceeded
    assert not cost.error.maybe_applied, "it waited in line and was never sent"
    assert cost.seconds < writes * (0.15 + 0.1) + BUSY
    assert cost.kept < 8 * MIB  # the kernel's part, a backlog and the last request; not all of them
