"""Turns the graphs that were timed into the operator costs that bench/cost.py fits on.

The measured latencies in ncnn_benchmarks.csv belong to the graphs of https://github.com/Tencent/ncnn, folder
benchmark/models (BSD-3). This reads their .param text files, which carry the shape of every blob, and writes one row
per kind of operator. The result is kept as workloads.csv beside this file, so that the bench needs no checkout of ncnn:

    python -m bench.cost_fitting.workloads NCNN_CHECKOUT/benchmark/models

The four MLPerf Tiny networks, which Vela's estimates and ONNX Runtime's timings are about, come from ../shared/data.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WORKLOADS = Path(__file__).parent / "workloads.csv"
MLPERF_TINY = ("ad", "ic_resnet8", "kws", "vww")
MLPERF_TINY_MODELS = Path(__file__).resolve().parents[3] / "shared/data/mlperf_tiny/onnx"
FREE_LAYERS = frozenset({"Input", "Split", "Noop", "Reshape", "Flatten", "MemoryData", "Dropout"})
"""Layers that move nothing."""

FREE_OR_FUSED = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Constant", "Relu", "Clip", "BatchNormalization"}
)
"""ONNX operators that move nothing, or that engines fold into the operator before them."""

DEPTHWISE_MAX_CHANNELS_PER_GROUP = 4
WINOGRAD = "conv3x3"
"""Convolutions that ncnn computes by Winograd's method, with fewer multiplications than ONNX Runtime needs."""

WINOGRAD_MIN_CHANNELS = 16
SHAPE_HINT = "-23330"


class Row(NamedTuple):
    """One operator; sizes are in elements, because the bytes depend on the precision."""

    model: str
    kind: str
    macs: int
    weight_elements: int
    activation_elements: int


class Layer(NamedTuple):
    """One line of a .param file."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    options: dict[str, str]


def parse_layers(text: str) -> Iterator[Layer]:
    """Layers of a .param file: `kind name n_in n_out inputs… outputs… key=value…`."""
    for line in text.splitlines()[2:]:
        kind, _, n_inputs, n_outputs, *rest = line.split()
        first, last = int(n_inputs), int(n_inputs) + int(n_outputs)
        yield Layer(kind, rest[:first], rest[first:last], dict(item.split("=", 1) for item in rest[last:]))


def output_shapes(layer: Layer) -> list[tuple[int, ...]]:
    """(dimensions, width, height, channels) of each output, from the hint in the file."""
    _, *numbers = (int(number) for number in layer.options[SHAPE_HINT].split(","))
    return [tuple(numbers[at : at + 4]) for at in range(0, len(numbers), 4)]


def elements(shape: tuple[int, ...]) -> int:
    """Number of elements of a blob."""
    return shape[1] * shape[2] * shape[3]


def has_winograd(option: dict[str, str]) -> bool:
    """3 x 3, stride 1, not dilated."""
    width, stride, dilation = option["1"], option.get("3", "1"), option.get("2", "1")
    height = option.get("11", width)
    return (width, height, stride, dilation) == ("3", "3", "1", "1")


def layer_work(layer: Layer, source: tuple[int, ...], result: tuple[int, ...]) -> tuple[str, int, int]:
    """Kind, multiply-accumulates and weights of one layer."""
    option = layer.options
    if layer.kind in ("Convolution", "ConvolutionDepthWise"):
        weights = int(option["6"])
        groups = int(option.get("7", "1"))
        channels_per_group = source[3] // groups
        macs = weights * result[1] * result[2]
        if groups > 1 and channels_per_group <= DEPTHWISE_MAX_CHANNELS_PER_GROUP:
            return "depthwise", macs, weights
        winograd = groups == 1 and has_winograd(option) and min(source[3], result[3]) >= WINOGRAD_MIN_CHANNELS
        return WINOGRAD if winograd else "conv", macs, weights
    if layer.kind == "DeconvolutionDepthWise":
        weights = int(option["6"])
        return "depthwise", weights * source[1] * source[2], weights
    if layer.kind == "InnerProduct":
        weights = int(option["2"])
        return "matmul", weights, weights
    return "other", 0, 0


def network_rows(model: str, text: str) -> Iterator[Row]:
    """Rows of one network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in parse_layers(text):
        if SHAPE_HINT not in layer.options:
            continue
        shapes.update(zip(layer.outputs, output_shapes(layer), strict=True))
        if layer.kind in FREE_LAYERS:
            continue
        sources = [shapes[name] for name in layer.inputs]
        kind, macs, weights = layer_work(layer, sources[0], shapes[layer.outputs[0]])
        touched = sum(elements(shape) for shape in (*sources, *(shapes[name] for name in layer.outputs)))
        yield Row(model, kind, macs, weights, touched)


def vision_transformer_rows() -> Iterator[Row]:
    """ViT-B/32 at 384 x 384, whose file has no shapes: 12 x 12 patches and a class token, 12 blocks of width 768."""
    model, tokens, width, hidden, blocks = "vision_transformer", 145, 768, 3072, 12
    patches = 32 * 32 * 3
    yield Row(model, "conv", (tokens - 1) * width * patches, width * patches, 384 * 384 * 3 + (tokens - 1) * width)
    for _ in range(blocks):
        for _ in range(4):
            yield Row(model, "matmul", tokens * width * width, width * width, 2 * tokens * width)
        yield Row(model, "matmul", 2 * tokens * tokens * width, 0, 4 * tokens * width + 2 * 12 * tokens * tokens)
        for _ in range(2):
            yield Row(model, "matmul", tokens * width * hidden, width * hidden, tokens * (width + hidden))
        yield Row(model, "other", 0, 0, 2 * tokens * hidden)
        for _ in range(4):
            yield Row(model, "other", 0, 0, 2 * tokens * width)
    yield Row(model, "matmul", width * 1000, width * 1000, width + 1000)


def onnx_rows(model: str, path: Path) -> Iterator[Row]:
    """Rows of an ONNX file, at batch 1."""
    import onnx  # of the compiler extra; only for making the table anew
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(onnx.load(path)).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    shapes = {value.name: tuple(max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim) for value in values}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in FREE_OR_FUSED:
            continue
        result = shapes[node.output[0]]
        touched = sum(math.prod(shapes[name]) for name in (*node.input, node.output[0]) if name in shapes)
        weight = weights.get(node.input[1], ()) if node.op_type in ("Conv", "Gemm", "MatMul") else ()
        if node.op_type == "Conv":
            kind = "depthwise" if weight[1] == 1 and weight[0] > 1 else "conv"
            yield Row(model, kind, math.prod(weight) * math.prod(result[2:]), math.prod(weight), touched)
        elif weight:
            yield Row(model, "matmul", math.prod(weight), math.prod(weight), touched)
        else:
            yield Row(model, "other", 0, 0, touched)


def main() -> None:
    """Writes the table."""
    folder = Path(sys.argv[1])
    rows = Counter(vision_transformer_rows())
    for path in sorted(folder.glob("*.param")):
        text = path.read_text()
        if SHAPE_HINT in text and not path.name.endswith(".ncnn.param"):
            rows.update(network_rows(path.stem.replace("-", "_"), text))
    for name in MLPERF_TINY:
        key = name.partition("_")[0]
        rows.update(onnx_rows(f"mlperf_{key}", MLPERF_TINY_MODELS / f"{name}_f32.onnx"))

    with WORKLOADS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*Row._fields, "count"))
        writer.writerows((*row, count) for row, count in sorted(rows.items()))


if __name__ == "__main__":
    main()
