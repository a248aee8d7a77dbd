# SPDX-License-Identifier: Apache-2.0
"""What carries a row: the wire alone, or a front over a socket of 127.0.0.1.

Each carrier plays both ends: it starts the client's two requests, lets the server do the row's steps,
and tells what came of it (`script.Seen`).
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from hpack import Decoder

from purecd import errors
from purecd.core.failures import stream_error
from purecd.core.methods import PUT
from purecd.wire.http2 import Http2Connection
from tests.conformance.script import IDS, OK, REPLY, Close, Expect, Outcome, Row, Seen, outcome_of
from tests.live.fronts import FrontUnderTest, Thread
from tests.support.peers import Peer
from tests.support.proxy import close_with_reset
from tests.wire import peer as octets

PATIENCE = 15.0
PAUSE = 0.03
BUSY = 0.02
"""Seconds of CPU that nothing to do may cost within `PAUSE`."""
BARRIER = b"all read"


def epilogue(row: Row) -> list[bytes]:
    """The answers the steps left out."""
    answer = octets.answer(IDS.call, REPLY)
    return [answer] if row.outcome == OK and not row.answered else []


# The wire alone.


def run_on_wire(row: Row, cut: int) -> Seen:
    """Run a row without sockets. cut: octets given to the connection at once."""
    conn: Any = Http2Connection(**row.wire)
    frames: list[octets.Frame] = []
    taken = 0

    def take() -> None:
        data = conn.data_to_send()
        conn.data_written(len(data))
        frames.extend(octets.parse(data))

    def feed(data: bytes) -> None:
        for at in range(0, len(data), cut):
            conn.receive_data(data[at : at + cut])
            if not row.big:
                take()
        take()

    conn.data_written(len(conn.data_to_send()))
    streams = {}
    if not row.hello:
        feed(octets.frame(octets.SETTINGS, 0, 0, b"".join([octets.setting(*each) for each in row.settings])))
        for _ in range(3):
            stream = octets.start(conn, max_receive=row.options.get("max_receive_size", 1 << 20))
            streams[stream.id] = stream
            take()
            if stream.id == IDS.over:
                feed(octets.answer(stream.id, REPLY))
    frames.clear()
    for step in row.steps(IDS):
        if isinstance(step, bytes):
            feed(step)
        elif isinstance(step, Close):
            conn.receive_eof("connection closed by the peer")
        else:
            found = [at for at in range(taken, len(frames)) if matches(frames[at], step)]
            assert found, (step, frames)
            taken = found[0] + 1
    if row.hello:
        text = conn.error.message if conn.error is not None else conn.reason
        return Seen(frames, row.outcome, text, True, True, 1, True)
    for data in [*epilogue(row), row.other(IDS)]:
        feed(data)
    call, message = wire_outcome(streams[IDS.call])
    ended = conn.closed
    if row.outcome == OK and streams[IDS.call].unprocessed:
        call, message = OK, ""  # the channel sends it again
    later = ended
    if not ended:
        last = octets.start(conn)
        feed(octets.answer(last.id, REPLY))
        later = last.status == (0, "", "trailers")
    read = streams[IDS.other]
    answered = read.status is not None and (read.status.code == 0 or read.status.source != "protocol")
    return Seen(frames, call, message, answered, later, row.expected_connections, ended)


def wire_outcome(stream: Any) -> tuple[Outcome, str]:
    """What the channel makes of a stream that has ended."""
    assert stream.status is not None, "the call hangs"
    if stream.status.code == 0 and len(stream.messages) == 1:
        try:
            assert PUT.decode(stream.messages[0]).header.revision == 5
        except ValueError as unreadable:
            return Outcome(errors.ProtocolError, errors.StatusCode.INTERNAL, True), str(unreadable)
        return OK, ""
    error = stream_error(stream)
    return outcome_of(error), error.message


def matches(frame: octets.Frame, expected: Expect) -> bool:
    return frame.kind == expected.kind and frame.flags & expected.flags == expected.flags


# A socket.


class Connection:
    """One connection of a client, as the server has it."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.frames: list[octets.Frame] = []
        self.ended = False
        self._rest = b""
        self._preface = 24

    def read(self) -> bool:
        """Read once; False at the end."""
        try:
            data = self.client.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return False
        self._rest += data
        if self._preface and len(self._rest) >= self._preface:
            assert self._rest.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            self._rest = self._rest[self._preface :]
            self._preface = 0
        while not self._preface and len(self._rest) >= 9:
            size = 9 + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < size:
                break
            self.frames += octets.parse(self._rest[:size])
            self._rest = self._rest[size:]
        return True


