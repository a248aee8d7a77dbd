# SPDX-License-Identifier: Apache-2.0
"""A small etcd for tests of the watch machines: a store, members of several releases, and the way there.

It answers as the releases do, in what matters to watches: which texts and ids refusals have,
which tokens are looked at while auth is off, how responses are cut, when progress is reported.
Nothing happens by itself: `World.run` carries messages until all is quiet, at one moment.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Callable, NamedTuple

from purecd import errors
from purecd.core import actions as wanted
from purecd.core.watching import MuxStream, Watcher, WatchMux, WatchRequest
from purecd.errors import EtcdError
from purecd.pb import messages
from purecd.types import Event, EventType, Header, KeyValue, WatchResponse

CLUSTER = 0xC1
FUTURE_TOKEN = "abcdefghijklmnop.99999999"


class Release(NamedTuple):
    """How a release of etcd differs.

    Attributes:
        looks_when_off: tokens are looked at although auth is off.
        names_stale: refusals say what is wrong, and carry the id -1.
        goes_deaf: no request of a stream is read after a refusal.
        is_proxy: a grpc-proxy, which numbers watchers itself.
    """

    looks_when_off: bool = False
    names_stale: bool = True
    goes_deaf: bool = False
    is_proxy: bool = False


V3_4_5 = Release(looks_when_off=True, names_stale=False, goes_deaf=True)
V3_4_23 = Release(looks_when_off=True)
V3_5_1 = Release(looks_when_off=True, names_stale=False)
V3_5_30 = Release()
PROXY = Release(is_proxy=True)

INVALID_TOKEN = ("Unauthenticated", "etcdserver: invalid auth token")
OLD_REVISION = ("InvalidArgument", "etcdserver: revision of auth store is old")
NO_USER = ("InvalidArgument", "etcdserver: user name is empty")
DENIED = ("PermissionDenied", "etcdserver: permission denied")


class Store:
    """Revisions and what happened at each of them."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.history: dict[int, list[Event]] = {}
        self._created: dict[bytes, int] = {}

    def put(self, *keys: str, value: bytes = b"v") -> int:
        """One transaction that puts all `keys`; its revision."""
        self.revision += 1
        events = []
        for key in keys:
            created = self._created.setdefault(key.encode(), self.revision)
            events.append(Event(EventType.PUT, KeyValue(key.encode(), created, self.revision, 1, value)))
        self.history[self.revision] = events
        return self.revision

    def delete(self, key: str) -> int:
        self.revision += 1
        self._created.pop(key.encode(), None)
        kv = KeyValue(key.encode(), mod_revision=self.revision)
        self.history[self.revision] = [Event(EventType.DELETE, kv)]
        return self.revision

    def compact(self, revision: int) -> None:
        self.compacted = max(self.compacted, revision)
        for old in [each for each in self.history if each < revision]:
            del self.history[old]


def matches(request: Any, key: bytes) -> bool:
    """Whether a key lies in the range of a create request or `WatchRequest`."""
    if not request.range_end:
        return bool(key == request.key)
    return bool(key >= request.key and (request.range_end == b"\0" or key < request.range_end))


class Auth:
    """Users of the whole cluster; tokens are each member's own."""

    def __init__(self) -> None:
        self.on = False
        self.password = "secret"
        self.permitted = b"b/"  # prefix that the one user may read

    def turn_off(self, *members: Member) -> None:
        self.on = False
        for member in members:
            member.tokens.clear()


