# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.wire import frames


def octets(text):
    return bytes.fromhex(text)


def test_data_frame():
    # RFC 9113 §6.1: length 3, type 0x0, END_STREAM, stream 1.
    assert frames.data_frame(1, b"abc", True) == octets("000003 00 01 00000001 616263")
    assert frames.data_frame(1, b"abc", False) == octets("000003 00 00 00000001 616263")


def test_headers_frame_with_end_headers():
    # RFC 9113 §6.2: type 0x1, END_HEADERS 0x4, with END_STREAM 0x5.
    assert frames.headers_frames(5, b"\x82", False, 16384) == octets("000001 01 04 00000005 82")
    assert frames.headers_frames(5, b"\x82", True, 16384) == octets("000001 01 05 00000005 82")


def test_long_header_block_continues():
    # RFC 9113 §6.10: END_STREAM stays on HEADERS, END_HEADERS is on the last CONTINUATION.
    assert frames.headers_frames(1, b"abcdefg", True, 3) == (
        octets("000003 01 01 00000001")
        + b"abc"
        + octets("000003 09 00 00000001")
        + b"def"
        + octets("000001 09 04 00000001")
        + b"g"
    )


def test_header_block_of_exactly_two_frames():
    assert frames.headers_frames(1, b"abcdef", False, 3) == (
        octets("000003 01 00 00000001") + b"abc" + octets("000003 09 04 00000001") + b"def"
    )


def test_rst_stream_frame():
    # RFC 9113 §6.4: length 4, type 0x3, error code CANCEL 0x8.
    assert frames.rst_stream(7, frames.CANCEL) == octets("000004 03 00 00000007 00000008")


def test_settings_frame():
    # RFC 9113 §6.5: type 0x4 on stream 0; ENABLE_PUSH 0x2 = 0, INITIAL_WINDOW_SIZE 0x4 = 1 MiB.
    expected = octets("00000c 04 00 00000000 0002 00000000 0004 00100000")
    assert frames.settings([(frames.ENABLE_PUSH, 0), (frames.INITIAL_WINDOW_SIZE, 1 << 20)]) == expected
    assert octets("000000 04 01 00000000") == frames.SETTINGS_ACK


def test_ping_frame():
    # RFC 9113 §6.7: 8 octets, type 0x6; the answer has ACK.
    assert frames.ping(b"12345678") == octets("000008 06 00 00000000") + b"12345678"
    assert octets("000008 06 01 00000000") == frames.PING_ACK_HEAD
    with pytest.raises(ValueError, match="8 octets"):
        frames.ping(b"1234567")


def test_goaway_frame():
    # RFC 9113 §6.8: type 0x7, last stream, error code, debug data.
    assert frames.goaway(3, 11, b"calm") == octets("00000c 07 00 00000000 00000003 0000000b") + b"calm"


def test_window_update_frame():
    # RFC 9113 §6.9: length 4, type 0x8, no flags, stream 5, increment 1000.
    assert frames.window_update(5, 1000) == octets("000004 08 00 00000005 000003e8")


def test_names():
    assert frames.frame_name(9) == "CONTINUATION"
    assert frames.frame_name(0xFA) == "frame of type 0xfa"
    assert frames.error_name(13) == "HTTP_1_1_REQUIRED"
    assert frames.error_name(14) == "error code 0xe"


def test_error_codes_are_those_of_the_rfc():
    # RFC 9113 §7.
    codes = {getattr(frames, name): name for name in frames.ERROR_NAMES}
    assert codes[0x0] == "NO_ERROR"
    assert codes[0x5] == "STREAM_CLOSED"
    assert codes[0x7] == "REFUSED_STREAM"
    assert codes[0x9] == "COMPRESSION_ERROR"
    assert codes[0xB] == "ENHANCE_YOUR_CALM"
    assert len(codes) == 14