class Scripted(Peer):
    """Does a row's steps on its first connection, and serves well on all others.

    Attributes:
        first: the first connection.
        other_came, call_came: the read, and the write, have arrived as a whole.
        busy: seconds of CPU the process used while the client had nothing to do.
        problem: what went wrong here.
    """

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.first: Connection | None = None
        self.other_came = threading.Event()
        self.call_came = threading.Event()
        self.done = threading.Event()
        self.busy = 0.0
        self.problem: BaseException | None = None
        self._row = row

    def talk(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client)
        first = self.first is None
        if first:
            self.first = connection
        try:
            if first and self._row.hello:
                self._do_steps(connection)
                while connection.read():
                    pass
            else:
                self._answer_all(connection, first)
        except OSError:
            if first:
                connection.ended = True
        except BaseException as error:
            self.problem = error
        finally:
            self.done.set()

    def _answer_all(self, connection: Connection, first: bool) -> None:
        row = self._row
        decoder = Decoder()
        entries = row.settings if first else ()
        hello = octets.frame(octets.SETTINGS, 0, 0, b"".join([octets.setting(*each) for each in entries]))
        connection.client.sendall(hello)
        seen = 0
        played = not first
        while True:
            for frame in connection.frames[seen:]:
                if frame.kind == octets.HEADERS:
                    decoder.decode(frame.payload)
                self._answer(connection, frame, first, played)
            seen = len(connection.frames)
            if not played and self.other_came.is_set() and self.call_came.is_set():
                played = True
                connection.frames.clear()
                self._play(connection)
                seen = 0
                # What came meanwhile was taken note of; nothing of it asks for an answer but new requests.
                continue
            if not connection.read():
                return

    def _answer(self, connection: Connection, frame: octets.Frame, first: bool, played: bool) -> None:
        if frame.kind == octets.SETTINGS and not frame.flags & octets.ACK:
            connection.client.sendall(octets.frame(octets.SETTINGS, octets.ACK, 0))
        elif frame.kind == octets.PING and not frame.flags & octets.ACK:
            connection.client.sendall(octets.frame(octets.PING, octets.ACK, 0, frame.payload))
        if frame.kind != octets.DATA or not frame.flags & octets.END_STREAM:
            return
        if first and frame.stream_id == IDS.other:
            self.other_came.set()
        elif first and frame.stream_id == IDS.call:
            self.call_came.set()
        else:
            connection.client.sendall(octets.answer(frame.stream_id, REPLY))

    def _play(self, connection: Connection) -> None:
        row = self._row
        self._do_steps(connection)
        if row.scope.what == "ended":
            while connection.read():
                pass
            return
        if row.scope.what == "connection":
            while connection.read():
                pass
            return
        if row.scope.what == "stream":
            while not [each for each in connection.frames if each.kind == octets.RST_STREAM]:
                if not connection.read():
                    return
        if not self._caught_up(connection):
            return
        started = time.process_time()
        time.sleep(PAUSE)
        self.busy = time.process_time() - started
        for data in [*epilogue(row), row.other(IDS)]:
            connection.client.sendall(data)

    def _caught_up(self, connection: Connection) -> bool:
        """Wait until the client has taken in all that was sent, by a PING behind it; False if it hung up."""
        connection.client.sendall(octets.frame(octets.PING, 0, 0, BARRIER))
        answer = octets.Frame(octets.PING, octets.ACK, 0, BARRIER)
        while answer not in connection.frames:
            if not connection.read():
                return False
        connection.frames.remove(answer)
        return True

    def _do_steps(self, connection: Connection) -> None:
        taken = 0
        for step in self._row.steps(IDS):
            if isinstance(step, bytes):
                connection.client.sendall(step)
            elif isinstance(step, Expect):
                while True:
                    found = [
                        at
                        for at in range(taken, len(connection.frames))
                        if matches(connection.frames[at], step)
                    ]
                    if found:
                        taken = found[0] + 1
                        break
                    if not connection.read():
                        raise AssertionError(f"{step} did not come: {connection.frames}")
            elif step.how == "rst":
                close_with_reset(connection.client)
            else:
                connection.client.shutdown(socket.SHUT_WR)


def run_on_front(row: Row, front: FrontUnderTest) -> tuple[Seen, float]:
    """Run a row through a real client; also the seconds of CPU used while it waited."""
    with Scripted(row) as server:
        client = front.client(server.endpoint, **{"timeout": PATIENCE, **row.options})
        if row.hello:
            call, message = attempt(client)
            client.close()
            assert server.problem is None, server.problem
            return Seen([], call, message, True, True, server.connections, True), 0.0
        other = Thread(client.get, "other")
        assert server.other_came.wait(PATIENCE), server.problem
        call, message = attempt(client)
        answered = bool(other.result(PATIENCE).header.revision)
        later = bool(client.get("later").header.revision)
        connection = server.first
        assert connection is not None
        if row.scope.what in ("connection", "ended"):
            assert server.done.wait(PATIENCE)
        frames = list(connection.frames)
        left = connection.ended
        client.close()
        seen = Seen(frames, call, message, answered, later, server.connections, left)
    if server.problem is not None:
        raise server.problem
    return seen, server.busy


def attempt(client: Any) -> tuple[Outcome, str]:
    """Do the write."""
    try:
        reply = client.put("k", "v")
    except errors.EtcdError as error:
        return outcome_of(error), str(error)
    assert reply.header.revision == 5
    return OK, ""
