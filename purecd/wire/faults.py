# SPDX-License-Identifier: Apache-2.0
"""The exception by which a frame handler ends the whole connection; it never leaves `wire`."""

from __future__ import annotations


class ConnectionFault(Exception):
    """The peer broke a rule whose breach ends the connection (RFC 9113 §5.4.1).

    Args:
        code: error code for our GOAWAY.
        text: the rule and its section, for people.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
