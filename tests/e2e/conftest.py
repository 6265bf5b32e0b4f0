"""What the end-to-end tests share: two bundles of the digits model, compiled once by the real command."""

from __future__ import annotations

import pytest

from examples.demo import digits
from examples.demo.processes import edgewright, run_json
from tests.e2e.releases import Releases


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    folder = tmp_path_factory.mktemp("releases")
    digits.write_dataset(folder / "digits.npz")
    for version, seed in (("1", 7), ("2", 8)):
        weights = folder / f"weights-{version}.safetensors"
        digits.train(weights, epochs=8, seed=seed)
        run_json(
            edgewright(
                *("compile", "--model", "examples.demo.digits:build", "--weights", str(weights)),
                *("--data", str(folder / "digits.npz"), "--metric", "top1", "--max-drop", "2%", "--scale", "0.0625"),
                *("--name", "digits", "--release-version", version, "--out", str(folder / f"v{version}")),
                *("--target", "host", "--target", "raspberry-pi-5", "--engine", "onnxruntime"),
            )
        )
    return Releases(folder)
