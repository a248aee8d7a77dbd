# SPDX-License-Identifier: Apache-2.0
"""What the machines behind watches and leases have their channel do."""

from __future__ import annotations

from purecd.core.keepalive import KeptLease
from tests.support.steps import World

TTL = 5


def keeping(*endpoints):
    """A world that keeps a lease alive, just granted; its first renewal has left."""
    world = World(*endpoints)
    for member in world.members.values():
        member.silent.add("LeaseKeepAlive")
    lease = KeptLease(7, TTL, world.now)
    world.channel.attach(lease, world.now)
    world.settle()
    return world, lease


def test_a_hung_member_is_left_before_it_costs_a_lease():
    world, lease = keeping("a:1", "b:1")
    assert len(world.requests("LeaseKeepAlive", "a:1")) == 1
    world.frozen.add("a:1")
    world.advance(TTL / 6 - 0.01)
    assert world.requests("LeaseKeepAlive", "b:1") == []
    world.advance(0.02)
    assert len(world.requests("LeaseKeepAlive", "b:1")) == 1, "renewed elsewhere at once"
    assert world.channel.current.name == "b:1"
    assert not lease.lost


def test_a_member_that_lives_but_does_not_renew_is_left_too():
    # Its leader may be gone, and it waits up to 7 s until it says so.
    world, lease = keeping("a:1", "b:1")
    world.advance(TTL / 6 + 0.01)
    assert len(world.requests("LeaseKeepAlive", "b:1")) == 1
    assert not lease.lost


def test_a_sole_member_is_asked_again_on_a_fresh_connection():
    world, lease = keeping("a:1")
    world.advance(TTL / 6 + 0.01)
    assert [len(each.messages) for each in world.requests("LeaseKeepAlive", "a:1")][-1] == 1
    assert world.open_links() == ["a:1"], "the old one is not needed any more"
    assert not lease.lost
