# SPDX-License-Identifier: Apache-2.0
"""All watches of a client: what arrives for them, and what they are owed.

1. A response reaches the watcher that has its id on the stream it came on, whole: events of one
   revision are never split. What was delivered before is left out.
2. Progress that the server reports for one watcher moves its resume point; progress that was
   asked for is delivered where it cannot have overtaken events, and moves nothing.
3. A watcher that is not read past its limits is cancelled on the server and created again when
   its inbox is empty, so memory is bounded and nothing is lost; a compaction in between shows.
4. A refused create is judged by `Denials`. A compaction is final, and so are another cluster and
   a store that went back behind what a watcher has seen.
5. An id that nobody has is cancelled, once.

Where watchers live and how they move from stream to stream is told in `purecd.core.watchplaces`.

Source: etcd client/v3/watch.go, except where a comment tells why not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.actions import CheckRevision, Send
from purecd.core.watcher import State, Watcher, WatchRequest, weigh
from purecd.core.watchplaces import WatchPlaces
from purecd.core.watchstream import Create, MuxStream, Peer
from purecd.errors import EtcdError
from purecd.pb import codecs
from purecd.types import Header, WatchResponse

if TYPE_CHECKING:
    from purecd.core.endpoints import Random

__all__ = ["MuxStream", "WatchMux", "WatchRequest", "Watcher"]

WATCH_PATH = "/etcdserverpb.Watch/Watch"
BROADCAST = -1
REVISION_RETRY = 1.0  # seconds
MAX_JOINED = 2**31 - 1  # bytes, by the count of `weigh`: the deletion of five million keys is one response


class WatchMux(WatchPlaces):
    """Every watch of one client.

    Args:
        auth_mode: ``"none"``, ``"password"``, ``"static"`` or ``"cn"``.
        rng: for jitter.
        max_buffer_events: responses hold so many events per watcher before it is suspended;
            a single response may be larger.
        max_buffer_bytes: the same in bytes.
        max_watchers_per_stream: since one large response delays all watchers of its stream.
    """

    def __init__(
        self,
        *,
        auth_mode: str,
        rng: Random,
        max_buffer_events: int = 10_000,
        max_buffer_bytes: int = 64 << 20,
        max_watchers_per_stream: int = 1000,
    ) -> None:
        super().__init__(auth_mode=auth_mode, rng=rng, max_watchers_per_stream=max_watchers_per_stream)
        self._max_events = max_buffer_events
        self._max_bytes = max_buffer_bytes
        self._closed = False
        self._cluster_id = 0
        self._revision = 0  # in the last created response
        self._regressed: dict[Watcher, None] = {}  # created by a store that seems to have gone back
        self._asked_revision = False

    # Commands.

    def add(self, watcher: Watcher, now: float) -> None:
        """Begin a watch."""
        self._turn(now)
        self._watchers[watcher] = None
        if self._closed:
            self._finish(watcher, errors.ClientClosed("the client is closed"))
            return
        self._wait(watcher)

    def cancel(self, watcher: Watcher, now: float) -> None:
        """End a watch from this side; nothing of it is delivered afterwards."""
        self._turn(now)
        watcher.forget_inbox()
        if watcher.state is State.NEW:
            watcher.state = State.ENDED
        watcher.closed = True
        if watcher.state is not State.ENDED:
            self._finish(watcher, None)

    def taken(self, watcher: Watcher, now: float) -> bool:
        """The consumer took a response; whether there is something to be done because of it."""
        if watcher.state is not State.SUSPENDED or watcher.inbox:
            return False
        self._turn(now)
        self._wait(watcher)
        return True

    def request_progress(self, require_leader: bool, now: float) -> None:
        """Ask the server how far the watchers of a kind have come; without watchers nobody is asked."""
        self._turn(now)
        self._settle()  # so the request follows the creates of watchers just added
        for stream in self._lanes[require_leader].streams:
            if stream.active or stream.sent:
                stream.progress_requested = True
                self._actions.append(Send(stream, codecs.encode_watch_progress()))

    def close(self, now: float) -> None:
        """The client closes: every watch ends without an error."""
        self._turn(now)
        self._closed = True
        for lane in self._lanes:
            for stream in list(lane.streams):
                self._break(lane, stream)
        for watcher in list(self._watchers):
            watcher.closed = True
            self._finish(watcher, None)

    # A store that seems to have gone back.

    def link_ready(self, link: Any, generation: int, has_token: bool, now: float) -> None:
        """A connection takes over: watchers on others move there."""
        self._regressed.clear()  # those concerned are created again
        self._asked_revision = False
        super().link_ready(link, generation, has_token, now)

    def mend(self, now: float) -> None:
        """A signal cut an input short: begin anew from where each watcher is to go on."""
        self._regressed.clear()
        self._asked_revision = False
        super().mend(now)

    def revision_answer(self, link: Any, revision: int | None, now: float) -> None:
        """The store is at `revision`; None if it could not be read."""
        if link is not self._link or not self._asked_revision:
            return
        self._turn(now)
        self._asked_revision = False
        if revision is None:
            self._timers.set(self._check_revision, now + REVISION_RETRY)
            return
        suspects, self._regressed = self._regressed, {}
        for watcher in suspects:
            seen = watcher.seen_revision
            if watcher.state is not State.ENDED and revision < seen:
                text = f"revision went backwards: the store is at {revision}, the watch has seen {seen}"
                self._finish(watcher, errors.ClusterMismatch(text))

    def _check_revision(self) -> None:
        if self._regressed and self._usable and not self._asked_revision:
            self._asked_revision = True
            self._actions.append(CheckRevision(self._link))

    # What arrives on streams.

    def stream_message(self, stream: MuxStream, response: WatchResponse, now: float) -> None:
        """One response of the server."""
        if stream.closed:
            return
        self._now = now
        header = response.header
        # 0 stands for an absent header, and for the responses that a grpc-proxy makes up.
        cluster_id = header.cluster_id
        if cluster_id and cluster_id != self._cluster_id and not self._same_cluster(stream, header):
            return
        if response.created:
            self._unsettled = True
            self._answered(stream, response)
            return
        watcher = stream.active.get(response.watch_id)
        if response.canceled:
            self._unsettled = True
            self._canceled(stream, watcher, response)
            return
        if not stream.fruitful:
            self._lanes[stream.require_leader].flows(stream)
        if watcher is not None:
            self._events(stream, watcher, response)
        elif response.watch_id == BROADCAST:
            self._progress(stream, response)
        else:
            self._cancel_stranger(stream, response.watch_id)

    def _same_cluster(self, stream: MuxStream, header: Header) -> bool:
        """Remember the cluster, or end the watchers of a stream that leads to another one."""
        if not self._cluster_id:
            self._cluster_id = header.cluster_id
            return True
        self._unsettled = True
        text = f"the endpoint belongs to cluster {header.cluster_id:x}, not {self._cluster_id:x}"
        for watcher in self._break(self._lanes[stream.require_leader], stream):
            self._finish(watcher, errors.ClusterMismatch(text))
        return False

    def _events(self, stream: MuxStream, watcher: Watcher, response: WatchResponse) -> None:
        """Events for one watcher, or its own progress."""
        if response.fragment or stream.partials:
            joined = stream.join(response)
            if joined is None:
                self._fragment(stream, watcher)
                return
            response = joined
        if not response.events:
            self._own_progress(watcher, response)
            return
        fresh = watcher.unseen(response)
        # The header of a response with events says nothing: more of a backlog may follow.
        if fresh is not None and self._deliver(watcher, fresh):
            watcher.passed(fresh.events[-1].kv.mod_revision)

    def _fragment(self, stream: MuxStream, watcher: Watcher) -> None:
        """Bound what waits for its last fragment."""
        events, weight = stream.pending(watcher.watch_id)
        if weight > MAX_JOINED:
            text = f"the fragments of one response exceed {MAX_JOINED} bytes"
            self._finish(watcher, errors.MessageTooLarge(text))
        elif watcher.inbox and self._overflows(watcher, events, weight):
            self._suspend(watcher)

    def _own_progress(self, watcher: Watcher, response: WatchResponse) -> None:
        """Progress the server reports for this watcher: all up to it has been sent."""
        revision = response.header.revision
        # Older servers report progress below a start revision that lies in the future.
        if not watcher.request.progress_notify or revision < watcher.next_revision - 1:
            return
        if revision < watcher.bookmark or self._deliver(watcher, response):
            watcher.bookmark = max(watcher.bookmark, revision)
            watcher.passed(revision)

    def _progress(self, stream: MuxStream, response: WatchResponse) -> None:
        """Progress that was asked for: it concerns every watcher it cannot have overtaken.

        It never moves a resume point: servers up to 3.4.24 and 3.5.7 send it past queued events.
        """
        revision = response.header.revision
        if not response.is_progress:
            return
        stream.settle(revision)
        self._ask_where(stream)
        if not stream.progress_requested:
            return
        for watcher in list(stream.active.values()):
            if revision >= max(watcher.progress_floor, watcher.next_revision - 1, watcher.bookmark):
                watcher.bookmark = revision
                self._deliver(watcher, response)

    def _ask_where(self, stream: MuxStream) -> None:
        """Find out that watches from "now" have got all that came after them, so far.

        Newer servers read the created revision after they began to watch, older ones before: an
        event at just that revision may belong to the watch or not. Should the watch be resumed there
        it would be sent again, so it is settled while the stream lives: events overtake no progress
        on newer servers, and older ones sent none at or below that revision.
        """
        if stream.unsure and not stream.where_open and stream.peer is Peer.MEMBER:
            stream.where_open = stream.where_asked = True
            self._actions.append(Send(stream, codecs.encode_watch_progress()))

    def _deliver(self, watcher: Watcher, response: WatchResponse) -> bool:
        """Put a response into the inbox; False if there is no room and the watcher got suspended."""
        weight = None
        if watcher.inbox:
            weight = weigh(response.events)
            if self._overflows(watcher, len(response.events) or 1, weight):
                self._suspend(watcher)
                return False
        watcher.put(response, weight)
        self._list(watcher)
        return True

    def _overflows(self, watcher: Watcher, events: int, weight: int) -> bool:
        return (
            watcher.buffered_events + events > self._max_events
            or watcher.buffered_bytes + weight > self._max_bytes
        )

    def _suspend(self, watcher: Watcher) -> None:
        """Take a watcher off the server until its consumer has caught up."""
        self._leave(watcher)
        watcher.state = State.SUSPENDED

    def _answered(self, stream: MuxStream, response: WatchResponse) -> None:
        """The answer to a create."""
        create = stream.answered(self._now)
        if create is None:
            if not response.canceled:
                self._cancel_stranger(stream, response.watch_id)
        elif response.canceled or response.watch_id == BROADCAST:
            self._refused(stream, create, response)
        elif stream.identify(create, response.watch_id):
            self._accepted(stream, create, response)
        else:
            text = f"created response for watch id {response.watch_id} where {create.watch_id} was asked for"
            stream.sent.appendleft(create)
            self._ended(stream, errors.ProtocolError(text), reset=True)
        self._expect_answer(stream)

    def _accepted(self, stream: MuxStream, create: Create, response: WatchResponse) -> None:
        self._lanes[stream.require_leader].accepted(stream)
        self._denials.accepted()
        revision = response.header.revision
        self._revision = revision or self._revision
        watcher = create.watcher
        if watcher is None:  # cancelled while the create was under way
            self._actions.append(Send(stream, codecs.encode_watch_cancel(response.watch_id)))
            return
        stream.establish(watcher, create, response)
        if not watcher.created:
            watcher.created_revision = watcher.created_revision or revision
            # A resumption from 0 would mean "from then on" and lose what happened in between.
            watcher.next_revision = watcher.next_revision or self._revision or 1
            if not watcher.request.start_revision:
                stream.unsure[watcher] = None
                self._ask_where(stream)
            if watcher.request.created_notify:
                self._deliver(watcher, response)
            watcher.created = True  # last: `mend` begins anew with what was not told
        elif response.header.cluster_id and revision < watcher.seen_revision:
            # Either the member lags or the store was restored. Without an id a proxy made it up.
            self._regressed[watcher] = None
            self._check_revision()

    def _refused(self, stream: MuxStream, create: Create, response: WatchResponse) -> None:
        stream.refused = True
        # Servers up to 3.4.21 and 3.5.5 stop delivering to the id that a refusal names.
        poisoned = response.watch_id in stream.active
        watcher = create.watcher
        if watcher is not None:
            stream.left(watcher)
            watcher.state = State.HELD
            error = _cancel_error(response, "the server refused the watch and gave no reason")
            if isinstance(error, errors.Compacted):
                self._finish(watcher, error)
            else:
                self._denials.refused(watcher, stream, error, response.watch_id, self._now)
        lane = self._lanes[stream.require_leader]
        if poisoned:
            self._move(lane, stream)
        elif not stream.live:
            self._break(lane, stream)

    def _canceled(self, stream: MuxStream, watcher: Watcher | None, response: WatchResponse) -> None:
        """The server ended a watcher, or (id -1) refused a create."""
        if watcher is not None:
            self._finish(watcher, _cancel_error(response, "the server canceled the watch and gave no reason"))
        elif response.watch_id == BROADCAST:
            create = stream.answered(self._now)
            if create is not None:
                self._refused(stream, create, response)
                self._expect_answer(stream)

    def _cancel_stranger(self, stream: MuxStream, watch_id: int) -> None:
        cancel = stream.stranger(watch_id)
        if cancel is not None:
            self._actions.append(Send(stream, cancel))


def _cancel_error(response: WatchResponse, silent: str) -> EtcdError:
    """The error that a canceled response stands for; `silent` is the text where the server gives none."""
    error: EtcdError
    if response.compact_revision:
        error = errors.Compacted(compact_revision=response.compact_revision)
    elif response.cancel_reason:
        error = errors.from_cancel_reason(response.cancel_reason)
    else:
        error = errors.WatchCanceled(silent)
    error.method = WATCH_PATH
    return error
