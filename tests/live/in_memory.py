# SPDX-License-Identifier: Apache-2.0
"""Which live tests run against purecd's etcd in memory too, and with which of etcd's flags.

A difference between the two is a bug of `purecd.memory`, or it is in the table of docs/memory.md, and
the tests that meet it are below, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import pytest

from purecd.memory import MemberOptions, MemoryEtcd
from tests.live.etcds import Etcd

ETCD = Etcd(MemberOptions().version, None)

MODULES = {
    "test_auth",
    "test_elections",
    "test_hooks",
    "test_kv",
    "test_leases",
    "test_locks",
    "test_maintenance",
    "test_members",
    "test_namespace",
    "test_restarts",
    "test_scan",
    "test_secrets",
    "test_seed_case",
    "test_txn",
    "test_watch",
}
QUICK = {"test_kv", "test_members", "test_txn", "test_watch"}  # on every interpreter that CI has

SERVICE = "has no services for locks and elections"
METRICS = "counts by etcd's metrics, which it does not serve"
PROCESS = "needs a process, or a peer URL"
LONG = "takes long, and is about the client"
NOT = {
    "test_100000_keys_of_one_revision_while_others_write": LONG,
    "test_a_changed_password_ends_the_watch_without_a_loop": METRICS,
    "test_a_child_process_does_not_release_the_lock_of_its_parent": LONG,
    "test_a_downgrade_begins_and_is_cancelled": LONG,
    "test_a_forbidden_watch_fails_and_the_others_live": METRICS,
    "test_a_lease_that_may_not_be_renewed_stops_alone": LONG,
    "test_a_paused_server_costs_the_lease_in_time": PROCESS,
    "test_a_second_watch_on_the_live_stream_after_auth_was_disabled": METRICS,
    "test_a_stopped_process_knows_on_waking_that_its_lease_is_lost": LONG,
    "test_a_token_expires_while_a_watch_lives": METRICS,
    "test_a_watch_survives_auth_disabled_and_a_restart": "is back before the client sees that it was away",
    "test_an_unreachable_server_costs_the_lease_before_the_server_drops_it": LONG,
    "test_calls_of_many_threads_share_one_refresh": METRICS,
    "test_ctrl_c_leaves_the_line": LONG,
    "test_defragment_gives_space_back": "has no file that could shrink",
    "test_hundreds_of_leases_share_one_stream_and_one_thread": METRICS,
    "test_keys_of_one_revision_while_others_write": LONG,
    "test_leases_of_a_user_are_renewed_while_auth_changes": LONG,
    "test_no_event_is_lost_or_repeated_over_many_restarts": LONG,
    "test_nothing_is_lost_or_repeated_while_auth_flips_and_members_restart": LONG,
    "test_pages_and_streams": METRICS,
    "test_peer_urls_are_changed": PROCESS,
    "test_renewals_go_on_after_a_restart": LONG,
    "test_stopping_early_releases_the_stream": METRICS,
    "test_the_lock_of_who_is_gone_passes_on": LONG,
    "test_the_election_service_of_the_server": SERVICE,
    "test_the_lock_service_of_the_server": SERVICE,
    "test_views_share_the_connections_of_their_client": METRICS,
}

# Flags of etcd as options of a member; the value is converted.
FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--auth-token-ttl": ("auth_token_ttl", float),
    "--max-request-bytes": ("max_request_bytes", int),
    "--max-txn-ops": ("max_txn_ops", int),
    "--quota-backend-bytes": ("quota", int),
}


def also(metafunc: pytest.Metafunc) -> bool:
    """Whether a test runs against the etcd in memory too."""
    module = metafunc.module.__name__.rpartition(".")[2]
    return (
        module in MODULES
        and metafunc.function.__name__ not in NOT
        and "start_cluster" not in metafunc.fixturenames
    )


def marks(metafunc: pytest.Metafunc) -> list[pytest.MarkDecorator]:
    """The marks of a test when it runs against the etcd in memory."""
    quick = metafunc.module.__name__.rpartition(".")[2] in QUICK
    return [pytest.mark.memory, *([pytest.mark.matrix] if quick else [])]


def server(args: Sequence[str] = ()) -> MemoryEtcd:
    """An etcd in memory, given flags of etcd. Raises `ValueError` for those it does not know."""
    options: dict[str, Any] = {}
    words = [word for arg in args for word in arg.split("=", 1)]
    for flag, value in zip(words[::2], words[1::2]):
        if flag not in FLAGS:
            raise ValueError(f"the etcd in memory has no {flag}")
        name, convert = FLAGS[flag]
        options[name] = convert(value)
    return MemoryEtcd(options=MemberOptions(**options))
