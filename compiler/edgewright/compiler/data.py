"""The data file: an `.npz` with one array per model input (or `x`), optionally `y` and `split`.

Reading is strict and bounded (no pickle), and large arrays lie on disk (`npz.py`, `mapped.py`). Where no `split` is
given, a fixed hash of each sample's own bytes divides them, so that equal samples never stand on both sides and the
order of the file does not matter. Calibration samples are those of the smallest hashes, in the order of their hashes.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from . import mapped
from .faults import DataError
from .graph import Port
from .npz import SUFFIX, read_members

Part = Literal["calibrate", "tune", "test"]
Arrays = dict[str, NDArray[Any]]

MAX_DATA_BYTES = 8 * 1024**3
MAX_ARRAYS = 64
MAX_SAMPLES = 10_000_000
"""Each costs memory whatever its size, and a small compressed file can claim billions."""
MAX_REASON_CHARACTERS = 200
"""Of what libraries say about a damaged file: some repeat all of it."""
LABELS = "y"
SPLIT = "split"
ONLY_INPUT = "x"
CALIBRATE_SHARE = 0.25
TUNE_SHARE = 0.25
MAX_CALIBRATION_SAMPLES = 16_384
"""Whatever one sample in 5 000 shows is seen among so many with a probability of 96 %; the rest is left unused."""


@dataclass(frozen=True)
class Samples:
    """Some samples: one array per input, and labels where there are any."""

    inputs: Arrays
    labels: NDArray[Any] | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: NDArray[np.intp]) -> Samples:
        """The samples at these places."""
        labels = None if self.labels is None else self.labels[indices]
        return Samples({name: mapped.gathered([array], [indices]) for name, array in self.inputs.items()}, labels)


@dataclass(frozen=True)
class Dataset:
    """A data file, divided."""

    calibrate: Samples
    tune: Samples
    test: Samples
    digest: str
    ignored: tuple[str, ...]
    """Arrays of the file that are neither an input, nor `y`, nor `split`."""
    split_by: str
    overlap: int = 0
    """Samples of `test` that are equal to one of `calibrate` or `tune`."""

    @cached_property
    def reference(self) -> Samples:
        """What the drift reference is made from: everything that is not kept for the final score."""
        parts = (self.calibrate, self.tune)
        everything = [np.arange(len(part)) for part in parts]
        inputs = {
            name: mapped.gathered([part.inputs[name] for part in parts], everything) for name in self.calibrate.inputs
        }
        labels = [part.labels for part in parts if part.labels is not None]
        return Samples(inputs, np.concatenate(labels) if labels else None)


def load_arrays(path: Path) -> tuple[Arrays, str]:
    """All arrays of an `.npz` within bounds, and the file's digest. The file is not needed any more afterwards.

    Raises:
        DataError: missing, too large, damaged, not plain arrays, or changed while it was read.
        EnvironmentFault: no room for large arrays.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        with path.open("rb") as file:
            before = _version(file)
            with zipfile.ZipFile(file) as archive:
                _check_members(path, archive)
                arrays = dict(read_members(archive))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if _version(file) != before:
                raise DataError(f"{path}: it was changed while it was read; run again when nothing writes to it")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, MemoryError) as error:
        raise DataError(
            f"{path}: not a readable .npz of plain arrays ({str(error)[:MAX_REASON_CHARACTERS]}). "
            "Write it with numpy.savez(path, x=..., y=...)"
        ) from error
    return arrays, f"sha256:{digest}"


def _version(file: BinaryIO) -> tuple[int, int]:
    """What changes when somebody writes to an open file."""
    facts = os.fstat(file.fileno())
    return facts.st_size, facts.st_mtime_ns


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    total_bytes = sum(member.file_size for member in members)
    if len(members) > MAX_ARRAYS:
        raise DataError(f"{path}: {len(members)} arrays; at most {MAX_ARRAYS} are read")
    if total_bytes > MAX_DATA_BYTES:
        raise DataError(f"{path}: {total_bytes} bytes unpacked; at most {MAX_DATA_BYTES} are read")
    stray = [member.filename for member in members if not member.filename.endswith(SUFFIX)]
    if stray:
        raise DataError(f"{path}: holds {stray[0]!r}, which is not an array")


