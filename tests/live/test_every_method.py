# SPDX-License-Identifier: Apache-2.0
"""Every public command ends by its own timeout, whatever the server does not do.

The endpoint refuses connections, or accepts them and says nothing, or is an etcd that was stopped
with SIGSTOP after the client had connected. Both fronts; nothing may be missing from the list.
"""

from __future__ import annotations

import inspect
import time

import pytest

import purecd
from purecd import errors
from tests.live.fronts import Thread
from tests.support.peers import Silent, refused_endpoint

TIMEOUT = 0.4
SLACK = 0.6  # seconds over the deadline that a busy machine may take; the aim is 0.1

# The arguments of each command; what is not here must be in WITHOUT_CALL.
COMMANDS = {
    "get": ("k",),
    "put": ("k", "v"),
    "delete": ("k",),
    "txn": ([], [purecd.Put("k", "v")]),
    "compact": (5,),
    "scan": ("k",),
    "watch": ("k",),
    "lease": (10,),
    "sync_endpoints": (),
    "check_versions": ("3.4",),
    "leases.grant": (10,),
    "leases.revoke": (1,),
    "leases.time_to_live": (1,),
    "leases.keep_alive_once": (1,),
    "leases.list": (),
    "leases.keep_alive": (1,),
    "auth.enable": (),
    "auth.disable": (),
    "auth.status": (),
    "users.add": ("name", "password"),
    "users.get": ("name",),
    "users.list": (),
    "users.delete": ("name",),
    "users.change_password": ("name", "password"),
    "users.grant_role": ("name", "role"),
    "users.revoke_role": ("name", "role"),
    "roles.add": ("name",),
    "roles.get": ("name",),
    "roles.list": (),
    "roles.delete": ("name",),
    "roles.grant_permission": ("name", "key"),
    "roles.revoke_permission": ("name", "key"),
    "members.list": (),
    "members.add": (["http://127.0.0.1:2380"],),
    "members.remove": (1,),
    "members.update": (1, ["http://127.0.0.1:2380"]),
    "members.promote": (1,),
    "maintenance.status": (),
    "maintenance.health": (),
    "maintenance.alarms": (),
    "maintenance.raise_alarm": ("nospace", 1),
    "maintenance.disarm": (),
    "maintenance.defragment": (),
    "maintenance.hash": (),
    "maintenance.hash_kv": (),
    "maintenance.move_leader": (1,),
    "maintenance.downgrade": ("validate", "3.4"),
    "maintenance.snapshot": ("snapshot.db",),
    "maintenance.snapshot_chunks": (),
}
KEYWORDS = {"roles.grant_permission": {"allow": "read"}}
# What makes a handle and asks nothing, and the first command of the handle.
HANDLES = {
    "lock": lambda lock: lock.acquire(timeout=TIMEOUT),
    "election": lambda election: election.campaign("me", timeout=TIMEOUT),
}
WITHOUT_CALL = {
    "close",
    "namespace",
    "ordered",
    "endpoints",
    "hooks",
    "from_env",
    "fail_fast",
    "max_send_size",
    "retry",
}
GROUPS = ("leases", "auth", "users", "roles", "members", "maintenance")


def public_commands():
    with purecd.Client("127.0.0.1:1") as client:
        for name, member in inspect.getmembers(client):
            if name.startswith("_") or name in WITHOUT_CALL:
                continue
            if name in GROUPS:
                for inner, _ in inspect.getmembers(member, callable):
                    if not inner.startswith("_"):
                        yield f"{name}.{inner}"
            else:
                yield name


def test_no_command_is_missing_from_the_list():
    assert set(public_commands()) == {*COMMANDS, *HANDLES}


def ask(client, name):
    """Run one command to its end."""
    target = client
    if name in HANDLES:
        HANDLES[name](getattr(client, name)("k"))
        return
    for part in name.split("."):
        target = getattr(target, part)
    result = target(*COMMANDS[name], **KEYWORDS.get(name, {}), timeout=TIMEOUT)
    if inspect.isgenerator(result):
        list(result)


@pytest.mark.parametrize("how", ["refused", "silent", "stopped"])
def test_every_command_ends_in_time(front, start_server, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if how == "stopped":
        server = start_server()
        client = front.client(server.endpoint, timeout=30.0)
        client.get("k")
        server.pause()
        end_all_in_time(client, how, tmp_path)
        server.resume()
    elif how == "silent":
        with Silent() as peer:
            end_all_in_time(front.client(peer.endpoint, timeout=30.0), how, tmp_path)
    else:
        end_all_in_time(front.client(refused_endpoint(), timeout=30.0), how, tmp_path)


def end_all_in_time(client, how, tmp_path):
    started = time.monotonic()
    runs = {name: Thread(timed, client, name) for name in [*COMMANDS, *HANDLES]}
    late = {}
    for name, run in runs.items():
        error, seconds = run.result(timeout=20)
        assert isinstance(error, errors.DeadlineExceeded), (name, error)
        if seconds > TIMEOUT + SLACK:
            late[name] = seconds
    print(f"{how}: {len(runs)} commands at once in {time.monotonic() - started:.2f} s")
    assert not late
    assert list(tmp_path.iterdir()) == [], "nothing of the snapshot is left"


def timed(client, name):
    started = time.monotonic()
    try:
        ask(client, name)
    except Exception as error:
        return error, time.monotonic() - started
    return None, time.monotonic() - started


def test_the_client_is_usable_afterwards(front, start_server):
    server = start_server()
    client = front.client(server.endpoint)
    client.put("k", "v")
    server.pause()
    with pytest.raises(errors.DeadlineExceeded):
        client.get("k", timeout=TIMEOUT)
    with pytest.raises(errors.DeadlineExceeded) as late:
        client.put("k", "w", timeout=TIMEOUT)
    print(late.value)
    server.resume()
    assert client.get("k", timeout=5).value in (b"v", b"w")
