# SPDX-License-Identifier: Apache-2.0
"""The lead changes hands in single steps."""

from __future__ import annotations

import threading

import pytest

from purecd.sync.lead import Lead, Waiter


def test_one_has_it_at_a_time():
    lead, first, second = Lead(), Waiter(), Waiter()
    assert not lead.taken()
    with first.here, second.here:
        assert lead.take(first)
        assert lead.take(first), "it has it"
        assert not lead.take(second)
        lead.leave(second)
        assert lead.taken()
        lead.leave(first)
        lead.leave(first)
        assert not lead.taken()
        assert lead.take(second)


def test_one_that_is_gone_has_it_no_more():
    lead, gone, next_one = Lead(), Waiter(), Waiter()
    with pytest.raises(KeyboardInterrupt):
        with gone.here:
            assert lead.take(gone)
            raise KeyboardInterrupt
    assert not lead.taken()
    with next_one.here:
        assert lead.take(next_one)
        assert lead.taken()


@pytest.mark.parametrize("leaves", [True, False], ids=["left", "abandoned"])
def test_of_many_threads_one_gets_it(leaves):
    lead = Lead()
    waiters = [Waiter() for _ in range(16)]
    barrier = threading.Barrier(16)
    got = []

    def grab(index):
        for _ in range(200):
            barrier.wait()
            with waiters[index].here:
                if lead.take(waiters[index]):
                    got.append(index)
                barrier.wait()
                if leaves:
                    lead.leave(waiters[index])
            waiters[index] = Waiter()
            barrier.wait()

    threads = [threading.Thread(target=grab, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 200
