# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.binding: what `help` and `inspect` show of a command."""

from __future__ import annotations

import inspect

import pytest

import purecd
from purecd.core import kv, members
from purecd.options import DEFAULT_TIMEOUT
from purecd.sync.groups import Members


@pytest.mark.parametrize("client", [purecd.Client, purecd.AsyncClient])
def test_a_command_shows_the_parameters_of_its_operation(client):
    shown = list(inspect.signature(client.get).parameters.values())
    assert shown[0].name == "self"
    assert list(map(str, shown[1:])) == list(map(str, inspect.signature(kv.get).parameters.values()))
    assert shown[-1].default is DEFAULT_TIMEOUT


@pytest.mark.parametrize("client", [purecd.Client, purecd.AsyncClient])
def test_a_command_returns_the_result_and_not_the_operation(client):
    assert inspect.signature(client.get).return_annotation == "GetReply"
    assert client.get.__annotations__["return"] == "GetReply"
    assert inspect.signature(kv.get).return_annotation == "Op[GetReply]", "the operation is left alone"


def test_a_result_that_is_generic_stays_whole():
    assert inspect.signature(members.list_all).return_annotation == "Op[MembersReply]"
    assert inspect.signature(Members.list).return_annotation == "MembersReply"


@pytest.mark.parametrize("client", [purecd.Client, purecd.AsyncClient])
def test_a_command_has_the_name_and_text_of_its_operation(client):
    assert (client.put.__name__, client.put.__doc__) == ("put", kv.put.__doc__)


def test_only_the_asyncio_command_is_a_coroutine_function():
    assert inspect.iscoroutinefunction(purecd.AsyncClient.get)
    assert not inspect.iscoroutinefunction(purecd.Client.get)
