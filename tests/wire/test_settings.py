# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.wire import frames
from purecd.wire.faults import ConnectionFault
from purecd.wire.settings import MAX_ENTRIES, PeerSettings

from .peer import setting


def test_defaults():
    # RFC 9113 §6.5.2.
    peer = PeerSettings()
    assert peer.header_table_size == 4096
    assert peer.max_concurrent_streams == 2**32 - 1
    assert peer.initial_window_size == 65_535
    assert peer.max_frame_size == 16_384


def test_what_etcd_sends_over_tls():
    peer = PeerSettings()
    values = [(5, 1048576), (3, 250), (6, 1048896), (1, 4096), (4, 1048576), (9, 1)]
    peer.update(b"".join([setting(*value) for value in values]))
    assert peer.max_frame_size == 1048576
    assert peer.max_concurrent_streams == 250
    assert peer.initial_window_size == 1048576


def test_later_values_win_and_others_stay():
    peer = PeerSettings()
    peer.update(setting(3, 5) + setting(3, 7))
    peer.update(setting(4, 100))
    assert peer.max_concurrent_streams == 7
    assert peer.initial_window_size == 100


def test_smallest_header_table_on_the_way():
    # RFC 7541 §4.2: the smallest size in between must be signalled, too.
    peer = PeerSettings()
    assert peer.update(setting(1, 100) + setting(1, 8192)) == 100
    assert peer.header_table_size == 8192
    assert peer.update(b"") == 8192


@pytest.mark.parametrize(
    "payload, code",
    [
        (b"\0\3\0\0\0", frames.FRAME_SIZE_ERROR),
        (setting(2, 1), frames.PROTOCOL_ERROR),
        (setting(2, 2), frames.PROTOCOL_ERROR),
        (setting(4, 2**31), frames.FLOW_CONTROL_ERROR),
        (setting(5, 0), frames.PROTOCOL_ERROR),
        (setting(5, 16_383), frames.PROTOCOL_ERROR),
        (setting(5, 2**24), frames.PROTOCOL_ERROR),
        (setting(0x99, 1) * (MAX_ENTRIES + 1), frames.ENHANCE_YOUR_CALM),
    ],
)
def test_illegal_settings(payload, code):
    with pytest.raises(ConnectionFault) as caught:
        PeerSettings().update(payload)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "payload",
    [
        setting(2, 0),
        setting(4, 2**31 - 1),
        setting(4, 0),
        setting(5, 2**24 - 1),
        setting(3, 0),
        setting(1, 2**32 - 1),
        setting(0x99, 1) * MAX_ENTRIES,
    ],
)
def test_legal_extremes(payload):
    PeerSettings().update(payload)
