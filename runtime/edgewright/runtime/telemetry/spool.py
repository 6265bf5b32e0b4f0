"""The spool: records wait here, in order, until the fleet has acknowledged them.

An append-only log of segments with a hard cap on its bytes. When it is full the oldest segment goes and a `GapRecord`
says which records went with it: loss is always visible. All file operations go through `storage`, so that tests cut the
power after each of them.

    spool/identity                one line; a new spool is a new identity, so acknowledgements cannot be mixed up
    spool/cursor                  one line; everything up to this sequence number is acknowledged
    spool/<first seq>.segment     magic, then frames

    frame = payload length u32 | CRC-32 of (seq, payload) u32 | seq u64 | payload (MessagePack of one record)

Recovery cuts the last segment at its first bad frame. Only records that are on the medium are handed to the link, so a
sequence number that the fleet has seen is never given to another record.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewright.targets.faults import EnvironmentFault

from ..storage import Storage, ensure_directory, replace_file
from .records import GapRecord, Record

MAGIC = b"EWSPOOL1"
SUFFIX = ".segment"
MAX_RECORD_BYTES = 128 * 1024
MIN_SPOOL_BYTES = 4096

_FRAME = struct.Struct("<IIQ")
_SEQ = struct.Struct("<Q")

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class SpoolFault(EnvironmentFault):
    """A record cannot be kept: the disk is full or fails, or the record is larger than any may be."""


@dataclass(frozen=True)
class SpoolLimits:
    """How much the spool may hold, and when it starts a new segment."""

    max_bytes: int = 16 * 1024 * 1024
    segment_bytes: int = 256 * 1024
    cursor_every: int = 64
    """The cursor is written after so many acknowledged records; a stale one costs repeated records, never lost ones."""

    def __post_init__(self) -> None:
        if self.max_bytes < MIN_SPOOL_BYTES:
            raise ValueError(f"spool max_bytes is {self.max_bytes}; at least {MIN_SPOOL_BYTES} are needed")


@dataclass
class _Segment:
    first_seq: int
    last_seq: int
    """`first_seq - 1` while the segment is empty."""
    size_bytes: int


class Spool:
    """One spool directory, opened by one process. Not thread-safe: the agent's loop owns it."""

    def __init__(self, storage: Storage, directory: Path, limits: SpoolLimits, identity: str) -> None:
        self._storage = storage
        self._directory = directory
        self._limits = limits
        self.identity = identity
        self._segments: list[_Segment] = []
        self.acked_seq = 0
        self.durable_seq = 0
        self._cursor_on_disk = 0
        self._dirty = False

    @classmethod
    def open(
        cls, storage: Storage, directory: Path, *, limits: SpoolLimits | None = None, new_identity: str, now_s: float
    ) -> Spool:
        """Recover what is there, or start a spool under `new_identity`."""
        ensure_directory(storage, directory)
        identity_path = directory / "identity"
        if not storage.exists(identity_path):
            # Segments without an identity were never sent: the identity is written before the first record.
            for name in storage.names(directory):
                storage.remove(directory / name)
            replace_file(storage, identity_path, new_identity.encode() + b"\n")
        identity = storage.read(identity_path).decode("ascii", "replace").strip()
        spool = cls(storage, directory, limits or SpoolLimits(), identity)
        spool._recover(now_s)
        return spool

    @property
    def next_seq(self) -> int:
        """Sequence number of the next record."""
        return self._segments[-1].last_seq + 1

    @property
    def size_bytes(self) -> int:
        """Bytes in all segments."""
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def backlog(self) -> int:
        """Records that are here and not acknowledged."""
        first = max(self.acked_seq + 1, self._segments[0].first_seq)
        return max(0, self.next_seq - first)

    def append(self, record: Record, now_s: float) -> int:
        """Add a record and return its sequence number; it is safe after `commit`.

        Raises:
            SpoolFault: the record is too large, or the disk refuses it; the spool is as it was before.
        """
        payload = _encoder.encode(record)
        if len(payload) > min(MAX_RECORD_BYTES, self._limits.max_bytes // 8):
            raise SpoolFault(
                f"a record of {len(payload)} bytes is too large for a spool of {self._limits.max_bytes} bytes"
            )
        try:
            self._make_room(_FRAME.size + len(payload), now_s)
            return self._write_frame(payload)
        except OSError as error:
            raise SpoolFault(f"cannot write to the spool {self._directory}: {error.strerror or error}") from error

    def commit(self) -> None:
        """Return when every appended record is on the medium.

        Raises:
            SpoolFault: the disk failed; what was appended since the last commit may be lost.
        """
        if not self._dirty:
            return
        try:
            self._storage.sync_path(self._path(self._segments[-1]))
        except OSError as error:
            raise SpoolFault(f"cannot flush the spool {self._directory}: {error.strerror or error}") from error
        self._dirty = False
        self.durable_seq = self.next_seq - 1

    def acknowledge(self, seq: int) -> None:
        """Forget everything up to `seq`; an old or an impossible number changes nothing."""
        if not self.acked_seq < seq <= self.durable_seq:
            return
        self.acked_seq = seq
        done = [segment for segment in self._segments[:-1] if segment.last_seq <= seq]
        if done or seq - self._cursor_on_disk >= self._limits.cursor_every:
            self.save_cursor()
        for segment in done:
            self._drop(segment)

    def save_cursor(self) -> None:
        """Write down what is acknowledged."""
        if self._cursor_on_disk != self.acked_seq:
            replace_file(self._storage, self._directory / "cursor", f"{self.acked_seq}\n".encode())
            self._cursor_on_disk = self.acked_seq

    def read(self, first_seq: int, *, max_bytes: int, max_records: int = 1000) -> list[tuple[int, Record]]:
        """Return durable records from `first_seq` on: a run without a gap, at least one if there is one."""
        found: list[tuple[int, Record]] = []
        room = max_bytes
        for segment in self._segments:
            if segment.last_seq < first_seq:
                continue
            for seq, payload in self._frames(segment):
                if seq < first_seq:
                    continue
                contiguous = not found or seq == found[-1][0] + 1
                fits = not found or (len(payload) <= room and len(found) < max_records)
                if seq > self.durable_seq or not contiguous or not fits:
                    return found
                room -= len(payload)
                found.append((seq, _decoder.decode(payload)))
        return found

    def _recover(self, now_s: float) -> None:
        self._cursor_on_disk = self.acked_seq = self._read_cursor()
        firsts = sorted(
            int(name.removesuffix(SUFFIX))
            for name in self._storage.names(self._directory)
            if name.endswith(SUFFIX) and name.removesuffix(SUFFIX).isdigit()
        )
        for first in firsts:
            self._recover_segment(first, is_last=first == firsts[-1])
        if not self._segments or self.next_seq <= self.acked_seq:
            # The cursor is ahead of the segments: numbers up to it are used, the fleet has seen them.
            self._start_segment(self.acked_seq + 1)
        with contextlib.suppress(OSError):  # on a full disk the hole stays, and is reported by the next start
            self._report_holes(now_s)
        self._dirty = True
        self.commit()
        self._finish_removals(now_s)

    def _finish_removals(self, now_s: float) -> None:
        """Segments that were removed just before a power cut may be back."""
        for segment in [old for old in self._segments[:-1] if old.last_seq <= self.acked_seq]:
            self._drop(segment)
        while self.size_bytes > self._limits.max_bytes and len(self._segments) > 1:
            self._drop_oldest(now_s)

    def _recover_segment(self, first: int, *, is_last: bool) -> None:
        segment = _Segment(first, first - 1, 0)
        path = self._path(segment)
        size_bytes = self._storage.size_bytes(path)
        for seq, payload in self._scan(self._storage.read(path), first):
            segment.last_seq = seq
            segment.size_bytes += _FRAME.size + len(payload)
        segment.size_bytes += len(MAGIC)
        if is_last and segment.size_bytes != size_bytes:
            self._repair(path, segment)
        elif not is_last:
            segment.size_bytes = size_bytes
        self._segments.append(segment)

    def _repair(self, path: Path, segment: _Segment) -> None:
        if self._storage.read(path)[: len(MAGIC)] == MAGIC:
            self._storage.truncate(path, segment.size_bytes)
        else:
            self._storage.write(path, MAGIC)

    def _report_holes(self, now_s: float) -> None:
        """A sealed segment with a bad frame has lost its rest: say so."""
        for before, after in zip(self._segments[:-1], self._segments[1:], strict=True):
            lost_from = max(before.last_seq, self.acked_seq) + 1
            if lost_from < after.first_seq:
                self._write_frame(
                    _encoder.encode(GapRecord(first_seq=lost_from, last_seq=after.first_seq - 1, at_s=now_s))
                )

    def _read_cursor(self) -> int:
        path = self._directory / "cursor"
        if not self._storage.exists(path):
            return 0
        text = self._storage.read(path).decode("ascii", "replace").strip()
        # An unreadable cursor costs records sent twice, which changes nothing at the fleet.
        return int(text) if text.isdigit() else 0

    def _make_room(self, frame_bytes: int, now_s: float) -> None:
        current = self._segments[-1]
        if current.last_seq >= current.first_seq and current.size_bytes + frame_bytes > self._segment_limit:
            self._seal()
        reserve = frame_bytes + 256  # the gap record that dropping may need
        while self.size_bytes + reserve > self._limits.max_bytes:
            if len(self._segments) == 1:
                self._seal()
            self._drop_oldest(now_s)

    @property
    def _segment_limit(self) -> int:
        return min(self._limits.segment_bytes, self._limits.max_bytes // 8)

    def _seal(self) -> None:
        self._storage.sync_path(self._path(self._segments[-1]))
        self._start_segment(self.next_seq)
        self._dirty = True

    def _start_segment(self, first_seq: int) -> None:
        segment = _Segment(first_seq, first_seq - 1, len(MAGIC))
        self._storage.write(self._path(segment), MAGIC)
        self._storage.sync_directory(self._directory)
        self._segments.append(segment)

    def _drop_oldest(self, now_s: float) -> None:
        oldest = self._segments[0]
        lost = self._lost_with(oldest)
        if lost is not None:
            # The gap is on the medium before the records go, so that a power cut cannot hide the loss.
            self._write_frame(_encoder.encode(GapRecord(first_seq=lost[0], last_seq=lost[1], at_s=now_s)))
            self.commit()
        self._drop(oldest)

    def _lost_with(self, segment: _Segment) -> tuple[int, int] | None:
        """Return the unacknowledged records that go with a segment, and those that its gap records stand for."""
        first = max(segment.first_seq, self.acked_seq + 1)
        if first > segment.last_seq:
            return None
        for seq, payload in self._frames(segment):
            record = _decoder.decode(payload)
            if seq > self.acked_seq and isinstance(record, GapRecord):
                first = min(first, record.first_seq)
        return first, segment.last_seq

    def _drop(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        self._storage.remove(self._path(segment))

    def _write_frame(self, payload: bytes) -> int:
        segment = self._segments[-1]
        seq = segment.last_seq + 1
        frame = _FRAME.pack(len(payload), zlib.crc32(_SEQ.pack(seq) + payload), seq) + payload
        path = self._path(segment)
        try:
            self._storage.append(path, frame)
        except OSError:
            # A part may have arrived; cut it off, or every later record would hide behind a bad frame.
            self._storage.truncate(path, segment.size_bytes)
            raise
        segment.last_seq = seq
        segment.size_bytes += len(frame)
        self._dirty = True
        return seq

    def _frames(self, segment: _Segment) -> Iterator[tuple[int, bytes]]:
        return self._scan(self._storage.read(self._path(segment)), segment.first_seq)

    def _scan(self, content: bytes, first_seq: int) -> Iterator[tuple[int, bytes]]:
        """Yield the good frames up to the first bad one."""
        if content[: len(MAGIC)] != MAGIC:
            return
        offset, expected = len(MAGIC), first_seq
        while offset + _FRAME.size <= len(content):
            length, crc, seq = _FRAME.unpack_from(content, offset)
            start = offset + _FRAME.size
            payload = content[start : start + length] if 0 < length <= MAX_RECORD_BYTES else b""
            if seq != expected or len(payload) != length or not payload or zlib.crc32(_SEQ.pack(seq) + payload) != crc:
                return
            yield seq, payload
            offset = start + length
            expected += 1

    def _path(self, segment: _Segment) -> Path:
        return self._directory / f"{segment.first_seq:020d}{SUFFIX}"
