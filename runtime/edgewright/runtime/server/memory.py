"""Giving memory back to the system, and reading how much is used."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of glibc's malloc.h."""
_LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""Weights are larger; almost all tensors of a request are smaller and come from the heap, without page faults."""


def return_large_blocks() -> None:
    """Have large blocks go back to the system when they are freed. Before the first thread starts.

    Once a block of 20 MB was freed, glibc takes such blocks from a heap of each thread and leaves up to 40 MB free at
    its end, where `malloc_trim` does not reach: 20 to 65 MB stayed after swaps of 20 MB. One heap is enough for threads
    that take turns in Python.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl and others have no mallopt, nor such heaps
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK_BYTES)
    mallopt(_M_ARENA_MAX, 1)


def release_memory() -> None:
    """Collect garbage and hand freed memory back to the system.

    Without the trim glibc keeps what a swapped-out model used: 505 MB instead of 157 MB after five swaps of 100 MB.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl and others have no malloc_trim
        return
    trim(0)


def peak_resident_bytes() -> int:
    """Return the largest resident size of this process so far; 0 where /proc does not tell."""
    return _status_bytes("VmHWM:")


def resident_bytes() -> int:
    """Return the resident size of this process; 0 where /proc does not tell."""
    return _status_bytes("VmRSS:")


def _status_bytes(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    value = next((line.split()[1] for line in lines if line.startswith(key)), "0")
    return int(value) * 1024
