# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.errors import StatusCode
from purecd.wire.status import (
    check_metadata,
    decode_binary,
    encode_timeout,
    from_http,
    from_reset,
    from_trailers,
    message_frame,
    percent_decode,
)


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (1e-9, b"1n"),
        (0.099_999_999, b"99999999n"),
        (0.1, b"100000u"),
        (1.500_000_001, b"1500001u"),
        (5, b"5000000u"),
        (7.0, b"7000000u"),
        (99.999_999, b"99999999u"),
        (100, b"100000m"),
        (3600, b"3600000m"),
        (30 * 3600, b"108000S"),
        (1e-12, b"1n"),
        (1e8 * 60, b"1666667H"),
        (1e8 - 1, b"99999999S"),
        (1e8, b"1666667M"),
        (1e20, b"99999999H"),
        (float("inf"), b"99999999H"),
    ],
)
def test_timeouts(seconds, expected):
    assert encode_timeout(seconds) == expected


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_no_time_left(seconds):
    with pytest.raises(ValueError, match="not sent"):
        encode_timeout(seconds)


def test_timeout_is_never_shortened_and_always_fits():
    units = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1, "M": 60, "H": 3600}
    seconds = 1e-9
    while seconds < 1e12:
        text = encode_timeout(seconds).decode()
        assert len(text) <= 9
        told = int(text[:-1]) * units[text[-1]]
        if text != "99999999H":
            assert seconds * (1 - 1e-12) <= told <= seconds * 1.001 + 1e-9
        seconds *= 1.37


@pytest.mark.parametrize(
    "value, text",
    [
        (b"a%20b%25", "a b%"),
        (b"%zz", "%zz"),
        (b"%4", "%4"),
        (b"%", "%"),
        (b"%G1", "%G1"),
        (b"%E4%BD%A0", "你"),
        (b"%F0%9F%98%88%09%0D%0A", "😈\t\r\n"),
        (b"%ff", "�"),
        (b"\xff", "�"),
        (b"%2525", "%25"),
        (b"", ""),
    ],
)
def test_percent_decoding(value, text):
    assert percent_decode(value) == text


def test_long_messages_are_cut():
    assert percent_decode(b"x" * 4096) == "x" * 4096
    assert percent_decode(b"x" * 1_000_000) == "x" * 4095 + "…"


@pytest.mark.parametrize(
    "grpc_status, code",
    [
        (b"0", 0),
        (b"16", 16),
        (b"00", 0),
        (None, 2),
        (b"", 2),
        (b"abc", 2),
        (b"17", 2),
        (b"-1", 2),
        (b"+1", 2),
        (b" 0", 2),
        (b"999999999999", 2),
        ("²".encode("latin-1"), 2),
    ],
)
def test_grpc_status(grpc_status, code):
    status = from_trailers(grpc_status, b"text")
    assert (status.code, status.source) == (code, "trailers")


def test_unknown_status_keeps_number_and_text():
    assert from_trailers(b"17", b"text").message == "unknown grpc-status 17: text"
    assert "abc" in from_trailers(b"abc", None).message


@pytest.mark.parametrize(
    "http, code",
    [
        *[(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (431, 13), (502, 14), (503, 14), (504, 14)],
        *[(200, 2), (500, 2), (418, 2), (302, 2), (999, 2)],
    ],
)
def test_http_statuses(http, code):
    # http-grpc-status-mapping.md.
    status = from_http(http, b"text/html", b"<p>no</p>")
    assert (status.code, status.source) == (code, "http")
    assert str(http) in status.message
    assert "<p>no</p>" in status.message
    assert "text/html" in status.message


def test_http_without_content_type():
    message = from_http(404, b"", b"").message
    assert message == "unexpected HTTP status 404 (Not Found) from server; missing content-type"


@pytest.mark.parametrize(
    "reset, code",
    [
        *[(0, 13), (1, 13), (2, 13), (3, 13), (4, 13), (5, 13), (6, 13), (7, 14), (8, 1), (9, 13), (10, 13)],
        *[(11, 8), (12, 7), (13, 13), (14, 2), (2**32 - 1, 2)],
    ],
)
def test_reset_codes(reset, code):
    # PROTOCOL-HTTP2.md, Errors.
    status = from_reset(reset)
    assert status.code == code
    assert status.source == ("unprocessed" if reset == 7 else "reset")


def test_message_frame():
    assert message_frame(b"") == b"\0\0\0\0\0"
    assert message_frame(b"ab") == b"\0\0\0\0\2ab"


@pytest.mark.parametrize(
    "name, value",
    [
        (b"hasleader", b"true"),
        (b"a.b_c-0", b""),
        (b"x", b"in side"),
        (b"x-bin", b"\0\xff\r\n"),
    ],
)
def test_legal_metadata(name, value):
    check_metadata(name, value)


@pytest.mark.parametrize(
    "name, value",
    [
        (b"", b""),
        (b"Upper", b""),
        (b":path", b""),
        (b"a b", b""),
        (b"a\n", b""),
        (b"grpc-timeout", b"1S"),
        (b"te", b"trailers"),
        (b"content-type", b""),
        (b"user-agent", b""),
        (b"host", b""),
        (b"connection", b"close"),
        (b"x", b"a\r\nb"),
        (b"x", b"a\n"),
        (b"x", b"a\0"),
        (b"x", b"\x7f"),
        (b"x", b"\xc3\xa4"),
        (b"x", b" a"),
        (b"x", b"a "),
    ],
)
def test_illegal_metadata(name, value):
    with pytest.raises(ValueError, match="metadata"):
        check_metadata(name, value)


@pytest.mark.parametrize(
    "value, decoded",
    [
        (b"AAE=", [b"\0\1"]),
        (b"AAE", [b"\0\1"]),
        (b"AAE, AAE=", [b"\0\1", b"\0\1"]),
        (b"", [b""]),
        (b"A", None),
        (b"A!E=", None),
    ],
)
def test_binary_metadata(value, decoded):
    assert decode_binary(value) == decoded


def test_codes_are_status_codes():
    assert from_reset(8).code is StatusCode.CANCELLED
