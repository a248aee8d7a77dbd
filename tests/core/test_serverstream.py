# SPDX-License-Identifier: Apache-2.0
"""The source of a streamed reply by itself; on a channel it is tried in test_channel."""

from __future__ import annotations

from purecd.core import methods
from purecd.core.op import Call
from purecd.core.serverstream import ServerStream


def test_a_fresh_stream():
    stream = ServerStream(methods.SNAPSHOT, "request", endpoint="a:1")
    assert isinstance(stream, Call)
    assert (stream.method, stream.request, stream.endpoint) == (methods.SNAPSHOT, "request", "a:1")
    assert (stream.closed, stream.error, stream.waiter, stream.half_close) == (False, None, None, True)
    assert stream.channel == "calls"


def test_messages_are_taken_in_order():
    stream = ServerStream(methods.SNAPSHOT, "request", half_close=False)
    assert not stream.half_close
    assert stream.take() is None
    stream.inbox.extend([b"1", b"", b"2"])
    assert [stream.take(), stream.take(), stream.take(), stream.take()] == [b"1", b"", b"2", None]