def dataset(path: Path, arrays: Mapping[str, NDArray[Any]], digest: str, input_names: tuple[str, ...]) -> Dataset:
    """Matches arrays with the model's inputs and divides the samples."""
    everything = undivided(path, arrays, input_names)
    inputs, count = everything.inputs, len(everything)
    given = arrays.get(SPLIT)
    hashes = sample_hashes(inputs)
    parts = _parts_of(hashes) if given is None else _given_split(path, given, count)
    places: dict[Part, NDArray[np.intp]] = {part: np.flatnonzero(parts == part) for part in get_args(Part)}
    _check_parts(path, places, given=given is not None)
    calibrate = places["calibrate"]
    calibrate = calibrate[np.argsort(hashes[calibrate], kind="stable")][:MAX_CALIBRATION_SAMPLES]
    used = {*input_names, ONLY_INPUT, LABELS, SPLIT}
    return Dataset(
        calibrate=everything.take(calibrate),
        tune=everything.take(places["tune"]),
        test=everything.take(places["test"]),
        digest=digest,
        ignored=tuple(sorted(set(arrays) - used)),
        split_by="array `split`" if given is not None else "hash of each sample",
        overlap=int(np.isin(hashes[parts == "test"], hashes[parts != "test"]).sum()),
    )


def undivided(path: Path, arrays: Mapping[str, NDArray[Any]], input_names: tuple[str, ...]) -> Samples:
    """Every sample of a data file, matched with the model's inputs and checked.

    Raises:
        DataError: an input has no array, an array is not one number per element and one row per sample, or there are
            no samples, or too many.
    """
    inputs = _inputs(path, arrays, input_names)
    first = next(iter(inputs.values()))
    count = len(first) if first.ndim else 0
    if count > MAX_SAMPLES:
        raise DataError(f"{path}: {count} samples; at most {MAX_SAMPLES} are read")
    labels = arrays.get(LABELS)
    for name, array in (*inputs.items(), *(() if labels is None else ((LABELS, labels),))):
        if array.ndim == 0 or len(array) != count:
            expected = f"{count} samples in front" if first.ndim else "samples in front"
            raise DataError(f"{path}: array {name!r} has shape {array.shape}, expected {expected}")
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: array {name!r} has type {array.dtype}, expected numbers")
        if array.dtype.kind == "f" and not all(np.isfinite(array[part]).all() for part in mapped.chunks(array)):
            raise DataError(f"{path}: array {name!r} holds NaN or infinity; leave such samples out")
    if count == 0:
        raise DataError(f"{path}: the arrays hold no samples; their first axis counts them")
    return Samples(inputs, labels)


