# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd import errors
from purecd.core.link import LinkState
from tests.sim.cluster import Cluster
from tests.sim.front import SimClient
from tests.sim.network import Network
from tests.sim.nodes import ClusterOptions
from tests.sim.world import World


@pytest.fixture
def world():
    return World(1)


@pytest.fixture
def network(world):
    return Network(world)


@pytest.fixture
def cluster(world, network):
    return Cluster(world, network, ClusterOptions(world.rng))


def test_a_request_that_waits_for_room_does_not_leave_a_lost_connection(world, network, cluster):
    node = cluster.leader
    client = SimClient(world, network, "c0", [node.name + ":1"])
    got = client.spawn(client.get(b"k", timeout=5.0))
    world.run(world.now + 5, 10_000)
    assert got.error is None
    out, back = network.path("c0", node.name), network.path(node.name, "c0")
    for path in (out, back):
        path.block(True)
    out.capacity = 300
    put = client.spawn(client.put(b"k", b"." * 500, timeout=5.0))
    world.run(world.now + 1, 10_000)
    driver = client.drivers["calls"]
    (link,) = driver.channel.links
    assert link.state is LinkState.READY
    assert link.transport.rest, "the beginning has left"
    out.capacity = 10_000  # as when the process stood still while what had left arrived
    driver.lost(link, "no answer to a PING")
    out.block(False)  # what has left arrives; nobody can connect again
    world.run(world.now + 10, 10_000)
    assert isinstance(put.error, errors.DeadlineExceeded)
    assert (put.error.maybe_applied, cluster.history.revision) == (False, 1)
    client.close()
