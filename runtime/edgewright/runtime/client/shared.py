"""Tensors that are written into shared memory once and sent many times (docs/adr/0021-local-tensors.md)."""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import Any, Self

from ..server.local.sealed import map_sealed, sealed_memory
from .inference import Tensors, described


class SharedTensors:
    """The inputs of an inference in a sealed memfd; `infer` takes it in place of the arrays.

    Over `tensors://` only the descriptor is sent, again and again; elsewhere the bytes are. The memory goes with this
    object, or with `close`, which must not overtake a call that uses it.
    """

    def __init__(self, described: list[dict[str, Any]], descriptor: int, size_bytes: int) -> None:
        """Take over the descriptor; `share` makes one of arrays."""
        self.described = described
        """The inputs as the protocol's JSON has them; their bytes lie one behind the other."""
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        self.memory = map_sealed(descriptor, size_bytes)
        """The bytes of all inputs, read-only."""

    @property
    def descriptor(self) -> int:
        """The memfd; raises `ValueError` after `close`."""
        if not self._close.alive:
            raise ValueError("these shared tensors are closed")
        return self._descriptor

    def close(self) -> None:
        """Give the memory back."""
        self._close()
        self.memory = memoryview(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.close()


def share(inputs: Tensors) -> SharedTensors:
    """Copy arrays into memory that can be sent more than once, and never be changed.

    Raises:
        TypeError: an array is of a type that the protocol has not.
        ValueError: there is nothing in them.
        OSError: no memory, or no descriptor, is left.
    """
    entries, payloads = described(inputs)
    size_bytes = sum(map(len, payloads))
    if size_bytes == 0:
        raise ValueError("there is nothing to share: the inputs have no bytes")
    return SharedTensors(entries, sealed_memory(payloads), size_bytes)
