"""Answers that are kept for a while, the least recently used of them first to go. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pipeline import Tensors

ENTRY_BYTES = 512
"""What an answer costs beside its tensors' bytes: key, dictionary, and about 100 bytes an array."""


@dataclass(frozen=True, slots=True)
class _Entry:
    outputs: Tensors
    size_bytes: int
    expires_s: float


class ResponseCache:
    """Outputs by key. Holds at most `max_bytes`, each for `ttl_s` seconds."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.size_bytes = 0
        self.evictions = 0
        """Answers that went before their time, for want of room."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now_s: float) -> Tensors | None:
        """Return the outputs, which nobody may change; None where there are none, or too old ones."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now_s >= entry.expires_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.outputs

    def put(self, key: bytes, outputs: Tensors, now_s: float) -> None:
        """Keep a copy of the outputs, if it fits at all.

        A copy, because outputs may be views of a whole batch, which would stay with them, or of memory that the engine
        uses again.
        """
        size_bytes = ENTRY_BYTES + sum(_size_bytes(array) for array in outputs.values())
        if size_bytes > self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        while self.size_bytes + size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self.evictions += 1
        kept = {name: np.array(array, order="C") for name, array in outputs.items()}
        for array in kept.values():
            array.flags.writeable = False
        self._entries[key] = _Entry(kept, size_bytes, now_s + self._ttl_s)
        self.size_bytes += size_bytes

    def expire(self, now_s: float) -> None:
        """Drop what is too old; about once a second, so that a cache nobody asks gives its memory back."""
        for key in [key for key, entry in self._entries.items() if now_s >= entry.expires_s]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        self.size_bytes -= self._entries.pop(key).size_bytes


def _size_bytes(array: NDArray[Any]) -> int:
    if not array.dtype.hasobject:
        return array.nbytes
    return array.nbytes + sum(64 + len(element) for element in array.ravel())
