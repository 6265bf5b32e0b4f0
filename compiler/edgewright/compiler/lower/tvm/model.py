"""A graph as a shared library by TVM.

Untuned: its tuner was seen to crash, so its float code is 9 to 49 times as slow as ONNX Runtime's. It is for processors
that nothing else here knows.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import EngineRequirement
from edgewright.targets.board import Board
from edgewright.targets.faults import EnvironmentFault

from ...faults import ToolchainMissing, UnsupportedModel
from ...graph import Graph
from ...tensor_specs import tensor_specs
from .. import model_file
from ..engine_model import MODEL_FOLDER, EngineModel
from ..model_file import ModelFile
from ..native.machine import machine_of
from ..native.toolchain_choice import find_toolchain
from ..native.toolchain_process import DISK_FULL, CompilerEnded, filled_the_disk, run_all

NAME = "tvm"
PACKAGE = "apache-tvm"
INSTALL = "pip install 'edgewright[tvm]'"
FILE = "model.so"
LIMIT_S = 600.0
TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "armv7l": "armv7l-linux-gnueabihf"}
CPUS: tuple[tuple[str, frozenset[str], str], ...] = (
    ("x86_64", frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}), "cascadelake"),
    ("x86_64", frozenset({"avx512f", "avx512bw", "avx512vl"}), "x86-64-v4"),
    ("x86_64", frozenset({"avx2", "fma"}), "x86-64-v3"),
    ("x86_64", frozenset(), "x86-64"),
    ("aarch64", frozenset({"asimddp"}), "cortex-a76"),
    ("aarch64", frozenset(), "cortex-a53"),
    ("armv7l", frozenset(), "cortex-a7"),
)
"""LLVM's names: the first whose features a board has."""


def tvm_model(
    model: ModelFile, graph: Graph, shapes: Mapping[str, tuple[int, ...]], board: Board, folder: Path
) -> EngineModel:
    """A float model as code for a board, its library below `folder`.

    Raises:
        ToolchainMissing: TVM or a linker for the board is not installed.
        UnsupportedModel: TVM has no form for an operator, or fails on the model.
        EnvironmentFault: the disk is full or cannot be written.
    """
    version = tvm_version()
    target = folder / MODEL_FOLDER
    with storage_faults(f"writing a model to {folder.parent}"):
        target.mkdir(parents=True)
    _compile(model, shapes, board, target / FILE, folder / "tvm")
    inputs, outputs = tensor_specs(graph)
    names = ",".join(spec.name for spec in outputs)
    return EngineModel(
        requirement=EngineRequirement(name=NAME, version=f"=={release_of(version)}", options={"outputs": names}),
        folder=target,
        inputs=inputs,
        outputs=outputs,
        precision="float32",
        threaded=False,
    )


def _compile(model: ModelFile, shapes: Mapping[str, tuple[int, ...]], board: Board, library: Path, work: Path) -> None:
    """Writes the library; what lies in the folder `work` until then is gone afterwards."""
    toolchain = find_toolchain(machine_of(board))
    try:
        with storage_faults(f"writing a model to {work.parent}"):
            work.mkdir()
            name = model_file.copy_to(model, work)[0]
        command = [
            sys.executable, "-m", f"{__package__}.child", str(work / name), str(library),
            json.dumps(_target(board)), json.dumps({key: list(shape) for key, shape in shapes.items()}),
            *toolchain.command,
        ]  # fmt: skip
        run_all([command], work, {**os.environ, "TMPDIR": str(work.absolute())}, LIMIT_S)
    except CompilerEnded as error:
        if filled_the_disk(error, work):
            raise EnvironmentFault(DISK_FULL) from error
        raise UnsupportedModel(
            f"TVM {tvm_version()} cannot compile the model: {_reason(error)}; leave --engine tvm out"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def tvm_version() -> str:
    """The installed version: its libraries run with no other.

    Raises:
        ToolchainMissing: there is none.
    """
    if importlib.util.find_spec("tvm") is None:
        raise ToolchainMissing(f"engine tvm: its compiler is not installed. To install it: {INSTALL}")
    return metadata.version(PACKAGE)


def release_of(version: str) -> str:
    """The release that a version belongs to: bundles name releases, and `0.27.0.post1` runs what `0.27.0` does."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return found[0] if found else version


def _target(board: Board) -> dict[str, str]:
    isa = frozenset(board.cpu.isa)
    if board.arch not in TRIPLES:
        raise UnsupportedModel(
            f"target {board.name}: TVM's runtime does not run on {board.arch}; leave --engine tvm out"
        )
    cpu = next(name for arch, needed, name in CPUS if arch == board.arch and needed <= isa)
    return {"kind": "llvm", "mtriple": TRIPLES[board.arch], "mcpu": cpu}


def _reason(error: CompilerEnded) -> str:
    if error.status is None:
        return f"it was stopped after {LIMIT_S:.0f} s"
    lines = [line.strip() for line in error.output.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with status {error.status}"
