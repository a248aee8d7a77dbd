# SPDX-License-Identifier: Apache-2.0
"""The thread of a server in memory."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from purecd.memory.connection import ServerConnection
from purecd.memory.loop import Loop
from purecd.memory.sockets import SocketPeer
from tests.memory.echoing import Echo

PATIENCE = 20.0


class Ticking:
    """What the loop needs of a member: a timer that rings every 10 ms, once it was set."""

    def __init__(self) -> None:
        self.next_at: float | None = None
        self.rang = threading.Event()

    def next_timer(self):
        return self.next_at

    def handle_timer(self, now):
        assert self.next_at is not None
        assert now >= self.next_at
        self.next_at = now + 0.01
        self.rang.set()


@pytest.fixture
def member():
    return Ticking()


@pytest.fixture
def listener():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    yield listener
    listener.close()


def accept(sock, on_output):
    return SocketPeer(sock, None, lambda name, told: ServerConnection(Echo(), on_output=told), on_output)


@pytest.fixture
def loop(listener, member):
    loop = Loop(listener, member, accept, 0.2)
    yield loop
    loop.kill()
    assert loop.join(PATIENCE)


def in_thread(loop, function):
    done = threading.Event()
    found = []

    def task():
        found.append(function())
        done.set()

    loop.do(task)
    assert done.wait(PATIENCE)
    return found[0]


def test_tasks_run_in_the_thread(loop):
    assert in_thread(loop, threading.current_thread) is not threading.current_thread()
    assert in_thread(loop, threading.current_thread).daemon


def test_the_members_timers_ring(loop, member):
    def set_timer():
        member.next_at = time.monotonic()

    in_thread(loop, set_timer)
    for _ in range(3):
        assert member.rang.wait(PATIENCE)
        member.rang.clear()


def test_nothing_happens_while_it_is_paused(loop, member):
    def set_timer():
        member.next_at = time.monotonic()

    in_thread(loop, set_timer)
    loop.pause()
    member.rang.clear()
    assert not member.rang.wait(0.1)
    assert loop.alive
    loop.resume()
    assert member.rang.wait(PATIENCE)


def test_a_drained_loop_ends_with_its_last_connection(loop, listener):
    with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as sock:
        assert sock.recv(100), "SETTINGS"
        loop.do(loop.drain)
        loop.do(loop.drain)
        while sock.recv(100):
            pass
    assert loop.join(PATIENCE)
    assert loop.failure is None


def test_a_drained_loop_without_connections_ends_at_once(loop):
    loop.do(loop.drain)
    assert loop.join(PATIENCE)
    loop.do(lambda: None)
    loop.pause()
    loop.resume()


def test_an_error_ends_it_and_is_kept(loop, listener):
    def broken():
        raise ZeroDivisionError("on purpose")

    with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as sock:
        assert sock.recv(100)
        loop.do(broken)
        assert loop.join(PATIENCE)
        assert sock.recv(100) == b""
    assert isinstance(loop.failure, ZeroDivisionError)
