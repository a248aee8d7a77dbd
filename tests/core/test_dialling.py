# SPDX-License-Identifier: Apache-2.0
"""Which endpoints a channel dials, and when."""

from __future__ import annotations

import random

from purecd import errors
from purecd.core import methods
from purecd.core.channel import Channel
from purecd.core.links import HURRY
from purecd.core.endpoints import parse_endpoint
from purecd.core.op import Call
from purecd.options import Options
from purecd.requests import Get


class First:
    """In place of randomness: the rotation starts with the first endpoint, waits are not jittered."""

    def random(self):
        return 0.0


def channel_to(*names, rng=None):
    return Channel(Options(names), [parse_endpoint(name) for name in names], rng or First(), "purecd/0")


def get(channel, now):
    call = Call(methods.RANGE, Get("k"))
    channel.start(call, now)
    return call


def dialled(channel):
    opening, channel.opening = channel.opening, []
    return opening


def failed(channel, link, now):
    channel.link_lost(link, errors.Unavailable("cannot connect: refused"), now)


def test_a_failed_endpoint_is_followed_by_the_next_at_once():
    channel = channel_to("a:1", "b:1", "c:1")
    get(channel, 0.0)
    (silent,) = dialled(channel)
    assert silent.name == "a:1"
    channel.handle_timer(HURRY)
    (refused,) = dialled(channel)
    assert refused.name == "b:1"
    failed(channel, refused, HURRY)
    assert [link.name for link in dialled(channel)] == ["c:1"], "although a:1 is still being dialled"


def test_what_failed_waits_and_is_tried_again():
    channel = channel_to("a:1", "b:1")
    get(channel, 0.0)
    for name in ("a:1", "b:1"):
        (link,) = dialled(channel)
        assert link.name == name
        failed(channel, link, 0.0)
    assert dialled(channel) == []
    timer = channel.next_timer()
    assert 0.05 < timer < 0.2
    channel.handle_timer(timer)
    assert len(dialled(channel)) == 1


def test_never_more_links_than_endpoints():
    rng = random.Random(1)
    channel = channel_to("a:1", "b:1", "c:1", rng=rng)
    get(channel, 0.0)
    now = 0.0
    for _ in range(200):
        busy = [link.endpoint for link in channel.links]
        assert len(busy) == len(set(busy))
        timer = channel.next_timer()
        if channel.links and rng.random() < 0.5:
            failed(channel, rng.choice(channel.links), now)
        elif timer is not None:
            now = max(now, timer)
            channel.handle_timer(now)
