# SPDX-License-Identifier: Apache-2.0
"""How endpoints are written, and which one is tried next."""

from __future__ import annotations

import random

import pytest

from purecd import errors
from purecd.core.endpoints import Endpoints, parse_endpoint
from tests.support.steps import Steady

# etcd client/v3/internal/endpoint/endpoint_test.go: endpoint, host or path, port, authority, name to
# verify, TLS (None: as configured).
GRAMMAR = [
    ("127.0.0.1", "127.0.0.1", None, "127.0.0.1", "127.0.0.1", None),
    ("localhost", "localhost", None, "localhost", "localhost", None),
    ("localhost:8080", "localhost", 8080, "localhost:8080", "localhost", None),
    ("etcd.io", "etcd.io", None, "etcd.io", "etcd.io", None),
    ("192.158.7.14:8080", "192.158.7.14", 8080, "192.158.7.14:8080", "192.158.7.14", None),
    ("http://127.0.0.1", "127.0.0.1", None, "127.0.0.1", "127.0.0.1", False),
    ("http://127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080", "127.0.0.1", False),
    ("https://127.0.0.1", "127.0.0.1", None, "127.0.0.1", "127.0.0.1", True),
    ("https://127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080", "127.0.0.1", True),
    ("https://localhost:20000", "localhost", 20000, "localhost:20000", "localhost", True),
    ("HTTPS://localhost:20000", "localhost", 20000, "localhost:20000", "localhost", True),
    ("http://etcd.io/abc", "etcd.io", None, "etcd.io", "etcd.io", False),
    ("https://etcd.io:1/a/b?c=d#e", "etcd.io", 1, "etcd.io:1", "etcd.io", True),
    (
        "http://[2001:db8:1f70::999:de8:7648:6e8]:100/",
        "2001:db8:1f70::999:de8:7648:6e8",
        100,
        "[2001:db8:1f70::999:de8:7648:6e8]:100",
        "2001:db8:1f70::999:de8:7648:6e8",
        False,
    ),
    (
        "[2001:db8:1f70::999:de8:7648:6e8]:100",
        "2001:db8:1f70::999:de8:7648:6e8",
        100,
        "[2001:db8:1f70::999:de8:7648:6e8]:100",
        "2001:db8:1f70::999:de8:7648:6e8",
        None,
    ),
    ("[::1]", "::1", None, "[::1]", "::1", None),
    ("::1", "::1", None, "::1", "::1", None),
    # RFC 3490: what goes over the wire is the ASCII form.
    ("bücher.example:1", "bücher.example", 1, "xn--bcher-kva.example:1", "bücher.example", None),
    ("bücher:2379", "bücher", 2379, "xn--bcher-kva:2379", "bücher", None),
    ("https://etcd.bücher:2379/", "etcd.bücher", 2379, "etcd.xn--bcher-kva:2379", "etcd.bücher", True),
]

# Endpoint, path, authority, name to verify, TLS.
UNIX = [
    ("unix:127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", None),
    ("unix://127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", None),
    ("unix:127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", None),
    ("unix://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", None),
    ("unixs:127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", True),
    ("unixs://127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", True),
    ("unixs:127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", True),
    ("unixs://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", True),
    ("unix:///run/abc", "/run/abc", "abc", "abc", None),
    ("unixs:///run/abc", "/run/abc", "abc", "abc", True),
    ("unix:///run/abc:1234", "/run/abc:1234", "abc:1234", "abc", None),
    ("unixs:///run/abc:1234", "/run/abc:1234", "abc:1234", "abc", True),
    # RFC 3986 §3.2.2: what an authority cannot hold is percent-encoded.
    (
        "unix:unexpected-file_name#123$456",
        "unexpected-file_name#123$456",
        "unexpected-file_name%23123$456",
        "unexpected-file_name#123$456",
        None,
    ),
    ("unix:/run/größe", "/run/größe", "gr%C3%B6%C3%9Fe", "größe", None),
]


@pytest.mark.parametrize(("text", "host", "port", "authority", "verify_name", "tls"), GRAMMAR)
def test_tcp_endpoints(text, host, port, authority, verify_name, tls):
    address = parse_endpoint(text)
    assert (address.text, address.host, address.port, address.path) == (text, host, port, "")
    assert (address.authority, address.verify_name, address.tls) == (authority, verify_name, tls)


