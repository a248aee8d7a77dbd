# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.core.lanes."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core.lanes import MAX_BOUNDED, Fate, Lane, answer_due, fate
from purecd.core.watcher import Watcher, WatchRequest
from purecd.core.watchstream import MuxStream
from purecd.errors import StatusCode


class Middle:
    def random(self):
        return 0.5


def status(code, text=""):
    return errors.from_status(code, text)


def elsewhere():
    error = errors.NotSupportedForLearner()
    error.elsewhere = True
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.Unavailable("connection reset"), Fate.RESUME),
        (errors.TlsError("certificate expired"), Fate.RESUME),
        (status(StatusCode.UNAVAILABLE, "the client connection is closing"), Fate.RESUME),
        (errors.Timeout(), Fate.RESUME),
        (status(StatusCode.INTERNAL, "server closed the stream without sending trailers"), Fate.RESUME),
        (elsewhere(), Fate.RESUME),
        (status(StatusCode.OK, "the server ended the stream"), Fate.BOUNDED),
        (errors.WatchCanceled(), Fate.BOUNDED),
        (status(StatusCode.CANCELLED, "the client connection is closing"), Fate.BOUNDED),
        (status(StatusCode.UNKNOWN, "unexpected HTTP status 500"), Fate.BOUNDED),
        (errors.DeadlineExceeded(), Fate.BOUNDED),
        (errors.ProtocolError("undecodable message"), Fate.BOUNDED),
        (
            status(8, "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM"),
            Fate.BOUNDED,
        ),
        (errors.MessageTooLarge("message over the receive limit"), Fate.HALT),
        (status(8, "grpc: received message larger than max"), Fate.HALT),
        (errors.PermissionDenied(), Fate.HALT),
        (errors.NotSupportedForLearner(), Fate.HALT),
        (status(StatusCode.UNIMPLEMENTED, "unknown service"), Fate.HALT),
        (errors.ClusterMismatch(), Fate.HALT),
    ],
)
def test_what_the_end_of_a_stream_means(error, expected):
    assert fate(error, require_leader=False, refreshable=False) is expected


def test_no_leader_ends_only_watches_that_require_one():
    assert fate(errors.NoLeader(), require_leader=True, refreshable=True) is Fate.HALT
    assert fate(errors.NoLeader(), require_leader=False, refreshable=True) is Fate.RESUME


def test_a_stale_token_is_replaced_where_it_can_be():
    for error in (errors.InvalidAuthToken(), errors.AuthOldRevision(), errors.UserEmpty()):
        assert fate(error, require_leader=False, refreshable=True) is Fate.REFRESH
    assert fate(errors.InvalidAuthToken(), require_leader=False, refreshable=False) is Fate.HALT
    assert fate(errors.AuthOldRevision(), require_leader=False, refreshable=False) is Fate.BOUNDED


def opened(lane: Lane, now: float) -> MuxStream:
    stream = MuxStream("link", 1, False, False, now)
    lane.opened(stream)
    return stream


def test_pauses_grow_from_failure_to_failure_and_start_over_after_a_message():
    lane = Lane(False)
    pauses = []
    for _ in range(30):
        lane.failed(opened(lane, 10.0), 10.0, Middle())
        pauses.append(lane.resume_at - 10.0)
    assert pauses[0] == 0
    assert pauses[1] == pytest.approx(0.00125)
    assert pauses[-1] == pytest.approx(0.1)
    stream = opened(lane, 20.0)
    lane.accepted(stream)
    lane.failed(stream, 20.0, Middle())
    assert lane.resume_at == 20.0


def test_a_life_of_a_second_starts_the_pauses_over():
    for life, expected in ((0.99, 0.001 * 1.25**3), (1.0, 0.0)):
        lane = Lane(False)
        for _ in range(3):
            lane.failed(opened(lane, 10.0), 10.0, Middle())
        lane.failed(opened(lane, 20.0), 20.0 + life, Middle())
        assert lane.resume_at - (20.0 + life) == pytest.approx(expected)


def test_streams_that_end_together_count_once():
    lane = Lane(False)
    together = [opened(lane, 10.0) for _ in range(10)]
    for each in together:
        lane.failed(each, 10.0, Middle())
        assert not lane.exhausted(each)
        lane.went_silent(each)
    assert (lane.failures, lane.bounded, lane.unanswered) == (1, 1, 1)


def test_ends_of_the_limited_kind_run_out_unless_something_flows():
    lane = Lane(False)
    for _ in range(MAX_BOUNDED):
        stream = opened(lane, 10.0)
        lane.accepted(stream)  # an accepted create is no progress
        assert not lane.exhausted(stream)
    assert lane.exhausted(opened(lane, 10.0))
    stream = opened(lane, 10.0)
    lane.flows(stream)
    assert not lane.exhausted(stream)


def test_patience_with_creates_doubles_up_to_eighty_seconds_and_is_halved_after_a_refusal():
    lane = Lane(False)
    patience = []
    for _ in range(5):
        stream = opened(lane, 0.0)
        patience.append(answer_due(stream))
        lane.went_silent(stream)
    assert patience == [10, 20, 40, 80, 80]
    lane = Lane(False)
    stream = opened(lane, 0.0)
    stream.refused = True
    assert answer_due(stream) == 5
    lane.went_silent(stream)
    lane.accepted(stream)
    assert answer_due(opened(lane, 0.0)) == 10


def test_room_is_on_streams_of_the_same_link_and_token_that_are_not_full():
    lane = Lane(False)
    assert lane.room("link", 1, 2) is None
    stream = opened(lane, 0.0)
    assert lane.room("link", 1, 1) is stream
    assert lane.room("other", 1, 2) is None
    assert lane.room("link", 2, 2) is None
    for _ in range(2):
        stream.add(Watcher(WatchRequest(b"k")))
    assert lane.room("link", 1, 2) is None
