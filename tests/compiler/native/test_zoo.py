"""Well-known nets from PyTorch to machine code: what is left of their data movement, and their answers.

Each is exported as the compiler's frontend does it, with a free batch, then optimised, lowered, fused and compiled.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.frontends.torch import load_torch
from edgewright.compiler.graph import Graph, to_bytes, to_proto
from edgewright.compiler.lower.emulator import Emulator
from edgewright.compiler.lower.native.fusion.links import is_border_fill
from edgewright.compiler.lower.native.interpret import run
from edgewright.compiler.lower.native.kernels.families import default_kernels
from edgewright.compiler.lower.native.library import nets_of
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.net import Alias, Map, Move, Net, Separable
from edgewright.compiler.lower.native.rebuild import substituted
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.targets.accumulation import exact
from tests.compiler.native import small_zoo
from tests.compiler.native.lowered import answers
from tests.compiler.native.single_layer import HERE
from tests.compiler.native.test_int8_nets import native
from tests.compiler.nets import statistics_of


@dataclass(frozen=True)
class Case:
    """A net as the compiler has it, and what it answers."""

    net: Net
    feeds: Mapping[str, NDArray[Any]]
    wanted: Mapping[str, NDArray[Any]]


def samples(name: str, count: int) -> NDArray[Any]:
    """Random pictures, sequences or words."""
    random = np.random.default_rng(0)
    shape = (count, *small_zoo.SHAPES[name])
    return random.integers(0, small_zoo.WORDS, shape) if name == "minilm" else random.normal(size=shape).astype("f4")


@functools.cache
def exported(name: str) -> Graph:
    """By the exporter that walks over what TorchScript recorded: a tenth of the time of the other."""
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            getattr(small_zoo, name)(),
            (torch.from_numpy(samples(name, 1)),),
            path,
            input_names=["x"],
            output_names=["y"],
            opset_version=17,
            dynamo=False,
        )
    return import_proto(onnx.load(path), name)


def case_of(graph: Graph, name: str) -> Case:
    """The net for one sample, and ONNX Runtime's answers to the graph as it was exported."""
    nets = nets_of(optimise(graph, None)[0], HERE)
    net = nets[min(nets)]
    feeds = {net.inputs[0].name: samples(name, 1)}
    return Case(net, feeds, answers(to_proto(graph), feeds))


@functools.cache
def case(name: str) -> Case:
    """Made once per run of the tests."""
    return case_of(exported(name), name)


def check(found: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]) -> None:
    """Equal but for the rounding of many layers."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max(), err_msg=name)


MOVES = {
    "resnet": 1, "bottlenecks": 1, "mobilenet_v1": 1, "mobilenet_v3": 1, "efficientnet_lite": 1,
    "squeezenet": 9,  # the order of the picture, and eight concatenations
    "minilm": 2 * 4 + 1,  # heads apart (queries, keys, values) and together, per layer; one number for a whole row
    "vit": 3,  # one head: the picture, the class token beside the patches, the token alone
    "convnext": 2,
    "unet": 6,  # picture in and out, per level one interleaving and one concatenation
    "interpolated_unet": 4,
    "autoencoder": 5,
    "lstm": 1, "both_ways_lstm": 2, "both_ways_gru": 3,
    "tcn": 2,  # the sequence, with and without its border
    "mlp": 0,
}  # fmt: skip
"""Copies that are left; borders do not count, which are filled in place."""
MAPS = {"mobilenet_v3": 3, "minilm": 2, "vit": 1}
"""Layers of their own that work element by element: gates of excitations, sums of embeddings, a normalised row."""


@pytest.mark.parametrize("name", small_zoo.SHAPES)
def test_nets_are_fused(name: str) -> None:
    made = case(name)
    check(run(made.net, made.feeds), made.wanted)
    moves = [layer for layer in made.net.layers if isinstance(layer, Move) and not is_border_fill(layer)]
    maps = [layer for layer in made.net.layers if isinstance(layer, Map)]
    assert (len(moves), len(maps)) == (MOVES[name], MAPS.get(name, 0))


@pytest.mark.parametrize("name", ["mobilenet_v3", "minilm", "both_ways_gru"])
def test_the_frontends_exporter_gives_as_few_layers(name: str) -> None:
    graph = load_torch(f"tests.compiler.native.small_zoo:{name}", None, {"x": samples(name, 2)}).graph
    made = case_of(graph, name)
    check(run(made.net, made.feeds), made.wanted)
    kinds = [
        [type(layer) for layer in net.layers if not isinstance(layer, Alias)] for net in (made.net, case(name).net)
    ]
    assert len(kinds[0]) == len(kinds[1])


def test_machine_code_of_all_nets(tmp_path: Path) -> None:
    """In one library."""
    cases = {name: case(name) for name in small_zoo.SHAPES}
    net = joined({name: each.net for name, each in cases.items()})
    source = make_source("zoo", {1: net}, {1: default_kernels(net.layers, HERE)}, HERE, "test")
    feeds = {f"{name}.{key}": array for name, each in cases.items() for key, array in each.feeds.items()}
    found = Loaded(build(source.files, HERE, tmp_path)).run(feeds)
    for name, each in cases.items():
        check({key: found[f"{name}.{key}"] for key in each.wanted}, each.wanted)


def test_quantized_nets_give_the_emulators_bits() -> None:
    """Nets without a float operator between integers; by a plan from their own calibration."""
    models = {name: quantized(name) for name in ("bottlenecks", "mobilenet_v3", "squeezenet", "tcn")}
    feeds = [{"x": samples(name, 1)} for name in models]
    for found, model, given in zip(native(list(models.values()), feeds), models.values(), feeds, strict=True):
        for output, wanted in Emulator(model, exact).call(given).items():
            np.testing.assert_array_equal(found[output], wanted)


def quantized(name: str) -> bytes:
    graph = optimise(exported(name), None)[0]
    plan = propose(graph, statistics_of(graph, {"x": samples(name, 4)}), Scheme())
    return to_bytes(emit(graph, plan))


def joined(nets: Mapping[str, Net]) -> Net:
    """Nets that know nothing of each other, as one."""
    apart = [_prefixed(net, name) for name, net in nets.items()]
    return Net(
        tuple(tensor for net in apart for tensor in net.inputs),
        tuple(tensor for net in apart for tensor in net.outputs),
        tuple(layer for net in apart for layer in net.layers),
    )


def _prefixed(net: Net, name: str) -> Net:
    tensors = {tensor.name: tensor for layer in net.layers for tensor in (*layer.inputs, *layer.outputs)}
    tensors |= {layer.depthwise.y.name: layer.depthwise.y for layer in net.layers if isinstance(layer, Separable)}
    outside = {tensor.name: tensor for tensor in (*net.inputs, *net.outputs)}
    return substituted(net, {key: replace(tensor, name=f"{name}.{key}") for key, tensor in (tensors | outside).items()})
