# SPDX-License-Identifier: Apache-2.0
"""The members of the cluster: one operation per RPC of etcd's Cluster service.

The four changes need a quorum. When one fails without a clear answer, list the members to learn what
became of it.

Source: etcd client/v3/cluster.go; client/pkg/types/urls.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from purecd.admin_types import Member, MemberAddReply, MembersReply
from purecd.core import methods
from purecd.core.methods import Method
from purecd.core.op import Op
from purecd.core.replies import as_member_id, header_of
from purecd.core.retry import call
from purecd.options import DEFAULT_TIMEOUT, Timeout
from purecd.pb import messages
from purecd.requests import check_flags


def _peer_urls(urls: Iterable[str]) -> list[str]:
    """Check the URLs under which a member is reached by others; they are sent as given."""
    if isinstance(urls, (str, bytes)):
        raise TypeError("peer_urls must be a list of URLs, not one string")
    taken = list(urls)
    if not taken:
        raise ValueError("peer_urls is empty")
    for url in taken:
        _check_url(url)
    return taken


def _check_url(url: str) -> None:
    if not isinstance(url, str):
        raise TypeError(f"a URL must be str, not {type(url).__name__}")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"URL {url!r} is malformed: {error}") from None
    if parts.scheme in ("unix", "unixs"):
        return
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"URL scheme must be http, https, unix or unixs: {url!r}")
    if not parts.hostname or port is None:
        raise ValueError(f"URL must have the form of http://host:port: {url!r}")
    if parts.path:
        raise ValueError(f"URL must not contain a path: {url!r}")


def _member(message: messages.Member) -> Member:
    return Member(
        message.ID, message.name, tuple(message.peerURLs), tuple(message.clientURLs), message.isLearner
    )


def _members(method: Method, request: object) -> Op[MembersReply]:
    reply = yield from call(method, request)
    return MembersReply(header_of(reply), tuple(_member(each) for each in reply.members))


def list_all(*, serializable: bool = False, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[MembersReply]:
    """List the members, learners and those not yet started included.

    Args:
        serializable: let the asked member answer from its own, possibly stale, state; without a quorum
            it is the only way. etcd 3.4 always does.
        timeout: seconds for the whole command.

    Sends: Cluster/MemberList, repeatable.
    """
    check_flags(serializable=serializable)
    return _members(methods.MEMBER_LIST, messages.MemberListRequest(linearizable=not serializable))


def add(
    peer_urls: Iterable[str], *, is_learner: bool = False, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[MemberAddReply]:
    """Announce a new member; it joins when it is started.

    Args:
        peer_urls: where the other members will reach it, such as ``["http://10.0.0.4:2380"]``.
        is_learner: let it catch up before it votes; see `promote`.
        timeout: seconds for the whole command.

    Returns:
        The new member, and all members.

    Raises:
        PeerURLExist: another member has one of the URLs.
        MemberNotEnoughStarted: the cluster would lose its quorum until the new one has started.
        Unhealthy: too few members are connected with each other.
        TooManyLearners: the cluster has as many as it may.

    Sends: Cluster/MemberAdd, again only when it was certainly not applied.
    """
    check_flags(is_learner=is_learner)
    request = messages.MemberAddRequest(peerURLs=_peer_urls(peer_urls), isLearner=is_learner)
    reply = yield from call(methods.MEMBER_ADD, request)
    members = tuple(_member(each) for each in reply.members)
    return MemberAddReply(header_of(reply), _member(reply.member), members)


def remove(member_id: int, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[MembersReply]:
    """Remove a member for good.

    Args:
        member_id: its id.
        timeout: seconds for the whole command.

    Raises:
        MemberNotFound: there is none with that id.
        MemberNotEnoughStarted: the rest would have no quorum.

    Sends: Cluster/MemberRemove, again only when it was certainly not applied.
    """
    return _members(methods.MEMBER_REMOVE, messages.MemberRemoveRequest(ID=as_member_id(member_id)))


def update(
    member_id: int, peer_urls: Iterable[str], *, timeout: Timeout = DEFAULT_TIMEOUT
) -> Op[MembersReply]:
    """Change the peer URLs of a member. Until 3.5.30 and 3.6.11 this makes a voter of a learner.

    Args:
        member_id: its id.
        peer_urls: where the other members reach it.
        timeout: seconds for the whole command.

    Raises:
        MemberNotFound: there is none with that id.
        PeerURLExist: another member has one of the URLs.

    Sends: Cluster/MemberUpdate, again only when it was certainly not applied.
    """
    request = messages.MemberUpdateRequest(ID=as_member_id(member_id), peerURLs=_peer_urls(peer_urls))
    return _members(methods.MEMBER_UPDATE, request)


def promote(member_id: int, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[MembersReply]:
    """Make a voter of a learner that has caught up.

    Args:
        member_id: its id.
        timeout: seconds for the whole command.

    Raises:
        MemberNotFound: there is none with that id.
        MemberNotLearner: it votes already.
        LearnerNotReady: it lags too far behind the leader; try again later.

    Sends: Cluster/MemberPromote, again only when it was certainly not applied.
    """
    return _members(methods.MEMBER_PROMOTE, messages.MemberPromoteRequest(ID=as_member_id(member_id)))
