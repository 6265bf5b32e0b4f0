"""Small nets of the shapes that devices run, float and quantized, with all that makes them: built in a moment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from edgewright.compiler.graph import from_proto, to_bytes
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.fusion.separable import fuse_separable
from edgewright.compiler.lower.native.lowering import lower
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Net
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from tests.compiler.nets import Net as Writer
from tests.compiler.nets import optimised, statistics_of


def _relu(net: Writer) -> None:
    net.node("Relu", net.here)


def _relu6(net: Writer) -> None:
    net.node("Clip", net.here, net.constant(np.float32(0)), net.constant(np.float32(6)))


def _separable(net: Writer, channels: int, stride: int = 1) -> None:
    net.conv(net.shape[0], stride=stride, groups=net.shape[0])
    _relu(net)
    net.conv(channels, kernel=1)
    _relu(net)


def _head(net: Writer, classes: int, *, softmax: bool = True) -> None:
    net.node("GlobalAveragePool", net.here)
    net.shape = (net.shape[0], 1, 1)
    net.flatten()
    net.gemm(classes)
    if softmax:
        net.node("Softmax", net.here, axis=-1)


def keyword_spotting(random: np.random.Generator) -> Writer:
    """One channel, few rows, separable blocks."""
    net = Writer((1, 15, 7), random)
    net.conv(24, stride=2)
    _relu(net)
    _separable(net, 24)
    _separable(net, 24)
    _head(net, 12)
    return net


def image_classification(random: np.random.Generator) -> Writer:
    """Residual blocks; the second is half as large."""
    net = Writer((3, 12, 12), random)
    net.conv(8)
    _relu(net)
    for channels, stride in ((8, 1), (16, 2)):
        before, shape = net.here, net.shape
        net.conv(channels, stride=stride)
        _relu(net)
        after, made = net.conv(channels), net.shape
        if stride > 1:
            net.here, net.shape = before, shape
            before = net.conv(channels, kernel=1, stride=stride)
        net.shape = made
        net.node("Add", after, before)
        _relu(net)
    _head(net, 10)
    return net


def visual_wake_words(random: np.random.Generator) -> Writer:
    """Three channels first, then separable blocks of odd and even sizes."""
    net = Writer((3, 19, 19), random)
    net.conv(8, stride=2)
    _relu(net)
    for channels, stride in ((16, 1), (24, 2), (24, 1), (40, 2)):
        _separable(net, channels, stride)
    _head(net, 2)
    return net


def anomaly_detection(random: np.random.Generator) -> Writer:
    """An autoencoder of dense layers."""
    net = Writer((70,), random)
    for width in (40, 40, 8, 40, 70):
        net.gemm(width)
        if width < net.input_shape[0]:
            _relu(net)
    return net


def digits(random: np.random.Generator) -> Writer:
    """Convolutions with pools between, and two dense layers."""
    net = Writer((1, 14, 14), random)
    for channels in (8, 16):
        net.conv(channels, kernel=5)
        _relu(net)
        net.max_pool()
    net.flatten()
    net.gemm(20)
    _relu(net)
    net.gemm(10)
    return net


def inverted_residuals(random: np.random.Generator) -> Writer:
    """As MobileNetV2: expansion, depthwise, projection, residual."""
    net = Writer((3, 16, 16), random)
    net.conv(8, stride=2)
    _relu6(net)
    for channels, stride in ((8, 1), (12, 2), (12, 1)):
        before, given = net.here, net.shape
        net.conv(4 * given[0], kernel=1)
        _relu6(net)
        net.conv(net.shape[0], stride=stride, groups=net.shape[0])
        _relu6(net)
        net.conv(channels, kernel=1)
        if net.shape == given:
            net.node("Add", net.here, before)
    _head(net, 9, softmax=False)
    return net


WRITERS: dict[str, Callable[[np.random.Generator], Writer]] = {
    "kws": keyword_spotting, "ic": image_classification, "vww": visual_wake_words, "ad": anomaly_detection,
    "mnist": digits, "mobilenet-v2": inverted_residuals,
}  # fmt: skip


def float_nets(machine: Machine, batch: int = 1) -> list[Net]:
    """As the compiler lowers them for a machine."""
    graphs = (optimised(writer(np.random.default_rng(3)).model()) for writer in WRITERS.values())
    return [fuse_separable(fuse(lower(graph, batch)), machine) for graph in graphs]


def quantized_models(scheme: Scheme | None = None) -> list[bytes]:
    """The same nets with a quantization plan, as ONNX."""
    found = []
    for writer in WRITERS.values():
        net = writer(np.random.default_rng(3))
        graph = optimised(net.model())
        x = {"x": np.random.default_rng(5).normal(size=(16, *net.input_shape)).astype(np.float32)}
        found.append(to_bytes(emit(graph, propose(graph, statistics_of(graph, x), scheme or Scheme()))))
    return found


def quantized_nets(machine: Machine, batch: int = 1, scheme: Scheme | None = None) -> list[Net]:
    """Those as the compiler lowers them for a machine."""
    return [
        fuse_separable(fuse(lower(from_proto(onnx.load_model_from_string(each)), batch)), machine)
        for each in quantized_models(scheme)
    ]
