"""The nets of both zoos, small enough for a test: builders that take nothing, as the compiler's frontend calls them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from tests.compiler.native import zoo, zoo_sequences


def _made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return zoo.random_statistics(build())


resnet = partial(_made, partial(zoo.resnet, (1, 1), False, width=8, classes=10))
bottlenecks = partial(_made, partial(zoo.resnet, (1, 1), True, width=8, classes=10))
mobilenet_v1 = partial(_made, partial(zoo.mobilenet_v1, width=0.125, classes=10))
mobilenet_v3 = partial(_made, partial(zoo.mobilenet_v3, zoo.V3_SMALL[:5], last=32, classes=10))
efficientnet_lite = partial(
    _made,
    partial(zoo.efficientnet_lite, ((3, 1, 8, 1, 1), (5, 4, 12, 2, 2), (3, 6, 16, 2, 2)), last=48, classes=10),
)
squeezenet = partial(_made, partial(zoo.squeezenet, width=2, classes=10))
minilm = partial(_made, partial(zoo_sequences.MiniLM, layers=2, width=32, heads=4, words=50))
vit = partial(_made, partial(zoo_sequences.ViT, size=32, patch=8, layers=2, width=64, classes=10))
convnext = partial(_made, partial(zoo.convnext, width=12, blocks=(1, 2), classes=10))
unet = partial(_made, partial(zoo.UNet, width=4, depth=2))
interpolated_unet = partial(_made, partial(zoo.UNet, width=4, depth=2, interpolated=True))
autoencoder = partial(_made, partial(zoo.autoencoder, width=4))
lstm = partial(_made, partial(zoo_sequences.RecurrentNet, nn.LSTM, 6, 9, 2, False))
both_ways_lstm = partial(_made, partial(zoo_sequences.RecurrentNet, nn.LSTM, 6, 8, 1, True))
both_ways_gru = partial(_made, partial(zoo_sequences.RecurrentNet, nn.GRU, 6, 8, 2, True))
tcn = partial(_made, partial(zoo_sequences.tcn, features=5, width=8, levels=3))
mlp = partial(_made, partial(zoo_sequences.mlp, features=20, hidden=24))

PICTURE = (3, 32, 32)
SHAPES: dict[str, tuple[int, ...]] = {
    "resnet": PICTURE, "bottlenecks": PICTURE, "mobilenet_v1": PICTURE, "mobilenet_v3": (3, 36, 36),
    "efficientnet_lite": PICTURE, "squeezenet": (3, 40, 40), "minilm": (12,), "vit": PICTURE, "convnext": PICTURE,
    "unet": (3, 16, 16), "interpolated_unet": (3, 16, 16), "autoencoder": (3, 16, 24), "lstm": (7, 6),
    "both_ways_lstm": (7, 6), "both_ways_gru": (7, 6), "tcn": (5, 30), "mlp": (20,),
}  # fmt: skip
"""Of one sample; `minilm` takes numbers of words."""
WORDS = 50
