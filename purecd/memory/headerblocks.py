# SPDX-License-Identifier: Apache-2.0
"""Header blocks of requests, read in silence: they carry tokens, and hpack logs all that it decodes.

Its loggers belong to the whole process, where others may want them. So their level stays as it is, and only
what a thread logs while it reads a block here is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from hpack import Decoder

_LOGGERS = ("hpack.hpack", "hpack.table")


class _Thread(threading.local):
    """What is known of each thread."""

    reading = False


_thread = _Thread()


class SilentDecoder(Decoder):
    """hpack's decoder, which logs nothing."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[Any]:
        """As hpack's."""
        _thread.reading = True
        try:
            return super().decode(data, raw)
        finally:
            _thread.reading = False


def _is_of_others(record: logging.LogRecord) -> bool:
    return not _thread.reading


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_of_others)
