"""Logits beside the outputs: SNR is told on what the last Softmax reads, since what it makes hides errors."""

from __future__ import annotations

import onnx


def with_logits(model: bytes) -> bytes:
    """The model with one more output where its first output comes from a Softmax; what is computed does not change."""
    proto = onnx.load_from_string(model)
    makers = {output: node for node in proto.graph.node for output in node.output}
    maker = makers.get(proto.graph.output[0].name)
    while maker is not None and maker.op_type in {"QuantizeLinear", "DequantizeLinear"}:
        maker = makers.get(maker.input[0])
    if maker is None or maker.op_type not in {"Softmax", "QLinearSoftmax"}:
        return model
    logits = maker.input[0]
    if maker.op_type == "QLinearSoftmax":
        logits = _dequantized(proto, maker)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    content: bytes = proto.SerializeToString()
    return content


def _dequantized(proto: onnx.ModelProto, softmax: onnx.NodeProto) -> str:
    """Integer logits of the operator format, as real values."""
    node = onnx.helper.make_node("DequantizeLinear", list(softmax.input[:3]), ["edgewright_logits"])
    proto.graph.node.append(node)
    return "edgewright_logits"
