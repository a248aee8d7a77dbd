# SPDX-License-Identifier: Apache-2.0
"""Every error purecd raises, except ValueError and TypeError for wrong arguments.

    EtcdError
    ├── RpcError                 the server answered with an error status
    │   ├── EmptyKey, Compacted, NoSpace, LeaseNotFound, PermissionDenied, …
    │   │                        one class per message text of the server
    │   └── (RpcError itself)    any other text
    ├── Unavailable              no endpoint answered, or the connection was lost   (ConnectionError)
    │   └── TlsError             a TLS handshake or certificate check failed
    ├── DeadlineExceeded         the time ran out, here or on the server            (TimeoutError)
    ├── Canceled                 the call was canceled, here or on the server
    ├── ClientClosed             the client was closed before or during the call
    ├── ProtocolError            the peer broke HTTP/2 or gRPC
    ├── MessageTooLarge          a message is over a limit of this client
    ├── ClusterMismatch          an endpoint belongs to another cluster
    ├── OldCluster               a member is older than the client was told to accept
    ├── NoGreaterRevision        no member is as far as an answer that was seen before
    ├── SnapshotCorrupt          a snapshot did not arrive whole
    ├── LeaseLost                a lease being kept alive expired or was revoked
    └── LockLost                 a lock is not held any more, though nobody let go of it

The server identifies an error by its message text only: codes differ between releases and get
lost behind a grpc-proxy, so texts are looked up first and give the class and the code.

Source: etcd api/v3rpc/rpctypes/error.go, client/v3/client.go (toErr).
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, ClassVar


class StatusCode(IntEnum):
    """Status codes of gRPC, as numbered on the wire in `grpc-status`.

    Source: grpc doc/statuscodes.md.
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_BY_TEXT: dict[str, type[EtcdError]] = {}  # message text of the server -> class


