"""Values of /sys: one small file each, any of which may be missing, unreadable or nonsense."""

from __future__ import annotations

import os
from pathlib import Path

_MAX_BYTES = 256
_MAX_ENTRIES = 256


def read_text(path: Path) -> str | None:
    """The first line of a file, None where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = os.read(descriptor, _MAX_BYTES)
    except OSError:  # a sensor that is off answers EAGAIN, EIO or ENODATA
        return None
    finally:
        os.close(descriptor)
    return content.decode(errors="replace").partition("\n")[0].strip()


def read_int(path: Path) -> int | None:
    """The number in a file, None where there is none."""
    text = read_text(path)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return None


def folders(parent: Path, pattern: str) -> list[Path]:
    """What matches in a folder of /sys, sorted by name; none where the folder is missing."""
    try:
        return sorted(parent.glob(pattern))[:_MAX_ENTRIES]
    except OSError:
        return []
