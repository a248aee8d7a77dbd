# SPDX-License-Identifier: Apache-2.0
"""Stories of real etcd, replayed: whole chunks and octet by octet come to the same."""

from hashlib import sha256

import pytest

from .story import STORIES, Player, load

PATHS = sorted(STORIES.glob("*.json"))


def replay(story, cut):
    player = Player(story["tls"], cut)
    player.take_output()
    for step in story["steps"]:
        player.play(step)
        player.take_output()
    return player


@pytest.mark.parametrize("cut", [0, 1, 7])
@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_story_has_the_recorded_outcome(path, cut):
    story = load(path)
    player = replay(story, cut)
    assert player.outcome() == story["calls"]
    assert sha256(player.sent).hexdigest() == story["sent"]
    assert player.conn.error is None


def test_stories_of_every_kind_are_there():
    names = {path.stem.rpartition("_")[0] for path in PATHS}
    assert names == {"calls", "calls_tls", "watch", "watch_tls", "stop", "stop_tls"}


def test_stopping_etcd_drains_in_two_steps():
    story = load(STORIES / "stop_3.5.30.json")
    player = replay(story, 0)
    assert player.conn.goaway is not None
    assert player.conn.goaway[:2] == (3, 0)
    assert player.calls[1].status is not None
    assert player.calls[1].status.source == "lost"
    assert not player.calls[1].unprocessed
