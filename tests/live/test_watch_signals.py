# SPDX-License-Identifier: Apache-2.0
"""A signal that interrupts the machines behind a watch, at the places where that lost events."""

from __future__ import annotations

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
