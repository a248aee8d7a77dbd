# SPDX-License-Identifier: Apache-2.0
"""How commands of the log change users, roles, members and alarms: what only administrators ask for.

Source: etcd server/etcdserver/{apply,apply_auth,server}.go, server/etcdserver/api/v3alarm/alarms.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from purecd.memory import statuses
from purecd.memory.auth import Identity
from purecd.memory.calls import Status
from purecd.pb import messages as pb

if TYPE_CHECKING:
    from purecd.memory.log import Command
    from purecd.memory.state import State

GET, ACTIVATE, DEACTIVATE = 0, 1, 2
NONE = 0


def _headed(state: State, reply: Any) -> Any:
    reply.header.revision = state.store.revision
    return reply


def _enable(state: State, request: pb.AuthEnableRequest, command: Command, now: float) -> Any:
    state.auth.enable()
    return _headed(state, pb.AuthEnableResponse())


def _disable(state: State, request: pb.AuthDisableRequest, command: Command, now: float) -> Any:
    if state.auth.enabled:
        state.tokens.clear()
    state.auth.disable()
    return _headed(state, pb.AuthDisableResponse())


def _status(state: State, request: pb.AuthStatusRequest, command: Command, now: float) -> Any:
    auth = state.auth
    return _headed(state, pb.AuthStatusResponse(enabled=auth.enabled, authRevision=auth.revision))


def _authenticate(state: State, request: pb.AuthenticateRequest, command: Command, now: float) -> Any:
    state.auth.check_login(request.name)
    token = f"{command.token}.{state.index}"
    state.tokens.assign(token, request.name, now)
    return _headed(state, pb.AuthenticateResponse(token=token))


def _user_add(state: State, request: pb.AuthUserAddRequest, command: Command, now: float) -> Any:
    state.auth.add_user(request.name, request.hashedPassword, not request.options.no_password)
    return _headed(state, pb.AuthUserAddResponse())


def _user_delete(state: State, request: pb.AuthUserDeleteRequest, command: Command, now: float) -> Any:
    state.auth.delete_user(request.name)
    state.tokens.drop_user(request.name)
    return _headed(state, pb.AuthUserDeleteResponse())


def _user_change_password(
    state: State, request: pb.AuthUserChangePasswordRequest, command: Command, now: float
) -> Any:
    state.auth.change_password(request.name, request.hashedPassword)
    state.tokens.drop_user(request.name)
    return _headed(state, pb.AuthUserChangePasswordResponse())


def _user_grant_role(state: State, request: pb.AuthUserGrantRoleRequest, command: Command, now: float) -> Any:
    state.auth.grant_role(request.user, request.role)
    return _headed(state, pb.AuthUserGrantRoleResponse())


def _user_revoke_role(
    state: State, request: pb.AuthUserRevokeRoleRequest, command: Command, now: float
) -> Any:
    state.auth.revoke_role(request.name, request.role)
    return _headed(state, pb.AuthUserRevokeRoleResponse())


def _user_get(state: State, request: pb.AuthUserGetRequest, command: Command, now: float) -> Any:
    if not state.mode and request.name != command.username:
        state.auth.check_admin(_identity(command))
    return _headed(state, pb.AuthUserGetResponse(roles=state.auth.user(request.name).roles))


def _user_list(state: State, request: pb.AuthUserListRequest, command: Command, now: float) -> Any:
    return _headed(state, pb.AuthUserListResponse(users=sorted(state.auth.users, key=str.encode)))


def _role_add(state: State, request: pb.AuthRoleAddRequest, command: Command, now: float) -> Any:
    state.auth.add_role(request.name)
    return _headed(state, pb.AuthRoleAddResponse())


def _role_get(state: State, request: pb.AuthRoleGetRequest, command: Command, now: float) -> Any:
    user = state.auth.users.get(command.username)
    if not state.mode and (user is None or request.role not in user.roles):
        state.auth.check_admin(_identity(command))
    return _headed(state, pb.AuthRoleGetResponse(perm=state.auth.role(request.role)))


def _role_list(state: State, request: pb.AuthRoleListRequest, command: Command, now: float) -> Any:
    return _headed(state, pb.AuthRoleListResponse(roles=sorted(state.auth.roles, key=str.encode)))


def _role_delete(state: State, request: pb.AuthRoleDeleteRequest, command: Command, now: float) -> Any:
    state.auth.delete_role(request.role)
    return _headed(state, pb.AuthRoleDeleteResponse())


def _role_grant(
    state: State, request: pb.AuthRoleGrantPermissionRequest, command: Command, now: float
) -> Any:
    if not request.HasField("perm"):
        raise Status(*statuses.PERMISSION_NOT_GIVEN)
    state.auth.grant_permission(request.name, request.perm)
    return _headed(state, pb.AuthRoleGrantPermissionResponse())


def _role_revoke(
    state: State, request: pb.AuthRoleRevokePermissionRequest, command: Command, now: float
) -> Any:
    state.auth.revoke_permission(request.role, request.key, request.range_end)
    return _headed(state, pb.AuthRoleRevokePermissionResponse())


def _identity(command: Command) -> Identity:
    return Identity(command.username, command.auth_revision)


def _alarm(state: State, request: pb.AlarmRequest, command: Command, now: float) -> Any:
    reply = pb.AlarmResponse()
    reply.header.SetInParent()
    kind, alarm = request.alarm, (request.alarm, request.memberID)
    if request.action == GET:
        shown = [each for each in sorted(state.alarms) if kind in (NONE, each[0])]
    elif request.action == ACTIVATE and kind != NONE:
        if not state.has_alarm(kind):
            state.mode = kind
        state.alarms[alarm] = None
        shown = [alarm]
    elif request.action == DEACTIVATE and alarm in state.alarms:
        del state.alarms[alarm]
        # With the last alarm of one kind goes the refusing for any of them.
        if not state.has_alarm(kind):
            state.mode = NONE
        shown = [alarm]
    else:
        shown = []
    reply.alarms.extend(pb.AlarmMember(memberID=member_id, alarm=each) for each, member_id in shown)
    return reply


def _member_add(state: State, request: pb.MemberAddRequest, command: Command, now: float) -> Any:
    member = pb.Member(ID=command.member_id, peerURLs=request.peerURLs, isLearner=request.isLearner)
    state.cluster.add(member)
    return pb.MemberAddResponse(member=member, members=state.cluster.listed())


def _member_remove(state: State, request: pb.MemberRemoveRequest, command: Command, now: float) -> Any:
    state.cluster.remove(request.ID)
    return pb.MemberRemoveResponse(members=state.cluster.listed())


def _member_update(state: State, request: pb.MemberUpdateRequest, command: Command, now: float) -> Any:
    state.cluster.update(request.ID, request.peerURLs)
    return pb.MemberUpdateResponse(members=state.cluster.listed())


def _member_promote(state: State, request: pb.MemberPromoteRequest, command: Command, now: float) -> Any:
    state.cluster.promote(request.ID)
    return pb.MemberPromoteResponse(members=state.cluster.listed())


def _downgrade(state: State, request: pb.DowngradeRequest, command: Command, now: float) -> Any:
    state.downgrade_target = request.version
    return pb.DowngradeResponse()


Apply = Callable[["State", Any, "Command", float], Any]

# By the name of the request.
APPLY: dict[str, Apply] = {
    "AuthEnableRequest": _enable,
    "AuthDisableRequest": _disable,
    "AuthStatusRequest": _status,
    "AuthUserAddRequest": _user_add,
    "AuthUserDeleteRequest": _user_delete,
    "AuthUserChangePasswordRequest": _user_change_password,
    "AuthUserGrantRoleRequest": _user_grant_role,
    "AuthUserRevokeRoleRequest": _user_revoke_role,
    "AuthUserListRequest": _user_list,
    "AuthRoleAddRequest": _role_add,
    "AuthRoleListRequest": _role_list,
    "AuthRoleDeleteRequest": _role_delete,
    "AuthRoleGrantPermissionRequest": _role_grant,
    "AuthRoleRevokePermissionRequest": _role_revoke,
}
FOR_ADMINISTRATORS = frozenset(APPLY)
APPLY |= {
    "AuthenticateRequest": _authenticate,
    "AuthUserGetRequest": _user_get,
    "AuthRoleGetRequest": _role_get,
    "AlarmRequest": _alarm,
    # Checked before they are proposed, not again.
    "MemberAddRequest": _member_add,
    "MemberRemoveRequest": _member_remove,
    "MemberUpdateRequest": _member_update,
    "MemberPromoteRequest": _member_promote,
    "DowngradeRequest": _downgrade,
}
