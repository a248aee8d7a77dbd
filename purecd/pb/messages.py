# SPDX-License-Identifier: Apache-2.0
"""Message classes and enums by their short names: ``messages.LeaseGrantRequest(TTL=5)``.

Short names are unique over etcd's packages. A class is made when its name is first used; types
are in messages.pyi.
"""

from __future__ import annotations

from typing import Any

PACKAGES = ("etcdserverpb", "mvccpb", "authpb", "v3lockpb", "v3electionpb", "grpc.health.v1", "columns")


def __getattr__(name: str) -> Any:
    if name.startswith("_"):  # asked for by import machinery and the like
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = _find(name)
    globals()[name] = found
    return found


def _find(name: str) -> Any:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    from purecd import pb

    for package in PACKAGES:
        try:
            return pb.message_class(f"{package}.{name}")
        except KeyError:
            pass
        try:
            return EnumTypeWrapper(pb.descriptor_pool().FindEnumTypeByName(f"{package}.{name}"))
        except KeyError:
            pass
    raise AttributeError(f"etcd has no message {name!r}")
