"""What the server counts, in shared memory that outlives it.

One file for each (run of the server, model bundle, time window), mapped `MAP_SHARED`: a store into the map is in the
page cache at once, so the counts survive `kill -9` of the server (a power cut may lose them; they live in a tmpfs on
most boards). The server creates, updates and closes the files and never deletes one. The agent reads them, and deletes
those that are closed or whose writer is dead.

The reader and the writer share no lock. The writer adds one to the *begun* word at the end of the file, changes the
cells, and adds one to the *finished* word at its head. The reader copies the finished word, then the
cells, then the begun word: when both words are the same, no update was under way while the cells were copied; else it
tries again. Python gives no memory barriers, so on a weakly ordered CPU the reader also demands that
the latency bins add up to the number of requests. Even so a torn read would do no lasting harm: records are cumulative,
and the last reading of a file is made when nobody writes it any more.

    offset  size
         0     8  magic `EWCOUNT1`
         8     8  finished: number of updates that are complete
        16     8  1 when the writer has closed the file
        24     8  length of the identity
        32     8  number of cells
        40     n  identity, JSON, padded with zeros to a multiple of 8
      40+n   8*m  cells, u64 in native order: requests, failures, rows, latency sum, latency bins, histogram bins,
                  and where the identity has label bins: energy, its requests, shadow rows, disagreements, labelled
                  samples by bin, those answered right by bin
               8  begun: number of updates that were begun

Nothing here imports numpy: the agent stays small. The server wraps `CounterFile.histogram_cells` with numpy.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
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
_FINISHED, _CLOSED, _IDENTITY_LENGTH, _CELL_COUNT = 1, 2, 3, 4
_REQUESTS, _FAILURES, _ROWS, _LATENCY_SUM, _LATENCY = 0, 1, 2, 3, 4
_FIXED_CELLS = _LATENCY + len(LATENCY_EDGES_US) + 1
_ENERGY, _ENERGY_REQUESTS, _SHADOW_ROWS, _SHADOW_DISAGREEMENTS, _LABELS = range(5)
"""Places behind the histograms."""

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
    """Of the server; with `.2`, `.3` … where one run counts a bundle and window again (reload, clock set back)."""
    histogram_sizes: tuple[int, ...] = ()
    label_bins: int = 0
    """Bins of confidence in which told truths are counted; 0: a file without these counts, nor energy and shadow's."""

    @property
    def side_cells(self) -> int:
        """Cells behind the histograms."""
        return _LABELS + 2 * self.label_bins if self.label_bins else 0


def counter_path(directory: Path, incarnation: str, number: int) -> Path:
    """Return the path of the n-th counter file of one run of the server."""
    return directory / f"{incarnation}-{number}{SUFFIX}"


def incarnation_of(path: Path) -> str:
    """Return the run of the server that a counter file belongs to; the file name alone tells it."""
    return path.name.removesuffix(SUFFIX).rpartition("-")[0]


