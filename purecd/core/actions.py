# SPDX-License-Identifier: Apache-2.0
"""What the machines behind watches and leases ask their channel to do."""

from __future__ import annotations

from typing import Any

from purecd.records import NamedTuple


class OpenStream(NamedTuple):
    """Open `stream` on its link, with the link's token; messages may be sent on it at once."""

    stream: Any


class Send(NamedTuple):
    """Send one message on an open stream; `data` is the message without its prefix."""

    stream: Any
    data: bytes


class Suspect(NamedTuple):
    """What was sent on `link` at `since` is not answered: see whether it lives, and look for another."""

    link: Any
    since: float


class CloseStream(NamedTuple):
    """Reset the stream with CANCEL; the machine takes no further input from it."""

    stream: Any


class Refresh(NamedTuple):
    """Get a newer token for `link` than that of `generation`; answered by `refreshed` or `refresh_failed`."""

    link: Any
    generation: int


class CheckPermission(NamedTuple):
    """Read `[key, range_end)` of the watcher's request at revision 2^63-1 on the stream's link with the
    stream's token, serializable and within 5 s; answered by `permission_answer`."""

    stream: Any
    watcher: Any


class CheckRevision(NamedTuple):
    """Read the revision of the store, linearizable, on `link`; answered by `revision_answer`."""

    link: Any
