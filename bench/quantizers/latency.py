"""Times the models of one net beside each other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .environment import own_python, peers_python, run_script

ROUNDS = 51


def rounds_ns(models: Mapping[str, Path], samples: NDArray[np.float32]) -> dict[str, tuple[int, ...]]:
    """The median call of every round, by model: one sample, one thread, no spinning, the order rotates."""
    openvino = any(path.suffix == ".xml" for path in models.values())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sample.npz"
        np.savez(file, x=samples[:1])
        job = {
            "models": [{"name": name, "path": str(path)} for name, path in models.items()],
            "samples": str(file),
            "rounds": ROUNDS,
        }
        found = run_script("time_models", job, peers_python() if openvino else own_python())["rounds_ns"]
    return {name: tuple(values) for name, values in found.items()}
