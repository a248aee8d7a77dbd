# SPDX-License-Identifier: Apache-2.0
"""Named tuples of ours are in all respects what `typing.NamedTuple` makes."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import typing
from typing import Any

import pytest

from purecd import admin_types, requests, types
from purecd.records import NamedTuple


class Ours(NamedTuple):
    """A point with a name."""

    x: int
    y: float | None = None
    name: str = "origin"

    @property
    def twice(self) -> int:
        """Twice as far."""
        return self.x * 2

    def __str__(self) -> str:
        return f"{self.name} at {self.x}"


class Theirs(typing.NamedTuple):
    """A point with a name."""

    x: int
    y: float | None = None
    name: str = "origin"

    @property
    def twice(self) -> int:
        """Twice as far."""
        return self.x * 2

    def __str__(self) -> str:
        return f"{self.name} at {self.x}"


def test_the_class_is_that_of_typing():
    assert Ours.__mro__ == (Ours, tuple, object)
    assert vars(Ours)["__slots__"] == ()
    for name in ("_fields", "_field_defaults", "__match_args__", "__doc__", "__module__"):
        assert getattr(Ours, name, None) == getattr(Theirs, name, None), name
    assert Ours.__qualname__ == "Ours"
    assert list(Ours.__annotations__) == list(Theirs.__annotations__)
    assert list(inspect.signature(Ours).parameters) == list(inspect.signature(Theirs).parameters)
    assert str(inspect.signature(Ours)) == "(x: 'int', y: 'float | None' = None, name: 'str' = 'origin')"


def test_values_are_those_of_typing():
    ours: Any = Ours(1, name="a")
    theirs: Any = Theirs(1, name="a")
    assert ours == theirs
    assert ours == (1, None, "a")
    assert repr(ours).replace("Ours", "Theirs") == repr(theirs)
    assert (str(ours), ours.twice, ours._asdict()) == (str(theirs), theirs.twice, theirs._asdict())
    assert type(ours._replace(x=2)) is type(Ours._make((2, None, "a"))) is Ours
    with pytest.raises(TypeError):
        type(ours)()
    with pytest.raises(AttributeError):
        ours.x = 2


@pytest.mark.parametrize(
    "value",
    [
        Ours(1),
        types.GetReply(types.Header(1, 2, 3, 4), [types.KeyValue(b"k", value=b"v")], False, 1),
        types.Event(types.EventType.DELETE, types.KeyValue(b"k")),
        admin_types.RoleReply(permissions=(admin_types.Permission(key=b"k"),)),
        requests.Txn([requests.version("k") == 0], [requests.Put("k", "v")]),
    ],
)
def test_values_are_pickled_and_copied(value):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert (type(again), again) == (type(value), value)
    assert copy.deepcopy(value) == value
    assert type(copy.copy(value)) is type(value)


def test_importing_a_client_compiles_no_annotation():
    program = (
        "import typing\n"
        "def refuse(*_, **__): raise AssertionError('an annotation was compiled')\n"
        "typing.ForwardRef.__init__ = refuse\n"
        "import purecd; purecd.Client, purecd.AsyncClient\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
