"""A first model to try the compiler on: `python -m examples.first_model` writes model.onnx and data.npz here.

Handwritten digits from scikit-learn, a small convolutional network trained for a few seconds.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from .demo import digits


def quieten_exporter() -> None:
    """The exporter speaks of its own insides: of torchvision, which is not needed, and of a class it still uses."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)


def main() -> None:
    """Train, export and write the examples."""
    quieten_exporter()
    weights = Path("weights.safetensors")
    digits.train(weights, epochs=10)
    network = digits.build()
    network.load_state_dict(load_file(weights))
    network.eval()
    torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        "model.onnx",
        input_names=["x"],
        output_names=["scores"],
        dynamic_shapes=({0: "batch"},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    _, _, pixels, labels = digits.load()
    np.savez("data.npz", x=pixels.astype(np.float32) / digits.PIXEL_MAX, y=labels)
    print("wrote model.onnx and data.npz")


if __name__ == "__main__":
    main()
