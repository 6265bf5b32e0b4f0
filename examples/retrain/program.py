"""What the rule starts: a new model from the data that was collected since the drift, compiled into `out`.

The fleet's server runs it with the alert as JSON on standard input; docs/guides/drift.md says what it may do. It is
safe to run twice: its version comes from the alert.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import from_numpy, manual_seed, nn, optim, randperm, set_num_threads

from examples.demo import digits

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 12
BATCH = 64


def main(arguments: list[str]) -> int:
    """Make bundles: `collected.npz weights.safetensors` come from the rule, `out` from the alert."""
    collected, weights = Path(arguments[0]), Path(arguments[1])
    alert = json.load(sys.stdin)
    out = Path(alert["out"])
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(
        out.parent / "torch"
    )  # PyTorch would leave a folder in the temporary one
    with np.load(collected) as stored:
        pixels, labels = stored["x"], stored["y"]
    half = len(labels) // 2
    retrain(pixels[:half], labels[:half], weights, out.parent / "new.safetensors")
    np.savez(out.parent / "held-out.npz", x=pixels[half:], y=labels[half:])
    command = [sys.executable, "-m", "edgewright.runtime.cli", "compile", "--model", "examples.demo.digits:build"]
    command += ["--weights", str(out.parent / "new.safetensors"), "--data", str(out.parent / "held-out.npz")]
    command += ["--metric", "top1", "--scale", str(1 / digits.PIXEL_MAX), "--name", alert["model"], "--target", "host"]
    command += ["--release-version", f"{alert['at_s']:.0f}", "--out", str(out), "--tune", "0"]
    return subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode


def retrain(pixels: digits.Pixels, labels: digits.Labels, before: Path, after: Path) -> None:
    """Train on, from the weights before: the collected pictures and as many old ones, so that neither is forgotten."""
    set_num_threads(2)
    manual_seed(7)
    old_pixels, old_labels, _, _ = digits.load()
    every = np.concatenate((pixels, old_pixels[: len(labels)])).astype(np.float32) / digits.PIXEL_MAX
    pictures, truths = from_numpy(every), from_numpy(np.concatenate((labels, old_labels[: len(labels)])))
    network = digits.build()
    network.load_state_dict(load_file(before))
    optimizer = optim.AdamW(network.parameters(), lr=3e-3)
    loss = nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        shuffled = randperm(len(truths))
        for start in range(0, len(shuffled), BATCH):
            batch = shuffled[start : start + BATCH]
            optimizer.zero_grad()
            loss(network(pictures[batch]), truths[batch]).backward()
            optimizer.step()
    save_file(network.state_dict(), after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
