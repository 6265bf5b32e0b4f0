"""How a graph remembers that TFLite computes a product of float activations and int8 weights in integers.

TFLite's hybrid kernels round such activations in each call, by a range of that call. A graph computes the same product
in floats, more exactly; so that a file which is read and written again stays what it was, the node that dequantizes the
weights carries a mark. No pass looks at it, and whoever folds the weights into floats drops it with the node.
"""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

KEY: Final = "edgewright.tflite.hybrid"


def mark(node: ir.Node) -> None:
    """Says that the weights of this DequantizeLinear belong to a hybrid product."""
    node.metadata_props[KEY] = "1"


def is_marked(weights: ir.Value) -> bool:
    """Whether these weights belong to a hybrid product."""
    producer = weights.producer()
    return producer is not None and KEY in producer.metadata_props