class EtcdError(Exception):
    """Base of all errors of this package: what happened, to which call, where.

    A subclass may name the server's message text that stands for it; its code and text are then
    the defaults of new instances, and `from_status` finds it by the text.

    Attributes:
        message: what happened, without the call and place that `str` adds.
        code: the gRPC code that the error stands for, None when no code fits.
        received_code: the code number as the server sent it, None when no status arrived. It
            differs from `code` for servers and proxies that lose or change codes.
        method: path of the RPC, such as ``/etcdserverpb.KV/Put``, or ``""``.
        endpoint: the endpoint last tried, as given in the options, or ``""``.
        maybe_applied: True when the request may have taken effect although it failed.
        attempts: how often the request was sent, 0 when unknown.
        final: True when no further attempt of the call makes sense: its deadline passed, say.
        elsewhere: True when the client turned to another endpoint because of this error.
    """

    text: ClassVar[str] = ""
    default_code: ClassVar[StatusCode | None] = None
    ambiguous: ClassVar[bool] = False  # this status leaves open whether a write took effect

    def __init_subclass__(
        cls, *, text: str = "", code: StatusCode | None = None, ambiguous: bool = False, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if code is not None:
            cls.default_code = code
        if text:
            cls.text = text
            cls.ambiguous = ambiguous
            _BY_TEXT[text] = cls

    def __init__(
        self,
        message: str = "",
        *,
        code: StatusCode | None = None,
        method: str = "",
        endpoint: str = "",
        maybe_applied: bool = False,
        attempts: int = 0,
    ) -> None:
        message = message or self.text
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.received_code: int | None = None
        self.method = method
        self.endpoint = endpoint
        self.maybe_applied = maybe_applied
        self.attempts = attempts
        self.final = False
        self.elsewhere = False

    def __str__(self) -> str:
        call = self.method.rpartition("/")[2]
        place = f"at {self.endpoint}" if self.endpoint else ""
        where = " ".join(part for part in (call, place) if part)
        doubt = "the request may have been applied" if self.maybe_applied else ""
        details = "; ".join(part for part in (where, doubt) if part)
        message = self.message or type(self).__name__
        return f"{message} [{details}]" if details else message


class Unavailable(EtcdError, ConnectionError, code=StatusCode.UNAVAILABLE):
    """No endpoint answered, or the connection was lost during the call.

    `maybe_applied` is True when the request left this machine and no answer came.
    """


class TlsError(Unavailable):
    """A TLS handshake failed; the message names the check that did."""


class DeadlineExceeded(
    EtcdError,
    TimeoutError,
    text="etcdserver: context deadline exceeded",
    code=StatusCode.DEADLINE_EXCEEDED,
    ambiguous=True,
):
    """The time for the call ran out, on this side or on the server's."""


class Canceled(EtcdError, text="etcdserver: request canceled", code=StatusCode.CANCELLED, ambiguous=True):
    """The call was canceled, on this side or on the server's."""


class ClientClosed(EtcdError):
    """The client was closed before the call or while it ran."""


class ProtocolError(EtcdError, code=StatusCode.INTERNAL):
    """The peer broke HTTP/2 or gRPC; the message names the rule."""


class MessageTooLarge(EtcdError, code=StatusCode.RESOURCE_EXHAUSTED):
    """A request or response is larger than a limit of this client allows."""


class ClusterMismatch(EtcdError):
    """An endpoint answered for another cluster than the one this client is bound to."""


class NoGreaterRevision(EtcdError):
    """No member that answers is as far as an earlier answer was; see ``client.ordered()``."""


class OldCluster(EtcdError):
    """A member is older than the client was told to accept."""


class SnapshotCorrupt(EtcdError, code=StatusCode.DATA_LOSS):
    """A snapshot did not arrive whole: its size or its checksum is wrong."""


class LeaseLost(EtcdError):
    """A lease being kept alive has expired or was revoked, or that has to be feared.

    Attributes:
        reason: ``"expired"`` when the server no longer knows it, ``"timeout"`` when it was not renewed in
            time, ``"refused"`` when the user may not renew it, ``"no leader"`` when that was asked for.
    """

    def __init__(self, message: str = "", *, reason: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


class LockLost(EtcdError):
    """A lock is not held any more: its lease ended, or somebody deleted its key. Another may hold it.

    `__cause__` is the `LeaseLost`, where the lease is known to be lost.
    """


class RpcError(EtcdError):
    """The server answered with an error status.

    Texts that no subclass stands for give an `RpcError` itself, with code and text as received.
    """


# Keys, values and transactions.


class EmptyKey(RpcError, text="etcdserver: key is not provided", code=StatusCode.INVALID_ARGUMENT):
    """A key was needed and is empty."""


class KeyNotFound(RpcError, text="etcdserver: key not found", code=StatusCode.INVALID_ARGUMENT):
    """`ignore_value` or `ignore_lease` on a key that does not exist, or an empty operation in a txn."""


class ValueProvided(RpcError, text="etcdserver: value is provided", code=StatusCode.INVALID_ARGUMENT):
    """A value came together with `ignore_value`."""


class LeaseProvided(RpcError, text="etcdserver: lease is provided", code=StatusCode.INVALID_ARGUMENT):
    """A lease came together with `ignore_lease`."""


class TooManyOps(
    RpcError, text="etcdserver: too many operations in txn request", code=StatusCode.INVALID_ARGUMENT
):
    """More compares or operations than the server allows in one txn (128 unless configured)."""


class DuplicateKey(
    RpcError, text="etcdserver: duplicate key given in txn request", code=StatusCode.INVALID_ARGUMENT
):
    """One branch of a txn puts a key twice, or puts a key that it also deletes."""


class InvalidClientAPIVersion(
    RpcError, text="etcdserver: invalid client api version", code=StatusCode.INVALID_ARGUMENT
):
    """The `client-api-version` metadata is not a version."""


class InvalidSortOption(RpcError, text="etcdserver: invalid sort option", code=StatusCode.INVALID_ARGUMENT):
    """The sort order or sort target of a range is unknown to the server."""


class Compacted(
    RpcError, text="etcdserver: mvcc: required revision has been compacted", code=StatusCode.OUT_OF_RANGE
):
    """The wanted revision has been compacted away.

    Attributes:
        compact_revision: the oldest revision that can still be read, 0 when not known.
    """

    def __init__(self, message: str = "", *, compact_revision: int = 0, **details: Any) -> None:
        super().__init__(message, **details)
        self.compact_revision = compact_revision


class FutureRev(
    RpcError, text="etcdserver: mvcc: required revision is a future revision", code=StatusCode.OUT_OF_RANGE
):
    """The wanted revision has not been reached yet."""


class NoSpace(
    RpcError,
    text="etcdserver: mvcc: database space exceeded",
    code=StatusCode.RESOURCE_EXHAUSTED,
    ambiguous=True,  # the call that raises the alarm is applied and still gets this answer
):
    """The database is over its quota; writes are refused until space is freed and the alarm disarmed."""


class RequestTooLarge(RpcError, text="etcdserver: request is too large", code=StatusCode.INVALID_ARGUMENT):
    """The request is over the server's `--max-request-bytes`."""


class TooManyRequests(RpcError, text="etcdserver: too many requests", code=StatusCode.RESOURCE_EXHAUSTED):
    """The server has too many proposals waiting; nothing was done."""


# Watches and leases.


class WatchCanceled(RpcError, text="etcdserver: watch canceled", code=StatusCode.CANCELLED):
    """The server canceled a watch stream."""


class LeaseNotFound(RpcError, text="etcdserver: requested lease not found", code=StatusCode.NOT_FOUND):
    """The lease has expired, was revoked or never existed."""


class LeaseExist(RpcError, text="etcdserver: lease already exists", code=StatusCode.FAILED_PRECONDITION):
    """A lease with the chosen id exists."""


class LeaseTTLTooLarge(RpcError, text="etcdserver: too large lease TTL", code=StatusCode.OUT_OF_RANGE):
    """The TTL is over the server's limit of 9,000,000,000 seconds."""


# Members.


class MemberExist(RpcError, text="etcdserver: member ID already exist", code=StatusCode.FAILED_PRECONDITION):
    """A member with this id exists."""


class PeerURLExist(
    RpcError, text="etcdserver: Peer URLs already exists", code=StatusCode.FAILED_PRECONDITION
):
    """Another member has one of these peer URLs."""


class MemberNotEnoughStarted(
    RpcError,
    text="etcdserver: re-configuration failed due to not enough started members",
    code=StatusCode.FAILED_PRECONDITION,
):
    """The change would leave the cluster without a quorum of started members."""


class MemberBadURLs(
    RpcError, text="etcdserver: given member URLs are invalid", code=StatusCode.INVALID_ARGUMENT
):
    """The server cannot parse the peer URLs."""


class MemberNotFound(RpcError, text="etcdserver: member not found", code=StatusCode.NOT_FOUND):
    """No member has this id."""


class MemberNotLearner(
    RpcError, text="etcdserver: can only promote a learner member", code=StatusCode.FAILED_PRECONDITION
):
    """The member to promote votes already."""


class LearnerNotReady(
    RpcError,
    text="etcdserver: can only promote a learner member which is in sync with leader",
    code=StatusCode.FAILED_PRECONDITION,
):
    """The learner to promote is too far behind the leader."""


class TooManyLearners(
    RpcError, text="etcdserver: too many learner members in cluster", code=StatusCode.FAILED_PRECONDITION
):
    """The cluster has as many learners as it may have."""


class ClusterIDMismatch(
    RpcError, text="etcdserver: cluster ID mismatch", code=StatusCode.FAILED_PRECONDITION
):
    """A member of another cluster was asked."""


# Users, roles and permissions.


class RootUserNotExist(
    RpcError, text="etcdserver: root user does not exist", code=StatusCode.FAILED_PRECONDITION
):
    """Authentication cannot be enabled without a user `root`."""


class RootRoleNotExist(
    RpcError, text="etcdserver: root user does not have root role", code=StatusCode.FAILED_PRECONDITION
):
    """Authentication cannot be enabled while user `root` lacks the role `root`."""


class UserAlreadyExist(
    RpcError, text="etcdserver: user name already exists", code=StatusCode.FAILED_PRECONDITION
):
    """A user with this name exists."""


class UserEmpty(RpcError, text="etcdserver: user name is empty", code=StatusCode.INVALID_ARGUMENT):
    """No user name was given, or the call needs a token and carried none."""


class UserNotFound(RpcError, text="etcdserver: user name not found", code=StatusCode.FAILED_PRECONDITION):
    """No user has this name."""


class RoleAlreadyExist(
    RpcError, text="etcdserver: role name already exists", code=StatusCode.FAILED_PRECONDITION
):
    """A role with this name exists."""


class RoleNotFound(RpcError, text="etcdserver: role name not found", code=StatusCode.FAILED_PRECONDITION):
    """No role has this name."""


class RoleEmpty(RpcError, text="etcdserver: role name is empty", code=StatusCode.INVALID_ARGUMENT):
    """No role name was given."""


class AuthFailed(
    RpcError,
    text="etcdserver: authentication failed, invalid user ID or password",
    code=StatusCode.INVALID_ARGUMENT,
):
    """The user name or password is wrong."""


class PermissionNotGiven(RpcError, text="etcdserver: permission not given", code=StatusCode.INVALID_ARGUMENT):
    """A grant names no permission."""


class PermissionDenied(RpcError, text="etcdserver: permission denied", code=StatusCode.PERMISSION_DENIED):
    """The user may not do this."""


class RoleNotGranted(
    RpcError, text="etcdserver: role is not granted to the user", code=StatusCode.FAILED_PRECONDITION
):
    """The role to revoke was not granted to the user."""


class PermissionNotGranted(
    RpcError, text="etcdserver: permission is not granted to the role", code=StatusCode.FAILED_PRECONDITION
):
    """The permission to revoke was not granted to the role."""


class AuthNotEnabled(
    RpcError, text="etcdserver: authentication is not enabled", code=StatusCode.FAILED_PRECONDITION
):
    """A token was asked for while authentication is off."""


class InvalidAuthToken(RpcError, text="etcdserver: invalid auth token", code=StatusCode.UNAUTHENTICATED):
    """The token has expired or was given by a member that has since restarted."""


class InvalidAuthMgmt(RpcError, text="etcdserver: invalid auth management", code=StatusCode.INVALID_ARGUMENT):
    """The change to users, roles or permissions is not allowed."""


class AuthOldRevision(
    RpcError, text="etcdserver: revision of auth store is old", code=StatusCode.INVALID_ARGUMENT
):
    """Users or roles changed since the token was given."""


# State of the cluster and of the member that was asked.


class NoLeader(RpcError, text="etcdserver: no leader", code=StatusCode.UNAVAILABLE):
    """The member sees no leader; nothing was done."""


class NotLeader(RpcError, text="etcdserver: not leader", code=StatusCode.FAILED_PRECONDITION):
    """Only the leader can do this, and another member was asked."""


class LeaderChanged(RpcError, text="etcdserver: leader changed", code=StatusCode.UNAVAILABLE, ambiguous=True):
    """The leader changed during the call."""


class NotCapable(RpcError, text="etcdserver: not capable", code=StatusCode.FAILED_PRECONDITION):
    """The cluster version does not allow this yet."""


class Stopped(RpcError, text="etcdserver: server stopped", code=StatusCode.UNAVAILABLE, ambiguous=True):
    """The member stopped during the call."""


class Timeout(RpcError, text="etcdserver: request timed out", code=StatusCode.UNAVAILABLE, ambiguous=True):
    """The cluster did not agree in time."""


class TimeoutDueToLeaderFail(
    RpcError,
    text="etcdserver: request timed out, possibly due to previous leader failure",
    code=StatusCode.UNAVAILABLE,
    ambiguous=True,
):
    """The cluster did not agree in time, around the loss of a leader."""


class TimeoutDueToConnectionLost(
    RpcError,
    text="etcdserver: request timed out, possibly due to connection lost",
    code=StatusCode.UNAVAILABLE,
    ambiguous=True,
):
    """The cluster did not agree in time, while the member lost its connection to the leader."""


class TimeoutWaitAppliedIndex(
    RpcError,
    text="etcdserver: request timed out, waiting for the applied index took too long",
    code=StatusCode.UNAVAILABLE,
):
    """The member did not catch up in time; only reads of leases and keep-alives get this."""


class Unhealthy(RpcError, text="etcdserver: unhealthy cluster", code=StatusCode.UNAVAILABLE):
    """Too few members are connected to change the membership; nothing was done."""


class Corrupt(RpcError, text="etcdserver: corrupt cluster", code=StatusCode.DATA_LOSS):
    """The alarm CORRUPT is on: members disagree about the data."""


class NotSupportedForLearner(
    RpcError, text="etcdserver: rpc not supported for learner", code=StatusCode.FAILED_PRECONDITION
):
    """A learner was asked for something only voting members do."""


class BadLeaderTransferee(
    RpcError, text="etcdserver: bad leader transferee", code=StatusCode.FAILED_PRECONDITION
):
    """The leadership cannot move to this member."""


# Downgrades.


class WrongDowngradeVersionFormat(
    RpcError, text="etcdserver: wrong downgrade target version format", code=StatusCode.INVALID_ARGUMENT
):
    """The target version cannot be parsed."""


class InvalidDowngradeTargetVersion(
    RpcError, text="etcdserver: invalid downgrade target version", code=StatusCode.INVALID_ARGUMENT
):
    """The target version is not one minor release below the cluster's."""


class ClusterVersionUnavailable(
    RpcError,
    text="etcdserver: cluster version not found during downgrade",
    code=StatusCode.FAILED_PRECONDITION,
):
    """The cluster has not agreed on its version yet."""


class DowngradeInProcess(
    RpcError, text="etcdserver: cluster has a downgrade job in progress", code=StatusCode.FAILED_PRECONDITION
):
    """A downgrade is enabled already."""


class NoInflightDowngrade(
    RpcError, text="etcdserver: no inflight downgrade job", code=StatusCode.FAILED_PRECONDITION
):
    """There is no downgrade to cancel."""


# Second names that Go programs know.
ClusterIdMismatch = ClusterIDMismatch
MemberLearnerNotReady = LearnerNotReady
RequestTooManyRequests = TooManyRequests

# Texts that some releases send instead, mostly with code Unknown.
_BY_TEXT.update(
    {
        "auth: revision in header is old": AuthOldRevision,  # 3.4.0-3.4.18, 3.5.0-3.5.1
        "auth: invalid auth token": InvalidAuthToken,
        "auth: permission denied": PermissionDenied,  # Defragment, Hash, HashKV and Snapshot of any release
        "auth: user name is empty": UserEmpty,  # likewise
        "auth: authentication failed, password was given for no password user": AuthFailed,
        "etcdserver: request cancelled": Canceled,  # before 3.7
        "context canceled": Canceled,
        "context deadline exceeded": DeadlineExceeded,
    }
)

# Codes by which neither a server nor a proxy says that it refused the request.
_AMBIGUOUS_CODES = frozenset(
    {
        StatusCode.CANCELLED,
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.ABORTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)

_BY_CODE: dict[int, type[EtcdError]] = {
    StatusCode.CANCELLED: Canceled,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def from_status(code: int, text: str) -> EtcdError:
    """Make the error that a gRPC status stands for.

    The text decides when it is known, whatever the code is. `maybe_applied` is set as for a write
    that got this answer; whoever knows that the call was a read clears it.

    Args:
        code: number received in `grpc-status`.
        text: `grpc-message`, decoded.
    """
    known = _BY_TEXT.get(text)
    if known is not None:
        error = known(text, maybe_applied=known.ambiguous)
    else:
        try:
            status = StatusCode(code)
        except ValueError:
            status = StatusCode.UNKNOWN  # a number that gRPC does not define
        kind = _BY_CODE.get(status, RpcError)
        error = kind(text or f"status {status.name}", code=status, maybe_applied=status in _AMBIGUOUS_CODES)
    error.received_code = code
    return error


_GO_NAMES = {code.name.replace("_", "").lower(): code for code in StatusCode}
_GO_NAMES["canceled"] = StatusCode.CANCELLED


def from_cancel_reason(reason: str) -> EtcdError:
    """Make the error that the `cancel_reason` of a watch response stands for.

    Args:
        reason: a bare message text, or one with the prefix that Go's gRPC puts before a status:
            ``rpc error: code = PermissionDenied desc = etcdserver: permission denied``.
    """
    code = None
    for _ in range(3):  # a proxy may put a prefix before a prefix
        match = re.fullmatch(r"rpc error: code = (\w+) desc = (.*)", reason, re.DOTALL)
        if match is None:
            break
        code = _GO_NAMES.get(match[1].lower(), StatusCode.UNKNOWN)
        reason = match[2]
    if not reason and code is None:
        return WatchCanceled()
    error = from_status(StatusCode.UNKNOWN if code is None else code, reason)
    error.received_code = code
    error.maybe_applied = False
    return error


def is_stale_token(error: BaseException) -> bool:
    """True when a new token may make the call succeed.

    Source: etcd client/v3/retry_interceptor.go (shouldRefreshToken).
    """
    return isinstance(error, (InvalidAuthToken, AuthOldRevision, UserEmpty))
