"""What the server counts, in shared memory that outlives it.

One file for each (run of the server, model bundle, time window), mapped `MAP_SHARED`: a store into the map is in the page
cache at once, so the counts survive `kill -9` of the server (a power cut may lose them; they live in a tmpfs on most
boards). The server creates, updates and closes the files and never deletes one. The agent reads them, and deletes those
that are closed or whose writer is dead.

The reader and the writer share no lock. A *sequence word* goes odd before an update and even after it; a reader that sees
an odd word, or another word after than before, tries again. Python gives no memory barriers, so on a weakly ordered CPU
the reader also demands that the latency bins add up to the number of requests. Even so a torn read would do no lasting
harm: records are cumulative, and the last reading of a file is made when nobody writes it any more.

    offset  size
         0     8  magic `EWCOUNT1`
         8     8  sequence word: twice the number of updates, odd while one is under way
        16     8  1 when the writer has closed the file
        24     8  length of the identity
        32     8  number of cells
        40     n  identity, JSON, padded with zeros to a multiple of 8
      40+n        cells, u64 in native order: requests, failures, rows, latency sum, latency bins, histogram bins

Nothing here imports numpy: the agent stays small. The server wraps `CounterFile.histogram_cells` with numpy.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import msgspec

from edgewright.targets.faults import EnvironmentFault

from .records import LATENCY_EDGES_US, WindowRecord

SUFFIX = ".counters"
MAGIC = b"EWCOUNT1"
MAX_FILE_BYTES = 16 * 1024 * 1024

_HEADER_BYTES = 40
_SEQUENCE, _CLOSED, _IDENTITY_LENGTH, _CELL_COUNT = 1, 2, 3, 4
_REQUESTS, _FAILURES, _ROWS, _LATENCY_SUM, _LATENCY = 0, 1, 2, 3, 4
_FIXED_CELLS = _LATENCY + len(LATENCY_EDGES_US) + 1

_READ_TRIES = 200
_READ_PAUSE_S = 0.001


class CounterFileError(EnvironmentFault):
    """A counter file cannot be made or read: no space, not a counter file, or changing all the time."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the counts of one file belong to; the names are those of `WindowRecord`."""

    model: str
    version: str
    bundle: str
    reference: str
    window_start_s: int
    window_s: int
    boot: str
    incarnation: str
    """Of the server, with `.2`, `.3` … where one run counts the same bundle and window again (reload, clock set back)."""
    histogram_sizes: tuple[int, ...] = ()


def counter_path(directory: Path, incarnation: str, number: int) -> Path:
    """Return the path of the n-th counter file of one run of the server."""
    return directory / f"{incarnation}-{number}{SUFFIX}"


def incarnation_of(path: Path) -> str:
    """Return the run of the server that a counter file belongs to; the file name alone tells it."""
    return path.name.removesuffix(SUFFIX).rpartition("-")[0]


class CounterFile:
    """The writer's side of one counter file. One thread at a time."""

    def __init__(self, path: Path, mapped: mmap.mmap, cell_offset: int, cell_count: int) -> None:
        self.path = path
        self._map = mapped
        self._words = memoryview(mapped).cast("Q")
        first = cell_offset // 8
        self._cells = self._words[first : first + cell_count]
        self.histogram_cells = self._cells[_FIXED_CELLS:]
        """Bins of all histograms, one after the other; numpy may wrap it. Change it only inside `update()`."""

    @classmethod
    def create(cls, directory: Path, number: int, identity: Identity) -> CounterFile:
        """Make the n-th counter file of `identity.incarnation`'s server run; it appears complete or not at all.

        Raises:
            CounterFileError: the directory cannot be written, or is full.
        """
        server_run = identity.incarnation.partition(".")[0]
        path = counter_path(directory, server_run, number)
        encoded = msgspec.json.encode(identity)
        padded = encoded + bytes(-len(encoded) % 8)
        cell_count = _FIXED_CELLS + sum(identity.histogram_sizes)
        head = MAGIC + struct.pack("=4Q", 0, 0, len(encoded), cell_count) + padded
        draft = path.with_suffix(".draft")
        try:
            mapped = _map_new_file(draft, head, len(head) + 8 * cell_count)
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CounterFileError(f"cannot make the counter file {path}: {error.strerror or error}") from error
        return cls(path, mapped, len(head), cell_count)

    def count(self, *, latency_us: int, rows: int, failed: bool) -> None:
        """Add one request. Call inside `update()`."""
        cells = self._cells
        cells[_FAILURES] += failed
        cells[_ROWS] += rows
        cells[_LATENCY_SUM] += latency_us
        cells[_LATENCY + bisect_right(LATENCY_EDGES_US, latency_us)] += 1
        cells[_REQUESTS] += 1

    @contextlib.contextmanager
    def update(self) -> Iterator[None]:
        """Mark the file as changing; keep the body short, readers wait for its end."""
        self._words[_SEQUENCE] += 1
        try:
            yield
        finally:
            self._words[_SEQUENCE] += 1

    def close(self) -> None:
        """Say that this file cannot change any more, and let go of it. Drop numpy views of the cells first."""
        with self.update():
            self._words[_CLOSED] = 1
        self.histogram_cells.release()
        self._cells.release()
        self._words.release()
        self._map.close()


