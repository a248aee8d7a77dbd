# SPDX-License-Identifier: Apache-2.0
"""Frames beside the h2 package."""

from __future__ import annotations

import pytest

from purecd.memory.frames import (
    PREFACE,
    BrokenFraming,
    FrameReader,
    goaway,
    ping,
    settings,
    stream_of,
    without_resets,
)

EMPTY_SETTINGS = bytes.fromhex("000000 04 00 00000000")
PING_FRAME = bytes.fromhex("000008 06 00 00000000") + b"12345678"


def test_frames_of_the_server():
    # RFC 9113 §6.5, §6.7, §6.8: length, type, flags, stream 0, payload.
    assert settings({}) == EMPTY_SETTINGS
    assert settings({5: 16_384}) == bytes.fromhex("000006 04 00 00000000 0005 00004000")
    assert ping(b"12345678") == PING_FRAME
    expected = bytes.fromhex("00000b 07 00 00000000 7fffffff 00000001") + b"why"
    assert goaway(2**31 - 1, 1, b"why") == expected


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_frames_are_cut_wherever_the_bytes_are(step):
    data = PREFACE + EMPTY_SETTINGS + PING_FRAME
    reader = FrameReader()
    found = []
    for start in range(0, len(data), step):
        found += reader.receive(data[start : start + step])
    assert found == [PREFACE, EMPTY_SETTINGS, PING_FRAME]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nXX"])
def test_what_is_no_http2_is_not_answered(data):
    with pytest.raises(BrokenFraming) as caught:
        list(FrameReader().receive(data))
    assert caught.value.code is None


def test_settings_come_first():
    with pytest.raises(BrokenFraming, match="not SETTINGS") as caught:
        list(FrameReader().receive(PREFACE + PING_FRAME))
    assert caught.value.code == 1


@pytest.mark.parametrize(("length", "broken"), [(16_384, False), (16_385, True)])
def test_a_frame_over_the_limit_is_refused_by_its_head(length, broken):
    reader = FrameReader()
    head = length.to_bytes(3, "big") + bytes.fromhex("00 00 00000001")
    found = []
    try:
        for frame in reader.receive(PREFACE + EMPTY_SETTINGS + PING_FRAME + head):
            found.append(frame)  # noqa: PERF402 - what came before the error counts
    except BrokenFraming as error:
        assert (error.code, broken) == (6, True)
    else:
        assert not broken
    assert found == [PREFACE, EMPTY_SETTINGS, PING_FRAME]


def test_resets_can_be_left_out():
    reset = bytes.fromhex("000004 03 00 80000005 00000005")
    assert without_resets(PING_FRAME + reset + EMPTY_SETTINGS) == PING_FRAME + EMPTY_SETTINGS
    assert stream_of(reset) == 5
