"""The demo's model and data: scikit-learn's handwritten digits, 8×8 pixels, sixteen shades of grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import from_numpy, manual_seed, nn, optim, randperm, set_num_threads

PIXEL_MAX = 16.0
"""Pixels are 0..16; the network is trained on 0..1, so the right `--scale` for the compiler is 1/16."""

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def build() -> nn.Module:
    """Return the network: (N, 1, 8, 8) pictures in 0..1 to (N, 10) logits. `--model examples.demo.digits:build`."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def load() -> tuple[Pixels, Labels, Pixels, Labels]:
    """Return train pictures and labels, then held-out ones.

    Pictures are uint8 (N, 1, 8, 8), labels int64 (N,); the shuffle has a fixed seed.
    """
    digits = load_digits()
    order = np.random.default_rng(7).permutation(len(digits.target))
    pixels = digits.images[order].astype(np.uint8)[:, None, :, :]
    labels = digits.target[order].astype(np.int64)
    held_out = len(labels) // 2
    return pixels[held_out:], labels[held_out:], pixels[:held_out], labels[:held_out]


def train(weights: Path, *, epochs: int = 25, seed: int = 7) -> float:
    """Train the network, write its weights as safetensors, and return its top-1 on the held-out half."""
    set_num_threads(2)
    manual_seed(seed)
    train_x, train_y, test_x, test_y = load()
    pictures = from_numpy(train_x.astype(np.float32) / PIXEL_MAX)
    labels = from_numpy(train_y)
    network = build()
    optimizer = optim.AdamW(network.parameters(), lr=3e-3)
    loss = nn.CrossEntropyLoss()
    for _ in range(epochs):
        shuffled = randperm(len(labels))
        for start in range(0, len(shuffled), 64):
            batch = shuffled[start : start + 64]
            optimizer.zero_grad()
            loss(network(pictures[batch]), labels[batch]).backward()
            optimizer.step()
    network.eval()
    save_file(network.state_dict(), weights)
    scores = network(from_numpy(test_x.astype(np.float32) / PIXEL_MAX)).detach().numpy()
    return float((scores.argmax(axis=1) == test_y).mean())


def write_dataset(path: Path) -> None:
    """Write the held-out half as the compiler's data file: `x` uint8 and `y`."""
    _, _, test_x, test_y = load()
    np.savez(path, x=test_x, y=test_y)


def fade(pixels: Pixels) -> Pixels:
    """Return the pictures as a dirty lens shows them: half the contrast, everything lighter."""
    return (pixels // 2 + 6).astype(np.uint8)