class Member:
    """One server process."""

    def __init__(self, store: Store, auth: Auth, release: Release = V3_5_30) -> None:
        self.store = store
        self.auth = auth
        self.release = release
        self.cluster = CLUSTER
        self.tokens: set[str] = set()
        self.streams: list[ServerStream] = []
        self.batch = 1000
        self.fragment_events = 3
        self.next_token = 0
        self.authenticates = 0
        self.probes = 0
        self.reads = 0
        self.creates = 0
        self.login_error: EtcdError | None = None

    def header(self) -> Header:
        return Header(self.cluster, 1, self.store.revision, 1)

    def login(self, password: str | None) -> str | EtcdError:
        """Authenticate; without a password, the probe of whether auth is on."""
        if password is None:
            self.probes += 1
        else:
            self.authenticates += 1
        if self.login_error is not None:
            return self.login_error
        if not self.auth.on:
            return errors.AuthNotEnabled()
        if password != self.auth.password:
            return errors.AuthFailed()
        self.next_token += 1
        token = f"token{id(self)}.{self.next_token}"
        self.tokens.add(token)
        return token

    def complaint(self, token: str, key: bytes) -> tuple[str, str] | None:
        """What is wrong with reading `key`, as code and text."""
        if self.auth.on or self.release.looks_when_off:
            if token.startswith("old"):
                return OLD_REVISION
            if token and token not in self.tokens:
                return INVALID_TOKEN
        if not self.auth.on:
            return None
        if not token:
            return NO_USER
        return None if key.startswith(self.auth.permitted) else DENIED

    def hangs(self, token: str) -> bool:
        return token == FUTURE_TOKEN and (self.auth.on or self.release.looks_when_off)

    def permission_read(self, token: str, key: bytes) -> EtcdError:
        self.reads += 1
        if self.hangs(token):
            return errors.DeadlineExceeded("no answer")
        wrong = self.complaint(token, key)
        return errors.FutureRev() if wrong is None else errors.from_status(2, wrong[1])


class ServerWatcher:
    """A watcher as the server has it."""

    def __init__(self, request: Any, watch_id: int, store: Store) -> None:
        self.request = request
        self.watch_id = watch_id
        self.next = request.start_revision or store.revision + 1
        self.muted = False

    def event(self, event: Event) -> bool:
        return matches(self.request, event.kv.key) and event.type not in self.request.filters


class ServerStream:
    """One watch stream on a member: reads requests, keeps responses until they are fetched."""

    def __init__(self, member: Member, token: str) -> None:
        self.member = member
        self.token = token
        self.watchers: dict[int, ServerWatcher] = {}
        self.out: deque[WatchResponse] = deque()
        self.deaf = False
        self.requests: list[Any] = []
        self._auto_id = 0
        member.streams.append(self)

    def receive(self, data: bytes) -> None:
        request = messages.WatchRequest.FromString(data)
        if self.deaf:
            return
        self.requests.append(request)
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            if self.watchers.pop(request.cancel_request.watch_id, None) is not None:
                header = self.member.header()
                self.out.append(
                    WatchResponse(header, watch_id=request.cancel_request.watch_id, canceled=True)
                )
        elif not self.member.release.is_proxy:
            self._progress()

    def _create(self, request: Any) -> None:
        member, store = self.member, self.member.store
        member.creates += 1
        if member.hangs(self.token):
            self.deaf = True
            return
        wrong = member.complaint(self.token, request.key)
        if wrong is not None:
            self._refuse(request, wrong)
            return
        if request.range_end and request.range_end != b"\0" and request.range_end <= request.key:
            reason = "" if member.release.is_proxy else "mvcc: watcher range is empty"
            self.out.append(WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason=reason))
            return
        watch_id = request.watch_id
        if member.release.is_proxy or not watch_id:
            watch_id = self._auto_id
            self._auto_id += 1
        self.out.append(WatchResponse(member.header(), watch_id=watch_id, created=True))
        self.watchers[watch_id] = ServerWatcher(request, watch_id, store)

    def _refuse(self, request: Any, wrong: tuple[str, str]) -> None:
        release = self.member.release
        code, text = wrong if release.names_stale else DENIED
        watch_id = -1 if release.names_stale else request.watch_id
        reason = text if release.is_proxy else f"rpc error: code = {code} desc = {text}"
        self.out.append(
            WatchResponse(
                self.member.header(), watch_id=watch_id, created=True, canceled=True, cancel_reason=reason
            )
        )
        if watch_id in self.watchers:
            self.watchers[watch_id].muted = True
        self.deaf = release.goes_deaf

    def synced(self) -> bool:
        revision = self.member.store.revision
        return all(each.next > revision for each in self.watchers.values())

    def _progress(self) -> None:
        revision = self.member.store.revision
        if (
            self.watchers
            and self.synced()
            and all(each.request.start_revision <= revision for each in self.watchers.values())
        ):
            self.out.append(WatchResponse(self.member.header(), watch_id=-1))

    def notify(self) -> None:
        """The tick of `progress_notify`."""
        revision = self.member.store.revision
        for each in self.watchers.values():
            if each.request.progress_notify and each.next == revision + 1:
                self.out.append(WatchResponse(self.member.header(), watch_id=each.watch_id))

    def flush(self, batch: int | None = None) -> None:
        """Send what the watchers have not got, at most `batch` revisions each."""
        store = self.member.store
        for each in list(self.watchers.values()):
            if each.next < store.compacted:
                del self.watchers[each.watch_id]
                self.out.append(
                    WatchResponse(
                        Header(self.member.cluster, 1),
                        watch_id=each.watch_id,
                        canceled=True,
                        compact_revision=store.compacted,
                    )
                )
                continue
            last = min(store.revision, each.next + (batch or self.member.batch) - 1)
            events = [
                event
                for revision in range(each.next, last + 1)
                for event in store.history.get(revision, ())
                if each.event(event)
            ]
            each.next = max(each.next, last + 1)
            if events and not each.muted:
                self._send(each, events)

    def _send(self, watcher: ServerWatcher, events: list[Event]) -> None:
        size = len(events)
        if watcher.request.fragment and not self.member.release.is_proxy:
            size = self.member.fragment_events
        for start in range(0, len(events), size):
            more = start + size < len(events)
            part = events[start : start + size]
            self.out.append(WatchResponse(self.member.header(), watcher.watch_id, fragment=more, events=part))


