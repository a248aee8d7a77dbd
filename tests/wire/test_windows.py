# SPDX-License-Identifier: Apache-2.0
"""Flow control, through a connection for sending; numbers are octets."""

import pytest

from purecd.wire.faults import ConnectionFault
from purecd.wire.grpc import GrpcStream
from purecd.wire.output import Output
from purecd.wire.windows import ReceiveWindow, SendWindows

from .peer import END_STREAM, parse


def windows(initial=65_535, connection=65_535):
    sending = SendWindows(Output())
    sending.initial = initial
    sending.connection = connection
    return sending


def stream(sending, stream_id=1):
    new = GrpcStream(None, max_receive=1)
    new.id = stream_id
    new.send_window = sending.initial
    return new


def pieces(sending):
    """What left: stream id, octets, END_STREAM."""
    frames = parse(sending.output.take())
    return [(frame.stream_id, len(frame.payload), frame.flags & END_STREAM == 1) for frame in frames]


def test_data_is_cut_at_the_frame_size():
    sending = windows()
    one = stream(sending)
    sending.send(one, b"x" * 40_000, True)
    assert pieces(sending) == [(1, 16_384, False), (1, 16_384, False), (1, 7_232, True)]
    assert one.local_closed
    assert (one.send_window, sending.connection) == (25_535, 25_535)


def test_content_and_order_survive_the_cuts():
    sending = windows(initial=1000, connection=70_000)
    one = stream(sending)
    body = bytes(range(256)) * 20
    sending.send(one, body[:3000], False)
    sending.send(one, body[3000:], True)
    left = []
    for _ in range(10):
        left += parse(sending.output.take())
        sending.grow_stream(one, 700)
    assert b"".join([frame.payload for frame in left]) == body
    assert [frame.flags for frame in left][-2:] == [0, 1]


def test_stream_window_holds_back_and_releases():
    sending = windows(initial=2000)
    one = stream(sending)
    sending.send(one, b"x" * 5000, True)
    assert pieces(sending) == [(1, 2000, False)]
    assert sending.grow_stream(one, 2000) == []
    assert pieces(sending) == [(1, 2000, False)]
    assert sending.grow_stream(one, 1000) == [one]
    assert pieces(sending) == [(1, 1000, True)]


def test_connection_window_is_shared_in_turns():
    sending = windows(initial=200_000, connection=65_535)
    one, two = stream(sending, 1), stream(sending, 3)
    sending.send(one, b"x" * 70_000, True)
    sending.send(two, b"y" * 40_000, True)
    # The end of the connection's window waits for more, rule 4: 65,535 = 3 * 16,384 + 16,383.
    assert pieces(sending) == [(1, 16_384, False)] * 3 + [(1, 16_383, False)]
    assert sending.grow_connection(50_000) == [one, two]
    assert pieces(sending) == [(1, 4_465, True), (3, 16_384, False), (3, 16_384, False), (3, 7_232, True)]


def test_waiting_streams_take_turns():
    sending = windows(initial=200_000, connection=1)
    one, two = stream(sending, 1), stream(sending, 3)
    sending.send(one, b"x" * 40_000, True)
    sending.send(two, b"y" * 40_000, True)
    assert pieces(sending) == []
    sending.grow_connection(80_000)
    assert [piece[0] for piece in pieces(sending)] == [1, 3, 1, 3, 1, 3]


def test_stream_blocked_by_its_own_window_does_not_block_others():
    sending = windows(initial=2000, connection=100)
    one, two = stream(sending, 1), stream(sending, 3)
    one.send_window = 0
    sending.send(one, b"x" * 2000, True)
    sending.send(two, b"y" * 2000, True)
    sending.grow_connection(10_000)
    assert pieces(sending) == [(3, 2000, True)]
    sending.grow_stream(one, 2000)
    assert pieces(sending) == [(1, 2000, True)]


def test_negative_window_waits_until_it_is_positive():
    # RFC 9113 §6.9.2: 65,535 of 70,000 sent, then the initial window drops to 10,000.
    sending = windows(connection=1 << 20)
    one = stream(sending)
    sending.send(one, b"x" * 70_000, True)
    pieces(sending)
    sending.set_initial(10_000, [one])
    assert one.send_window == -55_535
    sending.grow_stream(one, 55_535)
    assert pieces(sending) == []
    sending.grow_stream(one, 4_465)
    assert pieces(sending) == [(1, 4_465, True)]


def test_raised_initial_window_releases_data():
    # What a plaintext etcd does as it estimates bandwidth: 131,070, then 262,140.
    sending = windows(connection=1 << 20)
    one = stream(sending)
    sending.send(one, b"x" * 100_000, True)
    pieces(sending)
    assert sending.set_initial(131_070, [one]) == [one]
    assert sum([size for _, size, _ in pieces(sending)]) == 100_000 - 65_535


def test_raise_over_the_largest_window():
    sending = windows()
    one = stream(sending)
    one.send_window = 2**31 - 1
    with pytest.raises(ConnectionFault, match=r"6\.9\.2"):
        sending.set_initial(65_536, [one])


def test_connection_window_over_the_largest():
    sending = windows()
    sending.grow_connection(2**31 - 1 - 65_535)
    with pytest.raises(ConnectionFault, match=r"6\.9\.1"):
        sending.grow_connection(1)


def test_dribbled_window_is_saved_up():
    # H38: one frame per 1,024 octets granted, not one per octet.
    sending = windows(initial=65_535, connection=1 << 20)
    one = stream(sending)
    sending.send(one, b"x" * 70_000, True)
    pieces(sending)
    for _ in range(4_465):
        sending.grow_stream(one, 1)
    assert pieces(sending) == [(1, 1024, False)] * 4 + [(1, 369, True)]


@pytest.mark.parametrize("initial", [0, 1, 2, 3])
def test_tiny_initial_windows_are_used(initial):
    # h2spec 6.9.2: a peer that opens windows of one octet gets DATA of one octet.
    sending = windows(initial=initial)
    one = stream(sending)
    sending.send(one, b"abc", True)
    for _ in range(3):
        sending.grow_stream(one, 1)
    assert sum([size for _, size, _ in pieces(sending)]) == 3
    assert one.local_closed


def test_empty_data_needs_no_window():
    sending = windows(initial=0, connection=0)
    one = stream(sending)
    sending.send(one, b"", True)
    assert pieces(sending) == [(1, 0, True)]
    assert one.local_closed


def test_end_of_stream_follows_waiting_data():
    sending = windows(initial=2)
    one = stream(sending)
    sending.send(one, b"abcd", False)
    sending.send(one, b"", True)
    assert pieces(sending) == [(1, 2, False)]
    sending.grow_stream(one, 2)
    assert pieces(sending) == [(1, 2, True)]


def test_dropped_stream_sends_no_more():
    sending = windows(initial=200_000, connection=0)
    one, two = stream(sending, 1), stream(sending, 3)
    sending.send(one, b"x" * 10, True)
    sending.send(two, b"y" * 10, True)
    sending.drop(one)
    sending.grow_connection(100)
    assert pieces(sending) == [(3, 10, True)]
    sending.grow_stream(one, 100)
    assert pieces(sending) == []


def test_receive_window_refills_to_its_size():
    window = ReceiveWindow(100)
    window.left -= 60
    assert window.left < window.low
    assert window.refill() == 60
    assert window.left == 100
