# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.auth_admin."""

import pytest

from purecd.admin_types import AuthStatusReply, Done
from purecd.core import auth_admin, methods
from purecd.pb import messages
from purecd.types import Header
from tests.core.steps import Stepper

ON_WIRE = messages.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)


@pytest.mark.parametrize(
    ("operation", "method", "request_message", "reply"),
    [
        (auth_admin.enable, methods.AUTH_ENABLE, messages.AuthEnableRequest, messages.AuthEnableResponse),
        (auth_admin.disable, methods.AUTH_DISABLE, messages.AuthDisableRequest, messages.AuthDisableResponse),
    ],
)
def test_switching(operation, method, request_message, reply):
    world = Stepper(reply(header=ON_WIRE))
    assert world.run(operation()) == Done(Header(1, 2, 3, 4))
    assert world.calls[0].method is method
    assert world.calls[0].request == request_message()


def test_status():
    world = Stepper(messages.AuthStatusResponse(header=ON_WIRE, enabled=True, authRevision=9))
    assert world.run(auth_admin.status()) == AuthStatusReply(Header(1, 2, 3, 4), True, 9)
    assert world.calls[0].method is methods.AUTH_STATUS
