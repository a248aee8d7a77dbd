# SPDX-License-Identifier: Apache-2.0
"""What greetings ask, and what follows from their answers."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core import methods
from purecd.core.endpoints import Endpoint, parse_endpoint
from purecd.core.link import Link
from purecd.core.tokens import Answer, Tokens, is_passing
from purecd.options import Options, Tls
from purecd.pb import messages


def tokens_of(**options):
    return Tokens(Options(("a:1",), **options))


def password():
    return tokens_of(user="root", password="secret")


def link_of(tokens, name="a:1"):
    link = Link(Endpoint(parse_endpoint(name)), Options((name,)), 100.0, None, "purecd/test", ())
    tokens.prepare(link)
    return link


def header(cluster_id=0xC1):
    return messages.ResponseHeader(cluster_id=cluster_id)


def logged_in(tokens, link, token="t1", cluster_id=0xC1):
    """Answer a login."""
    greeting = tokens.greeting()
    reply = messages.AuthenticateResponse(header=header(cluster_id), token=token)
    greeting.message = reply.SerializeToString()
    return tokens.answered(link, greeting)


def refused(tokens, link, greeting, error):
    greeting.error = error
    return tokens.answered(link, greeting)


def asked(greeting):
    return methods.AUTHENTICATE.encode(greeting.request)


# Without credentials.


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, "none"),
        ({"tls": Tls(cert="c", key="k")}, "cn"),
        ({"token": "jwt"}, "static"),
        ({"user": "root", "password": "secret"}, "password"),
        ({"user": "root", "password": ""}, "password"),
    ],
)
def test_modes(options, mode):
    assert tokens_of(**options).mode == mode


@pytest.mark.parametrize("options", [{}, {"token": "jwt"}])
def test_a_link_asks_for_the_cluster_by_reading_nothing(options):
    greeting = tokens_of(**options).greeting()
    assert greeting.method is methods.RANGE
    read = messages.RangeRequest.FromString(greeting.data)
    assert (read.key, read.range_end, read.limit) == (b"\0", b"", 1)
    assert read.serializable, "so a member without a leader answers"
    assert read.count_only


def test_the_first_answer_tells_the_cluster():
    tokens = tokens_of()
    greeting = tokens.greeting()
    greeting.message = messages.RangeResponse(header=header()).SerializeToString()
    assert tokens.answered(link_of(tokens), greeting) is Answer.READY
    assert tokens.cluster_id == 0xC1


def test_another_cluster_is_refused():
    tokens = tokens_of()
    tokens.check_cluster(link_of(tokens), 0xC1)
    greeting = tokens.greeting()
    greeting.message = messages.RangeResponse(header=header(0xBAD)).SerializeToString()
    with pytest.raises(errors.ClusterMismatch, match="endpoint b:1 belongs to cluster bad, not c1") as caught:
        tokens.answered(link_of(tokens, "b:1"), greeting)
    assert caught.value.endpoint == "b:1"
    assert tokens.cluster_id == 0xC1


def test_a_header_without_a_cluster_says_nothing():
    tokens = tokens_of()
    tokens.check_cluster(link_of(tokens), 0)
    assert tokens.cluster_id == 0
    tokens.check_cluster(link_of(tokens), 0xC1)
    tokens.check_cluster(link_of(tokens), 0)
    assert tokens.cluster_id == 0xC1


def test_a_refusal_leaves_the_cluster_unknown():
    tokens = tokens_of()
    assert refused(tokens, link_of(tokens), tokens.greeting(), errors.UserEmpty()) is Answer.READY
    assert tokens.cluster_id == 0


@pytest.mark.parametrize("options", [{}, {"tls": Tls(cert="c", key="k")}])
def test_without_credentials_there_is_nothing_to_refresh(options):
    assert tokens_of(**options).refresh() is None


# With a password.


def test_logging_in():
    tokens = password()
    link = link_of(tokens)
    assert link.token == b""
    greeting = tokens.greeting()
    assert greeting.method is methods.AUTHENTICATE
    assert not greeting.method.authenticated
    request = messages.AuthenticateRequest.FromString(asked(greeting))
    assert (request.name, request.password) == ("root", "secret")
    assert logged_in(tokens, link) is Answer.READY
    assert (link.token, link.generation) == (b"t1", 1)
    assert tokens.cluster_id == 0xC1


def test_a_refresh_logs_in_again():
    tokens = password()
    link = link_of(tokens)
    logged_in(tokens, link)
    assert asked(tokens.refresh()) == asked(tokens.greeting())
    logged_in(tokens, link, "t2")
    assert (link.token, link.generation) == (b"t2", 2)


def test_where_authentication_is_off_no_token_is_kept():
    tokens = password()
    link = link_of(tokens)
    logged_in(tokens, link)
    assert refused(tokens, link, tokens.refresh(), errors.AuthNotEnabled()) is Answer.ASK_CLUSTER
    assert (link.token, link.generation) == (b"", 2)
    assert tokens.ask_cluster().method is methods.RANGE


@pytest.mark.parametrize(
    "error",
    [
        errors.AuthFailed(),
        errors.from_status(2, "auth: authentication failed, password was given for no password user"),
    ],
)
def test_a_wrong_password(error):
    tokens = password()
    link = link_of(tokens)
    assert refused(tokens, link, tokens.greeting(), error) is Answer.FAILED
    assert not is_passing(error)
    assert (link.token, link.generation) == (b"", 0)


def test_a_member_that_cannot_log_in_leaves_the_last_token():
    tokens = password()
    logged_in(tokens, link_of(tokens))
    link = link_of(tokens, "b:1")
    error = errors.Timeout()
    assert refused(tokens, link, tokens.greeting(), error) is Answer.FAILED
    assert is_passing(error)
    assert link.token == b"t1"


def test_a_login_at_another_cluster_leaves_no_token():
    tokens = password()
    logged_in(tokens, link_of(tokens))
    link = link_of(tokens, "b:1")
    with pytest.raises(errors.ClusterMismatch):
        logged_in(tokens, link, "foreign", 0xBAD)
    assert link.token == b""
    later = link_of(tokens)
    refused(tokens, later, tokens.greeting(), errors.Timeout())
    assert later.token == b"t1"


@pytest.mark.parametrize("token", ["tök", "a\r\nb", "a b\n", "\0"])
def test_a_token_that_no_header_can_carry_is_a_broken_reply(token):
    tokens = password()
    link = link_of(tokens)
    with pytest.raises(ValueError, match="."):
        logged_in(tokens, link, token)
    assert link.token == b""


# With a token of the caller's.


def static():
    return tokens_of(token="jwt")


def test_a_link_begins_with_the_callers_token():
    tokens = static()
    assert link_of(tokens).token == b"jwt"


def test_a_rejection_is_followed_by_a_probe_without_a_name():
    probe = static().refresh()
    assert probe.method is methods.AUTHENTICATE
    assert asked(probe) == b""


def test_authentication_is_off():
    tokens = static()
    link = link_of(tokens)
    assert refused(tokens, link, tokens.refresh(), errors.AuthNotEnabled()) is Answer.READY
    assert (link.token, link.generation) == (b"", 1)


def test_authentication_is_on_and_the_token_is_bad():
    tokens = static()
    link = link_of(tokens)
    assert refused(tokens, link, tokens.refresh(), errors.AuthFailed()) is Answer.FAILED
    assert (link.token, link.generation) == (b"jwt", 0)


def test_authentication_is_on_again():
    tokens = static()
    link = link_of(tokens)
    refused(tokens, link, tokens.refresh(), errors.AuthNotEnabled())
    assert refused(tokens, link, tokens.refresh(), errors.AuthFailed()) is Answer.READY
    assert (link.token, link.generation) == (b"jwt", 2)


def test_a_probe_may_say_nothing():
    tokens = static()
    link = link_of(tokens)
    assert refused(tokens, link, tokens.refresh(), errors.Timeout()) is Answer.FAILED
    assert (link.token, link.generation) == (b"jwt", 0)


def test_secrets_do_not_show():
    for tokens in (password(), static()):
        link = link_of(tokens)
        for thing in (tokens, link, tokens.greeting(), tokens.refresh()):
            assert "secret" not in repr(thing)
            assert "jwt" not in repr(thing)
