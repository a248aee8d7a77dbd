# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.replies."""

import pytest

from purecd.admin_types import Done
from purecd.core import methods
from purecd.core.replies import as_member_id, as_name, command, header_of
from purecd.pb import messages
from purecd.types import EMPTY_HEADER, Header
from tests.core.steps import Stepper


def test_a_header_becomes_a_value():
    header = messages.ResponseHeader(cluster_id=1, member_id=2**64 - 1, revision=3, raft_term=4)
    assert header_of(messages.AlarmResponse(header=header)) == Header(1, 2**64 - 1, 3, 4)


def test_a_missing_header_is_all_zero():
    # Defragment, MoveLeader and a grpc-proxy's MemberList send none.
    assert header_of(messages.DefragmentResponse()) == EMPTY_HEADER


def test_a_command_returns_its_header():
    world = Stepper(messages.AuthEnableResponse(header=messages.ResponseHeader(revision=7)))
    operation = command(methods.AUTH_ENABLE, messages.AuthEnableRequest(), endpoint="a:1")
    assert world.run(operation) == Done(Header(0, 0, 7, 0))
    assert (world.calls[0].method, world.calls[0].endpoint) == (methods.AUTH_ENABLE, "a:1")


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (b"root", TypeError), (None, TypeError)])
def test_names_are_checked(name, error):
    assert as_name("name", "root") == "root"
    with pytest.raises(error, match="name"):
        as_name("name", name)


@pytest.mark.parametrize(
    ("number", "error"), [(-1, ValueError), (2**64, ValueError), (True, TypeError), ("8e9e", TypeError)]
)
def test_member_ids_are_checked(number, error):
    assert as_member_id(2**64 - 1) == 2**64 - 1
    with pytest.raises(error, match="member_id"):
        as_member_id(number)
