"""Emits a plan as QDQ ONNX, for now through ONNX Runtime's quantizer with our ranges and our scheme."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
from onnx_ir.passes.common import TopologicalSortPass
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgewright.targets.board import Board

from ..faults import NotQuantizable, first_line
from ..graph import IR_VERSION, Graph, from_proto, is_quantized, operator_counts, to_proto
from ..passes import Evidence, Pass
from .calibrate import Ranges
from .offer import Scheme

QUANTIZED_OPERATORS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "GlobalAveragePool",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Softmax, Sigmoid and normalisations stay float: they cost little and lose much."""

INPUT_NORMALIZATION_PREFIX = "edgewright_"
"""Nodes that scale raw input stay float; the first rounding comes after them."""

QUANT_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}


class QuantizeStatic(Pass[Scheme]):
    """Float graph to QDQ graph: weights int8 per channel, activations int8 per tensor, biases int32."""

    name = "quantize-static"

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges

    def requires(self, graph: Graph, options: Scheme) -> None:
        del options
        if is_quantized(graph):
            raise NotQuantizable("the model is quantized already; compile the float model it was made from")

    def apply(self, graph: Graph, options: Scheme, target: Board | None) -> tuple[Graph, Evidence]:
        del target
        try:
            quantized = from_proto(_emit(to_proto(graph), self._ranges, options))
        except Exception as error:
            # The quantizer raises ValueError, KeyError, AttributeError and others on graphs that it cannot handle.
            raise NotQuantizable(f"the model cannot be quantized: {first_line(error)}") from error
        TopologicalSortPass()(quantized)
        quantized.ir_version = IR_VERSION
        quantized.producer_name = "edgewright"
        quantized.producer_version = None
        quantized.metadata_props.clear()
        counts = operator_counts(quantized)
        evidence: Evidence = {
            "calibration_samples": self._ranges.samples,
            "quantize_nodes": counts.get("QuantizeLinear", 0),
            "dequantize_nodes": counts.get("DequantizeLinear", 0),
        }
        return quantized, evidence


def _emit(proto: onnx.ModelProto, ranges: Ranges, scheme: Scheme) -> onnx.ModelProto:
    inferred = onnx.shape_inference.infer_shapes(proto)
    excluded = [node.name for node in proto.graph.node if node.name.startswith(INPUT_NORMALIZATION_PREFIX)]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantizer logs advice for its own command line to the root logger
    try:
        quantizer = QDQQuantizer(
            inferred,
            scheme.per_channel,
            scheme.reduce_range,
            QUANT_TYPES[scheme.weights],
            QUANT_TYPES[scheme.activations],
            TensorsData(CalibrationMethod.MinMax, _tensor_data(ranges)),
            [],
            excluded,
            list(QUANTIZED_OPERATORS),
            {"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        quantizer.quantize_model()
    finally:
        root.setLevel(level)
    result: onnx.ModelProto = quantizer.model.model
    return result


def _tensor_data(ranges: Ranges) -> dict[str, Any]:
    """Finite ranges only: what reaches infinity (a mask before a softmax) has no scale, and may not be quantized."""
    return {
        name: TensorData(lowest=np.float32(ranges.lowest[name]), highest=np.float32(ranges.highest[name]))
        for name in sorted(ranges.lowest)
        if np.isfinite([ranges.lowest[name], ranges.highest[name]]).all()
    }
