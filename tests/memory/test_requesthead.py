# SPDX-License-Identifier: Apache-2.0
"""Header fields of requests."""

from __future__ import annotations

import pytest

from purecd.memory.requesthead import (
    Malformed,
    Refusal,
    RequestHead,
    list_size,
    percent_encode,
    read_head,
    read_timeout,
)

GOOD = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/etcdserverpb.KV/Range"),
    (b":authority", b"127.0.0.1:2379"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


def changed(**values):
    """The good head with other values, by name with - for _; None takes one away."""
    wanted = {name.replace("_", "-").encode(): value for name, value in values.items()}
    kept = [(name, wanted.pop(name.lstrip(b":"), value)) for name, value in GOOD]
    return [(name, value) for name, value in [*kept, *wanted.items()] if value is not None]


def refused(fields):
    with pytest.raises(Refusal) as caught:
        read_head(fields)
    refusal = caught.value
    return refusal.http_status, refusal.status.code, refusal.status.text


def test_the_usual_head():
    head = read_head([*GOOD, (b"grpc-timeout", b"1500m"), (b"token", b"abc.7"), (b"hasleader", b"true")])
    assert head == RequestHead("/etcdserverpb.KV/Range", 1.5, "", {"token": "abc.7", "hasleader": "true"})


def test_the_first_of_several_counts_and_odd_octets_are_kept():
    head = read_head([*GOOD, (b"token", b"one"), (b"token", b"two"), (b"client-api-version", b"\xff")])
    assert head.metadata["token"] == "one"
    assert head.metadata["client-api-version"].encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize("value", [b"application/grpc+proto", b"application/grpc;x", b"application/grpc"])
def test_media_types_of_grpc(value):
    assert read_head(changed(content_type=value)).path == "/etcdserverpb.KV/Range"


@pytest.mark.parametrize("value", [b"application/json", b"application/grpcx", b"Application/grpc", None])
def test_other_media_types_get_415(value):
    shown = (value or b"").decode()
    assert refused(changed(content_type=value)) == (415, 3, f'invalid gRPC request content-type "{shown}"')


def test_a_connection_field_is_malformed_before_all_else():
    with pytest.raises(Malformed):
        read_head(changed(connection=b"close", content_type=b"text/plain"))


def test_only_post():
    text = 'Received a HEADERS frame with :method "GET" which should be POST'
    assert refused(changed(method=b"GET")) == (405, 13, text)


def test_two_authorities_are_refused():
    status, code, text = refused([*GOOD, (b":authority", b"b")])
    assert (status, code) == (400, 13)
    assert text.startswith("num values of :authority: 2, host: 0")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1n", 1e-9),
        ("99999999u", 99.999999),
        ("100000m", 100),
        ("7S", 7),
        ("3M", 180),
        ("2H", 7200),
        ("0m", 0),
    ],
)
def test_timeouts(text, seconds):
    assert read_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5", "timeout string is too short"),
        ("100000000u", "timeout string is too long"),
        ("5x", "timeout unit is not recognized"),
        ("xS", "invalid syntax"),
        ("٣S", "invalid syntax"),
    ],
)
def test_timeouts_that_are_none(text, reason):
    status, code, found = refused([*GOOD, (b"grpc-timeout", text.encode())])
    assert (status, code) == (400, 13)
    assert found.startswith("malformed grpc-timeout: ")
    assert reason in found


def test_binary_metadata_must_be_base64():
    assert read_head([*GOOD, (b"x-bin", b"AAE")]).metadata["x-bin"] == "AAE"
    status, code, text = refused([*GOOD, (b"x-bin", b"!")])
    assert (status, code) == (400, 13)
    assert text.startswith('malformed binary metadata "!" in header "x-bin"')


def test_the_size_of_a_list():
    # RFC 9113 §6.5.2: name, value and 32 octets each.
    assert list_size([(b"a", b"bc"), (b"", b"")]) == 67


def test_percent_encoding():
    # gRPC doc/PROTOCOL-HTTP2.md: octets 0x20 to 0x7e stay, but for the percent sign.
    assert percent_encode("etcdserver: 100%\n你") == "etcdserver: 100%25%0A%E4%BD%A0"
