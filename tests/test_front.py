# SPDX-License-Identifier: Apache-2.0
"""What both clients are made of: options taken over, secrets kept, events logged."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from typing import Any

import pytest

import purecd
from purecd import front
from purecd.binding import with_self
from purecd.front import Front, check_secrecy, is_loopback, tell
from purecd.options import Options, Retry, Tls

TOLD: dict[str, Any] = {
    "timeout": 3.0,
    "dial_timeout": 2.0,
    "keepalive_time": 20.0,
    "keepalive_timeout": 4.0,
    "user": "root",
    "password": "hidden",
    "tls": Tls(ca_cert="ca.pem"),
    "require_tls_for_auth": True,
    "max_send_size": 1000,
    "max_receive_size": 2000,
    "fail_fast": True,
    "health_check": True,
    "retry": Retry(max_attempts=2),
    "watch_buffer_events": 10,
    "watch_buffer_bytes": 100,
    "require_leader": True,
    "auto_sync_interval": 60.0,
    "min_server_version": "3.5",
}


def test_every_option_is_taken_over():
    made = Front("a:1,b:1", **TOLD)
    assert made._options == Options(("a:1", "b:1"), **TOLD)
    assert (made.max_send_size, made.fail_fast) == (1000, True)


def test_the_defaults_are_those_of_the_options():
    assert Front()._options == Options(("127.0.0.1:2379",))


def test_every_option_is_explained():
    parameters = set(inspect.signature(Front.__init__).parameters) - {"self"}
    described = inspect.getdoc(Front) or ""
    missing = [name for name in parameters if f"{name}:" not in described and f"{name}," not in described]
    assert missing == []


@pytest.mark.parametrize("endpoints", ["", [], "dns://a", "a b:1", "http://user:hidden@a:1"])
def test_endpoints_are_checked_before_anything_is_opened(endpoints):
    with pytest.raises(ValueError, match=r"endpoint"):
        Front(endpoints)


def test_a_channel_to_all_endpoints_and_one_to_a_single_one():
    made = Front("a:1,b:1", token="jwt")
    channel = made._new_channel(None)
    assert len(channel.endpoints) == 2
    assert channel.options.token == "jwt"
    single = made._new_channel("unix:/run/a")
    assert len(single.endpoints) == 1
    assert single.options.endpoints == ("unix:/run/a",)


def test_what_every_request_says_of_the_client():
    channel = Front("a:1")._new_channel(None)
    channel._dial(0.0)
    (link,) = channel.links
    block = link.headers.block(b"/p")
    assert b"purecd/" + purecd.__version__.encode() in block
    # etcd counts client requests by this header (server/etcdserver/api/v3rpc/interceptor.go).
    assert b"client-api-version\x033.8" in block


def test_channels_start_at_different_endpoints():
    made = Front("a:1,b:1,c:1")
    starts = {made._new_channel(None).endpoints.pick(0.0).address.text for _ in range(100)}
    assert starts == {"a:1", "b:1", "c:1"}


def test_endpoints_are_replaced():
    made = Front("a:1")
    made.endpoints = "b:1, c:1"
    assert made.endpoints == ("b:1", "c:1")
    assert len(made._new_channel(None).endpoints) == 2
    with pytest.raises(ValueError, match="no available endpoints"):
        made.endpoints = []
    with pytest.raises(ValueError, match="is not a port"):
        made.endpoints = "a:99999"
    assert made.endpoints == ("b:1", "c:1")


# Secrets.


def test_a_client_shows_no_secrets():
    made = Front("a:1", user="root", password="hidden")
    assert repr(made) == "<purecd.Front a:1>"
    assert "hidden" not in str(made)


def test_a_client_is_neither_copied_nor_pickled():
    made = Front("a:1")
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="holds credentials and connections"):
            attempt(made)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_this_machine_is_known_by_its_names(host, loopback):
    assert is_loopback(host) is loopback


SECRET: dict[str, Any] = {"user": "root", "password": "hidden"}


@pytest.mark.parametrize("credentials", [SECRET, {"token": "hidden"}])
@pytest.mark.parametrize("endpoint", ["etcd.example:2379", "http://10.0.0.1:2379"])
def test_credentials_do_not_cross_a_network_in_the_clear(caplog, credentials, endpoint):
    with pytest.raises(ValueError, match="would get credentials without TLS") as caught:
        Front(endpoint, require_tls_for_auth=True, **credentials)
    assert "hidden" not in str(caught.value)
    Front(endpoint, **credentials)
    assert caplog.messages == [f"credentials go to {endpoint} without TLS"]


@pytest.mark.parametrize("endpoint", ["https://etcd.example:2379", "unix:/run/a", "127.0.0.1:1", "[::1]:1"])
def test_elsewhere_they_are_safe(caplog, endpoint):
    Front(endpoint, require_tls_for_auth=True, **SECRET)
    assert caplog.messages == []


def test_tls_for_endpoints_that_do_not_say(caplog):
    Front("etcd.example:2379", tls=Tls(), require_tls_for_auth=True, **SECRET)
    with pytest.raises(ValueError, match="without TLS"):
        Front("http://etcd.example:2379", tls=Tls(), require_tls_for_auth=True, **SECRET)


def test_replaced_endpoints_are_held_to_it():
    made = Front("https://etcd.example:2379", require_tls_for_auth=True, **SECRET)
    with pytest.raises(ValueError, match="without TLS"):
        made.endpoints = "http://etcd.example:2379"
    assert made.endpoints == ("https://etcd.example:2379",)


def test_without_credentials_nothing_is_at_stake(caplog):
    check_secrecy(Options(("etcd.example:1",), require_tls_for_auth=True), Front("etcd.example:1")._addresses)
    assert caplog.messages == []


# Logging.


@pytest.mark.parametrize(
    ("event", "detail", "level"),
    [
        ("connect", "", "DEBUG"),
        ("token", "ready", "DEBUG"),
        ("closed", "", "DEBUG"),
        ("ready", "", "INFO"),
        ("goaway", "graceful_stop", "INFO"),
        ("turn", "answers badly", "INFO"),
        ("closed", "connection lost", "WARNING"),
        ("auth-failed", "wrong password", "WARNING"),
    ],
)
def test_events_are_logged(caplog, event, detail, level):
    caplog.set_level(logging.DEBUG, "purecd")
    tell(event, "a:1", detail)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("purecd", level)
    assert record.getMessage() == f"{event} a:1" + (f": {detail}" if detail else "")


def test_a_library_is_silent_by_default():
    assert any(isinstance(handler, logging.NullHandler) for handler in front.logger.handlers)


# Methods.


def test_a_bound_operation_shows_its_signature():
    def get(key: str, *, limit: int = 0) -> bytes:
        return b""

    def method(self, *args, **kwargs):
        pass

    with_self(method, get)
    assert str(inspect.signature(method)) == "(self, /, key: 'str', *, limit: 'int' = 0) -> 'bytes'"


@pytest.mark.parametrize(
    ("endpoint", "better"),
    [
        ("localhost", "localhost:2379"),
        ("https://etcd.example", "https://etcd.example:2379"),
        ("::1", "[::1]:2379"),
        ("http://[::1]", "http://[::1]:2379"),
    ],
)
def test_an_endpoint_without_a_port_is_refused_with_one_that_has(endpoint, better):
    with pytest.raises(ValueError, match="has no port") as caught:
        Front(["a:1", endpoint])
    assert repr(better) in str(caught.value)
    made = Front("a:1")
    with pytest.raises(ValueError, match="has no port"):
        made.endpoints = endpoint
    with pytest.raises(ValueError, match="has no port"):
        made._new_channel(endpoint)
    assert Front(better).endpoints == (better,)


@pytest.mark.parametrize("endpoints", [None, 5, b"a:1", ["a:1", None]])
def test_endpoints_of_another_kind_are_refused(endpoints):
    with pytest.raises(TypeError, match="endpoints"):
        Front(endpoints)


def test_a_list_within_a_list_is_refused():
    with pytest.raises(ValueError, match="holds a comma: several endpoints are several items"):
        Front(["a:1,b:1"])
    assert Front("a:1,b:1").endpoints == ("a:1", "b:1")
    assert Front(["unix:/run/a,b"]).endpoints == ("unix:/run/a,b",)
