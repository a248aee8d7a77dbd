# SPDX-License-Identifier: Apache-2.0
"""A short run of the whole apparatus, for every day."""

from __future__ import annotations


def test_a_load_while_the_member_is_killed(trial, start_cluster):
    cluster = start_cluster(1)
    server = cluster.members[0]
    run = trial(cluster.endpoints, callers=8, watches=4, leases=2)
    run.warm_up(0.5)
    run.fault()
    server.kill()
    server.start()
    run.wind_down(server.endpoint, seconds=1.0)
    run.report()
    run.check()
    assert not run.load.lost_leases(server.endpoint)