def _inputs(path: Path, arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> Arrays:
    if len(names) == 1 and names[0] not in arrays and ONLY_INPUT in arrays:
        return {names[0]: arrays[ONLY_INPUT]}
    missing = [name for name in names if name not in arrays]
    if missing:
        hint = f" (or {ONLY_INPUT})" if len(names) == 1 and names[0] != ONLY_INPUT else ""
        raise DataError(
            f"{path}: no array for input {missing[0]!r}{hint}; the file has: {', '.join(sorted(arrays)) or 'nothing'}"
        )
    return {name: arrays[name] for name in names}


def split_by_hash(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """A part for each sample, from its bytes alone: 25 % calibrate, 25 % tune, the rest test."""
    return _parts_of(sample_hashes(inputs))


def sample_hashes(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.uint64]:
    """64 bits of BLAKE2b over each sample's bytes, inputs in the order of their names; equal samples, equal hashes."""
    arrays = [inputs[name] for name in sorted(inputs)]
    hashes = np.empty(len(arrays[0]), np.uint64)
    widest = max(arrays, key=lambda array: array[:1].nbytes)
    for part in mapped.chunks(widest):
        rows = [np.ascontiguousarray(array[part]) for array in arrays]
        hashes[part] = [_hash(sample) for sample in zip(*rows, strict=True)]
    return hashes


def _hash(sample: tuple[NDArray[Any], ...]) -> int:
    hashed = hashlib.blake2b(digest_size=8)
    for array in sample:
        hashed.update(array.tobytes())
    return int.from_bytes(hashed.digest(), "big")


def _parts_of(hashes: NDArray[np.uint64]) -> NDArray[np.str_]:
    fractions = hashes.astype(np.float64) / 2**64
    return np.select(
        [fractions < CALIBRATE_SHARE, fractions < CALIBRATE_SHARE + TUNE_SHARE], ["calibrate", "tune"], "test"
    ).astype("<U9")


def _given_split(path: Path, split: NDArray[Any], count: int) -> NDArray[np.str_]:
    if split.shape != (count,) or split.dtype.kind not in "US":
        raise DataError(f"{path}: array 'split' must hold {count} words, got shape {split.shape}, type {split.dtype}")
    try:
        words = split.astype("<U16")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: array 'split' holds bytes that are no words: {error}") from error
    unknown = sorted(set(words.tolist()) - set(get_args(Part)))
    if unknown:
        raise DataError(f"{path}: array 'split' has {unknown[0]!r}; expected {', '.join(get_args(Part))}")
    return words


def _check_parts(path: Path, places: Mapping[Part, NDArray[np.intp]], *, given: bool) -> None:
    for part, found in places.items():
        if len(found) == 0:
            remedy = "name every part in `split`" if given else "give more (different) samples, or an array `split`"
            raise DataError(f"{path}: no sample for the part {part!r}; {remedy}")


def as_model_inputs(samples: Samples, ports: tuple[Port, ...]) -> Samples:
    """The samples in the types that the model takes.

    Raises:
        DataError: another shape, or values that the type cannot hold.
    """
    return Samples({port.name: _cast(samples.inputs[port.name], port) for port in ports}, samples.labels)


def _cast(array: NDArray[Any], port: Port) -> NDArray[Any]:
    _check_shape(array, port)
    wanted = port.dtype.numpy()
    if array.dtype == wanted and array.flags.c_contiguous and array.flags.aligned:
        return array
    cast = mapped.empty(array.shape, wanted)
    for part in mapped.chunks(array):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            cast[part] = array[part].astype(wanted)
        if _loses(array[part], cast[part]):
            raise DataError(
                f"input {port.name!r} takes {wanted}, but the data ({array.dtype}) has values that {wanted} cannot hold"
            )
    return cast


def _loses(array: NDArray[Any], cast: NDArray[Any]) -> bool:
    if array.dtype == cast.dtype:
        return False
    if cast.dtype.kind in "biu":
        return not np.array_equal(cast.astype(np.float64), array.astype(np.float64))
    return not bool(np.isfinite(cast).all())


def _check_shape(array: NDArray[Any], port: Port) -> None:
    if _fits(array.shape, port.shape):
        return
    expected = ", ".join("any" if size < 0 else str(size) for size in port.shape[1:])
    raise DataError(
        f"input {port.name!r}: expected samples of shape ({expected}), the data has {array.shape[1:]}"
        f"{_transposition(array.shape, port)}"
    )


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        want in (-1, got) for want, got in zip(expected[1:], shape[1:], strict=True)
    )


def _transposition(shape: tuple[int, ...], port: Port) -> str:
    """What to do where the axes only stand in another order; the usual orders of pictures come first."""
    if not 3 <= len(shape) <= 5:
        return ""
    usual = [(0, len(shape) - 1, *range(1, len(shape) - 1)), (0, *range(2, len(shape)), 1)]
    for order in (*usual, *((0, *rest) for rest in permutations(range(1, len(shape))))):
        if _fits(tuple(shape[axis] for axis in order), port.shape):
            return f". The axes stand in another order: write the array with numpy.transpose(array, {order})"
    return ""
