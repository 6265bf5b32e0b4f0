"""Whole QDQ nets as native code give the bits of the emulator with exact sums, and fuse as ONNX Runtime fuses."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.emulator import Emulator
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.kernels.families import default_kernels
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.lowering.integers import fuse_qdq
from edgewright.compiler.lower.native.lowering.lower import lower
from edgewright.compiler.lower.native.net import Softmax
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.plan import Operator
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import ActivationType, Scheme
from edgewright.targets.accumulation import exact
from tests.compiler.control_nets import LAYERS, make_net
from tests.compiler.nets import Net, convolutional, optimised, statistics_of
from tests.compiler.quantized_nets import NETS, NetBuilder, random_net

from .single_layer import HERE, PLAIN

SHARED = Path(__file__).resolve().parents[4] / "shared/data"
REAL = {
    name: SHARED / path
    for name, path in {
        "kws": "mlperf_tiny/onnx/kws_f32.onnx", "vww": "mlperf_tiny/onnx/vww_f32.onnx",
        "ic": "mlperf_tiny/onnx/ic_resnet8_f32.onnx", "ad": "mlperf_tiny/onnx/ad_f32.onnx", "mnist": "mnist/mnist.onnx",
    }.items()
}  # fmt: skip
SINGLE_INPUT = tuple(name for name in NETS if name not in ("attention", "dynamic"))
Samples = Mapping[str, NDArray[Any]]


def graph_of(model: bytes) -> Graph:
    return ir.from_proto(onnx.load_model_from_string(model))


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph)


def native(models: Sequence[bytes], samples: Sequence[Samples], machine: Any = HERE) -> list[dict[str, NDArray[Any]]]:
    """What every model gives, all in one library."""
    nets = {}
    for index, (model, inputs) in enumerate(zip(models, samples, strict=True)):
        nets[index + 1] = fuse(lower(graph_of(model), len(next(iter(inputs.values())))))
    kernels = {index: default_kernels(net.layers, machine) for index, net in nets.items()}
    source = make_source("test", nets, kernels, machine, "test")
    with tempfile.TemporaryDirectory() as folder:
        path = build(source.files, machine, Path(folder))
        return [Loaded(path, index).run(inputs) for index, inputs in enumerate(samples)]


@pytest.mark.parametrize("operands", ["u8s8", "s8s8", "u8u8"])
def test_nets_of_one_operator_give_the_emulators_bits(operands: str) -> None:
    pairs = [random_net(name, 3, operands, per_channel=operands != "u8u8") for name in SINGLE_INPUT]
    found = native([model for model, _ in pairs], [samples for _, samples in pairs])
    for name, (model, samples), outputs in zip(SINGLE_INPUT, pairs, found, strict=True):
        for output, wanted in Emulator(model, exact).call(samples).items():
            np.testing.assert_array_equal(outputs[output], wanted, err_msg=name)


def test_a_product_of_two_activations_gives_the_emulators_bits() -> None:
    model, samples = random_net("attention", 5, "u8u8", per_channel=False)
    (found,) = native([model], [samples])
    for output, wanted in Emulator(model, exact).call(samples).items():
        np.testing.assert_array_equal(found[output], wanted)


@pytest.mark.parametrize("operands", ["u8u8", "s8s8"])
def test_long_products_of_two_activations_are_at_most_a_step_off(operands: str) -> None:
    net = NetBuilder(5, operands[:2], operands[2:], per_channel=False)
    left, right = net.rounded("x", 0.012), net.rounded("y", 0.015)
    result = net.rounded(net.add("MatMul", [left, right]), scale := 0.012 * 0.015 * 70 * 70 * 20 * 5 / 255)
    model = net.model({"x": ["N", 7, 900], "y": ["N", 900, 6]}, result)
    samples = {
        name: net.random.normal(0, 1.5, (2, *shape)).astype(np.float32)
        for name, shape in {"x": (7, 900), "y": (900, 6)}.items()
    }
    (found,) = native([model], [samples])
    (wanted,) = Emulator(model, exact).call(samples).values()
    off = np.abs(found[result] - wanted)
    assert off.max() <= scale * 1.001
    assert np.mean(off > 0) <= 0.03


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_plans_with_single_float_layers_give_the_emulators_numbers(activations: ActivationType, tmp_path: Path) -> None:
    net = make_net(LAYERS, tmp_path, Scheme(activations=activations))
    samples = {name: array[:3] for name, array in net.samples.inputs.items()}
    plans = [net.plan]
    for name, operator in net.plan.operators.items():
        if operator.compute == "int8":
            floating = Operator(compute="float", reason="test")
            plans.append(msgspec.structs.replace(net.plan, operators={**net.plan.operators, name: floating}))
    models = [to_bytes(emit(net.graph, plan)) for plan in plans]
    assert len(models) > 3
    for model, outputs in zip(models, native(models, [samples] * len(models)), strict=True):
        for output, wanted in Emulator(model, exact).call(samples).items():
            np.testing.assert_allclose(outputs[output], wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def quantized(net: Net, activations: ActivationType) -> tuple[bytes, dict[str, NDArray[np.float32]]]:
    graph = optimised(net.model())
    x = {"x": np.random.default_rng(5).normal(size=(24, *net.input_shape)).astype(np.float32)}
    scheme = Scheme(activations=activations)
    return to_bytes(emit(graph, propose(graph, statistics_of(graph, x), scheme))), {"x": x["x"][:3]}


def gated(seed: int) -> Net:
    """Pointwise operators: sigmoid and leaky gates, a hard sigmoid, concatenation, multiplication."""
    net = Net((4, 9, 9), np.random.default_rng(seed))
    first = net.conv(8)
    net.node("Sigmoid", first)
    gate = net.node("Mul", net.here, first)
    net.conv(8)
    net.node("HardSigmoid", net.here, alpha=1 / 6, beta=0.5)
    leaky = net.node("LeakyRelu", gate, alpha=0.1)
    net.shape = (16, 9, 9)
    net.node("Concat", net.nodes[4].output[0], leaky, axis=1)
    net.conv(6, stride=2)
    net.shape = (6, 2, 2)
    net.node("AveragePool", net.here, kernel_shape=[2, 2], strides=[2, 2])
    return net


@pytest.mark.parametrize("machine", [HERE, PLAIN], ids=lambda machine: machine.name)
def test_planned_nets_give_the_emulators_bits(machine: Any) -> None:
    nets = [quantized(net, kind) for net in (convolutional(1), gated(2)) for kind in ("uint8", "int8")]
    found = native([model for model, _ in nets], [samples for _, samples in nets], machine)
    for (model, samples), outputs in zip(nets, found, strict=True):
        for output, wanted in Emulator(model, exact).call(samples).items():
            different = outputs[output] != wanted
            # Sums of two products are fused in ONNX Runtime on this machine, which PLAIN cannot do.
            assert different.mean() <= (0 if machine.fma else 0.01)


def test_clusters_are_those_of_the_engine() -> None:
    model, _ = quantized(convolutional(1), "uint8")
    assert operators(fuse_qdq(graph_of(model))) == Counter(
        QuantizeLinear=1, QLinearConv=4, QLinearAdd=1, MaxPool=1, QLinearGlobalAveragePool=1, QGemm=1,
        Reshape=operators(graph_of(model))["Reshape"], Flatten=operators(graph_of(model))["Flatten"],
    )  # fmt: skip


@pytest.mark.parametrize("name", list(REAL))
def test_real_nets_give_the_emulators_bits(name: str) -> None:
    if not REAL[name].exists():
        pytest.skip(f"needs {REAL[name].name} of ../shared/data")
    graph = optimised(onnx.load(REAL[name]))
    port = graph.graph.inputs[0]
    shape = [size if isinstance(size, int) else 1 for size in port.shape or ()]
    x = np.random.default_rng(3).uniform(-1, 1, (8, *shape[1:])).astype(np.float32)
    scheme = Scheme()
    model = to_bytes(emit(graph, propose(graph, statistics_of(graph, {port.name or "": x}), scheme)))
    samples = {port.name or "": x[:1]}
    (found,) = native([model], [samples])
    softened = any(isinstance(layer, Softmax) for layer in lower(graph_of(model), 1).layers)
    for output, wanted in Emulator(model, exact).call(samples).items():
        if softened:  # a float operator behind the last integers
            np.testing.assert_allclose(found[output], wanted, rtol=0, atol=2e-6)
        else:
            np.testing.assert_array_equal(found[output], wanted)