@pytest.mark.parametrize(("text", "path", "authority", "verify_name", "tls"), UNIX)
def test_unix_endpoints(text, path, authority, verify_name, tls):
    address = parse_endpoint(text)
    assert (address.text, address.host, address.port, address.path) == (text, "", None, path)
    assert (address.authority, address.verify_name, address.tls) == (authority, verify_name, tls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":2379",
        "host:",
        "host:0",
        "host:65536",
        "host:http",
        "host:-1",
        "host:²",
        "host name:2379",
        "host:23 79",
        "host/path",
        "[::1",
        "[::1]2379",
        "[]:2379",
        "http://",
        "http:///path",
        "https://:2379",
        "dns://something-other",
        "etcd://host:2379",
        "UNIX:///run/abc",
        "unix:",
        "unix://",
        "unix:a\0b",
        "unix:" + "x" * 108,
        "bü" + "c" * 70 + ".example:1",
        "http://ho\tst:2379",
        "ho\0st:2379",
        "https://host\x7f:2379",
        "http://host:2379\n",
        "http://ho[st:2379",
        # Compatibility forms, which become a space and delimiters in the ASCII form (RFC 3490 §4.1).
        "\u00b4:2379",
        "http://\u00b4",
        "ho\uff0fst:2379",
        "http://ho\uff0fst:2379",
        "ho\uff1a1:2379",
        "[::\u00fc]:2379",
        "[b\u00fccher]:2379",
    ],
)
def test_what_is_no_endpoint_is_named(text):
    with pytest.raises(ValueError, match="^endpoint ") as caught:
        parse_endpoint(text)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hidden@host:2379",
        "https://user:hidden@host",
        "user:hidden@host:2379",
        "etcd://user:hidden@host:2379",
        "http://user:hidden@",
        "http://user:hidden@x://",
        "user:hidden@x://host:1",
        "user:hidden://more@host:1",
        "etcd://user:hidden@x@host:2379",
        "http://user:hidden\uff20host:2379",
        "user\uff1ahidden\ufe6bhost:2379",
    ],
)
def test_credentials_in_an_endpoint_are_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="^endpoint ") as caught:
        parse_endpoint(text)
    assert "hidden" not in str(caught.value)


def test_any_text_is_an_endpoint_or_a_value_error():
    rng = random.Random(1)
    for _ in range(20_000):
        text = "".join(rng.choices(":/[]@.0a1ü# \0", k=rng.randrange(1, 14)))
        text = rng.choice(["", "", "http://", "https://", "unix:", "unixs://"]) + text
        try:
            address = parse_endpoint(text)
        except ValueError as error:
            assert type(error) is ValueError, f"seed 1: {text!r}"
        else:
            assert address.authority.isascii(), f"seed 1: {text!r}"
            assert address.host or address.path, f"seed 1: {text!r}"


# Choosing.


def endpoints(*names, rng=None):
    return Endpoints([parse_endpoint(name) for name in names], rng or Steady())


def names(found):
    return [each.address.text for each in found]


def failed(several, endpoint, now):
    several.failed(endpoint, errors.Unavailable("refused"), now)


def test_rotation():
    several = endpoints("a:1", "b:1", "c:1")
    assert names([several.pick(0.0) for _ in range(5)]) == ["a:1", "b:1", "c:1", "a:1", "b:1"]


def test_rotations_start_anywhere():
    starts = {
        endpoints("a:1", "b:1", "c:1", rng=random.Random(seed)).pick(0.0).address.text for seed in range(30)
    }
    assert starts == {"a:1", "b:1", "c:1"}


def test_busy_endpoints_are_left_out():
    several = endpoints("a:1", "b:1")
    first = several.pick(0.0)
    second = several.pick(0.0, [first])
    assert names([first, second]) == ["a:1", "b:1"]
    assert several.pick(0.0, [first, second]) is None
    assert several.next_retry([first, second]) is None


def test_endpoints_written_twice_count_once():
    several = endpoints("a:1", "b:1", "a:1")
    assert len(several) == 2


def test_waits_grow_and_are_jittered():
    several = endpoints("a:1", rng=random.Random(1))
    endpoint = several.pick(0.0)
    for step in range(40):
        failed(several, endpoint, 100.0)
        wait = endpoint.retry_at - 100.0
        expected = min(0.1 * 1.6**step, 1.0)
        assert 0.8 * expected <= wait <= 1.2 * expected
        assert several.pick(100.0 + wait - 0.001) is None
        assert several.next_retry() == endpoint.retry_at
        assert several.pick(100.0 + wait) is endpoint


