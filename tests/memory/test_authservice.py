# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory import statuses
from purecd.memory.auth import NO_PASSWORD_USER
from purecd.memory.authservice import TOO_LONG
from purecd.pb import messages as pb
from tests.memory.asking import AUTH, Alone
from tests.memory.logs import SlowLog


@pytest.fixture
def alone():
    return Alone()


def test_authenticate(alone):
    login = AUTH + "Authenticate"
    assert alone.refusal(login, pb.AuthenticateRequest(name="x")) == statuses.AUTH_NOT_ENABLED
    root = alone.with_auth()
    letters, index = root.split(".")
    assert (len(letters), letters.isalpha(), int(index)) == (16, True, alone.member.index)
    assert alone.login("root", "r") != root
    for name, password in (("root", "wrong"), ("nobody", "r"), ("", "")):
        request = pb.AuthenticateRequest(name=name, password=password)
        assert alone.refusal(login, request) == statuses.AUTH_FAILED
    silent = pb.AuthUserAddRequest(name="silent", options=pb.UserAddOptions(no_password=True))
    alone.ask(AUTH + "UserAdd", silent, token=root)
    assert alone.refusal(login, pb.AuthenticateRequest(name="silent")) == NO_PASSWORD_USER


def test_a_login_is_repeated_when_users_change_meanwhile(alone):
    root = alone.with_auth()
    log = alone.member.log = SlowLog()
    login = alone.begin(AUTH + "Authenticate", pb.AuthenticateRequest(name="alice", password="a"))
    log.agree(alone.now)  # the password is right so far
    alone.begin(
        AUTH + "UserChangePassword", pb.AuthUserChangePasswordRequest(name="alice", password="b"), token=root
    )
    log._waiting.reverse()
    log.agree(alone.now)
    assert login.status is not None
    assert (login.status.code, login.status.text) == statuses.AUTH_FAILED


def test_passwords_do_not_enter_the_log(alone):
    log = alone.member.log = SlowLog()
    alone.begin(AUTH + "UserAdd", pb.AuthUserAddRequest(name="u", password="secret"))
    ((_, _, command, _),) = log._waiting
    assert "secret" not in str(command)
    assert command.request.hashedPassword


def test_empty_and_long_passwords(alone):
    root = alone.with_auth()
    add, change = AUTH + "UserAdd", AUTH + "UserChangePassword"
    alone.ask(add, pb.AuthUserAddRequest(name="empty"), token=root)
    alone.login("empty", "")
    alone.ask(change, pb.AuthUserChangePasswordRequest(name="empty"), token=root)
    refused = alone.refusal(AUTH + "Authenticate", pb.AuthenticateRequest(name="empty"))
    assert refused == statuses.AUTH_FAILED
    long = "p" * 73
    assert alone.refusal(add, pb.AuthUserAddRequest(name="x", password=long), token=root) == TOO_LONG
    request = pb.AuthUserChangePasswordRequest(name="alice", password=long)
    assert alone.refusal(change, request, token=root) == TOO_LONG
    alone.ask(change, pb.AuthUserChangePasswordRequest(name="alice", password=long[1:]), token=root)
    alone.login("alice", long[1:])
