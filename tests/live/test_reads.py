# SPDX-License-Identifier: Apache-2.0
"""Serializable reads through a view that never goes back in time, with a member that is cut off."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from purecd import errors
from purecd.testing import EtcdCluster
from tests.live.etcds import QUICK
from tests.live.fronts import Thread
from tests.live.test_endpoints import set_endpoints
from tests.support.peernet import PeerNetwork


@pytest.mark.slow
def test_a_member_that_is_behind_is_not_believed(front, etcd, prefix):
    key = prefix + "a"
    with ExitStack() as stack:
        cluster = EtcdCluster(3, binary=etcd.path, args=list(QUICK))
        network = stack.enter_context(PeerNetwork(cluster))
        stack.enter_context(cluster)
        behind = cluster.followers()[0]
        ahead = [member for member in cluster.members if member is not behind]
        client = front.client([member.endpoint for member in ahead], timeout=20)
        client.put(key, "old")
        assert front.client(behind.endpoint).get(key).value == b"old", "it has come this far"
        network.isolate(behind)
        client.put(key, "new")
        view = client.ordered()
        assert view.get(key, serializable=True).value == b"new"
        set_endpoints(front, client, [behind.endpoint])
        assert client.get(key, serializable=True).value == b"old", "without the view it is believed"
        with pytest.raises(errors.NoGreaterRevision):
            view.get(key, serializable=True)
        set_endpoints(front, client, [behind.endpoint, ahead[0].endpoint])
        assert view.get(key, serializable=True).value == b"new", "another member is asked"
        set_endpoints(front, client, [behind.endpoint])
        reading = Thread(view.get, key)
        network.heal()
        assert reading.result().value == b"new"
