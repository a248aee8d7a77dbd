# SPDX-License-Identifier: Apache-2.0
"""Named tuples that are declared like `typing.NamedTuple`, and are for type checkers.

That one compiles the annotation of every field, which are text here. For the thirty tuples that come with a
client it was an eighth of the instructions of importing it, nearly half of them for setting up the part of
Python's compiler that nothing else needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    class _Declaring(type):
        """Makes of a class statement what `collections.namedtuple` makes, with the rest of the statement."""

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            fields = namespace["__annotations__"]
            defaults = [namespace.pop(field) for field in fields if field in namespace]
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            made.__new__.__annotations__ = fields
            for attribute, value in namespace.items():
                setattr(made, attribute, value)
            return made

    NamedTuple = type.__new__(_Declaring, "NamedTuple", (), {})
