"""Memory that two processes share and neither can change: a memfd with seals.

A mapping of a file that somebody else can shorten ends with SIGBUS, and one that somebody else can write changes after
it was checked. The seals exclude both, for ever: that is checked before anything is mapped. Nor are holes mapped: a
page that is missing is taken from whoever touches it first, and stays his for as long as the other keeps the file.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence

Payload = bytes | bytearray | memoryview

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

_POPULATE_READ = 22
"""MADV_POPULATE_READ (Linux 5.14): brings in all pages at once, and fails where touching them would be a SIGBUS."""
_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_BLOCK_BYTES = 512
"""What `st_blocks` counts."""
_BUFFERS = 512
"""Of one write; the kernel takes at most 1024."""


class NotSealed(ValueError):
    """A descriptor whose memory cannot be trusted; the text says why."""


def sealed_memory(parts: Sequence[Payload]) -> int:
    """Return the descriptor of a sealed memfd that holds the parts one after the other. The caller closes it.

    Raises:
        OSError: no memory, or no descriptor, is left.
    """
    descriptor = os.memfd_create("edgewright-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        waiting = [memoryview(part).cast("B") for part in parts if len(part)]
        while waiting:
            written = os.writev(descriptor, waiting[:_BUFFERS])
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if written:
                waiting[0] = waiting[0][written:]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def map_sealed(descriptor: int, size_bytes: int) -> memoryview:
    """Return the first bytes of a sealed memfd, read-only and not copied. The mapping goes when the view goes.

    Raises:
        NotSealed: it is not sealed, has holes, or holds less. Nothing was mapped.
        OSError: this process has no memory or descriptor left; a mapping takes one.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise NotSealed("the descriptor is no memfd") from error
    if seals & SEALS != SEALS:
        raise NotSealed("the memfd must be sealed with F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE before it is sent")
    found = os.fstat(descriptor)  # after the seals were seen: from then on it cannot change
    if not 0 < size_bytes <= found.st_size:
        raise NotSealed(f"the memfd holds {found.st_size} bytes, and the message says {size_bytes}")
    if found.st_blocks * _BLOCK_BYTES < found.st_size:
        raise NotSealed("the memfd has holes: whoever sends memory fills it first, at his own expense")
    try:
        mapping = mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        _bring_in(mapping)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NONE_LEFT:
            raise
        raise NotSealed(f"the memfd cannot be mapped: {error}") from error
    return memoryview(mapping)


def _bring_in(mapping: mmap.mmap) -> None:
    try:
        mapping.madvise(_POPULATE_READ)
    except OSError as error:
        if error.errno != errno.EINVAL:  # an older kernel, which brings pages in one by one
            raise
