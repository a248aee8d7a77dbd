# SPDX-License-Identifier: Apache-2.0
"""Reading header blocks in silence."""

from __future__ import annotations

import logging
import threading

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from purecd.memory.headerblocks import SilentDecoder

FIELDS = [(b":path", b"/etcdserverpb.KV/Put"), (b"token", b"canary.1"), (b"authorization", b"canary.2")]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def block():
    level = logging.getLogger("hpack").level
    logging.getLogger("hpack").setLevel(logging.ERROR)  # the writer's words are no matter here
    made = Encoder().encode([(name, value, True) for name, value in FIELDS])
    logging.getLogger("hpack").setLevel(level)
    return made


def test_a_block_is_read_in_silence(log, block):
    assert [(name, value) for name, value in SilentDecoder().decode(block, raw=True)] == FIELDS
    assert not log.records


def test_what_falls_out_of_the_table_is_not_told_either(log):
    decoder = SilentDecoder()
    # RFC 7541 §6.2.1 a literal that is indexed, without Huffman; §6.3 an update to a table of 0 octets.
    decoder.decode(bytes.fromhex("40 05") + b"token" + b"\x08canary.3", raw=True)
    assert list(decoder.header_table.dynamic_entries)
    decoder.decode(b"\x20", raw=True)
    assert not list(decoder.header_table.dynamic_entries)
    assert not log.records


def test_what_others_read_is_logged_as_ever(log, block):
    SilentDecoder().decode(block)
    with pytest.raises(HPACKError):
        SilentDecoder().decode(b"\x80")
    assert not log.records
    Decoder().decode(block)
    assert "canary.1" in log.text


def test_other_threads_read_meanwhile(log, block):
    class Interrupted(bytes):
        """Octets during whose reading another thread reads as well."""

        def __len__(self) -> int:
            if not others:
                others.append(threading.Thread(target=Decoder().decode, args=(block,)))
                others[0].start()
                others[0].join()
            return super().__len__()

    others: list[threading.Thread] = []
    SilentDecoder().decode(Interrupted(b"\x82"))
    assert {record.thread for record in log.records} == {others[0].ident}
