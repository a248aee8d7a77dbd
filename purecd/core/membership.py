# SPDX-License-Identifier: Apache-2.0
"""Endpoints from the member list, and the check that no member is too old.

Source: etcd client/v3/client.go (Sync, checkVersion).
"""

from __future__ import annotations

from collections.abc import Sequence

from purecd import errors
from purecd.core import maintenance, members, methods
from purecd.core.endpoints import parse_endpoint
from purecd.core.op import Op
from purecd.options import DEFAULT_TIMEOUT, MAX_ENDPOINTS, Timeout


def member_endpoints(current: Sequence[str], *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[list[str]]:
    """The client URLs of all started voting members, by the word of a quorum.

    Args:
        current: the endpoints in use; when one of them uses TLS, URLs without it are left out.
        timeout: seconds for the whole command.

    Raises:
        LookupError: no usable member is left; keep the endpoints you have.

    Sends: Cluster/MemberList, repeatable.
    """
    reply = yield from members.list_all()
    secure = any(parse_endpoint(each).tls for each in current)
    found: list[str] = []
    for member in reply.members:
        if not member.name or member.is_learner:
            continue
        # A member list must never talk a client out of TLS.
        found.extend(url for url in member.client_urls if not secure or parse_endpoint(url).tls)
    if not found:
        raise LookupError("the member list has no endpoint that this client may use")
    return found[:MAX_ENDPOINTS]


def check_version(endpoint: str, minimum: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Op[str]:
    """Ask a member for its version.

    Args:
        endpoint: which one.
        minimum: the oldest version that will do, ``major.minor`` or ``major.minor.patch``.
        timeout: seconds for the whole command.

    Returns:
        The version, such as ``"3.5.16"``.

    Raises:
        OldCluster: it is older.
        ProtocolError: it does not answer with a version.

    Sends: Maintenance/Status, repeatable.
    """
    status = yield from maintenance.status(endpoint=endpoint)
    try:
        found = version_of(status.version)
    except ValueError as error:
        raise errors.ProtocolError(
            f"{endpoint} does not say its version: {error}", method=methods.STATUS.path, endpoint=endpoint
        ) from None
    if _is_older(found, status.version, minimum):
        raise errors.OldCluster(
            f"{endpoint} runs etcd {status.version}, older than {minimum}", endpoint=endpoint
        )
    return status.version


def check_versions(endpoints: Sequence[str], minimum: str) -> Op[list[str]]:
    """Do `check_version` for each endpoint, all within one timeout."""
    version_of(minimum)  # before anything is sent
    found = []
    for each in endpoints:
        version = yield from check_version(each, minimum)
        found.append(version)
    return found


def _is_older(found: tuple[int, ...], text: str, minimum: str) -> bool:
    """Whether a version is older than another, as far as that one is told.

    Source: semver 2.0.0 §11: a pre-release comes before its release.
    """
    wanted = version_of(minimum)
    if len(wanted) == 3 and found == wanted and "-" not in minimum:
        return "-" in text
    return found[: len(wanted)] < wanted


def version_of(text: str) -> tuple[int, ...]:
    """Major, minor and, if it is told, patch of a version such as ``3.5.16`` or ``v3.8.0-alpha.0``."""
    if not isinstance(text, str):
        raise TypeError(f"a version must be str, not {type(text).__name__}")
    parts = text.lstrip("v").split("-")[0].split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        raise ValueError(f"{text!r} is no version such as 3.5")
    return tuple(int(each) for each in parts[:3] if each.isdecimal())
