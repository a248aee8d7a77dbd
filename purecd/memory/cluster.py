# SPDX-License-Identifier: Apache-2.0
"""Who belongs to the cluster: members and learners, and those who were removed.

Source: etcd server/etcdserver/api/membership/cluster.go, client/pkg/types/urls.go.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from purecd.memory import statuses
from purecd.memory.calls import Status
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LEARNERS = 1


class Cluster:
    """The members of a cluster; the same on all of them.

    Attributes:
        members: by id.
        removed: ids that never come back.
    """

    def __init__(self, members: Sequence[pb.Member] = ()) -> None:
        self.members = {member.ID: member for member in members}
        self.removed: set[int] = set()

    def listed(self) -> list[pb.Member]:
        """All members, by id."""
        return [self.members[each] for each in sorted(self.members)]

    def add(self, member: pb.Member) -> None:
        """Add a member.

        Raises:
            Status: it is there, was removed, shares a URL with another, or is one learner too many.
        """
        self._refuse_removed(member.ID)
        if member.ID in self.members:
            raise Status(*statuses.MEMBER_EXIST)
        self._refuse_shared(member.ID, member.peerURLs)
        learners = sum(each.isLearner for each in self.members.values())
        if member.isLearner and learners >= MAX_LEARNERS:
            raise Status(*statuses.TOO_MANY_LEARNERS)
        self.members[member.ID] = member

    def _refuse_removed(self, member_id: int) -> None:
        if member_id in self.removed:
            raise Status(*statuses.MEMBER_NOT_FOUND)

    def _refuse_shared(self, member_id: int, urls: Sequence[str]) -> None:
        others = {url for each in self.members.values() if member_id != each.ID for url in each.peerURLs}
        if others & set(urls):
            raise Status(*statuses.PEER_URL_EXISTS)

    def _find(self, member_id: int) -> pb.Member:
        self._refuse_removed(member_id)
        member = self.members.get(member_id)
        if member is None:
            raise Status(*statuses.MEMBER_NOT_FOUND)
        return member

    def remove(self, member_id: int) -> None:
        """Remove a member for good.

        Raises:
            Status: there is no such member.
        """
        self._find(member_id)
        del self.members[member_id]
        self.removed.add(member_id)

    def update(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """Give a member other peer URLs; a learner becomes a voting member by that, up to etcd 3.5.30.

        Raises:
            Status: there is no such member, or another has such a URL.
        """
        member = self._find(member_id)
        self._refuse_shared(member_id, peer_urls)
        self._replace(member, peerURLs=peer_urls, isLearner=False)

    def promote(self, member_id: int) -> None:
        """Make a learner a voting member.

        Raises:
            Status: there is no such member, or it is none.
        """
        member = self._find(member_id)
        if not member.isLearner:
            raise Status(*statuses.MEMBER_NOT_LEARNER)
        self._replace(member, isLearner=False)

    def started(self, member_id: int, name: str, client_urls: Sequence[str]) -> None:
        """Note what a member tells about itself when it starts."""
        self._replace(self.members[member_id], name=name, clientURLs=client_urls)

    def _replace(self, member: pb.Member, **fields: Any) -> None:
        changed: dict[str, Any] = {field.name: value for field, value in member.ListFields()} | fields
        self.members[member.ID] = pb.Member(**changed)

    def started_voters(self) -> tuple[int, int]:
        """How many voting members have started (have a name), and how many there are."""
        voters = [member for member in self.members.values() if not member.isLearner]
        return sum(bool(member.name) for member in voters), len(voters)

    def copy_from(self, other: Cluster) -> None:
        """Take over what another member knows."""
        self.members, self.removed = dict(other.members), set(other.removed)


def parsed_urls(urls: Sequence[str]) -> list[str]:
    """Peer URLs, sorted.

    Raises:
        Status: there are none, or one is not of the form ``http://host:port``.
    """
    if not urls or not all(_is_peer_url(url) for url in urls):
        raise Status(*statuses.MEMBER_BAD_URLS)
    return sorted(url.strip() for url in urls)


def _is_peer_url(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return False
    if parts.scheme in ("unix", "unixs"):
        return True
    return parts.scheme in ("http", "https") and port is not None and parts.path == ""


def new_member_id(urls: Sequence[str], seconds: int) -> int:
    """The id of a member that is added.

    Args:
        seconds: of the time of adding.
    """
    named = "".join(sorted(urls)).encode() + str(seconds).encode()
    return int.from_bytes(hashlib.sha1(named).digest()[:8], "big")  # noqa: S324 — as etcd does
