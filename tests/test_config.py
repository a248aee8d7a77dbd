# SPDX-License-Identifier: Apache-2.0
"""Configuration from variables and DNS; a small DNS server answers the questions."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from functools import partial

import pytest

import purecd
from purecd import Tls, config
from purecd.config import boolean, discover, from_env, seconds

pytest.importorskip("dns")

from tests.support.nameserver import NameServer

TLS = "_etcd-client-ssl._tcp.example.test"
PLAIN = "_etcd-client._tcp.example.test"


def env(**variables):
    return from_env({f"ETCDCTL_{name}": value for name, value in variables.items()})


def test_nothing_is_set():
    assert from_env({}) == {}
    assert from_env({"HOME": "/", "ETCD_NAME": "x"}) == {}


@pytest.mark.parametrize(
    "name, text, argument, value",
    [
        ("ENDPOINTS", "10.0.0.1:2379, https://b:2379", "endpoints", "10.0.0.1:2379, https://b:2379"),
        ("DIAL_TIMEOUT", "2s", "dial_timeout", 2.0),
        ("COMMAND_TIMEOUT", "1m30s", "timeout", 90.0),
        ("KEEPALIVE_TIME", "20s", "keepalive_time", 20.0),
        ("KEEPALIVE_TIMEOUT", "500ms", "keepalive_timeout", 0.5),
        ("MAX_REQUEST_BYTES", "1000", "max_send_size", 1000),
        ("MAX_RECV_BYTES", "5000000", "max_receive_size", 5_000_000),
        ("MAX_RECV_BYTES", "2147483647", "max_receive_size", 2**31 - 1),
        ("AUTH_JWT_TOKEN", "a.b.c", "token", "a.b.c"),
        ("CACERT", "ca.pem", "tls", Tls("ca.pem")),
        ("INSECURE_TRANSPORT", "false", "tls", Tls()),
    ],
)
def test_one_variable(name, text, argument, value):
    assert env(**{name: text}) == {argument: value}
    assert env(**{name: ""}) == {}, "an empty variable is not used"


@pytest.mark.parametrize(
    "name, text",
    [
        ("DIAL_TIMEOUT", "0s"),
        ("COMMAND_TIMEOUT", "0s"),
        ("MAX_REQUEST_BYTES", "0"),
        ("MAX_RECV_BYTES", "0"),
        ("INSECURE_TRANSPORT", "true"),
        ("INSECURE_SKIP_TLS_VERIFY", "false"),
        ("INSECURE_DISCOVERY", "false"),
        ("DISCOVERY_SRV_NAME", "x"),
        ("PASSWORD", "alone"),
        ("API", "3"),
        ("DEBUG", "true"),
        ("HEX", "true"),
        ("WRITE_OUT", "json"),
        ("WATCH_KEY", "k"),
        ("WATCH_RANGE_END", "l"),
    ],
)
def test_variables_that_change_nothing(name, text, caplog):
    with caplog.at_level(logging.DEBUG, "purecd"):
        assert env(**{name: text}) == {}
    assert not caplog.records


def test_unknown_variables_are_told_without_their_values(caplog):
    assert env(PASWORD="oh my secret", ENDPOINT="a:1") == {}
    assert caplog.messages == [
        "ETCDCTL_ENDPOINT is not known and not used",
        "ETCDCTL_PASWORD is not known and not used",
    ]


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"USER": "root:pass"}, ("root", "pass")),
        ({"USER": "root:pass:word"}, ("root", "pass:word")),
        ({"USER": "root:"}, ("root", "")),
        ({"USER": "root", "PASSWORD": "pass"}, ("root", "pass")),
        ({"USER": "ro:ot", "PASSWORD": "pass"}, ("ro:ot", "pass")),
    ],
)
def test_user_and_password(variables, expected):
    assert env(**variables) == dict(zip(("user", "password"), expected))


def test_the_token_wins():
    assert env(USER="root:pass", AUTH_JWT_TOKEN="a.b.c") == {"token": "a.b.c"}


def test_certificates():
    assert env(CACERT="ca", CERT="c", KEY="k") == {"tls": Tls("ca", "c", "k")}
    for name in ("CERT", "KEY"):
        with pytest.raises(ValueError, match="ETCDCTL_CERT and ETCDCTL_KEY"):
            env(**{name: "file"})


def test_verification_switched_off():
    # etcdctl, too, speaks plaintext where neither the endpoint nor another variable asks for TLS.
    skip = {"INSECURE_SKIP_TLS_VERIFY": "true"}
    assert env(**skip) == {}
    assert env(**skip, ENDPOINTS="a:1,http://b:1") == {"endpoints": "a:1,http://b:1"}
    expected = Tls(insecure_skip_verify=True)
    assert env(**skip, ENDPOINTS="a:1,https://b:1")["tls"] == expected
    assert env(**skip, INSECURE_TRANSPORT="false")["tls"] == expected
    assert env(**skip, CACERT="ca")["tls"] == Tls("ca", insecure_skip_verify=True)


@pytest.mark.parametrize(
    "name, text",
    [
        ("DIAL_TIMEOUT", "5"),
        ("DIAL_TIMEOUT", "-5s"),
        ("COMMAND_TIMEOUT", "5s "),
        ("KEEPALIVE_TIME", "fast"),
        ("KEEPALIVE_TIMEOUT", "1x"),
        ("MAX_REQUEST_BYTES", "x"),
        ("MAX_REQUEST_BYTES", "2MiB"),
        ("MAX_REQUEST_BYTES", "-5"),
        ("MAX_RECV_BYTES", "1.5"),
        ("MAX_RECV_BYTES", "99999999999"),
        ("ENDPOINTS", "host:http"),
        ("INSECURE_TRANSPORT", "yes"),
        ("INSECURE_SKIP_TLS_VERIFY", "2"),
        ("INSECURE_DISCOVERY", "no"),
    ],
)
def test_what_cannot_be_understood_is_named(name, text):
    with pytest.raises(ValueError, match=f"ETCDCTL_{name}") as caught:
        env(**{name: text})
    assert text in str(caught.value)


def test_a_user_without_password_is_told_without_what_was_given():
    with pytest.raises(ValueError, match="ETCDCTL_USER") as caught:
        env(USER="perhaps a password")
    assert "perhaps" not in str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1h2m3.5s", 3723.5),
        ("100us", 1e-4),
        ("100µs", 1e-4),
        ("5ns", 5e-9),
        (".5s", 0.5),
        ("1.s", 1.0),
    ],
)
def test_durations(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "1", "1s2", "1 s", "1S", "+-1s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)


def test_booleans():
    assert all(boolean(text) for text in ("1", "t", "true", "TRUE", "True"))
    assert not any(boolean(text) for text in ("0", "f", "false", "FALSE", "False"))
    with pytest.raises(ValueError, match="neither true nor false"):
        boolean("on")


# Clients.


def test_arguments_win_over_variables():
    environ = {"ETCDCTL_ENDPOINTS": "a:1", "ETCDCTL_USER": "root:pass", "ETCDCTL_DIAL_TIMEOUT": "1s"}
    with purecd.Client.from_env(
        environ, endpoints="127.0.0.1:1", token="a.b.c", keepalive_time=None
    ) as client:
        assert client.endpoints == ("127.0.0.1:1",)
        assert client._options.auth_mode == "static"
        assert client._options.dial_timeout == 1.0


def test_given_endpoints_decide_about_tls():
    environ = {"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "true"}
    assert from_env(environ, {"endpoints": ["https://a:1"]})["tls"] == Tls(insecure_skip_verify=True)
    assert "tls" not in from_env(environ, {"endpoints": ["a:1"]})


def test_the_process_is_asked_only_when_told_to(monkeypatch):
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "127.0.0.1:1,127.0.0.1:2")
    assert purecd.Client().endpoints == ("127.0.0.1:2379",)
    assert purecd.Client.from_env().endpoints == ("127.0.0.1:1", "127.0.0.1:2")
    assert purecd.AsyncClient.from_env().endpoints == ("127.0.0.1:1", "127.0.0.1:2")


# Endpoint lists.


@pytest.mark.parametrize(
    "endpoints, kind, text",
    [
        ("", ValueError, "at least one"),
        (" , ", ValueError, "at least one"),
        ([], ValueError, "at least one"),
        (["a:1"] * 65, ValueError, "at most 64"),
        (b"a:1", TypeError, "strings"),
        ([b"a:1"], TypeError, "strings"),
        ("ftp://a:1", ValueError, "ftp"),
        ("a:0", ValueError, "port"),
        ("a:65536", ValueError, "port"),
        ("a:b", ValueError, "port"),
        (":1", ValueError, "no host"),
        ("a b:1", ValueError, "spaces"),
        ("a:1/path", ValueError, "host:port"),
        ("unix://", ValueError, "socket path"),
        ("unix:///" + "x" * 107, ValueError, "107 bytes"),
        ("http://root:secret@a:1", ValueError, "user= and password="),
        ("root:secret@a:1", ValueError, "host:port"),
    ],
)
@pytest.mark.parametrize("client", [purecd.Client, purecd.AsyncClient])
def test_endpoints_that_make_no_sense(client, endpoints, kind, text):
    with pytest.raises(kind, match=text) as caught:
        client(endpoints)
    assert "secret" not in str(caught.value)
    good = client("127.0.0.1:1")
    with pytest.raises(kind, match=text):
        good.endpoints = endpoints
    assert good.endpoints == ("127.0.0.1:1",), "nothing was changed"


def test_endpoints_in_one_string():
    client = purecd.Client(" a:1, https://b:2 ,unix:///c,[::1]:3,")
    assert client.endpoints == ("a:1", "https://b:2", "unix:///c", "[::1]:3")


# DNS.


def test_discovery():
    records = {
        TLS: [(10, 0, 2379, "b.example.test"), (5, 0, 2379, "a.example.test")],
        PLAIN: [(0, 1, 1, "d.example.test"), (0, 9, 2, "c.example.test")],
    }
    with NameServer(records) as server:
        found = discover("example.test", nameservers=["127.0.0.1"], port=server.port)
    assert found == [
        "https://a.example.test:2379",
        "https://b.example.test:2379",
        "http://c.example.test:2",
        "http://d.example.test:1",
    ]
    assert server.asked == [TLS, PLAIN]


def test_discovery_with_a_service_name():
    name = "_etcd-client-staging._tcp.example.test"
    with NameServer({name: [(0, 0, 1, "a.test")]}) as server:
        found = discover("example.test", "staging", nameservers=["127.0.0.1"], port=server.port)
    assert found == ["http://a.test:1"]
    assert server.asked[0] == "_etcd-client-ssl-staging._tcp.example.test"


def test_discovery_of_tls_alone(caplog):
    records = {TLS: [(0, 0, 1, "a.test")], PLAIN: [(0, 0, 2, "b.test")]}
    with NameServer(records) as server:
        ask = partial(discover, nameservers=["127.0.0.1"], port=server.port)
        assert ask("example.test", insecure=False) == ["https://a.test:1"]
    assert PLAIN in caplog.text
    with NameServer({PLAIN: [(0, 0, 2, "b.test")]}) as server:
        ask = partial(discover, nameservers=["127.0.0.1"], port=server.port)
        assert ask("example.test", insecure=False) == []


def test_discovery_of_nothing():
    with NameServer({}) as server, pytest.raises(LookupError, match="no SRV records") as caught:
        discover("example.test", nameservers=["127.0.0.1"], port=server.port)
    assert TLS in str(caught.value)
    assert PLAIN in str(caught.value)


def test_discovery_without_an_answer():
    with NameServer({}, silent=True) as server, pytest.raises(LookupError):
        started = time.monotonic()
        discover("example.test", nameservers=["127.0.0.1"], port=server.port, timeout=0.2)
    assert time.monotonic() - started < 2


@pytest.fixture
def nameserver(monkeypatch):
    records = {TLS: [(0, 0, 1, "a.test")], PLAIN: [(0, 0, 2, "b.test")]}
    with NameServer(records) as server:
        local = partial(discover, nameservers=["127.0.0.1"], port=server.port)
        monkeypatch.setattr(config, "discover", local)
        yield server


def test_variables_for_discovery(nameserver):
    assert env(DISCOVERY_SRV="example.test", ENDPOINTS="c:1") == {
        "endpoints": ["https://a.test:1", "http://b.test:2"]
    }
    with pytest.raises(LookupError):
        env(DISCOVERY_SRV="nothing.test", ENDPOINTS="c:1")


def test_variables_for_careful_discovery(nameserver):
    careful = {"DISCOVERY_SRV": "example.test", "INSECURE_DISCOVERY": "false"}
    assert env(**careful, CACERT="ca", CERT="c", KEY="k") == {
        "endpoints": ["https://a.test:1"],
        "tls": Tls("ca", "c", "k", server_name="example.test"),
    }
    assert env(**careful)["tls"] == Tls(server_name="example.test")


def test_endpoints_stay_when_discovery_finds_none_that_may_be_used(monkeypatch):
    with NameServer({PLAIN: [(0, 0, 2, "b.test")]}) as server:
        local = partial(discover, nameservers=["127.0.0.1"], port=server.port)
        monkeypatch.setattr(config, "discover", local)
        found = env(DISCOVERY_SRV="example.test", INSECURE_DISCOVERY="false", ENDPOINTS="c:1")
    assert found["endpoints"] == "c:1"


def test_the_package_for_dns_is_loaded_only_when_used():
    program = """
import sys, purecd.config
assert "dns" not in sys.modules
sys.modules["dns"] = sys.modules["dns.exception"] = None
try:
    purecd.config.discover("example.test")
except RuntimeError as error:
    assert "purecd[srv]" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
