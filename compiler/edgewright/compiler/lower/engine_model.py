"""A model as the files of an engine of the device: LiteRT, OpenVINO, TVM. Run here as devices run it.

What is scored and timed goes through the very engine classes of the runtime, so that what is measured is what a
request costs there.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright.bundle.manifest import (
    FORMAT_VERSION,
    EngineRequirement,
    Entry,
    Interval,
    Latency,
    Lineage,
    Manifest,
    MemoryNeed,
    Precision,
    TargetRequirement,
    TensorSpec,
)
from edgewright.runtime.engines.catalog import ENGINES, engine_for, find_engine
from edgewright.runtime.engines.protocol import EngineMissing, LoadOptions, ModelRefused

from ..faults import ToolchainMissing, UnsupportedModel
from .onnxruntime import Arithmetic
from .session import Value

MODEL_FOLDER = "model"
NO_DIGEST = "sha256:" + "0" * 64


def check_here(engine: str) -> None:
    """Raises where an engine of the runtime is not installed: its models are scored in it, whatever they are made for.

    Raises:
        ToolchainMissing: the message says how to install it.
    """
    if engine in ENGINES:
        try:
            find_engine(engine)
        except EngineMissing as error:
            raise ToolchainMissing(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class EngineModel:
    """Files that an engine loads, and what it has to be told."""

    requirement: EngineRequirement
    """As it goes into the manifest; how many threads is up to who ships it."""
    folder: Path
    """With the files of `model/`."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: Precision
    """As the manifest writes it."""
    here: Path | None = None
    """Files that compute the same on this machine, where the shipped ones are for other hardware."""
    memory_bytes: int | None = None
    """At peak, where the tool that made the files says so."""
    threaded: bool = True
    """Whether the engine takes a number of threads."""
    digest: str = field(init=False)
    """`sha256:…` of the files and of what the engine is told."""

    def __post_init__(self) -> None:
        """Hashes the files."""
        object.__setattr__(self, "digest", _digest(self.folder, self.requirement))

    @property
    def size_bytes(self) -> int:
        """Of all that ships as the model."""
        return sum(path.stat().st_size for path in _files(self.folder))

    def copy_to(self, folder: Path) -> None:
        """Puts the files into the `model/` folder of a bundle."""
        for path in _files(self.folder):
            shutil.copyfile(path, folder / path.name)

    def options(self, threads: int) -> dict[str, str | int | bool]:
        """What the manifest asks of the engine."""
        return {**self.requirement.options, **({"threads": threads} if self.threaded else {})}

    def open(self, arithmetic: Arithmetic, threads: int) -> DeviceSession:
        """Loads the model as a device does; `EXACT` takes the engine's reference arithmetic.

        Raises:
            ToolchainMissing: the engine is not installed here.
            UnsupportedModel: it cannot load the model.
        """
        return DeviceSession(self, arithmetic, threads)


class DeviceSession:
    """An engine of the runtime behind the few methods of an ONNX Runtime session that the compiler uses."""

    def __init__(self, model: EngineModel, arithmetic: Arithmetic, threads: int) -> None:
        self._model = model
        directory = (model.here or model.folder).parent
        try:
            manifest = _manifest(model)
            options = LoadOptions(emulated=arithmetic is Arithmetic.EXACT, threads=threads)
            self._run = engine_for(manifest).load(directory, manifest, options).run
        except EngineMissing as error:
            raise ToolchainMissing(str(error)) from error
        except ModelRefused as error:
            raise UnsupportedModel(
                f"{error}; leave --engine {model.requirement.name} out, or change the model"
            ) from error

    def get_inputs(self) -> list[Value]:
        """Of the model as a caller sees it."""
        return [_value(spec) for spec in self._model.inputs]

    def get_outputs(self) -> list[Value]:
        """Of the model as a caller sees it."""
        return [_value(spec) for spec in self._model.outputs]

    def run(self, names: list[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """All samples; outputs in the order of `names`, or of the model."""
        outputs = self._run(inputs)
        return list(outputs.values()) if names is None else [outputs[name] for name in names]


def _value(spec: TensorSpec) -> Value:
    return Value(spec.name, tuple(None if size == -1 else size for size in spec.shape))


def _manifest(model: EngineModel) -> Manifest:
    """A manifest that says what an engine reads: ports, options and files. The rest means nothing here."""
    shipped = model.here is None
    folder = model.here or model.folder
    options = dict(model.requirement.options)
    if not shipped:
        options.pop("delegate", None)  # the other hardware's
    return Manifest(
        format_version=FORMAT_VERSION,
        model="candidate",
        version="0",
        security_epoch=0,
        precision=model.precision,
        target=TargetRequirement(name="host", digest=NO_DIGEST, arch=platform.machine(), isa=()),
        engine=EngineRequirement(name=model.requirement.name, version=model.requirement.version, options=options),
        inputs=model.inputs,
        outputs=model.outputs,
        memory=MemoryNeed(model_bytes=0, peak_bytes=0),
        latency=Latency(p50_ms=0.0, interval=Interval(low=0.0, high=0.0), kind="estimated", method=""),
        accuracy=None,
        lineage=Lineage(source_digest=NO_DIGEST, data_digest=None, measurements_digest=None, passes=(), tools={}),
        entries=tuple(
            Entry(path=f"{MODEL_FOLDER}/{path.name}", size_bytes=path.stat().st_size, sha256=_sha256(path))
            for path in _files(folder)
        ),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _digest(folder: Path, requirement: EngineRequirement) -> str:
    hashed = hashlib.sha256(f"{requirement.name} {sorted(requirement.options.items())}\n".encode())
    for path in _files(folder):
        hashed.update(f"{path.name} {_sha256(path)}\n".encode())
    return f"sha256:{hashed.hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
