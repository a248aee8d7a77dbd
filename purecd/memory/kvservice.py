# SPDX-License-Identifier: Apache-2.0
"""The KV service: reads when this member is up to date, writes through the log.

Source: etcd server/etcdserver/v3_server.go, server/etcdserver/api/v3rpc/{key,quota}.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from purecd.memory import checks, kv

if TYPE_CHECKING:
    from purecd.memory.auth import Identity
    from purecd.memory.calls import Status
    from purecd.memory.member import Member, Unary
    from purecd.pb import messages as pb


def read(member: Member, call: Unary, request: pb.RangeRequest, now: float) -> None:
    """Range."""
    checks.check_range(request)

    def answer() -> Any:
        return kv.read(member.state.store, request)

    def permit(identity: Identity | None) -> None:
        member.state.auth.check_read(identity, request.key, request.range_end)

    _read(member, call, request.serializable, permit, answer, now)


def _read(
    member: Member,
    call: Unary,
    serializable: bool,
    permit: Callable[[Identity | None], None],
    answer: Callable[[], Any],
    now: float,
) -> None:
    """Answer from this member's state; unless `serializable`, when it is up to date."""

    def ready(refused: Status | None) -> Any:
        if refused is not None:
            raise refused
        permit(member.identity(call.call, now))
        return member.headed(answer())

    if serializable:
        call.done(ready(None))
    else:
        member.log.read_index(member, lambda refused: call.attempt(lambda: ready(refused)), now)


def put(member: Member, call: Unary, request: pb.PutRequest, now: float) -> None:
    """Put."""
    member.refuse_over_quota(request, now)
    checks.check_put(request)
    member.propose(call, request, now)


def delete(member: Member, call: Unary, request: pb.DeleteRangeRequest, now: float) -> None:
    """DeleteRange."""
    checks.check_delete(request)
    member.propose(call, request, now)


def transact(member: Member, call: Unary, request: pb.TxnRequest, now: float) -> None:
    """Txn; one that only reads does not go through the log."""
    member.refuse_over_quota(request, now)
    checks.check_txn(request, member.options.max_txn_ops)
    if not kv.is_read_only(request):
        member.propose(call, request, now)
        return

    def answer() -> Any:
        return kv.transact(member.state.store, member.state.leases, request)

    def permit(identity: Identity | None) -> None:
        member.state.check_txn(identity, request)

    _read(member, call, kv.is_serializable(request), permit, answer, now)


def compact(member: Member, call: Unary, request: pb.CompactionRequest, now: float) -> None:
    """Compact."""
    member.require_admin(call.call, now)
    member.propose(call, request, now)
