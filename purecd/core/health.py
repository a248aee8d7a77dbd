# SPDX-License-Identifier: Apache-2.0
"""Health checks: a stream on each link on which the member says whether it serves.

1. With ``health_check`` a link that takes over gets one ``Health/Watch`` stream, where there is another
   endpoint to turn to and the server takes at least `MIN_STREAMS` more.
2. NOT_SERVING makes the channel turn from the link, as a bad answer does; SERVING takes that back.
3. A stream that ends tells nothing, whatever the reason: servers without the service, learners and
   proxies are used as if nobody had asked.
4. The stream ends with the link's turn, so that it does not keep a link that drains.

etcd reports NOT_SERVING while it defragments, if it was started with
``--feature-gates=StopGRPCServiceOnDefrag=true`` (3.5.14 and later 3.5:
``--experimental-stop-grpc-service-on-defrag``), else never.

Source: grpc doc/health-checking.md; etcd server/etcdserver/api/v3rpc/health.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd.core import methods
from purecd.pb import messages
from purecd.wire.grpc import GrpcStream
from purecd.wire.status import message_frame

if TYPE_CHECKING:
    from purecd.core.link import Link

MIN_STREAMS = 4
MAX_REPLY = 1024  # octets

SERVING, NOT_SERVING = 1, 2


class HealthWatch:
    """The health stream of one link.

    Attributes:
        stream: on the link's connection.
    """

    __slots__ = ("stream",)

    def __init__(self, link: Link) -> None:
        self.stream = GrpcStream(self, max_receive=MAX_REPLY)
        block = link.headers.block(methods.HEALTH_WATCH.raw_path, b"", link.token, ())
        request = methods.HEALTH_WATCH.encode(messages.HealthCheckRequest())
        link.conn.open_stream(self.stream, block, message_frame(request), True)

    def take(self) -> int | None:
        """The newest state told, None if there is no news."""
        state: int | None = None
        for message in self.stream.messages:
            try:
                state = methods.HEALTH_WATCH.decode(message).status
            except ValueError:
                state = None
        self.stream.messages.clear()
        return state


def begin(link: Link) -> None:
    """Ask the member of a link to tell its state from now on, if it has streams to spare."""
    if link.conn.available_streams() >= MIN_STREAMS:
        link.health = HealthWatch(link)


def end(link: Link) -> None:
    """Ask no more."""
    watch: Any = link.health
    link.health = None
    if watch is not None and watch.stream.status is None:
        link.conn.reset_stream(watch.stream)
