"""What a file may make its reader do.

Offsets may point backwards and into each other, so a small file can describe a huge model: a million operators that are
one table, each with the same long name. All that is read is therefore taken off a budget that no file without such
tricks needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...faults import ModelError

BUDGET_PER_BYTE: Final = 4
LEAST_BUDGET: Final = 1 << 16
"""Elements of vectors and bytes of texts that are read altogether, constants' data excluded: these are only looked at.
A file without tricks has fewer than bytes."""
MAX_NAME_BYTES: Final = 4096


class Bounds:
    """The budget of one file; `where` names the file in messages."""

    def __init__(self, where: str, size_bytes: int) -> None:
        self.where = where
        self._left = max(LEAST_BUDGET, BUDGET_PER_BYTE * size_bytes)

    def length(self, length: int, most: int | None = None) -> int:
        """Takes the elements of a vector off the budget before anything walks them.

        Raises:
            ModelError: there are more of them than `most`, or than the file can hold.
        """
        if most is not None and length > most:
            raise ModelError(f"{self.where}: {length} elements where at most {most} are read")
        self._left -= length
        if self._left < 0:
            raise ModelError(f"{self.where}: damaged TFLite file: what its offsets point to is longer than the file")
        return length

    def numbers(self, length: int, numbers: Callable[[], Any], most: int | None = None) -> tuple[int, ...]:
        """A vector of integers."""
        return tuple(int(number) for number in numbers()) if self.length(length, most) else ()

    def text(self, text: bytes | None) -> str:
        """A name; what is no UTF-8 in it becomes U+FFFD."""
        content = text or b""
        known = content[: self.length(min(len(content), MAX_NAME_BYTES))].decode("utf-8", errors="replace")
        size = max(len(content), len(known.encode()))  # U+FFFD is longer than the byte that it stands for
        if size > MAX_NAME_BYTES:
            raise ModelError(f"{self.where}: a name of {size} bytes; at most {MAX_NAME_BYTES} are read")
        return known
