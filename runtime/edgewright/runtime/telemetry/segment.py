"""One file of the spool: a magic number, then frames, each with its checksum and its sequence number. Pure.

frame = payload length u32 | CRC-32 of (seq, payload) u32 | seq u64 | payload (MessagePack of one record)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"EWSPOOL1"
SUFFIX = ".segment"
MAX_PAYLOAD_BYTES = 128 * 1024

_HEAD = struct.Struct("<IIQ")
_SEQ = struct.Struct("<Q")

FRAME_HEAD_BYTES = _HEAD.size


@dataclass
class Segment:
    """What is known of a segment file."""

    first_seq: int
    last_seq: int
    """`first_seq - 1` while the segment is empty."""
    size_bytes: int

    @property
    def name(self) -> str:
        """Return the file name."""
        return f"{self.first_seq:020d}{SUFFIX}"


def frame(seq: int, payload: bytes) -> bytes:
    """Return one record as it is stored."""
    return _HEAD.pack(len(payload), zlib.crc32(_SEQ.pack(seq) + payload), seq) + payload


def scan(content: bytes, first_seq: int) -> Iterator[tuple[int, bytes]]:
    """Yield sequence number and payload of the good frames up to the first bad one."""
    if content[: len(MAGIC)] != MAGIC:
        return
    offset, expected = len(MAGIC), first_seq
    while (found := _frame_at(content, offset)) is not None and found[0] == expected:
        yield found
        offset += _HEAD.size + len(found[1])
        expected += 1


def last_seq_behind(content: bytes, offset: int, first_seq: int) -> int | None:
    """Return the highest sequence number of a good frame anywhere behind a bad one, or None.

    A tail that a power cut has torn has none. Where there is one the medium has damaged what was stored before.
    """
    most = first_seq + len(content) // _HEAD.size
    highest: int | None = None
    while offset + _HEAD.size < len(content):
        _, _, seq = _HEAD.unpack_from(content, offset)
        found = _frame_at(content, offset) if first_seq <= seq <= most else None
        if found is None:
            offset += 1
        else:
            highest = max(highest or 0, found[0])
            offset += _HEAD.size + len(found[1])
    return highest


def most_records(size_bytes: int) -> int:
    """Return how many records a segment of so many bytes can hold at the most."""
    return size_bytes // _HEAD.size


def _frame_at(content: bytes, offset: int) -> tuple[int, bytes] | None:
    if offset + _HEAD.size > len(content):
        return None
    length, crc, seq = _HEAD.unpack_from(content, offset)
    if not 0 < length <= MAX_PAYLOAD_BYTES:
        return None
    payload = content[offset + _HEAD.size : offset + _HEAD.size + length]
    if len(payload) != length or zlib.crc32(_SEQ.pack(seq) + payload) != crc:
        return None
    return seq, payload
