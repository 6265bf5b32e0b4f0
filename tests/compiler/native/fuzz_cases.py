"""Random graphs with inputs and what must come of them.

How far native code may be off: every layer may be off by 2e-6 of the largest number it makes, and what that does to the
outputs is found by interpreting the net in float64 with such errors drawn at random; three times the worst of some
draws is allowed. Integers and truth values must be equal: no number is near a place where they jump. Quantized graphs
must give the bits of the emulator with exact sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.graph import from_proto, to_bytes
from edgewright.compiler.lower.emulator import Emulator
from edgewright.compiler.lower.native.interpret import Memory, run, run_layer
from edgewright.compiler.lower.native.lowering import lower
from edgewright.compiler.lower.native.lowering.integers import MICROSOFT, MOVERS, fuse_qdq
from edgewright.compiler.lower.native.net import Array, Net, Tensor
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.targets.accumulation import exact
from tests.compiler.nets import Net as NetWriter
from tests.compiler.nets import optimised, statistics_of
from tests.compiler.quantized_nets import NETS, random_net
from tests.compiler.random_nets import LAYERS, convolution

from .graph_writer import session
from .random_graphs import random_writer

PER_LAYER = 2e-6
"""Of the largest number that a layer makes."""
DRAWS = 4
SLACK = 3.0
QUANTIZED_EVERY = 6
"""One seed of so many is a quantized graph."""
LEAST = 1e-35
"""What a float may always be off: below, float32 has fewer digits."""
UNFUSED_SHARE = 0.02
"""Of quantized outputs that may differ on a machine without fused multiply-add: the peer fuses sums of two products."""
INTEGER = MOVERS | {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "Concat", "Pad", "Identity"}
"""Operators of ONNX that are exact on integers, beside those of com.microsoft."""
Arrays = dict[str, Array]


class NoisyMemory(Memory):
    """Every layer is off by as much as a kernel may be."""

    def __init__(self, random: np.random.Generator, exact_names: frozenset[str]) -> None:
        super().__init__()
        self._random = random
        self._exact = exact_names

    def write(self, tensor: Tensor, array: Array) -> None:
        if tensor.dtype == "f32" and tensor.name not in self._exact:
            largest = float(np.abs(array).max(initial=0.0))
            array = array + self._random.uniform(-1, 1, array.shape) * PER_LAYER * largest
        super().write(tensor, array)


@dataclass(frozen=True, eq=False)
class Case:
    """A graph with inputs, and what comes of it."""

    seed: int
    model: onnx.ModelProto
    feeds: Arrays
    net: Net
    """As it was lowered."""
    wanted: Arrays
    """In float64, or the emulator's."""
    allowed: Mapping[str, float]
    """By output; 0 for what must be equal."""
    quantized: bool = False


def case_of(seed: int) -> Case | None:
    """What a seed stands for; None where lowering refuses the graph.

    Raises:
        AssertionError: lowering gives something else than ONNX Runtime.
    """
    return quantized_case(seed) if seed % QUANTIZED_EVERY == QUANTIZED_EVERY - 1 else float_case(seed)


def cases_of(first: int, count: int) -> list[Case]:
    """Of the next seeds."""
    return [case for seed in range(first, first + count) if (case := case_of(seed)) is not None]


def float_case(seed: int) -> Case | None:
    """A graph of any operators, checked against ONNX Runtime."""
    w, outputs = random_writer(seed)
    model = w.model(outputs)
    feeds = {port.name: w.inputs[port.name] for port in model.graph.input}
    if not feeds:
        return None
    try:
        net = lower(from_proto(model), w.batch)
    except UnsupportedModel:
        return None
    wanted = run(net, feeds)
    case = Case(seed, model, feeds, net, wanted, allowed_errors(net, feeds, wanted))
    try:
        peer = session(model)
    except Fail:  # shape inference of ONNX and the kernels count windows of ceil_mode differently
        return None
    peers = dict(zip(outputs, peer.run(outputs, feeds), strict=True))
    problem = difference(case, peers, slack=2.0)  # ONNX Runtime is as far off as we are
    assert problem is None, f"seed {seed}: the lowered net is not the graph: {problem}"
    return case


