"""Which tensors of an emitted model carry factors that its plan moved: a record in the model itself, and its undoing.

Between the node whose outputs were divided and those that multiply again, all tensors are smaller by the factors, on
purpose. Whoever compares them with the float model's needs to know, and a plan is not always at hand.

The record is one entry of the ONNX model's `metadata_props`, under `KEY`: a JSON array of
`{"axis": 1 or -1, "factors": base64 of float32 little-endian, "tensors": names}`, in the order of the plan. A tensor
`NAME` stands for its rounded form behind QuantizeLinear and DequantizeLinear as well.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ...faults import ModelError
from ...graph import Graph
from ..plan import Equalization
from .links import find_link, tensors_between

KEY: Final = "edgewright.moved_factors"
FLOAT32: Final = np.dtype("<f4")


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tensors that share their factors."""

    axis: Literal[1, -1]
    factors: str
    tensors: Annotated[tuple[str, ...], Meta(min_length=1)]


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """What one tensor was divided by."""

    axis: Literal[1, -1]
    """Of the channels."""
    values: NDArray[np.float32]
    """(channels,), positive."""

    def restored(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tensor as it was before the move.

        Raises:
            ModelError: it has another number of channels.
        """
        return np.multiply(array, self._spread(array), dtype=np.float32)

    def moved(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tensor as it is after the move.

        Raises:
            ModelError: it has another number of channels.
        """
        return np.divide(array, self._spread(array), dtype=np.float32)

    def _spread(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The factors in a shape that broadcasts over the tensor."""
        if array.ndim < 2 or array.shape[self.axis] != len(self.values):
            raise ModelError(
                f"the model's metadata {KEY!r} has {len(self.values)} factors for axis {self.axis} of a tensor of "
                f"shape {list(array.shape)}: it was changed after it was quantized. Quantize the float model again"
            )
        shape = [1] * array.ndim
        shape[self.axis] = -1
        return self.values.reshape(shape)


def recorded(graph: Graph, equalizations: Sequence[Equalization]) -> str:
    """The record for a float graph whose factors are moved so; the same plan gives the same text.

    Raises:
        ModelError: an entry does not fit the graph.
    """
    by_name = {node.name: node for node in graph.graph}
    entries: dict[tuple[str, int], list[str]] = {}
    for equalization in equalizations:
        producer = by_name.get(equalization.producer)
        link = None if producer is None else find_link(producer)
        if link is None:
            raise ModelError(
                f"equalization of {equalization.producer!r}: no factor can move there; make the plan again"
            )
        factors = base64.b64encode(np.asarray(equalization.factors, dtype=FLOAT32).tobytes()).decode()
        for value, axis in tensors_between(link):
            entries.setdefault((factors, axis), []).append(value.name or "")
    found = [
        _Entry(axis=1 if axis == 1 else -1, factors=factors, tensors=tuple(sorted(set(tensors))))
        for (factors, axis), tensors in entries.items()
    ]
    return msgspec.json.encode(found).decode()


def moved_factors(graph: Graph) -> Mapping[str, Factors]:
    """What each tensor of an emitted model was divided by, by its name; empty without a record.

    Raises:
        ModelError: the record is damaged.
    """
    text = graph.metadata_props.get(KEY)
    if text is None:
        return {}
    try:
        entries = msgspec.json.decode(text, type=tuple[_Entry, ...])
        return {name: found for entry in entries for found in [_decoded(entry)] for name in entry.tensors}
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise ModelError(
            f"the model's metadata {KEY!r} is damaged: {error}. Quantize the float model again, or remove the entry"
        ) from error


def _decoded(entry: _Entry) -> Factors:
    values = np.frombuffer(base64.b64decode(entry.factors, validate=True), dtype=FLOAT32).astype(np.float32)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("a factor is not a positive number")
    return Factors(axis=entry.axis, values=values)
