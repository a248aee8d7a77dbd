# SPDX-License-Identifier: Apache-2.0
"""What releases of etcd other than the one imitated answer otherwise, so that they are not asked.

Each entry is explained in docs/fidelity.md.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

MODELLED = "3.5.30"
Version = tuple[int, ...]
NOBODY = 7  # as `Requests.cluster` names who is no member


class Asked(NamedTuple):
    """A request about to be made.

    Attributes:
        method: without its service.
        user: whose token goes along, empty for none.
        auth: whether auth is on.
    """

    service: str
    method: str
    message: Any
    user: str
    auth: bool


class Unlike(NamedTuple):
    """Something answered otherwise.

    Attributes:
        releases: whether it is so in a version, numbers of three parts.
        concerns: whether a request is about it.
    """

    releases: Callable[[Version], bool]
    concerns: Callable[[Asked], bool]


def _before(*version: int) -> Callable[[Version], bool]:
    return lambda of: of < version


def _since(*version: int) -> Callable[[Version], bool]:
    return lambda of: of >= version


def _always(version: Version) -> bool:
    return True


def _is_of_keys(asked: Asked) -> bool:
    return asked.service == "KV" and asked.method != "Compact"


def _is_nested(txn: Any) -> bool:
    return any(each.HasField("request_txn") for each in (*txn.success, *txn.failure))


def _asks_previous(txn: Any) -> bool:
    """Whether a put or a deletion in it, however deep, answers what was there before."""
    return any(
        each.request_put.prev_kv or each.request_delete_range.prev_kv or _asks_previous(each.request_txn)
        for each in (*txn.success, *txn.failure)
    )


def _is_odd(permission: Any) -> bool:
    """Without a key, or for a range that ends before it begins."""
    key, end = permission.key, permission.range_end
    return not key or (end not in (b"", b"\0") and end <= key)


UNLIKE = {
    "order-of-checks": Unlike(
        _always,
        lambda asked: (
            asked.auth
            and (asked.method == "LeaseLeases" or (asked.user != "root" and not _is_of_keys(asked)))
        ),
    ),
    "move-leader-unchecked": Unlike(
        _before(3, 5, 10), lambda asked: asked.method == "MoveLeader" and not asked.auth and asked.user != ""
    ),
    "long-passwords": Unlike(
        _before(3, 5, 16),
        lambda asked: asked.service == "Auth" and len(getattr(asked.message, "password", "")) > 72,
    ),
    "bad-permissions": Unlike(
        _before(3, 5, 16),
        lambda asked: asked.method == "RoleGrantPermission" and _is_odd(asked.message.perm),
    ),
    "role-root": Unlike(
        _since(3, 6, 0), lambda asked: asked.method == "RoleGet" and asked.message.role == "root"
    ),
    "auth-status": Unlike(_before(3, 5, 0), lambda asked: asked.method == "AuthStatus"),
    "alarm-without-header": Unlike(_before(3, 5, 0), lambda asked: asked.method == "Alarm"),
    "nested-permissions": Unlike(
        _before(3, 5, 30),
        lambda asked: (
            asked.auth and asked.user != "root" and asked.method == "Txn" and _is_nested(asked.message)
        ),
    ),
    "previous-in-transactions": Unlike(
        _before(3, 5, 30),
        lambda asked: (
            asked.auth and asked.user != "root" and asked.method == "Txn" and _asks_previous(asked.message)
        ),
    ),
    "update-of-learner": Unlike(
        _since(3, 6, 0), lambda asked: asked.method == "MemberUpdate" and asked.message.ID != NOBODY
    ),
    "downgrade": Unlike(_always, lambda asked: asked.method == "Downgrade"),
}


def avoided(version: str) -> list[Unlike]:
    """What a release is not asked."""
    if version == MODELLED:
        return []
    numbers = tuple(int(part) for part in version.split("."))
    return [each for each in UNLIKE.values() if each.releases(numbers)]
