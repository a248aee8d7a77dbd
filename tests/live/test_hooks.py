# SPDX-License-Identifier: Apache-2.0
"""What hooks and the log are told of calls, connections and watches, in both fronts."""

from __future__ import annotations

import logging
import threading

import pytest

from purecd import errors
from purecd.errors import StatusCode
from purecd.hooks import Hook
from tests.live.fronts import take, timed, together
from tests.support.peers import Closing, refused_endpoint


class Recorder(Hook):
    """Writes down all that it is told; threads may share it."""

    def __init__(self):
        self.calls = []
        self.connections = []
        self.watches = []
        self.started = 0

    def call_started(self, method, attempt):
        self.started += 1
        return threading.get_ident()

    def call_ended(self, state, event):
        self.calls.append((state, event))

    def connection(self, event, endpoint, detail):
        self.connections.append((event, endpoint, detail))

    def watch(self, event, detail):
        self.watches.append((event, detail))


class Broken(Hook):
    """Raises whatever it is told."""

    def call_started(self, method, attempt):
        raise RuntimeError("broken")

    def call_ended(self, state, event):
        raise RuntimeError("broken")

    def connection(self, event, endpoint, detail):
        raise RuntimeError("broken")

    def watch(self, event, detail):
        raise RuntimeError("broken")


def test_a_call(front, server, prefix):
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    client.put(prefix + "k", b"v" * 1000)
    ((state, event),) = hook.calls
    if front.name == "threads":
        assert state == threading.get_ident(), "on the caller's own thread"
    assert event.method == "/etcdserverpb.KV/Put"
    assert (event.attempt, event.endpoint, event.code) == (1, server.endpoint, StatusCode.OK)
    assert event.error is None
    assert 0 < event.seconds < 5
    assert event.request_bytes > 1000
    assert 0 < event.reply_bytes < 200
    assert [name for name, *_ in hook.connections] == ["connect", "ready"]


def test_an_error(front, server, prefix):
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    with pytest.raises(errors.KeyNotFound) as caught:
        client.put(prefix + "k", ignore_value=True)
    ((_, event),) = hook.calls
    assert event.error is caught.value
    assert event.code is caught.value.code
    assert event.endpoint == server.endpoint


def test_repetitions_are_numbered(front, server, start_server):
    hook = Recorder()
    with Closing() as peer:
        client = front.client(peer.endpoint, hooks=[hook])
        error, _ = timed(lambda: client.get("k", timeout=0.3))
    assert isinstance(error, errors.DeadlineExceeded)
    assert [event.attempt for _, event in hook.calls] == list(range(1, len(hook.calls) + 1))
    assert hook.started == len(hook.calls)
    assert {event.endpoint for _, event in hook.calls} == {""}, "it was sent nowhere"


def test_every_call_of_many_is_told(front, server, prefix):
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    together(20, lambda index: [client.put(f"{prefix}{index}", str(n)) for n in range(5)])
    assert hook.started == len(hook.calls) == 100
    assert {event.code for _, event in hook.calls} == {StatusCode.OK}


def test_a_watch_is_opened_and_closed(front, server, prefix):
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    watch = client.watch(prefix)
    assert hook.watches == [("opened", "")]
    client.put(prefix, "v")
    take(watch, 1)
    with pytest.raises(TimeoutError):
        watch.next(timeout=0.05)
    assert hook.watches == [("opened", "")]
    watch.close()
    watch.close()
    assert watch.next(timeout=1) is None
    assert hook.watches == [("opened", ""), ("closed", "")]


def test_a_watch_that_fails(front, start_server):
    server = start_server()
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    for index in range(5):
        revision = client.put("k", str(index)).header.revision
    client.compact(revision)
    with pytest.raises(errors.Compacted):
        with client.watch("k", start_revision=1) as watch:
            for _ in range(2):
                with pytest.raises(errors.Compacted):
                    watch.next(5)
            watch.next(5)
    assert [event for event, _ in hook.watches][-1] == "failed"
    assert [event for event, _ in hook.watches].count("failed") == 1
    assert "compacted" in hook.watches[-1][1]