def test_failures_are_forgotten_once_an_endpoint_was_of_use():
    several = endpoints("a:1")
    endpoint = several.pick(0.0)
    for _ in range(5):
        failed(several, endpoint, 100.0)
    several.succeeded(endpoint, 200.0)
    failed(several, endpoint, 200.0)
    assert endpoint.retry_at == pytest.approx(200.0 + 0.1 * 1.6**3), "it was up, and went at once"
    several.succeeded(endpoint, 300.0)
    several.lived(endpoint)
    failed(several, endpoint, 310.0)
    assert endpoint.retry_at == pytest.approx(310.1)


def test_one_success_ends_all_waits_but_short_ones():
    several = endpoints("a:1", "b:1", "c:1")
    a, b, c = (several.pick(0.0) for _ in range(3))
    failed(several, b, 0.0)
    for _ in range(5):
        failed(several, a, 0.0)
    for _ in range(4):
        failed(several, c, 0.0)
    waits = c.retry_at
    several.succeeded(b, 0.05)
    assert a.retry_at <= 0.05
    assert c.retry_at == waits
    assert b.error is None
    assert a.error is not None


def test_a_success_of_an_endpoint_that_never_failed_says_nothing_of_the_others():
    several = endpoints("a:1", "b:1")
    a, b = several.pick(0.0), several.pick(0.0)
    several.succeeded(b, 0.0)
    for _ in range(8):
        failed(several, a, 0.0)
    waits = a.retry_at
    several.succeeded(b, 0.05)
    assert a.retry_at == waits


def test_endpoints_that_answer_and_are_lost_are_not_dialled_more_than_ten_times_a_second():
    several = endpoints("a:1", "b:1", "c:1")
    now, dials = 0.0, 0
    while now < 20.0:
        endpoint = several.pick(now)
        if endpoint is not None:
            dials += 1
            several.succeeded(endpoint, now)
            failed(several, endpoint, now)
        now += 0.01
    assert 100 < dials < 200


def test_whether_all_failed_and_why():
    several = endpoints("a:1", "b:1")
    a, b = several.pick(0.0), several.pick(0.0)
    assert several.last_error() is None
    failed(several, a, 0.0)
    assert not several.all_failed()
    assert several.last_error() is a.error
    failed(several, b, 0.0)
    assert several.all_failed()
    several.succeeded(a, 1.0)
    assert not several.all_failed()


def test_a_demoted_endpoint_comes_last_for_3_s():
    several = endpoints("a:1", "b:1")
    a = several.pick(0.0)
    several.demote(a, 0.0)
    b = several.pick(0.0)
    assert several.better_than(a, 0.0)
    assert not several.better_than(b, 0.0)
    assert names([several.pick(1.0), several.pick(1.0)]) == ["b:1", "b:1"]
    assert several.pick(1.0, [b]) is a, "better than nothing"
    assert several.better_than(b, 3.0)
    assert names([several.pick(3.0), several.pick(3.0)]) == ["b:1", "a:1"]


def test_an_endpoint_that_waits_is_not_better():
    several = endpoints("a:1", "b:1")
    a, b = several.pick(0.0), several.pick(0.0)
    failed(several, b, 0.0)
    assert not several.better_than(a, 0.05)
    assert several.better_than(a, 0.1)
    alone = endpoints("a:1")
    assert not alone.better_than(alone.pick(0.0), 0.0)


def test_replacing_keeps_the_record_of_those_that_stay():
    several = endpoints("a:1", "b:1")
    a, b = several.pick(0.0), several.pick(0.0)
    failed(several, a, 0.0)
    several.replace([parse_endpoint("c:1"), parse_endpoint("a:1")])
    assert a in several
    assert b not in several
    assert len(several) == 2
    assert names([several.pick(0.0), several.pick(0.0)]) == ["c:1", "c:1"]
    assert several.next_retry() == 0.0


def test_a_list_must_not_be_empty():
    several = endpoints("a:1")
    with pytest.raises(ValueError, match="no available endpoints"):
        several.replace([])
    assert len(several) == 1
    with pytest.raises(ValueError, match="no available endpoints"):
        endpoints()


def test_an_endpoint_shows_itself():
    assert repr(endpoints("a:1").pick(0.0)) == "<Endpoint a:1 failures=0>"
