"""Batch inference from file to file. The thin command around it is `batch_cli`."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.archive import unpack, verify
from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.targets.faults import EnvironmentFault, UserFault

from .engines.protocol import Instance, LoadOptions
from .server.loading import GoldenTestFailed, LoadedModel, load_bundle

Tensors = dict[str, NDArray[Any]]
OnProgress = Callable[[int, int], None]


class BatchInputError(UserFault):
    """The file of inputs does not fit the model."""


class BatchRunError(UserFault):
    """The model cannot run on these inputs."""


class OutputNotWritten(EnvironmentFault):
    """The file of outputs cannot be written."""


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What was done."""

    model: str
    version: str
    rows: int
    batches: int
    batch_size: int
    seconds: float
    rows_per_s: float
    output: str
    outputs: dict[str, list[int]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.outputs.items())
        return (
            f"{self.model} {self.version}: {self.rows} samples in {self.seconds:.2f} s ({self.rows_per_s:.0f}/s), "
            f"wrote {self.output}: {shapes}"
        )


def run_batches(
    bundle: Path,
    input_path: Path,
    output_path: Path,
    *,
    batch_size: int,
    threads: int | None,
    emulated: bool,
    on_progress: OnProgress,
) -> BatchSummary:
    """Run a bundle over the inputs in a file and write its outputs.

    Raises:
        Fault: bundle, inputs or this machine are not fit for it; no output file was made.
    """
    _check_output(output_path)
    with _unpacked(bundle) as directory:
        loaded = _load(directory, LoadOptions(emulated=emulated, threads=threads))
        manifest = loaded.manifest
        inputs, rows = read_inputs(input_path, manifest)
        size = _batch_size(manifest, batch_size)
        begun_s = time.perf_counter()
        parts = _run_all(loaded.instance, manifest, inputs, rows, size, on_progress)
        seconds = time.perf_counter() - begun_s
    outputs = {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}
    _write(output_path, outputs)
    return BatchSummary(
        model=manifest.model,
        version=manifest.version,
        rows=rows,
        batches=len(parts),
        batch_size=size,
        seconds=seconds,
        rows_per_s=rows / max(seconds, 1e-9),
        output=str(output_path),
        outputs={name: list(array.shape) for name, array in outputs.items()},
    )


def _check_output(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise OutputNotWritten(f"cannot write {path}: its directory does not exist")
    if path.exists() and not path.is_file():
        # The finished file takes this name, and would take the place of a device such as /dev/null.
        raise OutputNotWritten(f"cannot write {path}: it exists and is not a regular file")


@contextlib.contextmanager
def _unpacked(bundle: Path) -> Iterator[Path]:
    if bundle.is_dir():
        verify(bundle)
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="edgewright-run-") as scratch:
        directory = Path(scratch) / "bundle"
        unpack(bundle, directory)
        yield directory


def _load(directory: Path, options: LoadOptions) -> LoadedModel:
    try:
        return load_bundle(directory, options)
    except GoldenTestFailed as failure:
        hint = "" if options.emulated else ". If the bundle's target is another machine, try --emulated"
        raise GoldenTestFailed(f"{failure}{hint}") from failure


def read_inputs(path: Path, manifest: Manifest) -> tuple[Tensors, int]:
    """Return the model's inputs from an npz file, and the number of samples.

    Raises:
        BatchInputError: not an npz file, or arrays that do not fit; the message says which and how.
    """
    arrays = _read_npz(path)
    specs = manifest.inputs
    if len(specs) == 1 and specs[0].name not in arrays and "x" in arrays:
        arrays = {specs[0].name: arrays["x"]}
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise BatchInputError(
            f"{path}: no array named {missing[0]!r}; the model has inputs {[spec.name for spec in specs]}, "
            f"the file has {sorted(arrays)}"
        )
    inputs = {spec.name: _fitting(path, arrays[spec.name], spec) for spec in specs}
    rows = {len(array) for array in inputs.values()}
    if len(rows) != 1 or not min(rows):
        sizes = {name: len(array) for name, array in inputs.items()}
        raise BatchInputError(f"{path}: expected the same number of samples, at least 1, in each array; got {sizes}")
    return inputs, rows.pop()


def _read_npz(path: Path) -> Tensors:
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise BatchInputError(f"{path} is not an npz file; write one with numpy.savez(path, x=array)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BatchInputError(f"{path} cannot be read as an npz file of plain arrays: {error}") from error


def _fitting(path: Path, array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    wanted = spec.shape[1:]
    if array.ndim != len(spec.shape) or any(
        size not in {-1, got} for size, got in zip(wanted, array.shape[1:], strict=True)
    ):
        raise BatchInputError(f"{path}: {spec.name} has shape {list(array.shape)}, expected {list(spec.shape)}")
    dtype = NUMPY_OF_DATATYPE[spec.datatype]
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise BatchInputError(f"{path}: {spec.name} is {array.dtype}, which does not convert to {dtype}")
    with np.errstate(over="ignore"):  # what overflows is found below
        cast = array.astype(dtype, copy=False)
    if dtype.kind == "f" and np.isinf(cast).sum() > np.isinf(array).sum():
        raise BatchInputError(f"{path}: {spec.name} is {array.dtype} and has values that {dtype} cannot hold")
    return cast


def _batch_size(manifest: Manifest, wanted: int) -> int:
    fixed = {spec.shape[0] for spec in manifest.inputs if spec.shape and spec.shape[0] != -1}
    return max(fixed) if fixed else wanted


def _run_all(
    instance: Instance, manifest: Manifest, inputs: Tensors, rows: int, size: int, on_progress: OnProgress
) -> list[Tensors]:
    fixed = any(spec.shape[0] != -1 for spec in manifest.inputs if spec.shape)
    parts: list[Tensors] = []
    for start in range(0, rows, size):
        batch = {name: array[start : start + size] for name, array in inputs.items()}
        if fixed:
            batch = {name: _filled(array, size) for name, array in batch.items()}
        try:
            parts.append(instance.run(batch))
        except Exception as error:  # an engine may raise anything; the user gets the sentence, not the traceback
            raise BatchRunError(f"samples {start} to {min(start + size, rows) - 1} cannot be run: {error}") from error
        on_progress(min(start + size, rows), rows)
    return parts


def _filled(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeat the last sample up to a batch size that the model has fixed; the surplus is cut off the outputs."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def _write(path: Path, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Write the npz file: beside its place first, then moved there."""
    try:
        handle, draft = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".draft")
    except OSError as error:
        raise OutputNotWritten(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **cast("dict[str, Any]", {name: _plain(array) for name, array in outputs.items()}))
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except OSError as error:
        raise OutputNotWritten(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        Path(draft).unlink(missing_ok=True)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.str_) if array.dtype == np.object_ else array  # strings, without pickle