def test_a_watch_that_cannot_be_opened(front):
    hook = Recorder()
    client = front.client(refused_endpoint(), hooks=[hook])
    with pytest.raises(errors.DeadlineExceeded):
        client.watch("k", timeout=0.2)
    ((event, detail),) = hook.watches
    assert event == "failed"
    assert "Connection refused" in detail


def test_a_watch_whose_client_is_closed(front, server, prefix):
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    watch = client.watch(prefix)
    client.close()
    try:
        assert watch.next(timeout=2) is None
    except errors.ClientClosed:
        pass
    assert len(hook.watches) == 2
    assert hook.watches[0] == ("opened", "")
    assert hook.watches[1][0] in ("closed", "failed")


def test_several_hooks(front, server, prefix):
    first, second = Recorder(), Recorder()
    client = front.client(server.endpoint, hooks=[first, Broken(), second])
    client.put(prefix + "k", "v")
    with client.watch(prefix):
        pass
    assert first.connections == second.connections
    assert first.watches == second.watches
    assert [event for _, event in first.calls] == [event for _, event in second.calls]


def test_a_hook_that_raises_changes_nothing(front, server, prefix, caplog):
    client = front.client(server.endpoint, hooks=[Broken()])
    with caplog.at_level(logging.ERROR, "purecd"):
        assert client.put(prefix + "k", "v").header.revision
        with pytest.raises(errors.KeyNotFound):
            client.put(prefix + "none", ignore_value=True)
        with client.watch(prefix, prefix=True) as watch:
            client.put(prefix + "k", "w")
            assert watch.next(5).value == b"w"
    assert {record.getMessage() for record in caplog.records} == {"a hook failed"}


def test_a_connection_from_its_beginning_to_its_end(front, start_server):
    server = start_server()
    hook = Recorder()
    client = front.client(server.endpoint, hooks=[hook])
    client.get("k")
    server.kill()
    server.start()
    client.get("k", timeout=10)
    events = [event for event, endpoint, _ in hook.connections if endpoint == server.endpoint]
    assert events[:3] == ["connect", "ready", "closed"]
    assert events[-1] == "ready"
    lost = next(detail for event, _, detail in hook.connections if event == "closed")
    assert "connection" in lost
    client.close()
    assert hook.connections[-1] == ("closed", server.endpoint, ""), "closed by this side, without a reason"


def test_log_of_a_good_connection(front, start_server, caplog):
    server = start_server()
    with caplog.at_level(logging.DEBUG, "purecd"):
        client = front.client(server.endpoint)
        client.get("k")
        with client.watch("k"):
            pass
        client.close()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "purecd"]
    assert ("DEBUG", f"connect {server.endpoint}") in told
    assert ("INFO", f"ready {server.endpoint}") in told
    assert ("DEBUG", f"closed {server.endpoint}") in told
    assert ("DEBUG", "watch opened") in told
    assert ("DEBUG", "watch closed") in told
    assert {level for level, _ in told} == {"DEBUG", "INFO"}, "nothing to worry about"


def test_log_of_a_lost_connection(front, start_server, caplog):
    server = start_server()
    client = front.client(server.endpoint)
    client.get("k")
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "purecd"):
        server.kill()
        with pytest.raises(errors.DeadlineExceeded):
            client.get("k", timeout=0.5)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(text.startswith(f"closed {server.endpoint}: ") for text in warned)
    assert len(warned) < 12, "attempts back off, and so does the log"


def test_log_of_refused_credentials(front, start_server, caplog):
    server = start_server()
    admin = front.client(server.endpoint)
    admin.users.add("root", "pass")
    admin.users.grant_role("root", "root")
    admin.auth.enable()
    with caplog.at_level(logging.DEBUG, "purecd"):
        client = front.client(server.endpoint, user="root", password="not it")
        with pytest.raises(errors.AuthFailed):
            client.get("k")
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(text.startswith(f"auth-failed {server.endpoint}") for text in warned)
    assert "not it" not in caplog.text
