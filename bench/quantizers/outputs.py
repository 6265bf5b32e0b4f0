"""What models answer: on this CPU, executed exactly, and on a CPU whose u8*s8 sums saturate."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .environment import CACHE, SCRIPTS, digest, own_python, peers_python, run_emulated, run_script
from .probe import with_logits

Arithmetic = Literal["engine", "exact", "emulated"]
BATCH = 16


@dataclass(frozen=True)
class Answers:
    """Of one model; both of shape (samples, ...)."""

    outputs: NDArray[Any]
    logits: NDArray[Any]
    """The outputs again where no Softmax makes them."""


def answers(models: Mapping[str, Path], samples: NDArray[np.float32], arithmetic: Arithmetic) -> dict[str, Answers]:
    """Runs every model over the samples."""
    if arithmetic == "emulated":
        return _emulated(models, samples)
    openvino = any(path.suffix == ".xml" for path in models.values())
    python = peers_python() if openvino else own_python()
    with tempfile.TemporaryDirectory() as folder:
        job = _job(models, samples, Path(folder), exact=arithmetic == "exact")
        run_script("run_models", job, python)
        return _answers(models, job)


def _emulated(models: Mapping[str, Path], samples: NDArray[np.float32]) -> dict[str, Answers]:
    """Emulation takes minutes, and gives the same bits each time: what was run before is read."""
    places = {name: _kept_at(path, samples) for name, path in models.items()}
    missing = {name: models[name] for name, place in places.items() if not place.exists()}
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            job = _job(missing, samples, Path(folder), exact=False)
            run_emulated("run_models", job)
            for name, item in zip(missing, job["models"], strict=True):
                places[name].parent.mkdir(parents=True, exist_ok=True)
                shutil.move(item["out"], places[name])
    return {name: _read(place) for name, place in places.items()}


def _kept_at(path: Path, samples: NDArray[np.float32]) -> Path:
    script = (SCRIPTS / "run_models.py").read_bytes()
    key = digest(path.read_bytes(), samples.tobytes(), script, onnxruntime.__version__)
    return CACHE / "emulated" / f"{key}.npz"


def _job(models: Mapping[str, Path], samples: NDArray[np.float32], work: Path, *, exact: bool) -> dict[str, Any]:
    np.savez(work / "samples.npz", x=samples)
    items = [_item(path, work / f"model{i}") for i, path in enumerate(models.values())]
    return {"models": items, "samples": str(work / "samples.npz"), "batch": BATCH, "exact": exact}


def _answers(models: Mapping[str, Path], job: dict[str, Any]) -> dict[str, Answers]:
    return {name: _read(Path(item["out"])) for name, item in zip(models, job["models"], strict=True)}


def _item(path: Path, place: Path) -> dict[str, str]:
    out = str(place.with_suffix(".npz"))
    if path.suffix == ".xml":
        return {"path": str(path), "out": out}
    probed = place.with_suffix(".onnx")
    probed.write_bytes(with_logits(path.read_bytes()))
    return {"path": str(probed), "out": out}


def _read(path: Path) -> Answers:
    with np.load(path, allow_pickle=False) as file:
        return Answers(file["output0"], file["output1"] if "output1" in file else file["output0"])