def quantized_case(seed: int) -> Case | None:
    """A net of one integer operator with weights at the ends of their range, or a random net with a plan."""
    random = np.random.default_rng(seed)
    if random.random() < 0.4:
        name = str(random.choice([name for name in NETS if name != "dynamic"]))
        operands = "u8u8" if name == "attention" else str(random.choice(["u8s8", "s8s8", "u8u8"]))
        content, feeds = random_net(name, seed, operands, per_channel=operands != "u8u8")
    else:
        content, feeds = _planned(seed, random)
    model = onnx.load_model_from_string(content)
    fused = fuse_qdq(from_proto(model))
    if not all(node.domain in (MICROSOFT, "edgewright") or node.op_type in INTEGER for node in fused.graph):
        return None
    try:
        net = lower(from_proto(model), len(next(iter(feeds.values()))))
    except UnsupportedModel:
        return None
    wanted = dict(Emulator(content, exact).call(feeds))
    return Case(seed, model, dict(feeds), net, wanted, dict.fromkeys(wanted, 0.0), quantized=True)


def _planned(seed: int, random: np.random.Generator) -> tuple[bytes, Arrays]:
    shapes = ((3, 9, 8), (4, 8, 8), (8, 12, 7), (16, 6, 6))
    net = NetWriter(shapes[random.integers(len(shapes))], np.random.default_rng(seed))
    convolution(net)
    for _ in range(random.integers(1, 6)):
        LAYERS[random.integers(len(LAYERS))](net)
    graph = optimised(net.model())
    inputs = {
        name: random.normal(size=(16, *shape)).astype(np.float32)
        for name, shape in {"x": net.input_shape, **net.more_inputs}.items()
    }
    scheme = Scheme(activations="uint8" if random.random() < 0.5 else "int8")
    content = to_bytes(emit(graph, propose(graph, statistics_of(graph, inputs), scheme)))
    batch = random.integers(1, 4)
    return content, {name: array[:batch] for name, array in inputs.items()}


def allowed_errors(net: Net, feeds: Mapping[str, Array], wanted: Mapping[str, Array]) -> dict[str, float]:
    """How far native code may be off; see the module."""
    floats = [tensor for tensor in net.outputs if tensor.dtype == "f32"]
    worst = {tensor.name: 0.0 for tensor in net.outputs}
    for draw in range(DRAWS):
        memory = NoisyMemory(np.random.default_rng(draw), frozenset(tensor.name for tensor in net.inputs))
        for tensor in net.inputs:
            memory.write(tensor, feeds[tensor.name].reshape(tensor.shape))
        for layer in net.layers:
            run_layer(layer, memory)
        for tensor in floats:
            error = float(np.abs(memory.read(tensor) - wanted[tensor.name]).max(initial=0))
            worst[tensor.name] = max(worst[tensor.name], error)
    least = {tensor.name: PER_LAYER * float(np.abs(wanted[tensor.name]).max(initial=0)) for tensor in floats}
    return {name: least.get(name, 0.0) + SLACK * error for name, error in worst.items()}


def difference(case: Case, found: Mapping[str, Array], *, slack: float = 1.0, fused: bool = True) -> str | None:
    """What is wrong with outputs, `fused` where the machine has fused multiply-add."""
    for name, wanted in case.wanted.items():
        array = found[name]
        if array.shape != wanted.shape:
            return f"{name} has shape {array.shape}, not {wanted.shape}"
        places = np.asarray(array != wanted)
        if wanted.dtype.kind != "f" or case.quantized:
            if places.mean() > (UNFUSED_SHARE if case.quantized and not fused else 0):
                return f"{name} ({wanted.dtype}) differs in {int(places.sum())} of {wanted.size} places"
            continue
        error = np.abs(array - wanted)
        if not error.max(initial=0) <= max(LEAST, slack * case.allowed[name]):  # NaN is wrong too
            place = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
            return (
                f"{name}{list(map(int, place))} is {array[place]!r}, not {wanted[place]!r}: {error[place]:.3g} off, "
                f"{case.allowed[name]:.3g} allowed"
            )
    return None
