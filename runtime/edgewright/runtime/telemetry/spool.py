"""The spool: records wait here, in order, until the fleet has acknowledged them.

An append-only log of segments with a hard cap on its bytes. When it is full the oldest segment goes and a `GapRecord`
says which records went with it: loss is always visible. All file operations go through `storage`, so that tests cut the
power after each of them.

    spool/identity                one line; a new spool is a new identity, so acknowledgements cannot be mixed up
    spool/cursor                  one line; everything up to this sequence number is acknowledged
    spool/<first seq>.segment     magic, then frames (see segment.py)

Recovery cuts the last segment at its first bad frame; where good frames lie behind that one, the medium has damaged it,
and numbering goes on behind them. Only records that are on the medium are handed to the link. So a sequence number that
the fleet has seen is never given to another record.

A flush that failed is never repeated on the same file: the kernel may have dropped the pages and call them clean. What
was not yet flushed is kept in memory, and goes into a new file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewright.targets.faults import EnvironmentFault

from ..storage import Storage, ensure_directory, replace_file
from .records import GapRecord, Record
from .segment import (
    FRAME_HEAD_BYTES,
    MAGIC,
    MAX_PAYLOAD_BYTES,
    SUFFIX,
    Segment,
    frame,
    last_seq_behind,
    most_records,
    scan,
)

MAX_RECORD_BYTES = MAX_PAYLOAD_BYTES
MIN_SPOOL_BYTES = 4096

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


class Spool:
    """One spool directory, opened by one process. Not thread-safe: the agent's loop owns it."""

    def __init__(self, storage: Storage, directory: Path, limits: SpoolLimits, identity: str) -> None:
        self._storage = storage
        self._directory = directory
        self._limits = limits
        self.identity = identity
        self._segments: list[Segment] = []
        self.acked_seq = 0
        self.durable_seq = 0
        self._cursor_on_disk = 0
        self._unflushed: list[bytes] = []
        """Frames of the last segment that are not yet known to be on the medium; at most a segment's worth."""
        self._dirty = False
        self._spoilt = False
        """The last segment's file cannot be trusted any more: what is not flushed needs a new one."""

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
        if not (identity.isalnum() and identity.isascii()):
            # Damaged. The records keep their numbers; to the fleet it is a new spool.
            identity = new_identity
            replace_file(storage, identity_path, identity.encode() + b"\n")
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
            self._make_room(FRAME_HEAD_BYTES + len(payload), now_s)
            return self._write_frame(payload)
        except OSError as error:
            raise SpoolFault(f"cannot write to the spool {self._directory}: {error.strerror or error}") from error

    def commit(self) -> None:
        """Return when every appended record is on the medium.

        Raises:
            SpoolFault: the disk failed; what was appended since the last commit is kept, and goes with the next commit.
        """
        if not self._dirty:
            return
        try:
            self._flush()
        except OSError as error:
            raise SpoolFault(f"cannot flush the spool {self._directory}: {error.strerror or error}") from error

    def acknowledge(self, seq: int) -> None:
        """Forget everything up to `seq`; an old or an impossible number changes nothing."""
        if not self.acked_seq < seq <= self.durable_seq:
            return
        self.acked_seq = seq
        done = [segment for segment in self._segments[:-1] if segment.last_seq <= seq]
        # A disk that refuses costs records sent twice, or kept for longer; both are harmless.
        with contextlib.suppress(OSError):
            if done or seq - self._cursor_on_disk >= self._limits.cursor_every:
                self.save_cursor()
        with contextlib.suppress(OSError):
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
        names = self._storage.names(self._directory)
        for name in (name for name in names if name.startswith(".")):
            with contextlib.suppress(OSError):  # a draft that a power cut has left is only in the way
                self._storage.remove(self._directory / name)
        stems = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
        firsts = sorted(int(stem) for stem in stems if stem.isdigit())
        # The cursor may be ahead of the segments: numbers up to it are used, the fleet has seen them.
        next_seq = self.acked_seq + 1
        for first in firsts:
            next_seq = max(next_seq, self._recover_segment(first, is_last=first == firsts[-1]))
        self._clip_overlaps()
        if not self._segments or self.next_seq < next_seq:
            self._start_segment(next_seq)
        last = self._segments[-1]
        self.durable_seq = last.first_seq - 1
        self._unflushed = [frame(*found) for found in self._frames(last)]
        self._dirty = True
        # On a full disk a hole stays, and is reported by the next start; the flush is repeated by the next commit.
        with contextlib.suppress(OSError, SpoolFault):
            self._report_holes(now_s)
        with contextlib.suppress(OSError, SpoolFault):
            self.commit()
            self._finish_removals(now_s)

    def _clip_overlaps(self) -> None:
        """What was copied from a spoilt segment into a new one may still be in the spoilt one, too."""
        for before, after in zip(self._segments[:-1], self._segments[1:], strict=True):
            before.last_seq = min(before.last_seq, after.first_seq - 1)

    def _finish_removals(self, now_s: float) -> None:
        """Segments that were removed just before a power cut may be back."""
        for segment in [old for old in self._segments[:-1] if old.last_seq <= self.acked_seq]:
            self._drop(segment)
        while self.size_bytes > self._limits.max_bytes and len(self._segments) > 1:
            self._drop_oldest(now_s)

    def _recover_segment(self, first: int, *, is_last: bool) -> int:
        """Take a segment in; returns the lowest sequence number that it leaves free."""
        segment = Segment(first, first - 1, len(MAGIC))
        self._segments.append(segment)
        path = self._path(segment)
        try:
            content = self._storage.read(path)
        except OSError:  # a bad block: what is behind it is lost, and reported as a hole
            segment.size_bytes = self._storage.size_bytes(path)
            return first + most_records(segment.size_bytes)
        for seq, payload in scan(content, first):
            segment.last_seq = seq
            segment.size_bytes += FRAME_HEAD_BYTES + len(payload)
        free = segment.last_seq + 1
        if segment.size_bytes == len(content):
            return free
        later = last_seq_behind(content, segment.size_bytes - len(MAGIC), first) if is_last else None
        if is_last and later is None:
            self._repair(segment, content)
        else:
            segment.size_bytes = len(content)
        return max(free, (later or 0) + 1)

    def _repair(self, segment: Segment, content: bytes) -> None:
        """Cut off what a power cut has left of a frame that was never promised."""
        try:
            if content[: len(MAGIC)] == MAGIC:
                self._storage.truncate(self._path(segment), segment.size_bytes)
            else:
                self._storage.write(self._path(segment), MAGIC)
        except OSError:
            self._spoilt = True

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
        self._flush()
        self._start_segment(self.next_seq)
        self._dirty = True

    def _start_segment(self, first_seq: int) -> None:
        segment = Segment(first_seq, first_seq - 1, len(MAGIC))
        self._storage.write(self._path(segment), MAGIC)
        self._storage.sync_directory(self._directory)
        self._segments.append(segment)

    def _flush(self) -> None:
        if not self._spoilt:
            try:
                self._storage.sync_path(self._path(self._segments[-1]))
            except OSError:
                self._spoilt = True
        if self._spoilt:
            self._rewrite_unflushed()
        self._unflushed.clear()
        self._dirty = False
        self.durable_seq = self.next_seq - 1

    def _rewrite_unflushed(self) -> None:
        """Seal the last segment behind what is surely on the medium, and write the rest into a new file, durably."""
        old, tail = self._segments[-1], b"".join(self._unflushed)
        new = Segment(self.durable_seq + 1, old.last_seq, len(MAGIC) + len(tail))
        if new.first_seq == old.first_seq:
            self._segments.pop()
        else:
            with contextlib.suppress(OSError):  # its rest is a copy of what the new file gets: only space is wasted
                self._storage.truncate(self._path(old), old.size_bytes - len(tail))
        try:
            replace_file(self._storage, self._path(new), MAGIC + tail)
        except OSError:
            if new.first_seq == old.first_seq:
                self._segments.append(old)
            raise
        if new.first_seq != old.first_seq:
            old.last_seq, old.size_bytes = self.durable_seq, old.size_bytes - len(tail)
        self._segments.append(new)
        self._spoilt = False

    def _drop_oldest(self, now_s: float) -> None:
        oldest = self._segments[0]
        lost = self._lost_with(oldest)
        if lost is not None:
            # The gap is on the medium before the records go, so that a power cut cannot hide the loss.
            self._write_frame(_encoder.encode(GapRecord(first_seq=lost[0], last_seq=lost[1], at_s=now_s)))
            self.commit()
        self._drop(oldest)

    def _lost_with(self, segment: Segment) -> tuple[int, int] | None:
        """Return the unacknowledged records that go with a segment, and those that its gap records stand for."""
        first = max(segment.first_seq, self.acked_seq + 1)
        if first > segment.last_seq:
            return None
        for seq, payload in self._frames(segment):
            record = _decoder.decode(payload)
            if seq > self.acked_seq and isinstance(record, GapRecord):
                first = min(first, record.first_seq)
        return first, segment.last_seq

    def _drop(self, segment: Segment) -> None:
        self._storage.remove(self._path(segment))
        self._segments.remove(segment)

    def _write_frame(self, payload: bytes) -> int:
        if self._spoilt:
            self._flush()
        segment = self._segments[-1]
        seq = segment.last_seq + 1
        framed = frame(seq, payload)
        self._append(segment, framed)
        segment.last_seq = seq
        segment.size_bytes += len(framed)
        self._unflushed.append(framed)
        self._dirty = True
        return seq

    def _append(self, segment: Segment, framed: bytes) -> None:
        path = self._path(segment)
        try:
            self._storage.append(path, framed)
        except OSError:
            # A part may have arrived; cut it off, or every later record would hide behind a bad frame.
            try:
                self._storage.truncate(path, segment.size_bytes)
            except OSError:
                self._spoilt = True
            raise

    def _frames(self, segment: Segment) -> Iterator[tuple[int, bytes]]:
        for seq, payload in scan(self._storage.read(self._path(segment)), segment.first_seq):
            if seq > segment.last_seq:
                return
            yield seq, payload

    def _path(self, segment: Segment) -> Path:
        return self._directory / segment.name
