"""Random nets through the emitter and the reader: `python -m tests.compiler.tflite.fuzz --seconds 600 --seed 0`.

Every seed is a net that is written as it is and quantized in one way; LiteRT's fast and reference kernels are held
against ONNX Runtime, and what was written is read and written again. What may differ says `fuzz_checks.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

import numpy as np
import onnx
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from edgewright.compiler.faults import ModelError, NotQuantizable, UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.model import Model
from tests.compiler.native.random_graphs import random_writer
from tests.compiler.nets import optimised, statistics_of
from tests.compiler.tflite.fuzz_checks import float_problems, integer_problems, reading_problems
from tests.compiler.tflite.fuzz_nets import FuzzNet, net_of
from tests.compiler.tflite.runs import run_onnx

SCHEMES = {
    "int8, TFLite's rules": Scheme(activations="int8", rules="tflite"),
    "int16, TFLite's rules": Scheme(activations="int16", rules="tflite"),
    "uint8, ONNX Runtime's rules": Scheme(),
    "int8, one scale per weight": Scheme(activations="int8", rules="tflite", per_channel=False),
}
REFUSED = (UnsupportedModel, NotQuantizable)


def check(seed: int, counted: Counter[str]) -> list[str]:
    """What is wrong with the net of a seed, as it is and quantized."""
    problems: list[str] = []
    net = net_of(seed)
    graph = optimised(net.model)
    scheme = list(SCHEMES)[seed % len(SCHEMES)]
    for way in ("float", scheme):
        try:
            made = graph if way == "float" else quantized(graph, net, SCHEMES[way])
            model = emit(made).model
        except REFUSED as refusal:
            counted[f"{way}: refused"] += 1
            counted[f"  {str(refusal)[-90:]}"] += 1
            continue
        feeds = {name: array[: _batch(net, model)] for name, array in net.samples.items()}
        found = float_problems(made, feeds) if way == "float" else integer_problems(made, feeds)
        found += reading_problems(model, feeds)
        counted[way] += 1
        problems += [f"seed {seed} {way} {net.layers}: {each}" for each in found]
    return problems


def _batch(net: FuzzNet, model: Model) -> int:
    """How many samples a call takes: one where an operator states its whole shape, which is then fixed."""
    tensors = [model.tensors[port.tensor] for port in model.inputs]
    return net.batch if all(each.free for each in tensors) else tensors[0].shape[0]


def check_any(seed: int, counted: Counter[str]) -> list[str]:
    """What is wrong with a float graph of any operators that native code knows, on numbers of many kinds."""
    writer, outputs = random_writer(seed)
    proto = writer.model(outputs)
    feeds = {port.name: writer.inputs[port.name] for port in proto.graph.input}
    if not feeds:
        return []
    for port in proto.graph.input:  # constants beside it are made for this batch
        port.CopyFrom(helper.make_tensor_value_info(port.name, port.type.tensor_type.elem_type, feeds[port.name].shape))
    del proto.graph.value_info[:]
    for port in proto.graph.output:
        port.CopyFrom(onnx.ValueInfoProto(name=port.name))
    try:
        graph = import_proto(onnx.shape_inference.infer_shapes(proto), "net")
        model = emit(graph).model
        wanted = run_onnx(graph, feeds)
    except (UnsupportedModel, ModelError, Fail):
        counted["any operators: refused"] += 1
        return []
    counted["any operators"] += 1
    if any(not np.isfinite(array).all() for array in wanted.values()):
        return []
    kinds = [operator.type for operator in model.operators]
    return [f"seed {seed} of any operators {kinds}: {each}" for each in float_problems(graph, feeds)]


def quantized(graph: Graph, net: FuzzNet, scheme: Scheme) -> Graph:
    """With ranges from all samples."""
    return emit_qdq(graph, propose(graph, statistics_of(graph, net.samples), scheme))


def main() -> int:
    """Runs until the time is up; prints what is wrong as it is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first net")
    asked = parser.parse_args()
    end, seed, wrong = time.monotonic() + asked.seconds, asked.seed, 0
    counted: Counter[str] = Counter()
    np.seterr(all="ignore")
    while time.monotonic() < end:
        print(f"# {seed}", file=sys.stderr, flush=True)
        try:
            problems = check(seed, counted) + check_any(seed, counted)
        except Exception:  # noqa: BLE001 -- whatever it is, the next seed may find more
            problems = [f"seed {seed}: {traceback.format_exc()[-1500:]}"]
        for problem in problems:
            print(problem, flush=True)
        wrong, seed = wrong + bool(problems), seed + 1
    print(f"up to seed {seed}: {wrong} nets wrong")
    for name, count in counted.most_common():
        print(f"{count:6} {name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
