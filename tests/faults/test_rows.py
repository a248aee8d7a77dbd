# SPDX-License-Identifier: Apache-2.0
"""Short trials beside the loads: masses of watchers, connections cut all the time, users deleted."""

from __future__ import annotations

import json
import threading
import time

import pytest

import purecd
from purecd import errors
from purecd.testing import EtcdServer
from tests.live.fronts import Thread, take
from tests.live.test_seed_case import BOB, ROOT, authenticates, give_out_rights
from tests.support.proxy import FaultProxy


def figures(name, **values):
    print(f"FIGURES {json.dumps({'test': name, **values})}")


@pytest.fixture
def own_server():
    with EtcdServer() as server:
        yield server


def test_puts_while_connections_are_cut_every_5_ms(front, own_server):
    """No value is stored twice, whatever becomes of the calls (R7)."""
    with FaultProxy(own_server.endpoint) as proxy, purecd.Client(own_server.endpoint) as observer:
        client = front.client(proxy.endpoint, timeout=5.0)
        over = threading.Event()

        def cut():
            while not over.wait(0.005):
                proxy.reset()

        cutter = Thread(cut)
        unknown = 0
        for number in range(10):
            try:
                client.put("k", f"value-{number}")
            except errors.EtcdError as error:
                assert error.maybe_applied or isinstance(error, errors.DeadlineExceeded), error
                unknown += error.maybe_applied
        over.set()
        cutter.result()
        stored = []
        last = observer.get("k")
        if last.kv is not None:
            with observer.watch("k", start_revision=1) as watch:
                while not stored or stored[-1].kv.mod_revision < last.kv.mod_revision:
                    stored.append(watch.next(timeout=5))
        values = [event.value for event in stored]
        assert len(values) == len(set(values)), "a value was stored twice"
        figures("r7", stored=len(values), unknown=unknown)


def test_two_thousand_watchers_are_cut_cancelled_and_closed(front, own_server):
    """R-W10 and R-W11: none is ended by another's end, none loses an event, closing is quick."""
    count = 2000
    with FaultProxy(own_server.endpoint) as proxy:
        client = front.client(proxy.endpoint, timeout=20.0)
        started = time.monotonic()
        watches = [client.watch(f"w/{number:04}") for number in range(count)]
        opened = time.monotonic() - started
        proxy.reset()
        for watch in watches[::2]:
            watch.close()
        with purecd.Client(own_server.endpoint) as writer:
            for number in range(1, count, 2):
                writer.put(f"w/{number:04}", "x")
        started = time.monotonic()
        for number, watch in enumerate(watches):
            if number % 2:
                (event,) = take(watch, 1, timeout=15.0)
                assert event.key == f"w/{number:04}".encode()
        delivered = time.monotonic() - started
        started = time.monotonic()
        client.close()
        closed = time.monotonic() - started
        assert closed < 5
        figures("r-w11", opened=round(opened, 2), delivered=round(delivered, 2), closed=round(closed, 3))


def test_a_watch_keeps_up_while_ten_readers_read(front, own_server):
    """R-W15: how long an event takes while large ranges are read beside it."""
    with purecd.Client(own_server.endpoint) as writer:
        for number in range(500):
            writer.put(f"big/{number:03}", "v" * 2000)
        client = front.client(own_server.endpoint, timeout=20.0)
        over = threading.Event()

        def read():
            while not over.is_set():
                client.get("big/", prefix=True)

        readers = [Thread(read) for _ in range(10)]
        late = []
        with client.watch("event") as watch:
            for number in range(50):
                sent = time.monotonic()
                writer.put("event", str(number))
                (event,) = take(watch, 1, timeout=15.0)
                assert event.value == str(number).encode()
                late.append(time.monotonic() - sent)
        over.set()
        for reader in readers:
            reader.result()
        late.sort()
        figures("r-w15", median=round(late[25], 4), worst=round(late[-1], 4))


def test_a_user_that_is_deleted_gets_an_error_and_no_loop(front, own_server):
    """F15: the user of a client is deleted while it calls and watches."""
    give_out_rights(own_server)
    with purecd.Client(own_server.endpoint, **ROOT) as root:
        bob = front.client(own_server.endpoint, **BOB)
        with bob.watch("b/", prefix=True) as watch:
            bob.put("b/1", "1")
            assert [event.value for event in take(watch, 1)] == [b"1"]
            root.users.delete("bob")
            before = authenticates(own_server)
            with pytest.raises(errors.AuthFailed):
                bob.get("b/1")
            own_server.restart()
            with pytest.raises(errors.AuthFailed):
                watch.next(timeout=15)
            time.sleep(1)
            assert authenticates(own_server) <= 6
            figures("f15-deleted", logins_before=before)
