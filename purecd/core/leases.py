# SPDX-License-Identifier: Apache-2.0
"""Leases: grant, revoke, look at, renew once.

1. A lease is granted with an id chosen here, at random unless the caller gives one, so a request whose
   answer was lost can be repeated without leaving an orphan behind.
2. ``lease already exists`` after an attempt of unknown outcome means that this attempt was applied;
   ``lease not found`` when revoking means the same.
3. Only the leader knows how long a lease has left. A member that was asked in its place, having been the
   leader a moment ago, says "for ever" in many releases: it is asked again.

Source: etcd client/v3/lease.go, server/etcdserver/api/v3rpc/lease.go, server/lease/lease.go (Remaining).
"""

from __future__ import annotations

from purecd import errors
from purecd.admin_types import (
    Done,
    LeaseGrantReply,
    LeaseKeepAliveReply,
    LeaseListReply,
    LeaseTimeToLiveReply,
)
from purecd.core import methods
from purecd.core.op import Call, Op, now, random_id, sleep
from purecd.core.replies import header_of
from purecd.core.retry import call
from purecd.core.streaming import end_stream, open_stream
from purecd.errors import EtcdError
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages
from purecd.requests import LeaseId, as_int, as_lease_id

NO_DEADLINE = 9_223_372_036  # seconds left of a lease, according to a member that does not lead
ASK_AGAIN = 0.1  # seconds


def grant(ttl: int, *, lease_id: int = 0, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[LeaseGrantReply]:
    """Grant a lease: keys attached to it are deleted when it ends.

    Args:
        ttl: whole seconds to live, 1 to 9,000,000,000; the server raises it to its minimum, usually 2.
        lease_id: id of the lease, 0 for a random one.
        timeout: seconds for the whole command.

    Returns:
        The lease, with the TTL that the server decided on.

    Raises:
        LeaseExist: there is a lease with that id. When an earlier attempt of this call may have been
            applied, a lease with that id is taken for the one asked for.
        LeaseTTLTooLarge: over the server's limit.
        NoSpace: the database is over its quota.

    Sends: Lease/LeaseGrant, repeatable; Lease/LeaseTimeToLive when the outcome or the time is in doubt;
        Lease/LeaseRevoke, of a random id only, when the caller gives up meanwhile. A server may take that
        before the grant; then the lease ends with its TTL.
    """
    seconds = as_int("ttl", ttl, 1)
    number = as_lease_id(lease_id) or (yield from random_id())
    request = messages.LeaseGrantRequest(TTL=seconds, ID=number)
    # A lease with an id of the caller's may be another one that was there before.
    undo = None if lease_id else Call(methods.LEASE_REVOKE, messages.LeaseRevokeRequest(ID=number))
    while True:
        sent_at = yield from now()
        try:
            reply = yield from call(methods.LEASE_GRANT, request, undo=undo)
        except errors.LeaseExist as error:
            if not error.maybe_applied:
                raise
            found = yield from _find(number)
            if found is None:
                continue  # it has ended meanwhile
            return found
        if reply.error:
            raise errors.RpcError(reply.error, method=methods.LEASE_GRANT.path)
        granted = LeaseGrantReply(header_of(reply), reply.ID, reply.TTL, sent_at)
        if (yield from now()) - sent_at <= granted.ttl / 3:
            return granted
        return (yield from _dated(granted))


def _find(lease_id: int) -> Op[LeaseGrantReply | None]:
    """The lease that an attempt without an answer granted; None when it does not exist."""
    try:
        while True:
            asked_at = yield from now()
            found = yield from time_to_live(lease_id)
            if found.ttl != NO_DEADLINE:
                break
            yield from sleep(ASK_AGAIN)
    except EtcdError as error:
        error.maybe_applied = True  # the grant
        raise
    if not found.is_alive:
        return None
    return LeaseGrantReply(
        found.header, lease_id, found.granted_ttl, asked_at + found.ttl - found.granted_ttl
    )


def _dated(granted: LeaseGrantReply) -> Op[LeaseGrantReply]:
    """Find out how long a lease still lives whose grant took several attempts, or one long one."""
    try:
        found = yield from _find(granted.id)
    except EtcdError:
        return granted  # it was granted, which is more than this question
    if found is None:
        return granted
    return granted._replace(sent_at=max(granted.sent_at, found.sent_at))


def revoke(lease: LeaseId, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[Done]:
    """End a lease and delete the keys attached to it.

    Args:
        lease: id of the lease, or an object that has it as `id`.
        timeout: seconds for the whole command.

    Raises:
        LeaseNotFound: there is no such lease.

    Sends: Lease/LeaseRevoke, repeatable.
    """
    request = messages.LeaseRevokeRequest(ID=as_lease_id(lease))
    try:
        reply = yield from call(methods.LEASE_REVOKE, request)
    except errors.LeaseNotFound as error:
        if not error.maybe_applied:
            raise
        return Done()  # an attempt without an answer has done it
    return Done(header_of(reply))


def time_to_live(
    lease: LeaseId, *, keys: bool = False, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[LeaseTimeToLiveReply]:
    """Ask how long a lease still lives. A lease that does not exist is no error: its `ttl` is -1.

    Args:
        lease: id of the lease, or an object that has it as `id`.
        keys: return the keys attached to it, too.
        timeout: seconds for the whole command.

    Sends: Lease/LeaseTimeToLive, repeatable.
    """
    request = messages.LeaseTimeToLiveRequest(ID=as_lease_id(lease), keys=keys)
    reply = yield from call(methods.LEASE_TIME_TO_LIVE, request)
    return LeaseTimeToLiveReply(header_of(reply), reply.ID, reply.TTL, reply.grantedTTL, tuple(reply.keys))


def list_all(*, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[LeaseListReply]:
    """List the leases that the asked member knows; it answers from its own, possibly stale, state.

    Args:
        timeout: seconds for the whole command.

    Sends: Lease/LeaseLeases, repeatable.
    """
    reply = yield from call(methods.LEASE_LEASES, messages.LeaseLeasesRequest())
    return LeaseListReply(header_of(reply), tuple(lease.ID for lease in reply.leases))


def keep_alive_once(lease: LeaseId, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[LeaseKeepAliveReply]:
    """Renew a lease once, to the whole of its TTL.

    Args:
        lease: id of the lease, or an object that has it as `id`.
        timeout: seconds for the whole command.

    Raises:
        LeaseNotFound: it has expired or was revoked.

    Sends: Lease/LeaseKeepAlive on a stream of its own, repeatable. The request side stays open until the
        answer is there: a grpc-proxy cancels the stream otherwise.
    """
    number = as_lease_id(lease)
    sent_at = yield from now()
    stream, answer = yield from open_stream(methods.LEASE_KEEP_ALIVE, number, half_close=False)
    yield from end_stream(stream)
    header, answered, ttl = answer
    if ttl <= 0:
        raise errors.LeaseNotFound(method=methods.LEASE_KEEP_ALIVE.path)
    return LeaseKeepAliveReply(header, answered, ttl, sent_at)
