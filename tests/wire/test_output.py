# SPDX-License-Identifier: Apache-2.0
from purecd.wire.output import REPLY_LIMIT, Output


def test_takes_everything_in_order_once():
    output = Output()
    assert output.take() == b""
    output.put(b"a")
    output.reply(b"b")
    output.put(b"c")
    assert output.take() == b"abc"
    assert output.take() == b""
    output.put(b"d")
    assert output.take() == b"d"


def test_positions():
    output = Output()
    output.put(b"abc")
    output.put(b"de")
    assert (output.queued, output.written) == (5, 0)
    output.take()
    output.wrote(4)
    assert (output.queued, output.written) == (5, 4)


def test_replies_count_until_all_is_written():
    output = Output()
    for _ in range(REPLY_LIMIT):
        output.reply(b"x")
    output.take()
    output.wrote(REPLY_LIMIT - 1)
    assert output.replies == REPLY_LIMIT
    output.wrote(1)
    assert output.replies == 0


def test_what_is_discarded_is_never_fetched():
    output = Output()
    output.put(b"request")
    output.discard()
    output.put(b"goaway")
    assert output.take() == b"goaway"
    assert output.queued == len(b"request" + b"goaway")


def test_replies_that_did_not_leave_after_all_count_again():
    # A driver reports octets before it sends them, and takes back what the kernel did not take.
    output = Output()
    for turn in range(3):
        output.reply(b"xy")
        output.take()
        output.wrote(2 + turn)
        output.wrote(-1 - turn)
        assert output.replies == turn + 1
    output.wrote(3)
    output.wrote(-1)
    output.wrote(1)
    assert output.replies == 0
    output.put(b"xy")
    output.reply(b"z")
    output.wrote(1)
    output.wrote(-1)
    assert output.replies == 1, "the latest report let nothing out of the count"


def test_leaving_is_taking_and_reporting_in_one():
    output = Output()
    assert output.leave(0) == b""
    for waiting in (0, 3):
        output.put(b"abc")
        output.reply(b"de")
        before = output.written
        assert output.leave(waiting) == b"abcde"
        assert output.written == before + waiting + 5
        assert output.replies == 0
        output.wrote(-waiting - 1)
        assert output.replies == 1, "it did not leave after all"
        output.wrote(1)


def test_leaving_counts_replies_on_while_earlier_octets_wait():
    output = Output()
    output.put(b"abc")
    output.take()
    output.reply(b"de")
    assert output.leave(0) == b"de"
    assert output.replies == 1
    assert output.queued - output.written == 3