def read_counters(path: Path, *, writer_alive: bool) -> WindowRecord:
    """Return the counts in a file as a record.

    A dead writer may have died in the middle of an update. That request was not answered, so it may be counted or not; the
    record is made consistent and is closed.

    Raises:
        CounterFileError: not a counter file, or a living writer kept it changing for too long (try again later).
    """
    for _ in range(_READ_TRIES if writer_alive else 1):
        content, sequence_after = _snapshot(path)
        identity, words, cells = _parse(path, content)
        sequence = words[_SEQUENCE]
        record = _record(identity, sequence, words[_CLOSED] == 1, cells)
        if not writer_alive:
            return _closed_for_a_dead_writer(record, sequence)
        if sequence % 2 == 0 and sequence == sequence_after and record.requests == sum(record.latency):
            return record
        time.sleep(_READ_PAUSE_S)
    raise CounterFileError(f"{path} is being changed all the time; read it again later")


def _map_new_file(path: Path, head: bytes, size: int) -> mmap.mmap:
    with path.open("xb+", buffering=0) as file:
        # Reserves the blocks now: a full disk is an error here instead of a SIGBUS at some later store.
        os.posix_fallocate(file.fileno(), 0, size)
        file.write(head)
        return mmap.mmap(file.fileno(), size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _snapshot(path: Path) -> tuple[bytes, int]:
    """Return the content, and the sequence word as it is right after the content was copied."""
    try:
        with path.open("rb", buffering=0) as file:
            size = min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES + 1)
            content = os.pread(file.fileno(), size, 0)
            after = os.pread(file.fileno(), 8, 8 * _SEQUENCE)
    except OSError as error:
        raise CounterFileError(f"cannot read the counter file {path}: {error.strerror or error}") from error
    return content, int.from_bytes(after, sys.byteorder)


def _parse(path: Path, content: bytes) -> tuple[Identity, tuple[int, ...], tuple[int, ...]]:
    if len(content) < _HEADER_BYTES or content[:8] != MAGIC or len(content) > MAX_FILE_BYTES:
        raise CounterFileError(f"{path} is not a counter file: {len(content)} bytes that begin with {content[:8]!r}")
    words = struct.unpack_from("=5Q", content)
    start = _HEADER_BYTES + words[_IDENTITY_LENGTH] + -words[_IDENTITY_LENGTH] % 8
    count = words[_CELL_COUNT]
    if start + 8 * count != len(content):
        raise CounterFileError(f"{path}: expected {start + 8 * count} bytes by its header, got {len(content)}")
    try:
        identity = msgspec.json.decode(content[_HEADER_BYTES:][: words[_IDENTITY_LENGTH]], type=Identity)
    except msgspec.DecodeError as error:
        raise CounterFileError(f"{path}: unreadable identity: {error}") from error
    sizes = identity.histogram_sizes
    if any(size < 0 for size in sizes) or count != _FIXED_CELLS + sum(sizes):
        raise CounterFileError(f"{path}: {count} cells do not fit the histogram sizes of its identity")
    return identity, words, struct.unpack_from(f"={count}Q", content, start)


def _record(identity: Identity, sequence: int, closed: bool, cells: Sequence[int]) -> WindowRecord:
    bounds = list(accumulate(identity.histogram_sizes, initial=_FIXED_CELLS))
    return WindowRecord(
        model=identity.model,
        version=identity.version,
        bundle=identity.bundle,
        reference=identity.reference,
        window_start_s=identity.window_start_s,
        window_s=identity.window_s,
        boot=identity.boot,
        incarnation=identity.incarnation,
        seq=(sequence + 1) // 2,
        closed=closed,
        requests=cells[_REQUESTS],
        failures=cells[_FAILURES],
        rows=cells[_ROWS],
        latency_us_sum=cells[_LATENCY_SUM],
        latency=tuple(cells[_LATENCY:_FIXED_CELLS]),
        histograms=tuple(tuple(cells[begin:end]) for begin, end in pairwise(bounds)),
    )


def _closed_for_a_dead_writer(record: WindowRecord, sequence: int) -> WindowRecord:
    if record.closed and sequence % 2 == 0:
        return record
    # One more than any living reader can have reported: this closed record is the later one.
    return msgspec.structs.replace(record, closed=True, requests=sum(record.latency), seq=record.seq + 1)
