"""Nets from PyTorch with odd sizes and its paddings, at full size: float errors, int8 SNR, and transposes."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.emitters.forms import planned
from bench.emitters.litert import Array, Litert
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.write import write
from tests.compiler.zoo.catalog import ZooNet, exported, optimised, pictures

CALIBRATION, TEST = 16, 8
ONNX_RUNTIME_RULES = Scheme(activations="int8")
PORTS = Ports(channels_last=True)
Outputs = dict[str, Array]


def held(net: ZooNet, *, full: bool) -> dict[str, Any]:
    """Figures of one net: the worst of its outputs."""
    size = net.full if full else net.small
    graph = optimised(exported(net, full=full))
    quantized = planned(graph, pictures(size, CALIBRATION))
    x = pictures(size, TEST, seed=5)
    by_rules = in_onnx_runtime(planned(graph, pictures(size, CALIBRATION), ONNX_RUNTIME_RULES), x)
    truth, rounded = in_onnx_runtime(graph, x), in_onnx_runtime(quantized, x)
    ours, ours_int8 = in_litert(graph, x), in_litert(quantized, x)
    reference_int8 = in_litert(quantized, x, reference=True)
    return {
        "size": list(size),
        "float_error": max(relative_error(ours[name], truth[name]) for name in truth),
        "transposes": sum(operator.type == "TRANSPOSE" for operator in emit(quantized, PORTS).model.operators),
        "operators": len(emit(quantized, PORTS).model.operators),
        "onnxruntime_rules_snr_db": {name: round(snr_db(by_rules[name], truth[name]), 2) for name in truth},
        "qdq_snr_db": {name: round(snr_db(rounded[name], truth[name]), 2) for name in truth},
        "int8_snr_db": {name: round(snr_db(ours_int8[name], truth[name]), 2) for name in truth},
        "reference_kernels_snr_db": {name: round(snr_db(reference_int8[name], truth[name]), 2) for name in truth},
    }


def below_qdq_db(found: dict[str, Any]) -> float:
    """How far the SNR in LiteRT is below that of the QDQ graph, for the worst output.

    The reference kernels' figure stands beside: their HARD_SWISH computes in fixed point of 16
    bits (kernels/internal/reference/hard_swish.h).
    """
    gaps: list[float] = [snr - found["int8_snr_db"][name] for name, snr in found["qdq_snr_db"].items()]
    return max(gaps)


def relative_error(found: Array, truth: Array) -> float:
    """Largest difference over the largest output."""
    return float(np.abs(found - truth).max() / np.abs(truth).max())


def in_onnx_runtime(graph: Graph, x: Array) -> Outputs:
    """Every operator computed as written."""
    session = open_session(to_bytes(graph), Arithmetic.EXACT)
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(names, {session.get_inputs()[0].name: sample[None]}) for sample in x]
    return {name: np.concatenate([row[index] for row in rows]) for index, name in enumerate(names)}


def in_litert(graph: Graph, x: Array, *, reference: bool = False) -> Outputs:
    """By names of outputs, in the graph's order of axes."""
    emitted = emit(graph, PORTS)
    litert = Litert(write(emitted.model), reference=reference)
    turned = x.transpose(0, 2, 3, 1) if emitted.model.inputs[0].name in emitted.channels_last else x
    outputs = litert.real(litert.run(turned))
    return {port.name: array for port, array in zip(emitted.model.outputs, outputs, strict=True)}