class CounterFile:
    """The writer's side of one counter file. One thread at a time."""

    def __init__(self, mapped: mmap.mmap, cell_offset: int, cell_count: int, identity: Identity) -> None:
        self._map = mapped
        self._words = memoryview(mapped).cast("Q")
        first = cell_offset // 8
        self._cells = self._words[first : first + cell_count]
        side = cell_count - identity.side_cells
        self.histogram_cells = self._cells[_FIXED_CELLS:side]
        """Bins of all histograms, one after the other; numpy may wrap it. Change it only inside `update()`."""
        self._side = self._cells[side:]
        self._label_bins = identity.label_bins

    @classmethod
    def create(cls, directory: Path, number: int, identity: Identity) -> CounterFile:
        """Make the n-th counter file of `identity.incarnation`'s server run; it appears complete or not at all.

        Raises:
            CounterFileError: the directory cannot be written, or is full.
        """
        server_run = identity.incarnation.partition(".")[0]
        path = counter_path(directory, server_run, number)
        head, cell_count = _head(identity)
        draft = path.with_suffix(".draft")
        try:
            mapped = _map_new_file(draft, head, len(head) + 8 * (cell_count + 1))
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CounterFileError(f"cannot make the counter file {path}: {error.strerror or error}") from error
        return cls(mapped, len(head), cell_count, identity)

    @classmethod
    def in_memory(cls, identity: Identity) -> CounterFile:
        """Make one that is no file, for a disk that is full: `absorb` it into a file as soon as there is room."""
        head, cell_count = _head(identity)
        mapped = mmap.mmap(-1, len(head) + 8 * (cell_count + 1))
        mapped.write(head)
        return cls(mapped, len(head), cell_count, identity)

    def absorb(self, other: CounterFile) -> None:
        """Add what another one with the same cells has counted, and let go of that one."""
        with self.update():
            for index, cell in enumerate(other._cells):
                self._cells[index] += cell
        other.close()

    @property
    def size_bytes(self) -> int:
        """Bytes that the file takes."""
        return len(self._map)

    def count(self, latencies_us: Sequence[int], *, rows: int, failures: int) -> None:
        """Add requests that ended together. Call inside `update()`."""
        cells = self._cells
        if failures:
            cells[_FAILURES] += failures
        cells[_ROWS] += rows
        cells[_LATENCY_SUM] += sum(latencies_us)
        for latency_us in latencies_us:
            cells[_LATENCY + bisect_right(LATENCY_EDGES_US, latency_us)] += 1
        cells[_REQUESTS] += len(latencies_us)

    def add_requests(self, latencies_us: Sequence[int], rows: int, failures: int) -> None:
        """`update()` and `count()` in one call: a context manager costs a microsecond."""
        words = self._words
        words[-1] += 1
        try:
            self.count(latencies_us, rows=rows, failures=failures)
        finally:
            words[_FINISHED] += 1

    def add_energy(self, energy_uj: int, requests: int) -> None:
        """Add what the board used while these requests were executed."""
        with self.update():
            self._side[_ENERGY] += energy_uj
            self._side[_ENERGY_REQUESTS] += requests

    def add_shadow(self, rows: int, disagreements: int) -> None:
        """Add samples that were answered as a shadow, and those of them that were answered otherwise."""
        with self.update():
            self._side[_SHADOW_ROWS] += rows
            self._side[_SHADOW_DISAGREEMENTS] += disagreements

    def add_labels(self, told: Sequence[tuple[int, bool]]) -> None:
        """Add samples whose truth was told: the bin of their confidence, and whether they were answered right."""
        with self.update():
            for place, is_right in told:
                self._side[_LABELS + place] += 1
                self._side[_LABELS + self._label_bins + place] += is_right

    @contextlib.contextmanager
    def update(self) -> Iterator[None]:
        """Mark the file as changing; keep the body short, readers wait for its end."""
        words = self._words
        words[-1] += 1
        try:
            yield
        finally:
            words[_FINISHED] += 1

    def close(self) -> None:
        """Say that this file cannot change any more, and let go of it. Drop numpy views of the cells first."""
        with self.update():
            self._words[_CLOSED] = 1
        self.histogram_cells.release()
        self._side.release()
        self._cells.release()
        self._words.release()
        self._map.close()


def read_counters(path: Path, *, writer_alive: bool) -> WindowRecord:
    """Return the counts in a file as a record.

    A dead writer may have died in the middle of an update. That request was not answered, so it may be counted or not;
    the record is made consistent and is closed.

    Raises:
        CounterFileError: not a counter file, or a living writer kept it changing for too long (try again later).
    """
    for _ in range(_READ_TRIES if writer_alive else 1):
        finished, content, begun = _snapshot(path)
        record = _parse(path, content)
        if not writer_alive:
            return _closed_for_a_dead_writer(record, begun)
        if finished == begun and record.requests == sum(record.latency):
            return record
        time.sleep(_READ_PAUSE_S)
    raise CounterFileError(f"{path} is being changed all the time; read it again later")


def _head(identity: Identity) -> tuple[bytes, int]:
    """Return what stands before the cells, and how many cells there are."""
    encoded = msgspec.json.encode(identity)
    cell_count = _FIXED_CELLS + sum(identity.histogram_sizes) + identity.side_cells
    padding = bytes(-len(encoded) % 8)
    return MAGIC + struct.pack("=4Q", 0, 0, len(encoded), cell_count) + encoded + padding, cell_count


