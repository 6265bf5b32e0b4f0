"""What the server executes now, in a shared memory file that outlives it: after a crash the agent reads who was at it.

    0   8  magic `EWBLACK1`
    8   8  number of lanes, little endian
    64     lanes of 512 bytes each:
           0   8  begin of the execution that is under way, monotonic ns; 0 where none is
           8   4  CRC-32 of the 4 bytes and the text that follow; a lane without a right one is nobody's
          12   2  length of the model's name in bytes
          14   2  length of its version in bytes
          16 496  both, UTF-8, one after the other

To begin and to end cost one store into mapped memory. No numpy: the agent reads it, too.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MAX_LANES = 256
MAX_FILE_BYTES = 1024 * 1024

_MAGIC = b"EWBLACK1"
_LANES_AT = 64
_LANE_BYTES = 512
_TEXT_AT = 16
_TEXT_BYTES = _LANE_BYTES - _TEXT_AT
_HEAD = struct.Struct("<8sQ")
_NAME = struct.Struct("<IHH")


@dataclass(frozen=True, slots=True)
class Executing:
    """An execution that was under way."""

    model: str
    version: str
    since_ns: int
    """CLOCK_MONOTONIC, which all processes of a machine share."""


class Lane:
    """One executor of one model: at most one execution at a time, begun and ended by any thread."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: memoryview, at: int) -> None:
        self._words = words
        self._at = at

    def begin(self, now_ns: int = 0) -> None:
        """Note that an execution begins, now or at a time of `time.monotonic_ns`."""
        self._words[self._at] = now_ns or time.monotonic_ns()

    def end(self) -> None:
        """Note that it is over, well or not."""
        self._words[self._at] = 0


class BlackBox:
    """The writer's side. Methods are called from one thread; the lanes from any."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped
        self._words = memoryview(mapped).cast("Q")
        self._free = list(range(MAX_LANES - 1, -1, -1))
        self._taken: dict[int, int] = {}

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the file, in place of an older one; raises OSError."""
        size_bytes = _LANES_AT + MAX_LANES * _LANE_BYTES
        path.unlink(missing_ok=True)  # a reader of the older one keeps what it reads
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Allocated, not sparse: on a full disk the store into a hole would kill the server with SIGBUS.
            os.posix_fallocate(descriptor, 0, size_bytes)
            mapped = mmap.mmap(descriptor, size_bytes)
        finally:
            os.close(descriptor)
        _HEAD.pack_into(mapped, 0, _MAGIC, MAX_LANES)
        return cls(mapped)

    def lane(self, model: str, version: str) -> Lane:
        """Return a lane for one executor of a model; give it back with `release`.

        Where all lanes are taken, or the names are too long for one, it is a lane that notes nothing.
        """
        name, text = model.encode(), model.encode() + version.encode()
        if not self._free or len(text) > _TEXT_BYTES:
            return Lane(memoryview(bytearray(8)).cast("Q"), 0)
        number = self._free.pop()
        start = _LANES_AT + number * _LANE_BYTES
        lengths = struct.pack("<HH", len(name), len(text) - len(name))
        self._words[start // 8] = 0
        self._map[start + _TEXT_AT : start + _TEXT_AT + len(text)] = text
        _NAME.pack_into(self._map, start + 8, zlib.crc32(lengths + text), len(name), len(text) - len(name))
        lane = Lane(self._words, start // 8)
        self._taken[id(lane)] = number
        return lane

    def release(self, lane: Lane) -> None:
        """Take a lane back that nobody executes on any more."""
        number = self._taken.pop(id(lane), None)
        if number is not None:
            lane.end()
            _NAME.pack_into(self._map, _LANES_AT + number * _LANE_BYTES + 8, 0, 0, 0)
            self._free.append(number)


def read_black_box(path: Path) -> list[Executing]:
    """Return what was being executed, longest first; nothing where the file is missing, or damaged beyond use."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)
    except OSError:
        return []
    if len(content) < _LANES_AT or not content.startswith(_MAGIC):
        return []
    starts = range(_LANES_AT, len(content) - _LANE_BYTES + 1, _LANE_BYTES)
    found = [lane for start in starts if (lane := _read_lane(content[start : start + _LANE_BYTES])) is not None]
    return sorted(found, key=lambda executing: executing.since_ns)


def _read_lane(lane: bytes) -> Executing | None:
    since_ns = int.from_bytes(lane[:8], "little")
    crc, name_bytes, version_bytes = _NAME.unpack_from(lane, 8)
    end = _TEXT_AT + name_bytes + version_bytes
    if since_ns == 0 or name_bytes == 0 or end > _LANE_BYTES or zlib.crc32(lane[12:end]) != crc:
        return None
    try:
        name = lane[_TEXT_AT : _TEXT_AT + name_bytes].decode()
        return Executing(name, lane[_TEXT_AT + name_bytes : end].decode(), since_ns)
    except UnicodeDecodeError:
        return None
