# SPDX-License-Identifier: Apache-2.0
"""Free ports."""

from __future__ import annotations

import random
import socket

import pytest

from purecd.testing import ports


@pytest.fixture
def small_range(monkeypatch):
    """Three ports in a row that are free, as the whole range."""
    first = ports.take_ports(1)[0]
    ports.give_back([first])
    monkeypatch.setattr(ports, "_FIRST", first)
    monkeypatch.setattr(ports, "_LAST", first + 2)
    monkeypatch.setattr(ports, "_rng", random.Random(1))
    return first


def test_ports_are_different_and_given_once_until_given_back(small_range):
    taken = ports.take_ports(3)
    try:
        assert sorted(taken) == [small_range, small_range + 1, small_range + 2]
        ports.give_back(taken[1:2])
        assert ports.take_ports(1) == taken[1:2]
    finally:
        ports.give_back(taken)


def test_a_port_that_someone_listens_on_is_not_given(small_range):
    with socket.create_server(("127.0.0.1", small_range)):
        taken = ports.take_ports(2)
        ports.give_back(taken)
    assert small_range not in taken
