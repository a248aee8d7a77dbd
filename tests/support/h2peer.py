# SPDX-License-Identifier: Apache-2.0
"""An honest gRPC server for one connection, on the h2 package: bytes in, bytes out, no socket, no clock.

h2 knows nothing of `purecd.wire`, and it raises when a client breaks HTTP/2, so every test that uses
this peer also checks the client's frames.
"""

from __future__ import annotations

from typing import Any, Callable

import h2.config
import h2.connection
import h2.events
import h2.settings
from hyperframe.frame import GoAwayFrame, PingFrame

REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11


class Request:
    """One request as far as it has arrived.

    Attributes:
        headers: by name; a name comes once in what purecd sends.
        body: DATA so far, message prefixes included.
        ended: the client has half-closed.
        reset: error code of the client's RST_STREAM, None without one.
        latest: the message that is to be answered.
    """

    def __init__(self, stream_id: int, headers: dict[str, str]) -> None:
        self.stream_id = stream_id
        self.headers = headers
        self.body = b""
        self.ended = False
        self.reset: int | None = None
        self.latest = b""
        self._answered = 0

    def __repr__(self) -> str:
        return f"<Request {self.stream_id} {self.name}>"

    @property
    def name(self) -> str:
        """Name of the RPC, without its service."""
        return self.headers[":path"].rpartition("/")[2]

    @property
    def messages(self) -> list[bytes]:
        """Whole messages that arrived, without their prefixes."""
        found = []
        rest = self.body
        while len(rest) >= 5 and len(rest) >= 5 + int.from_bytes(rest[1:5], "big"):
            size = int.from_bytes(rest[1:5], "big")
            found.append(rest[5 : 5 + size])
            rest = rest[5 + size :]
        return found

    def next_message(self) -> bool:
        """Move on to the next whole message that is not answered yet, if there is one."""
        messages = self.messages
        if self.reset is not None or self._answered == len(messages):
            return False
        self.latest = messages[self._answered]
        self._answered += 1
        return True


class H2Peer:
    """The server's side of one connection.

    Args:
        answer: called with this peer and a request for each whole message of it.
        settings: the server's own settings, by RFC 9113's ids, besides h2's defaults.

    Attributes:
        requests: all requests, oldest first.
        pings: payloads of the client's PINGs.
        goaway: error code of the client's GOAWAY, None without one.
        generous: return credit for what arrives, so that the client may go on sending.
        credit: octets of WINDOW_UPDATE received, by stream id.
    """

    def __init__(
        self, answer: Callable[[H2Peer, Request], None], settings: dict[int, int] | None = None
    ) -> None:
        self._answer = answer
        self._conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        initial: Any = {**self._conn.local_settings, **(settings or {})}
        self._conn.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        self._conn.initiate_connection()
        self._by_id: dict[int, Request] = {}
        self._raw = b""
        self.requests: list[Request] = []
        self.pings: list[bytes] = []
        self.goaway: int | None = None
        self.generous = True
        self.credit: dict[int, int] = {}

    # Bytes.

    def receive(self, data: bytes) -> None:
        """Take bytes of the client. Raises h2's ProtocolError for what no client may send."""
        grown: list[Request] = []
        for event in self._conn.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = {_text(name): _text(value) for name, value in event.headers}
                request = Request(event.stream_id, headers)
                self._by_id[event.stream_id] = request
                self.requests.append(request)
            elif isinstance(event, h2.events.DataReceived):
                self._by_id[event.stream_id].body += event.data
                if self.generous:
                    self._conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                grown.append(self._by_id[event.stream_id])
            elif isinstance(event, h2.events.StreamEnded):
                self._by_id[event.stream_id].ended = True
            elif isinstance(event, h2.events.StreamReset):
                self._by_id[event.stream_id].reset = int(event.error_code or 0)
            elif isinstance(event, h2.events.PingReceived):
                self.pings.append(event.ping_data)
            elif isinstance(event, h2.events.WindowUpdated):
                self.credit[event.stream_id] = self.credit.get(event.stream_id, 0) + event.delta
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = int(event.error_code or 0)
        for request in grown:
            while request.next_message():
                self._answer(self, request)

    def data_to_send(self) -> bytes:
        """Bytes for the client."""
        data = self._conn.data_to_send() + self._raw
        self._raw = b""
        return data

    # Answers.

    def begin(self, request: Request) -> None:
        """Response headers."""
        self._send_headers(request, [(":status", "200"), ("content-type", "application/grpc")], False)

    def message(self, request: Request, payload: bytes) -> None:
        """One message; more than the client's windows allow is an error of the test."""
        if self.goaway is not None:
            return
        framed = b"\0" + len(payload).to_bytes(4, "big") + payload
        for start in range(0, len(framed), 16_384):
            self._conn.send_data(request.stream_id, framed[start : start + 16_384])

    def end(self, request: Request, code: int = 0, text: str = "") -> None:
        """Trailers."""
        fields = [("grpc-status", str(code)), ("grpc-message", text)]
        self._send_headers(request, fields, True)

    def ok(self, request: Request, payload: bytes) -> None:
        """A whole good response to a unary call."""
        self.begin(request)
        self.message(request, payload)
        self.end(request)

    def refuse(self, request: Request, code: int, text: str) -> None:
        """Trailers-Only, as etcd answers without TLS."""
        fields = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", str(code)),
            ("grpc-message", text),
        ]
        self._send_headers(request, fields, True)

    def http(self, request: Request, status: int) -> None:
        """A response that is not gRPC."""
        self._send_headers(request, [(":status", str(status))], True)

    def reset(self, request: Request, code: int) -> None:
        """RST_STREAM."""
        if self.goaway is None:
            self._conn.reset_stream(request.stream_id, code)

    def _send_headers(self, request: Request, fields: list[tuple[str, str]], end_stream: bool) -> None:
        # h2 sends nothing to a client that has said goodbye.
        if self.goaway is None:
            self._conn.send_headers(request.stream_id, fields, end_stream)

    # The connection.

    def say_goaway(self, last: int, code: int = 0, debug: bytes = b"") -> None:
        """GOAWAY, put beside h2, which would not let the open streams end after one."""
        frame = GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=debug)
        self._raw += self._conn.data_to_send() + frame.serialize()

    def ping(self, payload: bytes = b"01234567") -> None:
        """PING, put beside h2, which need not hear of the answer."""
        self._raw += self._conn.data_to_send() + PingFrame(0, opaque_data=payload).serialize()

    def set(self, settings: dict[int, int]) -> None:
        """New settings in the middle of the connection."""
        self._conn.update_settings({h2.settings.SettingCodes(key): value for key, value in settings.items()})

    def window(self, request: Request) -> int:
        """Octets of DATA the client takes now on this stream."""
        return self._conn.local_flow_control_window(request.stream_id)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
