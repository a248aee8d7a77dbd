# SPDX-License-Identifier: Apache-2.0
"""A signal's handler that raises at any line of the blocking front leaves it usable, at once."""

from __future__ import annotations

import contextlib
import linecache
import sys
import threading
import time
from typing import Any

import pytest

import purecd
from purecd import errors
from purecd.memory import MemoryEtcd
from tests.support.answering import Answering, eventually

pytestmark = pytest.mark.skipif(sys.implementation.name != "cpython", reason="tracing is slow there")


class Signal:
    """Raises at one line of `purecd.sync`."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.raised = False

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        if "purecd/sync/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.left -= 1
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            # Tracing also stops where no handler is run, and no exception table looks: before a lock is
            # given back, at the word `try`, and where a loop has just got an event.
            nowhere = line.lstrip().startswith(("with ", "try:", "return event"))
            if self.left <= 0 and not self.raised and not nowhere:
                self.raised = True
                raise KeyboardInterrupt
        return self.trace

    def interrupt(self, function: Any, *args: Any, **options: Any) -> bool:
        """Whether it came before the function was over."""
        sys.settrace(self.trace)
        try:
            function(*args, **options)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False


# A socket that is cut off from its maker in the very line that makes it is closed with the garbage.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("connected", [False, True], ids=["connecting", "connected"])
def test_a_call_cut_short_at_any_line_harms_no_other(connected):
    with Answering() as server:
        at = 1
        while True:
            with purecd.Client(server.endpoint, timeout=10) as client:
                if connected:
                    client.get("k")
                if not Signal(at).interrupt(client.get, "k"):
                    break
                assert client.get("k").header.revision == 5
            at += 2
        assert at > 100
        eventually(lambda: not server._open)


def test_whoever_waits_is_told_when_a_signal_cut_the_lead_short():
    # Another thread waits for the thread that is interrupted, and takes the lead over at once.
    with Answering() as server, purecd.Client(server.endpoint, timeout=10) as client:
        client.get("k")
        for at in range(1, 120, 7):
            server.holding = True
            outcome: list[Any] = []

            def call(outcome: list[Any] = outcome) -> None:
                try:
                    outcome.append(client.put("k").header.revision)
                except errors.Unavailable as error:
                    outcome.append(error.maybe_applied)

            already = len(server.paths)
            other = threading.Thread(target=call)
            other.start()
            while len(server.paths) == already:
                time.sleep(0.001)
            with contextlib.suppress(errors.DeadlineExceeded):
                Signal(at).interrupt(client.get, "k", timeout=0.05)
            server.release()
            other.join(5)
            assert outcome in ([5], [True]), "its request had left"


def test_closing_goes_on_where_a_signal_cut_it_short():
    with Answering() as server:
        at = 1
        while True:
            client = purecd.Client(server.endpoint, timeout=10)
            client.get("k")
            interrupted = Signal(at).interrupt(client.close)
            client.close()
            eventually(lambda: not server._open)
            if not interrupted:
                break
            with pytest.raises(errors.ClientClosed):
                client.get("k")
            at += 1
        assert at > 20


def test_what_a_signal_left_undone_costs_no_call_that_comes_after():
    # A write is not repeated, so it must not be under way when the connection is given up.
    with Answering() as server, purecd.Client(server.endpoint, timeout=10) as client:
        at = 1
        while Signal(at).interrupt(client.get, "k"):
            assert client.put("k").header.revision == 5
            at += 2
        assert at > 50


# A socket that is cut off from its maker in the very line that makes it is closed with the garbage.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_watch_read_through_signals_at_any_line_gets_each_event_once():
    with (
        MemoryEtcd() as server,
        purecd.Client(server.endpoint) as writer,
        purecd.Client(server.endpoint) as client,
        client.watch("k", prefix=True) as watch,
    ):
        written: list[bytes] = []
        seen: list[bytes] = []

        def read() -> None:
            event = watch.next(timeout=10)
            assert event is not None
            seen.append(event.value)

        at = 1
        interrupted = True
        while interrupted:
            pair = [b"%d" % number for number in (2 * at, 2 * at + 1)]  # the second needs no waiting
            writer.txn(success=[purecd.Put("k1", pair[0]), purecd.Put("k2", pair[1])])
            written += pair
            interrupted = Signal(at).interrupt(read)
            while len(seen) < len(written):
                read()
            at += 3
        assert seen == written
        assert at > 100
