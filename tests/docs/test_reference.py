# SPDX-License-Identifier: Apache-2.0
"""The reference page is what the docstrings say, and every public name has one that says enough."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import purecd
from tools import build_reference as reference


def public_names() -> Iterator[tuple[str, Any]]:
    """Every public class, function, method and property, with a name to show."""
    seen: set[Any] = set()
    for module in (purecd, purecd.errors, purecd.types, import_module("purecd.admin_types"), purecd.testing):
        names = getattr(module, "__all__", [cls.__name__ for cls in reference.classes(module)])
        seen.update(getattr(module, name) for name in names)
    seen.update(getattr(import_module("purecd.hooks"), name) for name in reference.HOOKS)
    for client in (purecd.Client("127.0.0.1:2379"), purecd.AsyncClient("127.0.0.1:2379")):
        seen.update(cls for _, cls in reference.groups(client))
    for name, blocking, awaited in reference.HANDLES:
        seen.add(getattr(import_module(blocking), name))
        seen.add(getattr(import_module(awaited), f"Async{name}"))
    for thing in seen:
        name = thing.__name__.replace("purecd.", "")
        yield name, thing
        if isinstance(thing, type):
            yield from ((f"{name}.{method}", member) for method, member in reference.public(thing))


NAMES = sorted(public_names(), key=lambda pair: pair[0])


def test_the_page_is_fresh():
    fresh = reference.PAGE.read_text(encoding="utf-8") == reference.build()
    assert fresh, "run: python tools/build_reference.py"


@pytest.mark.parametrize("name", purecd.__all__)
def test_the_page_has_every_name_of_the_package(name):
    page = reference.PAGE.read_text(encoding="utf-8")
    assert re.search(rf"^#+ .*\b{name}\b|^\| `{name}`|^{name}\(|`purecd\.{name}`", page, re.MULTILINE)


@pytest.mark.parametrize(("name", "thing"), NAMES, ids=[name for name, _ in NAMES])
def test_a_docstring_says_enough(name, thing):
    docstring = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    doc = reference.parse(docstring)
    assert doc.text, f"{name} has no docstring"
    assert re.search(r"[.:]$", doc.text.splitlines()[0]), f"{name}: the first line is a sentence"
    order = [section for section in reference.SECTIONS if section in doc.sections]
    assert list(doc.sections) == order, f"{name}: sections in the order of the house style"
    if "Args" in doc.sections and callable(thing):
        named = {each for names, _ in reference.items(doc.sections["Args"]) for each in names.split(", ")}
        taken = {each for each in inspect.signature(thing).parameters if each not in ("self", "cls")}
        assert named <= taken, f"{name}: Args names what is no parameter"
        silent = [each for each in taken if not re.search(rf"\b{each}\b", str(docstring))]
        assert not silent, f"{name}: says nothing of {silent}"


def test_operations_say_what_they_send():
    operations = [(name, method) for name, method in NAMES if is_operation(method)]
    assert any(name == "Commands.get" or name == "Client.get" for name, _ in operations)
    assert not [name for name, op in operations if "Sends" not in reference.parse(op.__doc__).sections]


def is_operation(member: Any) -> bool:
    """Whether a method was bound from an operation of `purecd.core`."""
    code = getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
    return code is not None and "/core/" in code.co_filename.replace("\\", "/")


@pytest.mark.parametrize(
    ("docstring", "text", "sections"),
    [
        ("One line.", "One line.", {}),
        (
            "One.\n\n    Args:\n        a: first.\n            more.\n\n    Sends: it.\n    ",
            "One.",
            {"Args": "a: first.\n    more.", "Sends": "it."},
        ),
        (
            "Prose with Args: in it.\n\nSends: a\n    and b.",
            "Prose with Args: in it.",
            {"Sends": "a\nand b."},
        ),
        ("One.\n\nArgs:\n    a: first.\n\nMore.", "One.\n\nMore.", {"Args": "a: first."}),
        (None, "", {}),
    ],
)
def test_parse(docstring, text, sections):
    assert reference.parse(docstring) == (text, sections)


def test_items_join_continuation_lines():
    assert reference.items("a, b: first\n    and more.\nc: last.") == [
        ("a, b", "first and more."),
        ("c", "last."),
    ]
