"""Memory that the server and a worker share for tensors: an anonymous file that both map, and that only grows.

It is sealed against shrinking: a worker gone mad could else cut it off under the server, which would die of SIGBUS.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets.faults import UserFault

from .messages import Place

MAX_ARENA_BYTES = 2**30
"""Inputs and outputs of one run together. A request's inputs are at most 64 MiB."""

_ALIGNMENT = 64
_STEP_BYTES = 64 * 1024


class TensorsTooLarge(UserFault):
    """The tensors of one run do not fit the arena."""


class WrongPlace(ValueError):
    """The other side is out of its mind."""


class Arena:
    """One side's view. Only one of the two sides writes at a time: they take turns by messages."""

    def __init__(self, fd: int) -> None:
        """Take over a descriptor; see `create_arena`."""
        self.fd = fd
        self._map: mmap.mmap | None = None
        self.size_bytes = 0
        self.follow(os.fstat(fd).st_size)

    def write(self, tensors: Mapping[str, NDArray[Any]], start: int) -> tuple[tuple[Place, ...], int]:
        """Copy tensors in, from `start` on; returns where they lie and where they end.

        Raises:
            TensorsTooLarge: they do not fit, however much the arena grows.
        """
        places, end = [], start
        for name, array in tensors.items():
            if array.dtype.hasobject:
                raise TensorsTooLarge(f"tensor '{name}' has elements of any length, which a worker process cannot take")
            places.append(Place(name, array.dtype.str, array.shape, end))
            end = _aligned(end + array.nbytes)
        self._reserve(end)
        for place, array in zip(places, tensors.values(), strict=True):
            np.copyto(self._view(place), array)
        return tuple(places), end

    def read(self, places: tuple[Place, ...], *, copy: bool) -> dict[str, NDArray[Any]]:
        """Return tensors: views that the next run overwrites, or copies.

        Raises:
            WrongPlace: there is no memory of the arena where they are said to lie.
        """
        try:
            views = {place.name: self._view(place) for place in places}
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise WrongPlace(f"the other side says that tensors lie where none can be: {error}") from error
        return {name: view.copy() for name, view in views.items()} if copy else views

    def follow(self, size_bytes: int) -> None:
        """Map what the other side has made the arena.

        Raises:
            TensorsTooLarge: more than it may be, or more than there is: a view of that would kill this process.
        """
        if size_bytes == self.size_bytes:
            return
        if not 0 <= size_bytes <= min(MAX_ARENA_BYTES, os.fstat(self.fd).st_size):
            raise TensorsTooLarge(f"the other side says that the arena has {size_bytes} bytes")
        self._map = mmap.mmap(self.fd, size_bytes) if size_bytes else None
        self.size_bytes = size_bytes

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last view."""
        self._map = None
        os.close(self.fd)

    def _reserve(self, size_bytes: int) -> None:
        if size_bytes <= self.size_bytes:
            return
        if size_bytes > MAX_ARENA_BYTES:
            raise TensorsTooLarge(f"tensors of one run have {size_bytes} bytes; a worker takes {MAX_ARENA_BYTES}")
        wanted = min(MAX_ARENA_BYTES, -(-size_bytes // _STEP_BYTES) * _STEP_BYTES)
        os.ftruncate(self.fd, wanted)
        self.follow(wanted)

    def _view(self, place: Place) -> NDArray[Any]:
        dtype = np.dtype(place.dtype)
        count = math.prod(place.shape)
        if dtype.hasobject or min(place.shape, default=0) < 0 or place.offset < 0 or dtype.itemsize == 0:
            raise ValueError(f"{dtype} {list(place.shape)} at {place.offset}")
        if count == 0:
            return np.empty(place.shape, dtype)
        if self._map is None:
            raise ValueError("it is empty")
        return np.frombuffer(self._map, dtype, count, place.offset).reshape(place.shape)


def create_arena() -> Arena:
    """Return an empty arena."""
    fd = os.memfd_create("edgewright-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return Arena(fd)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
