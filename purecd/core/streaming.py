# SPDX-License-Identifier: Apache-2.0
"""Streamed replies, as operations see them: open one, read it, end it.

Until the first message a stream may be opened again like any call that changes nothing: after a pause
of 50 ms, growing to 500 ms, and with a new token at most three times. Later failures are raised.

Source: etcd client/v3/retry_interceptor.go (serverStreamingRetryingStream).
"""

from __future__ import annotations

from typing import Any

from purecd import errors
from purecd.core.methods import Method
from purecd.core.op import Attach, Detach, Next, Op, Refresh, Sleep
from purecd.core.retry import MAX_REFRESHES, may_repeat
from purecd.core.serverstream import ServerStream
from purecd.errors import EtcdError

FIRST_PAUSE = 0.05
MAX_PAUSE = 0.5


def open_stream(
    method: Method, request: Any, *, endpoint: str | None = None, half_close: bool = True
) -> Op[tuple[ServerStream, Any]]:
    """Open a stream and wait for its first message.

    Args:
        method: the RPC; it must be one that changes nothing when repeated.
        request: what ``method.encode`` takes.
        endpoint: ask just this endpoint.
        half_close: end the request side at once.

    Returns:
        The stream, to be read on with `next_message` and ended with `end_stream`, and its first message.

    Sends: the RPC, repeated until the first message.
    """
    attempts = refreshes = 0
    pause = FIRST_PAUSE
    while True:
        stream = ServerStream(method, request, endpoint=endpoint, half_close=half_close)
        try:
            yield Attach(stream)
            try:
                message = yield from next_message(stream)
                if message is None:
                    raise errors.Unavailable("the server ended the stream at once", method=method.path)
                return stream, message
            except BaseException:
                yield Detach(stream)
                raise
        except EtcdError as error:
            attempts += 1
            error.attempts = attempts
            if errors.is_stale_token(error):
                refreshes += 1
                if refreshes > MAX_REFRESHES or not (yield Refresh(stream)):
                    raise
                continue
            if not may_repeat(method, error):
                raise
        yield Sleep(pause)
        pause = min(pause * 2, MAX_PAUSE)


def next_message(stream: ServerStream) -> Op[Any]:
    """The next message of a stream, decoded; None when the server has ended it.

    Raises:
        ProtocolError: the bytes are no such message.
    """
    try:
        data = yield Next(stream)
    except EtcdError as error:
        error.maybe_applied = False  # streams change nothing
        raise
    if data is None:
        return None
    try:
        return stream.method.decode(data)
    except ValueError as error:
        raise errors.ProtocolError(
            f"undecodable message on {stream.method.name}", method=stream.method.path
        ) from error


def end_stream(stream: ServerStream) -> Op[None]:
    """End a stream, read to its end or not."""
    yield Detach(stream)
