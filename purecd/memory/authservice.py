# SPDX-License-Identifier: Apache-2.0
"""The Auth service: all of it goes through the log; passwords are hashed before.

Source: etcd server/etcdserver/v3_server.go, server/etcdserver/api/v3rpc/auth.go.
"""

from __future__ import annotations

from string import ascii_letters
from typing import TYPE_CHECKING, Any

from purecd.memory.auth import hashed
from purecd.memory.calls import Status
from purecd.memory.log import Command
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from purecd.memory.log import Outcome
    from purecd.memory.member import Member, Unary

TOKEN_LETTERS = 16
LONGEST_PASSWORD = 72  # octets; bcrypt's limit
TOO_LONG = (2, "bcrypt: password length exceeds 72 bytes")


def through_the_log(member: Member, call: Unary, request: Any, now: float) -> None:
    """Any RPC of the service that needs nothing but the log."""
    member.propose(call, request, now)


def authenticate(member: Member, call: Unary, request: pb.AuthenticateRequest, now: float) -> None:
    """Authenticate: the password is checked here, the login goes through the log without it."""

    def ready(refused: Status | None) -> None:
        try:
            if refused is not None:
                raise refused
            revision = member.state.auth.check_password(request.name, request.password)
        except Status as status:
            call.done(status)
            return
        prefix = "".join(member.rng.choices(ascii_letters, k=TOKEN_LETTERS))
        command = Command(pb.AuthenticateRequest(name=request.name), token=prefix)
        member.log.propose(member, command, lambda outcome: applied(outcome, revision), now)

    def applied(outcome: Outcome, revision: int) -> None:
        if not isinstance(outcome, Status) and revision != member.state.auth.revision:
            ready(None)  # the password may have changed in between
        else:
            call.done(member.headed(outcome))

    member.log.read_index(member, ready, now)


def add_user(member: Member, call: Unary, request: pb.AuthUserAddRequest, now: float) -> None:
    """UserAdd."""
    changed = pb.AuthUserAddRequest(name=request.name, options=request.options)
    if not request.options.no_password:
        changed.hashedPassword = _hashed(member, request.password)
    member.propose(call, changed, now)


def change_password(
    member: Member, call: Unary, request: pb.AuthUserChangePasswordRequest, now: float
) -> None:
    """UserChangePassword; with an empty one nobody can log in any more."""
    changed = pb.AuthUserChangePasswordRequest(name=request.name)
    if request.password:
        changed.hashedPassword = _hashed(member, request.password)
    member.propose(call, changed, now)


def _hashed(member: Member, password: str) -> str:
    if len(password.encode()) > LONGEST_PASSWORD:
        raise Status(*TOO_LONG)
    return hashed(password, f"{member.rng.getrandbits(64):016x}")
