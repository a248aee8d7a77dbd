# SPDX-License-Identifier: Apache-2.0
"""A signal that interrupts the machines behind a watch, at the places where that lost events."""

from __future__ import annotations

import signal
import threading
import time

import pytest

import purecd
from purecd.core.watching import WatchMux
from purecd.core.watchstream import MuxStream
from purecd.testing import EtcdServer


@pytest.mark.parametrize(("owner", "name"), [(MuxStream, "add"), (WatchMux, "_deliver")])
def test_an_interrupted_machine_loses_no_event(monkeypatch, owner, name):
    real = getattr(owner, name)

    def interrupted(*args):
        monkeypatch.setattr(owner, name, real)
        raise KeyboardInterrupt

    with (
        EtcdServer() as server,
        purecd.Client(server.endpoint) as client,
        purecd.Client(server.endpoint) as other,
    ):
        watch = client.watch("k")
        other.put("k", "0")
        assert watch.next(timeout=10).value == b"0"
        if name == "add":
            server.kill()
            server.start()
        for number in (1, 2):
            other.put("k", str(number))
        monkeypatch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            watch.next(timeout=10)
        assert [watch.next(timeout=10).value for _ in range(2)] == [b"1", b"2"]


# A socket that is cut off from its maker in the very line that makes it is closed with the garbage.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_storm_of_signals_costs_a_watch_no_event_and_repeats_none():
    """About 1,400 interrupts a second, wherever the library happens to be."""

    def interrupt(number, frame):
        if "/purecd/" in frame.f_code.co_filename:
            raise KeyboardInterrupt

    written = []

    def write():
        while time.monotonic() < until:
            written.append(other.put("k", str(len(written))).header.revision)

    with (
        EtcdServer() as server,
        purecd.Client(server.endpoint) as client,
        purecd.Client(server.endpoint) as other,
    ):
        watch = client.watch("k")
        seen = []
        until = time.monotonic() + 1.0
        before = signal.signal(signal.SIGALRM, interrupt)
        writer = threading.Thread(target=write)
        writer.start()
        interrupts = 0
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
            while time.monotonic() < until:
                try:
                    seen.append(watch.next(timeout=0.3).kv.mod_revision)
                except KeyboardInterrupt:
                    interrupts += 1
                except TimeoutError:
                    pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        writer.join()
        while not seen or seen[-1] < written[-1]:
            seen.append(watch.next(timeout=10).kv.mod_revision)
        print(f"{interrupts} interrupts, {len(seen)} events")
        assert seen == written
