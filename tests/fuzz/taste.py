# SPDX-License-Identifier: Apache-2.0
"""Choices made from octets, so that one generator serves hypothesis and coverage-guided fuzzing.

When the octets are used up every choice is the first one, so shorter inputs are simpler stories and
every input is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Taste:
    """Octets being used up.

    Args:
        data: the fuzzer's input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        """Octets not used yet."""
        return len(self._data) - self._position

    def octets(self, count: int) -> bytes:
        """The next `count` octets, fewer at the end."""
        piece = self._data[self._position : self._position + count]
        self._position += len(piece)
        return piece

    def rest(self) -> bytes:
        return self.octets(self.left)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``."""
        size = max(1, ((limit - 1).bit_length() + 7) // 8)
        return int.from_bytes(self.octets(size), "big") % limit

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases; False when nothing is left."""
        return 99 - self.below(100) < percent

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def some(self, longest: int) -> bytes:
        """Up to `longest` octets."""
        return self.octets(self.below(longest + 1))

    def cuts(self, length: int) -> list[int]:
        """Places at which octets of this length are cut, rising, the end included."""
        places = sorted({self.below(length + 1) for _ in range(self.below(8))})
        return [place for place in places if 0 < place < length] + [length]
