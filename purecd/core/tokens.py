# SPDX-License-Identifier: Apache-2.0
"""Greetings and tokens: what a link asks on its own account, and what the answers mean.

1. With a password, a link authenticates before it takes calls, and again when a token of its
   is rejected. `Authenticate` carries no token: a 3.4 server would reject it for that.
2. ``authentication is not enabled`` is a success: from then on no token is sent.
3. With a token of the caller's, a rejection is followed by a probe, an `Authenticate` without
   name and password: its refusal tells whether auth is on, without any privilege.
4. Otherwise a link asks for nothing, by a serializable read, to learn the cluster id.
5. After three refreshes in a row that no call confirmed, the next ones are 1 s apart.

Source: etcd client/v3/client.go (getToken); server/etcdserver/v3_server.go (Authenticate).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core import methods
from purecd.core.op import Call
from purecd.errors import EtcdError
from purecd.pb import messages
from purecd.requests import Get
from purecd.wire.status import check_metadata

if TYPE_CHECKING:
    from purecd.core.link import Link
    from purecd.options import Options

FREE_REFRESHES = 3
REFRESH_GAP = 1.0


class Answer(enum.Enum):
    """What follows from the answer to a greeting or a refresh."""

    READY = "ready"
    ASK_CLUSTER = "ask for the cluster id next"
    FAILED = "no newer token to be had"


class Greeting(Call):
    """A call of the link's own; `purpose` tells the three kinds apart."""

    __slots__ = ("purpose",)

    def __init__(self, method: methods.Method, request: Any, purpose: str) -> None:
        super().__init__(method, request)
        self.purpose = purpose
        self.data = method.encode(request)


class Tokens:
    """The credentials of one channel.

    Attributes:
        latest: the newest token that any member gave, b"" before and without.
    """

    def __init__(self, options: Options) -> None:
        self.mode = options.auth_mode
        self._user = options.user
        self._password = options.password or ""
        self._configured = options.token.encode("ascii")
        self.latest = b""
        self.cluster_id = 0

    def prepare(self, link: Link) -> None:
        """Give a new link the token it starts with."""
        link.token = self._configured

    def greeting(self) -> Greeting:
        """The first call of a link."""
        return self._login() if self.mode == "password" else _ask_cluster()

    def ask_cluster(self) -> Greeting:
        """The call that learns the cluster id where logging in did not."""
        return _ask_cluster()

    def refresh(self) -> Greeting | None:
        """The call that may lead to a newer token; None where there is nothing to refresh."""
        if self.mode == "password":
            return self._login()
        if self.mode == "static":
            return Greeting(methods.AUTHENTICATE, messages.AuthenticateRequest(), "probe")
        return None

    def _login(self) -> Greeting:
        request = messages.AuthenticateRequest(name=self._user, password=self._password)
        return Greeting(methods.AUTHENTICATE, request, "login")

    def answered(self, link: Link, call: Greeting) -> Answer:
        """Take over what a finished greeting says; may replace ``call.error``.

        Raises:
            ClusterMismatch: the endpoint belongs to another cluster.
            ValueError: the reply is none, or its token is not fit for a header.
        """
        if call.purpose == "cluster":
            return self._cluster_answered(link, call)
        if call.purpose == "probe":
            return self._probe_answered(link, call)
        error = call.error
        if error is None:
            reply = call.method.decode(call.message)
            self.check_cluster(link, reply.header.cluster_id)
            token = reply.token.encode("ascii")
            check_metadata(b"token", token)
            self._replace(link, token)
            return Answer.READY
        if isinstance(error, errors.AuthNotEnabled):
            self._replace(link, b"")
            return Answer.ASK_CLUSTER
        if isinstance(error, errors.AuthFailed):
            return Answer.FAILED
        # The member cannot log anybody in at the moment; the last token may still do.
        link.token = self.latest
        return Answer.FAILED

    def _probe_answered(self, link: Link, call: Greeting) -> Answer:
        if isinstance(call.error, errors.AuthNotEnabled):
            self._replace(link, b"")
            return Answer.READY
        if isinstance(call.error, errors.AuthFailed) and not link.token:
            self._replace(link, self._configured)
            return Answer.READY
        return Answer.FAILED

    def _cluster_answered(self, link: Link, call: Greeting) -> Answer:
        if call.error is None:
            self.check_cluster(link, call.method.decode(call.message).header.cluster_id)
        # A refusal (auth is on, say) only means that the id stays unknown.
        return Answer.READY

    def _replace(self, link: Link, token: bytes) -> None:
        link.token = self.latest = token
        link.generation += 1

    def check_cluster(self, link: Link, cluster_id: int) -> None:
        """Remember the cluster's id, or refuse a member of another one.

        Raises:
            ClusterMismatch: the id differs from the one seen first.
        """
        if not cluster_id:
            return
        if not self.cluster_id:
            self.cluster_id = cluster_id
        elif cluster_id != self.cluster_id:
            raise errors.ClusterMismatch(
                f"endpoint {link.name} belongs to cluster {cluster_id:x}, not {self.cluster_id:x}",
                endpoint=link.name,
            )


def is_passing(error: EtcdError) -> bool:
    """Whether a failed greeting may succeed a little later."""
    return not isinstance(error, (errors.AuthFailed, errors.ClusterMismatch))


def _ask_cluster() -> Greeting:
    request = Get(b"\0", count_only=True, serializable=True, limit=1)
    return Greeting(methods.RANGE, request, "cluster")
