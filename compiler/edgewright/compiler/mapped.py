"""Arrays that are too large for memory lie in files without a name, which the kernel pages in and out as it likes."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgewright.targets.faults import EnvironmentFault

LARGEST_IN_MEMORY_BYTES = 16 << 20
CHUNK_BYTES = 4 << 20
"""Of an array that are worked on at a time."""


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A new array; a large one lies in the folder for temporary files (TMPDIR), and is gone when nothing holds it.

    Raises:
        EnvironmentFault: there is no room for it.
    """
    wanted = np.dtype(dtype)
    size_bytes = math.prod(shape) * wanted.itemsize
    if size_bytes <= LARGEST_IN_MEMORY_BYTES:
        return np.empty(shape, wanted)
    folder = "a temporary folder"
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)  # a full disk is an error now, not a signal later
            room = mmap.mmap(file.fileno(), size_bytes)
    except OSError as error:
        raise EnvironmentFault(
            f"no room for {size_bytes} bytes of samples in {folder}: {error.strerror}. "
            "Free some, or set TMPDIR to a folder on a larger disk"
        ) from error
    return np.frombuffer(room, wanted).reshape(shape)


def chunks(array: NDArray[Any]) -> Iterator[slice]:
    """Cuts the first axis into parts of a few megabytes."""
    row_bytes = max(1, math.prod(array.shape[1:]) * array.itemsize)
    step = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def gathered(sources: list[NDArray[Any]], rows: list[NDArray[np.intp]]) -> NDArray[Any]:
    """These rows of each source, one after the other, as one array; all sources have the same type and sample shape."""
    first = sources[0]
    found = empty((sum(map(len, rows)), *first.shape[1:]), first.dtype)
    filled = 0
    for source, wanted in zip(sources, rows, strict=True):
        target = found[filled : filled + len(wanted)]
        for part in chunks(target):
            target[part] = source[wanted[part]]
        filled += len(wanted)
    return found
