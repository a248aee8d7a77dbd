# SPDX-License-Identifier: Apache-2.0
"""The lead changes hands in single steps."""

from __future__ import annotations

import threading

from purecd.sync.lead import Lead


def test_one_has_it_at_a_time():
    lead = Lead()
    assert not lead.taken()
    assert lead.take("a")
    assert lead.take("a"), "it has it"
    assert not lead.take("b")
    lead.leave("b")
    assert lead.taken()
    lead.leave("a")
    lead.leave("a")
    assert not lead.taken()
    assert lead.take("b")


def test_of_many_threads_one_gets_it():
    lead = Lead()
    barrier = threading.Barrier(16)
    got = []

    def grab(index):
        for _ in range(200):
            barrier.wait()
            if lead.take(index):
                got.append(index)
            barrier.wait()
            lead.leave(index)

    threads = [threading.Thread(target=grab, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 200
