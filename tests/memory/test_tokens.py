# SPDX-License-Identifier: Apache-2.0
import pytest

from purecd.memory.tokens import Tokens, index_of


def test_a_token_lives_from_its_last_use():
    tokens = Tokens(ttl=10.0)
    tokens.assign("t.1", "alice", 0.0)
    assert tokens.use("t.1", 9.0) == "alice"
    assert tokens.use("t.1", 18.9) == "alice"
    assert tokens.use("t.1", 28.9) is None
    assert tokens.use("t.1", 0.0) is None, "it is forgotten"


def test_forgetting():
    tokens = Tokens()
    for token, name in (("t.1", "alice"), ("t.2", "bob"), ("t.3", "alice")):
        tokens.assign(token, name, 0.0)
    tokens.drop_user("alice")
    assert [tokens.use(token, 1.0) for token in ("t.1", "t.2", "t.3")] == [None, "bob", None]
    tokens.clear()
    assert tokens.use("t.2", 1.0) is None


@pytest.mark.parametrize(
    ("token", "index"),
    [
        ("abcdefghijklmnop.12", 12),
        (".0", 0),
        ("abc", None),
        ("a.b.1", None),
        ("a.-1", None),
        ("a.", None),
        ("a.١", None),
        ("a.18446744073709551615", 2**64 - 1),
        ("a.18446744073709551616", None),
    ],
)
def test_index_of(token, index):
    assert index_of(token) == index
