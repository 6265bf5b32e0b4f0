"""The data file: an `.npz` with one array per model input (or `x`), optionally `y` and `split`.

Reading is strict and bounded (no pickle). Where no `split` is given, a fixed hash of each sample's own bytes divides
them, so that equal samples never stand on both sides and the order of the file does not matter.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .faults import DataError
from .graph import Port

Part = Literal["calibrate", "tune", "test"]
Arrays = dict[str, NDArray[Any]]

MAX_DATA_BYTES = 8 * 1024**3
MAX_ARRAYS = 64
LABELS = "y"
SPLIT = "split"
ONLY_INPUT = "x"
CALIBRATE_SHARE = 0.25
TUNE_SHARE = 0.25
MAX_CALIBRATION_SAMPLES = 512
"""More calibration samples than this changed no scale worth mentioning; the rest is left unused."""


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
        return Samples({name: array[indices] for name, array in self.inputs.items()}, labels)


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

    @property
    def reference(self) -> Samples:
        """What the drift reference is made from: everything that is not kept for the final score."""
        parts = (self.calibrate, self.tune)
        inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in self.calibrate.inputs}
        labels = [part.labels for part in parts if part.labels is not None]
        return Samples(inputs, np.concatenate(labels) if labels else None)


def load_arrays(path: Path) -> tuple[Arrays, str]:
    """All arrays of an `.npz` within bounds, and the file's digest."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, MemoryError) as error:
        raise DataError(
            f"{path}: not a readable .npz of plain arrays ({error}). Write it with numpy.savez(path, x=..., y=...)"
        ) from error
    return arrays, f"sha256:{digest}"


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    total_bytes = sum(member.file_size for member in members)
    if len(members) > MAX_ARRAYS:
        raise DataError(f"{path}: {len(members)} arrays; at most {MAX_ARRAYS} are read")
    if total_bytes > MAX_DATA_BYTES:
        raise DataError(f"{path}: {total_bytes} bytes unpacked; at most {MAX_DATA_BYTES} are read")
    stray = [member.filename for member in members if not member.filename.endswith(".npy")]
    if stray:
        raise DataError(f"{path}: holds {stray[0]!r}, which is not an array")


def dataset(path: Path, arrays: Mapping[str, NDArray[Any]], digest: str, input_names: tuple[str, ...]) -> Dataset:
    """Matches arrays with the model's inputs and divides the samples."""
    everything = undivided(path, arrays, input_names)
    inputs, count = everything.inputs, len(everything)
    given = arrays.get(SPLIT)
    parts = split_by_hash(inputs) if given is None else _given_split(path, given, count)
    divided = {part: everything.take(np.flatnonzero(parts == part)) for part in get_args(Part)}
    _check_parts(path, divided, given=given is not None)
    used = {*input_names, ONLY_INPUT, LABELS, SPLIT}
    return Dataset(
        calibrate=divided["calibrate"].take(np.arange(min(len(divided["calibrate"]), MAX_CALIBRATION_SAMPLES))),
        tune=divided["tune"],
        test=divided["test"],
        digest=digest,
        ignored=tuple(sorted(set(arrays) - used)),
        split_by="array `split`" if given is not None else "hash of each sample",
    )


def undivided(path: Path, arrays: Mapping[str, NDArray[Any]], input_names: tuple[str, ...]) -> Samples:
    """Every sample of a data file, matched with the model's inputs and checked.

    Raises:
        DataError: an input has no array, or an array is not one number per element and one row per sample.
    """
    inputs = _inputs(path, arrays, input_names)
    first = next(iter(inputs.values()))
    count = len(first) if first.ndim else 0
    labels = arrays.get(LABELS)
    for name, array in (*inputs.items(), *(() if labels is None else ((LABELS, labels),))):
        if array.ndim == 0 or len(array) != count:
            expected = f"{count} samples in front" if first.ndim else "samples in front"
            raise DataError(f"{path}: array {name!r} has shape {array.shape}, expected {expected}")
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: array {name!r} has type {array.dtype}, expected numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{path}: array {name!r} holds NaN or infinity; leave such samples out")
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
    count = len(next(iter(inputs.values())))
    parts = np.empty(count, dtype="<U9")
    rows = [np.ascontiguousarray(inputs[name]) for name in sorted(inputs)]
    for index in range(count):
        hashed = hashlib.blake2b(digest_size=8)
        for array in rows:
            hashed.update(array[index].tobytes())
        fraction = int.from_bytes(hashed.digest(), "big") / 2**64
        parts[index] = _part_of(fraction)
    return parts


def _part_of(fraction: float) -> Part:
    if fraction < CALIBRATE_SHARE:
        return "calibrate"
    return "tune" if fraction < CALIBRATE_SHARE + TUNE_SHARE else "test"


def _given_split(path: Path, split: NDArray[Any], count: int) -> NDArray[np.str_]:
    if split.shape != (count,) or split.dtype.kind not in "US":
        raise DataError(f"{path}: array 'split' must hold {count} words, got shape {split.shape}, type {split.dtype}")
    words = split.astype("<U16")
    unknown = sorted(set(words.tolist()) - set(get_args(Part)))
    if unknown:
        raise DataError(f"{path}: array 'split' has {unknown[0]!r}; expected {', '.join(get_args(Part))}")
    return words


def _check_parts(path: Path, divided: Mapping[Part, Samples], *, given: bool) -> None:
    for part, samples in divided.items():
        if len(samples) == 0:
            remedy = "name every part in `split`" if given else "give more (different) samples, or an array `split`"
            raise DataError(f"{path}: no sample for the part {part!r}; {remedy}")


def as_model_inputs(samples: Samples, ports: tuple[Port, ...]) -> Samples:
    """The samples in the types that the model takes.

    Raises:
        DataError: another shape, or values that the type cannot hold.
    """
    return Samples({port.name: _cast(samples.inputs[port.name], port) for port in ports}, samples.labels)


def _cast(array: NDArray[Any], port: Port) -> NDArray[Any]:
    expected = port.shape[1:]
    fits = array.ndim == len(port.shape) and all(
        want in (-1, got) for want, got in zip(expected, array.shape[1:], strict=True)
    )
    if not fits:
        shape = ", ".join("any" if size < 0 else str(size) for size in expected)
        raise DataError(f"input {port.name!r}: expected samples of shape ({shape}), the data has {array.shape[1:]}")
    wanted = port.dtype.numpy()
    if array.dtype == wanted:
        return array
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        cast = array.astype(wanted)
    whole = wanted.kind in "biu"
    lost = (
        not np.array_equal(cast.astype(np.float64), array.astype(np.float64)) if whole else not np.isfinite(cast).all()
    )
    if lost:
        raise DataError(
            f"input {port.name!r} takes {wanted}, but the data ({array.dtype}) has values that {wanted} cannot hold"
        )
    return cast
