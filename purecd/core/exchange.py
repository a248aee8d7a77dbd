# SPDX-License-Identifier: Apache-2.0
"""Between a request value and its message, and between a reply's message and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.core.op import Call, Effect, Next

if TYPE_CHECKING:
    from purecd.core.channel import Channel


def encode(call: Call, max_send_size: int, deadline: float | None) -> None:
    """Make the message of a call, before it is started.

    Raises:
        MessageTooLarge: it is over the client's limit; nothing was sent.
    """
    method = call.method
    data = method.encode(call.request)
    if len(data) > max_send_size:
        raise errors.MessageTooLarge(
            f"trying to send message larger than max ({len(data)} vs. {max_send_size}); see max_send_size",
            method=method.path,
        )
    call.data = data
    call.deadline = deadline


def decode(call: Call, message: Any) -> Any:
    """The value of a reply.

    Args:
        message: its bytes, or what `RangeStream` made of them.

    Raises:
        ProtocolError: the bytes are none; the request was executed all the same.
    """
    method = call.method
    try:
        return method.decode(message) if type(message) is bytes else message.reply()
    except ValueError as error:
        raise errors.ProtocolError(
            f"undecodable reply to {method.name}",
            method=method.path,
            endpoint=call.link.name if call.link is not None else "",
            maybe_applied=True,
        ) from error


def nothing_in_time(channel: Channel) -> errors.DeadlineExceeded:
    """The error for a source that brought nothing before the deadline of the command."""
    last = channel.endpoints.last_error() if channel.current is None else None
    if last is None:
        return out_of_time("nothing arrived before the deadline")
    error = out_of_time(f"no endpoint could be reached; the last one: {last}")
    error.__cause__ = last
    return error


def ends_operation(effect: Effect, error: BaseException) -> bool:
    """Whether an operation that `error` is thrown into has nothing left to do but to clean up.

    So it is when the caller gave up or the time is over, not when a call failed or a source brought nothing
    within the time that the operation itself had set.
    """
    if isinstance(error, errors.EtcdError):
        return error.final
    return not (isinstance(effect, Next) and isinstance(error, TimeoutError))


def out_of_time(what: str) -> errors.DeadlineExceeded:
    """The error for a command whose time is over between two attempts."""
    error = errors.DeadlineExceeded(what)
    error.final = True
    return error
