# SPDX-License-Identifier: Apache-2.0
"""Which decoders are chosen, and what importing them costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.internal import api_implementation

from purecd.pb import codecs, decoding, encoding

ROOT = Path(__file__).parent.parent.parent


def run(code: str, implementation: str | None = None) -> str:
    environment = {**os.environ}
    if implementation:
        environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = implementation
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout.strip()


def test_all_names():
    names = {name for name in vars(encoding) if name.startswith("encode_")}
    names |= {name for name in vars(decoding) if name.startswith("decode_")}
    assert set(codecs.__all__) == names
    assert len(names) == 16
    for name in names:
        assert callable(getattr(codecs, name))


def test_encoders_are_by_hand():
    assert codecs.encode_range is encoding.encode_range


uses_protobuf = api_implementation.Type() == "upb"
LOADED = """
import sys
from purecd.pb import codecs, parsing
def loaded():
    return any("google.protobuf." + name in sys.modules for name in ("descriptor_pool", "message_factory"))
"""


def test_importing_and_the_first_small_replies_load_nothing_of_protobuf():
    code = LOADED + (
        "replies = {codecs.decode_watch(b'').watch_id for _ in range(parsing.BY_HAND_FIRST)}\n"
        "print(replies, [name for name in sys.modules if name.startswith('google.protobuf')])\n"
    )
    assert run(code) == "{0} []"


@pytest.mark.parametrize("implementation", [None, "python"])
def test_later_replies_are_parsed_by_upb_and_no_other_implementation(implementation):
    code = LOADED + (
        "small = {codecs.decode_watch(b'').watch_id for _ in range(parsing.BY_HAND_FIRST)}\n"
        "print(loaded(), small)\n"
        "print(codecs.decode_watch(b'').watch_id, loaded())\n"
    )
    later = uses_protobuf and implementation is None
    assert run(code, implementation).splitlines() == ["False {0}", f"0 {later}"]


def test_tiny_replies_are_never_parsed_by_protobuf():
    code = LOADED + (
        "for _ in range(2 * parsing.BY_HAND_FIRST):\n"
        "    for name in ('range', 'put', 'delete', 'txn'):\n"
        "        getattr(codecs, 'decode_' + name)(b'')\n"
        "print(loaded())\n"
    )
    assert run(code) == "False"


@pytest.mark.parametrize("implementation", [None, "python"])
def test_a_large_reply_is_parsed_by_upb_and_no_other_implementation(implementation):
    code = LOADED + (
        "data = b'\\x12\\x01\\x0a' * parsing.SMALL\n"  # malformed for both: a key value that is cut short
        "try: codecs.decode_range(data)\n"
        "except ValueError as error: print(loaded())\n"
    )
    assert run(code, implementation) == str(uses_protobuf and implementation is None)
