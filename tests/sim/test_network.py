# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.sim.network import Host, Network
from tests.sim.world import World


class Owner:
    """Writes down what happens to its end of a connection."""

    def __init__(self, socket):
        self.heard = []
        self.socket = socket
        socket.attach(self)

    def received(self, data):
        self.heard.append(data)

    def ended(self):
        self.heard.append("FIN")

    def reset(self):
        self.heard.append("RST")

    def writable(self):
        pass


@pytest.fixture
def world():
    return World(1)


@pytest.fixture
def network(world):
    return Network(world)


def connect(world, network):
    """A connection: the client's end and the member's."""
    ends = []
    network.add(Host("m0", lambda socket, peer: ends.append(Owner(socket))))
    network.dial("c0", "m0", lambda socket: ends.append(Owner(socket)))
    world.run(world.now + 1, 100)
    there, here = ends
    return here, there


def test_bytes_arrive_and_then_the_end(world, network):
    here, there = connect(world, network)
    assert here.socket.send(b"hello") == 5
    here.socket.finish()
    world.run(world.now + 1, 100)
    *pieces, end = there.heard
    assert (b"".join(pieces), end) == (b"hello", "FIN")


@pytest.mark.parametrize("stopped", [False, True])
def test_who_missed_a_reset_gets_another_for_what_it_sends(world, network, stopped):
    here, there = connect(world, network)
    there.socket.read(not stopped)
    back = network.path("m0", "c0")
    back.block(True)
    there.socket.abort()  # killed
    world.run(world.now + 1, 100)
    back.block(False)
    world.run(world.now + 1, 100)
    assert here.heard == [], "that of the kill was lost"
    here.socket.send(b"x")
    world.run(world.now + 1, 100)
    assert (here.heard, there.heard) == (["RST"], [])


def test_who_is_killed_with_something_unread_resets_the_connection(world, network):
    here, there = connect(world, network)
    there.socket.read(False)
    here.socket.send(b"x")
    world.run(world.now + 1, 100)
    there.socket.close()
    world.run(world.now + 1, 100)
    assert (here.heard, there.heard) == (["RST"], [])
