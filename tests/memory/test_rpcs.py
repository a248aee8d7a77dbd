# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd import pb
from purecd.memory.rpcs import RPCS

SERVICES = ("KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth")
NEWER = {"/etcdserverpb.KV/RangeStream"}  # since 3.7


def described():
    pool = pb.descriptor_pool()
    names = [f"etcdserverpb.{service}" for service in SERVICES] + ["grpc.health.v1.Health"]
    return {
        f"/{name}/{method.name}": method
        for name in names
        for method in pool.FindServiceByName(name).methods
        if f"/{name}/{method.name}" not in NEWER
    }


def test_every_rpc_is_answered():
    assert set(RPCS) == set(described())


@pytest.mark.parametrize("path", sorted(RPCS))
def test_requests_are_of_the_class_that_etcd_takes(path):
    assert RPCS[path].request.DESCRIPTOR.full_name == described()[path].input_type.full_name
