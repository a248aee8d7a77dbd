# SPDX-License-Identifier: Apache-2.0
"""From how a stream ended to the error of its call, with the truth about its effect.

| how it ended                                | error             | may have been applied      |
| ------------------------------------------- | ----------------- | -------------------------- |
| refused, or above GOAWAY's last stream      | Unavailable       | no                         |
| connection lost                             | Unavailable       | if the last byte left      |
| reset by the server                         | by code           | if the last byte left      |
| status in trailers                          | by text           | by text (`errors`)         |
| HTTP reply that is not gRPC                 | by HTTP status    | if the last byte left      |
| HTTP/2 or gRPC broken on this stream        | ProtocolError     | if the last byte leaves    |
| reply over the receive limit                | MessageTooLarge   | if the last byte leaves    |
| our deadline                                | DeadlineExceeded  | if the last byte leaves    |

What this side ends is reset behind all that was queued, so a request that has not left yet does.

Source: Table E of the project's failure rules (docs/failures.md).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from purecd import errors
from purecd.errors import EtcdError, StatusCode

if TYPE_CHECKING:
    from purecd.core.op import Call


def call_failed(call: Call, stream: Any, endpoint: str) -> EtcdError:
    """The error of a call whose stream ended without the one message it asked for.

    Args:
        stream: the ended `GrpcStream`.
        endpoint: where it went, as given in the options.
    """
    error = stream_error(stream)
    ended_here = stream.status.source in ("protocol", "local")
    if error.maybe_applied and not (stream.request_leaves if ended_here else stream.request_left):
        error.maybe_applied = False
    error.method = call.method.path
    error.endpoint = endpoint
    return error


def stream_error(stream: Any) -> EtcdError:
    """The error that the end of a stream amounts to; a clean end is one too."""
    status = stream.status
    code, message, source = status.code, status.message, status.source
    if code == 0:
        return errors.ProtocolError(
            f"status OK with {len(stream.messages)} messages where one belongs", maybe_applied=True
        )
    if source == "trailers":
        return errors.from_status(code, message)
    if stream.unprocessed:
        error: EtcdError = errors.Unavailable(message)
        error.final = stream.refused_connection
        return error
    if source == "lost":
        return errors.Unavailable(message, maybe_applied=True)
    if source == "protocol" and code != StatusCode.RESOURCE_EXHAUSTED:
        return errors.ProtocolError(message, code=_code(code), maybe_applied=True)
    if source in ("protocol", "local"):
        return errors.MessageTooLarge(message, maybe_applied=True)
    return _by_code(code, message)


def _by_code(code: int, message: str) -> EtcdError:
    if code == StatusCode.UNAVAILABLE:
        return errors.Unavailable(message, maybe_applied=True)
    error = errors.from_status(code, message)
    error.maybe_applied = True
    return error


def _code(code: int) -> StatusCode:
    try:
        return StatusCode(code)
    except ValueError:
        return StatusCode.UNKNOWN


def expired(call: Call, reason: BaseException | None) -> EtcdError:
    """The error of a call whose deadline passed.

    Args:
        reason: what kept endpoints from being reached, None when one was.
    """
    after = ""
    if call.deadline is not None and call.started_at:
        after = f" after {max(call.deadline - call.started_at, 0):.3g} s"
    if call.stream is not None:
        error = errors.DeadlineExceeded(f"no answer{after}", endpoint=call.link.name)
    elif reason is not None:
        error = errors.DeadlineExceeded(f"no endpoint could be reached{after}; the last one: {reason}")
        error.__cause__ = reason
    else:
        error = errors.DeadlineExceeded(f"the call could not be sent{after}")
    error.final = True
    return error


def closed_during(error: EtcdError) -> EtcdError:
    """The error of a call in flight when the client was closed.

    Args:
        error: what became of its stream.
    """
    return errors.ClientClosed(
        "the client was closed",
        method=error.method,
        endpoint=error.endpoint,
        maybe_applied=error.maybe_applied,
    )


def no_endpoint(cause: BaseException | None) -> EtcdError:
    """The error of a call that does not want to wait for an endpoint.

    Args:
        cause: what kept the endpoints from being reached.
    """
    message = f"no endpoint answered: {cause}" if cause is not None else "no endpoint answered"
    kind = errors.TlsError if isinstance(cause, errors.TlsError) else errors.Unavailable
    error = kind(message)
    error.final = True
    error.__cause__ = cause
    return error


def own_copy(error: EtcdError) -> EtcdError:
    """One of several calls' own error for what happened once; what each adds stays its own."""
    own = copy.copy(error)
    own.__cause__ = error
    return own