def _map_new_file(path: Path, head: bytes, size: int) -> mmap.mmap:
    with path.open("xb+", buffering=0) as file:
        # Reserves the blocks now: a full disk is an error here instead of a SIGBUS at some later store.
        os.posix_fallocate(file.fileno(), 0, size)
        file.write(head)
        return mmap.mmap(file.fileno(), size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _snapshot(path: Path) -> tuple[int, bytes, int]:
    """Return the finished word as it was before the content was copied, the content, and the begun word after that."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size % 8 or not _HEADER_BYTES < size <= MAX_FILE_BYTES:
                raise CounterFileError(f"{path} is not a counter file: it has {size} bytes")
            # A map and not a read: the order of the three copies is ours, and they are close together.
            with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped, memoryview(mapped).cast("Q") as words:
                return words[_FINISHED], words.tobytes(), words[-1]
    except OSError as error:
        raise CounterFileError(f"cannot read the counter file {path}: {error.strerror or error}") from error


def _parse(path: Path, content: bytes) -> WindowRecord:
    if content[:8] != MAGIC:
        raise CounterFileError(f"{path} is not a counter file: it begins with {content[:8]!r}, expected {MAGIC!r}")
    words = struct.unpack_from("=5Q", content)
    start = _HEADER_BYTES + words[_IDENTITY_LENGTH] + -words[_IDENTITY_LENGTH] % 8
    count = words[_CELL_COUNT]
    if start + 8 * (count + 1) != len(content):
        raise CounterFileError(f"{path}: expected {start + 8 * (count + 1)} bytes by its header, got {len(content)}")
    try:
        identity = msgspec.json.decode(content[_HEADER_BYTES:][: words[_IDENTITY_LENGTH]], type=Identity)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CounterFileError(f"{path}: unreadable identity: {error}") from error
    sizes = identity.histogram_sizes
    if min(sizes, default=0) < 0 or identity.label_bins < 0 or count != _FIXED_CELLS + sum(sizes) + identity.side_cells:
        raise CounterFileError(f"{path}: {count} cells do not fit the histogram sizes of its identity")
    cells = struct.unpack_from(f"={count}Q", content, start)
    return _record(identity, words[_FINISHED], words[_CLOSED] == 1, cells)


def _record(identity: Identity, finished: int, closed: bool, cells: Sequence[int]) -> WindowRecord:
    bounds = list(accumulate(identity.histogram_sizes, initial=_FIXED_CELLS))
    side = cells[bounds[-1] :] or (0,) * _LABELS
    right = _LABELS + identity.label_bins
    return WindowRecord(
        model=identity.model,
        version=identity.version,
        bundle=identity.bundle,
        reference=identity.reference,
        window_start_s=identity.window_start_s,
        window_s=identity.window_s,
        boot=identity.boot,
        incarnation=identity.incarnation,
        seq=finished,
        closed=closed,
        requests=cells[_REQUESTS],
        failures=cells[_FAILURES],
        rows=cells[_ROWS],
        latency_us_sum=cells[_LATENCY_SUM],
        latency=tuple(cells[_LATENCY:_FIXED_CELLS]),
        histograms=tuple(tuple(cells[begin:end]) for begin, end in pairwise(bounds)),
        energy_uj_sum=side[_ENERGY],
        energy_requests=side[_ENERGY_REQUESTS],
        shadow_rows=side[_SHADOW_ROWS],
        shadow_disagreements=side[_SHADOW_DISAGREEMENTS],
        labelled=tuple(side[_LABELS:right]) if any(side[_LABELS:right]) else (),
        labelled_correct=tuple(side[right:]) if any(side[_LABELS:right]) else (),
    )


def _closed_for_a_dead_writer(record: WindowRecord, begun: int) -> WindowRecord:
    if record.closed and record.seq == begun:
        return record
    # One more than any living reader can have reported: this closed record is the later one.
    return msgspec.structs.replace(
        record, closed=True, requests=sum(record.latency), seq=begun + 1, crashes=int(not record.closed)
    )
