# SPDX-License-Identifier: Apache-2.0
"""What a client may be told."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from purecd.options import DEFAULT_TIMEOUT, Options, Retry, Tls, as_endpoints, deadline_after


def options(**told: Any) -> Options:
    return Options(("a:1",), **told)


def test_the_defaults():
    assert options().timeout == 10.0
    assert options().dial_timeout == 5.0
    assert (options().keepalive_time, options().keepalive_timeout) == (10.0, 5.0)
    # etcd client/v3/options.go: 2 MiB and math.MaxInt32.
    assert (options().max_send_size, options().max_receive_size) == (2 * 1024 * 1024, 256 * 1024 * 1024)
    assert options().auth_mode == "none"


def test_the_clients_timeout_shows_itself_in_signatures():
    assert repr(DEFAULT_TIMEOUT) == "<the client's timeout>"


TIMES = ["timeout", "dial_timeout", "keepalive_time", "keepalive_timeout", "auto_sync_interval"]
COUNTS = ["max_send_size", "max_receive_size", "watch_buffer_events", "watch_buffer_bytes"]


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_times_are_above_zero_and_finite(name, value):
    with pytest.raises(ValueError, match=name):
        options(**{name: value})


@pytest.mark.parametrize("name", TIMES + COUNTS)
@pytest.mark.parametrize("value", ["1", b"1", True, [1]])
def test_numbers_are_numbers(name, value):
    with pytest.raises(TypeError, match=name):
        options(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_and_above_zero(name):
    with pytest.raises(TypeError, match=name):
        options(**{name: 1.5})
    for value in (0, -1):
        with pytest.raises(ValueError, match=name):
            options(**{name: value})


@pytest.mark.parametrize("name", ["require_tls_for_auth", "require_leader", "fail_fast", "health_check"])
def test_flags_are_true_or_false(name):
    with pytest.raises(TypeError, match=name):
        options(**{name: "false"})


def test_when_a_timeout_is_over():
    assert deadline_after(None, 100.0) is None
    assert (deadline_after(2, 100.0), deadline_after(-1.5, 100.0)) == (102.0, 98.5)
    wrongs: list[Any] = ["2", b"2", [2], object()]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="timeout must be a number, not"):
            deadline_after(wrong, 100.0)
    with pytest.raises(ValueError, match="nan"):
        deadline_after(float("nan"), 100.0)


@pytest.mark.parametrize("name", ["timeout", "keepalive_time", "auto_sync_interval"])
def test_some_times_may_be_without_limit(name):
    assert getattr(options(**{name: None}), name) is None


@pytest.mark.parametrize("name", ["dial_timeout", "keepalive_timeout"])
def test_others_may_not(name):
    with pytest.raises(TypeError, match=name):
        options(**{name: None})


@pytest.mark.parametrize(("told", "taken"), [(0.5, 10.0), (10, 10), (3600, 3600)])
def test_keepalive_has_a_floor(told, taken):
    assert options(keepalive_time=told).keepalive_time == taken


@pytest.mark.parametrize("name", ["max_send_size", "max_receive_size"])
def test_messages_have_a_ceiling(name):
    sizes = {"max_send_size": 1, "max_receive_size": 2**31 - 1, name: 2**31}
    with pytest.raises(ValueError, match="2147483647"):
        options(**sizes)


def test_what_is_sent_must_fit_what_is_received():
    options(max_send_size=100, max_receive_size=100)
    text = r"message recv limit \(99 bytes\) must be greater than send limit \(100 bytes\)"
    with pytest.raises(ValueError, match=text):
        options(max_send_size=100, max_receive_size=99)


# Endpoints.


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a:1", ("a:1",)),
        ("a:1,b:2", ("a:1", "b:2")),
        (" a:1 , b:2 ,", ("a:1", "b:2")),
        (["a:1", " b:2 "], ("a:1", "b:2")),
        (("https://[::1]:2379",), ("https://[::1]:2379",)),
        ("", ()),
        ([], ()),
    ],
)
def test_endpoints_in_one_string_or_several(written, meant):
    assert as_endpoints(written) == meant


@pytest.mark.parametrize("written", [b"a:1", [b"a:1"], [None], [1]])
def test_endpoints_are_strings(written):
    with pytest.raises(TypeError, match="endpoints are strings"):
        as_endpoints(written)


def test_at_least_one_endpoint_and_at_most_64():
    with pytest.raises(ValueError, match="no available endpoints"):
        Options(())
    Options(tuple(f"a:{port}" for port in range(1, 65)))
    with pytest.raises(ValueError, match="at most 64"):
        Options(tuple(f"a:{port}" for port in range(1, 66)))


def test_options_for_one_endpoint():
    of_all = Options(("a:1", "b:1"), user="root", password="x", auto_sync_interval=5.0)
    of_one = of_all.at("b:1")
    assert (of_one.endpoints, of_one.auto_sync_interval) == (("b:1",), None)
    assert (of_one.user, of_one.password) == ("root", "x")


# Credentials.


@pytest.mark.parametrize("told", [{"user": "root"}, {"password": "x"}, {"password": ""}])
def test_user_and_password_belong_together(told):
    with pytest.raises(ValueError, match="user and password must be given together"):
        options(**told)


def test_an_empty_password_is_one():
    assert options(user="root", password="").auth_mode == "password"


def test_a_token_excludes_a_password():
    with pytest.raises(ValueError, match="mutually exclusive"):
        options(user="root", password="x", token="jwt")


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut", "nul\0", "tab\t"])
def test_a_token_must_fit_a_header(token):
    with pytest.raises(ValueError, match="the token holds characters") as caught:
        options(token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("told", [{"user": b"root", "password": "x"}, {"token": b"jwt"}, {"token": None}])
def test_credentials_are_strings(told):
    with pytest.raises(TypeError, match="must be a str"):
        options(**told)


def test_a_password_is_a_string():
    with pytest.raises(TypeError, match="password must be a str, not bytes"):
        options(user="root", password=b"x")


@pytest.mark.parametrize(
    ("told", "mode"),
    [
        ({"user": "root", "password": "x"}, "password"),
        ({"token": "jwt"}, "static"),
        ({"tls": Tls(cert="c.pem", key="k.pem")}, "cn"),
        ({"tls": Tls(context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))}, "cn"),
        ({"tls": Tls(ca_cert="ca.pem")}, "none"),
        ({"tls": Tls(cert="c.pem", key="k.pem"), "user": "root", "password": "x"}, "password"),
    ],
)
def test_modes_of_authentication(told, mode):
    assert options(**told).auth_mode == mode


def test_secrets_do_not_show():
    tls = Tls(cert="c.pem", key="k.pem", key_password="hidden-1")
    for thing in (options(user="root", password="hidden-2", tls=tls), options(token="hidden-3"), tls):
        assert "hidden" not in repr(thing)
        assert "hidden" not in str(thing)
    assert "root" in repr(options(user="root", password="hidden-2"))


# TLS.


@pytest.mark.parametrize("told", [{"cert": "c.pem"}, {"key": "k.pem"}])
def test_certificate_and_key_belong_together(told):
    with pytest.raises(ValueError, match="cert and key must be given together"):
        Tls(**told)


@pytest.mark.parametrize(
    "told", [{"ca_cert": "ca.pem"}, {"cert": "c.pem", "key": "k.pem"}, {"insecure_skip_verify": True}]
)
def test_a_context_excludes_files(told):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    Tls(context=context, server_name="etcd")
    with pytest.raises(ValueError, match="either a context or files"):
        Tls(context=context, **told)


# Repetition.


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"max_attempts": 0}, ValueError),
        ({"max_attempts": 1.5}, TypeError),
        ({"backoff": 0}, ValueError),
        ({"backoff": "1"}, TypeError),
        ({"max_backoff": float("inf")}, ValueError),
        ({"jitter": -0.1}, ValueError),
        ({"jitter": 1.1}, ValueError),
    ],
)
def test_rules_of_repetition_that_are_none(told, kind):
    with pytest.raises(kind, match=next(iter(told))):
        Retry(**told)


def test_pauses_grow_by_1_6_to_their_limit():
    rule = Retry(backoff=0.5, max_backoff=2.0)
    pauses = [rule.pause(number) for number in (1, 2, 3, 4, 5, 10**9)]
    assert pauses == pytest.approx([0.0, 0.5, 0.8, 1.28, 2.0, 2.0])


def test_options_do_not_change():
    with pytest.raises(AttributeError):
        options().timeout = 5.0  # type: ignore[misc]