class FakeLink:
    """A connection to a member, with the token it has."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.token = ""
        self.generation = 1
        self.alive = True


class World:
    """A mux, the members it talks to, and everything in between.

    Attributes:
        pause_refresh: called before a refresh is answered, None to answer at once.
        refreshes: links whose refresh waits for `answer_refresh`, when `hold_refresh` is set.
    """

    def __init__(
        self,
        release: Release = V3_5_30,
        *,
        auth_mode: str = "none",
        auth_on: bool = False,
        token: str = "",
        seed: int = 1,
        **options: int,
    ) -> None:
        self.store = Store()
        self.auth = Auth()
        self.auth.on = auth_on
        self.member = Member(self.store, self.auth, release)
        self.auth_mode = auth_mode
        self.password = "secret"
        self.token = token
        self.now = 100.0
        self.mux = WatchMux(auth_mode=auth_mode, rng=random.Random(seed), **options)
        self.link: FakeLink | None = None
        self.servers: dict[MuxStream, ServerStream] = {}
        self.opened: list[MuxStream] = []
        self.closed: list[MuxStream] = []
        self.sent: list[Any] = []
        self.revision_reads = 0
        self.hold_refresh = False
        self.refreshes: list[FakeLink] = []
        self.before_refresh_answer: Callable[[], None] = lambda: None
        self.after_refresh: Callable[[], None] = lambda: None
        self.connect()

    # Links.

    def connect(self, member: Member | None = None) -> None:
        """A new connection takes over, logged in where there is a password."""
        link = FakeLink(member or self.member)
        if self.auth_mode == "password":
            answer = link.member.login(self.password)
            if isinstance(answer, errors.AuthFailed):
                self.mux.auth_failed(answer, self.now)
                return
            link.token = answer if isinstance(answer, str) else ""
        elif self.auth_mode == "static":
            link.token = self.token
        self.link = link
        self.mux.link_ready(link, link.generation, bool(link.token), self.now)

    def cut(self) -> None:
        """The connection is lost, and everything under way on it."""
        link = self.link
        assert link is not None
        self.link = None
        link.alive = False
        lost = errors.Unavailable("connection reset")
        for stream in [each for each in self.servers if each.link is link]:
            del self.servers[stream]
            self.mux.stream_ended(stream, lost, self.now)
        link.member.streams.clear()
        self.mux.link_lost(link, lost, self.now)

    def restart(self) -> None:
        """The member restarts: connections and tokens are gone."""
        self.member.tokens.clear()
        self.cut()
        self.connect()

    def end(self, stream: MuxStream, error: EtcdError) -> None:
        """A stream ends with `error`."""
        server = self.servers.pop(stream)
        server.member.streams.remove(server)
        self.mux.stream_ended(stream, error, self.now)

    # Carrying messages.

    def carry_out(self) -> bool:
        """Do what the mux wants; whether there was anything."""
        todo = self.mux.take_actions()
        for action in todo:
            self._do(action)
        return bool(todo)

    def _do(self, action: Any) -> None:
        if isinstance(action, wanted.OpenStream):
            assert action.stream.link.alive, "a stream is opened on a lost link"
            self.opened.append(action.stream)
            server = ServerStream(action.stream.link.member, action.stream.link.token)
            self.servers[action.stream] = server
        elif isinstance(action, wanted.Send):
            request = messages.WatchRequest.FromString(action.data)
            self.sent.append(request)
            if action.stream in self.servers:
                self.servers[action.stream].receive(action.data)
        elif isinstance(action, wanted.CloseStream):
            self.closed.append(action.stream)
            server_or_none = self.servers.pop(action.stream, None)
            if server_or_none is not None and server_or_none in server_or_none.member.streams:
                server_or_none.member.streams.remove(server_or_none)
        elif isinstance(action, wanted.Refresh):
            if action.link.alive:
                self.refreshes.append(action.link)
                if not self.hold_refresh:
                    self.answer_refresh()
        elif type(action).__name__ == "CheckPermission":
            self._permission(action)
        else:
            self.revision_reads += 1
            self.mux.revision_answer(action.link, self.store.revision, self.now)

    def _permission(self, action: Any) -> None:
        stream = action.stream
        server = self.servers.get(stream)
        token = server.token if server is not None else stream.link.token
        answer = stream.link.member.permission_read(token, action.watcher.request.key)
        self.mux.permission_answer(action.watcher, answer, self.now)

    def answer_refresh(self) -> None:
        """The member answers the refresh that was asked for first."""
        link = self.refreshes.pop(0)
        self.before_refresh_answer()
        password = None if self.auth_mode == "static" else self.password
        answer = link.member.login(password)
        if isinstance(answer, errors.AuthNotEnabled):
            answer = ""
        elif self.auth_mode == "static" and isinstance(answer, errors.AuthFailed) and not link.token:
            answer = self.token
        if isinstance(answer, EtcdError):
            self.mux.refresh_failed(link, answer, self.now)
        else:
            link.token = answer
            link.generation += 1
            self.mux.refreshed(link, link.generation, bool(answer), self.now)
        self.after_refresh()

    def deliver(self, stream: MuxStream, response: WatchResponse) -> None:
        self.mux.stream_message(stream, response, self.now)

    def fetch(self) -> bool:
        """Bring all responses the servers have ready; whether there was any."""
        moved = False
        for stream, server in list(self.servers.items()):
            while server.out and not stream.closed:
                moved = True
                self.deliver(stream, server.out.popleft())
        return moved

    def run(self) -> None:
        """Carry messages until all is quiet."""
        for _ in range(100_000):
            busy = self.carry_out()
            for server in list(self.servers.values()):
                server.flush()
            if not self.fetch() and not busy:
                return
        raise AssertionError("it never gets quiet")

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every timer."""
        until = self.now + seconds
        self.run()
        for _ in range(100_000):
            timer = self.mux.next_timer()
            if timer is None or timer > until:
                break
            self.now = max(self.now, timer)
            self.mux.handle_timer(self.now)
            self.run()
        else:
            raise AssertionError("timers never end")
        self.now = until
        self.mux.handle_timer(self.now)
        self.run()

    # What tests say.

    def watch(self, key: str = "b/1", range_end: str = "", **options: Any) -> Watcher:
        watcher = Watcher(WatchRequest(key.encode(), range_end.encode(), **options))
        self.mux.add(watcher, self.now)
        return watcher

    def take(self, watcher: Watcher) -> list[WatchResponse]:
        """Everything in the inbox, as a consumer takes it."""
        taken: list[WatchResponse] = []
        while True:
            response = watcher.take()
            if response is None:
                return taken
            taken.append(response)
            self.mux.taken(watcher, self.now)

    def revisions(self, watcher: Watcher) -> list[int]:
        """Revisions of the events in the inbox, taken."""
        return [event.kv.mod_revision for response in self.take(watcher) for event in response.events]

    def creates(self) -> list[Any]:
        """Every create request sent so far."""
        return [each.create_request for each in self.sent if each.HasField("create_request")]

    def cancels(self) -> list[int]:
        """Ids of every cancel request sent so far."""
        return [each.cancel_request.watch_id for each in self.sent if each.HasField("cancel_request")]
