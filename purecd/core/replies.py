# SPDX-License-Identifier: Apache-2.0
"""What the operations of several services share: from reply messages to public values."""

from __future__ import annotations

from typing import Any

from purecd.admin_types import Done
from purecd.core.methods import Method
from purecd.core.op import Op
from purecd.core.retry import call
from purecd.types import Header


def header_of(reply: Any) -> Header:
    """The header of a reply message; all fields are 0 where the server sent none."""
    header = reply.header
    return Header(header.cluster_id, header.member_id, header.revision, header.raft_term)


def command(method: Method, request: Any, *, endpoint: str | None = None) -> Op[Done]:
    """Do an RPC whose reply is nothing but a header."""
    reply = yield from call(method, request, endpoint=endpoint)
    return Done(header_of(reply))


def as_name(what: str, name: str) -> str:
    """Check the name of a user, a role or the like."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be str, not {type(name).__name__}")
    if not name:
        raise ValueError(f"{what} is empty")
    return name


def as_member_id(member_id: int) -> int:
    """Check the id of a member."""
    if isinstance(member_id, bool) or not isinstance(member_id, int):
        raise TypeError(f"member_id must be an int, not {type(member_id).__name__}")
    if not 0 <= member_id < 2**64:
        raise ValueError(f"member_id must be between 0 and 2**64 - 1, not {member_id}")
    return member_id
