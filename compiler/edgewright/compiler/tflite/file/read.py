"""Bytes to model. The bytes are hostile until checked.

Reading goes through the schema's accessors, which look into the bytes where an offset points: outside of them they
raise, they never crash, and tables are not nested in themselves, so there is nothing to follow forever. What accessors
do not do is bound the work: `bounds` does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

from ...faults import ModelError, UnsupportedModel
from .bounds import Bounds
from .model import Model, Port, Tensor
from .read_operators import checked, read_operators
from .read_tensors import read_tensors
from .schema import IDENTIFIER
from .wiring import check_wiring

MAX_PORTS: Final = 1024
MAX_METADATA: Final = 1024


def read(content: bytes, where: str) -> Model:
    """The model of a .tflite file; `where` names it in messages. Constants are read-only views of `content`.

    Of several signatures the first counts.

    Raises:
        ModelError: these bytes are no TFLite file, or a damaged one.
        UnsupportedModel: several subgraphs, or a tensor or operator that nothing here computes.
    """
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{where}: not a TFLite file: bytes 4 to 8 are {content[4:8]!r}, expected {IDENTIFIER!r}")
    try:
        model = _model(content, Bounds(where, len(content)))
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, KeyError) as error:
        # What accessors raise where an offset points outside of the file, and numpy where a length does.
        raise ModelError(f"{where}: damaged TFLite file: {type(error).__name__}: {str(error)[:200]}") from error
    check_wiring(model, where)
    return model


def _model(content: bytes, bounds: Bounds) -> Model:
    root = schema.Model.GetRootAs(content, 0)
    if root.SubgraphsLength() != 1:
        raise UnsupportedModel(
            f"{bounds.where}: {root.SubgraphsLength()} subgraphs; control flow (IF, WHILE) is not taken: export the "
            "model without it"
        )
    graph = root.Subgraphs(0)
    tensors = tuple(read_tensors(root, graph, bounds))
    operators = tuple(read_operators(root, graph, len(tensors), bounds))
    given = bounds.numbers(graph.InputsLength(), graph.InputsAsNumpy, MAX_PORTS)
    taken = bounds.numbers(graph.OutputsLength(), graph.OutputsAsNumpy, MAX_PORTS)
    key, input_names, output_names = _signature(root, bounds)
    return Model(
        tensors=tensors,
        operators=operators,
        inputs=_ports(checked(given, len(tensors), f"{bounds.where}: input"), input_names, tensors),
        outputs=_ports(checked(taken, len(tensors), f"{bounds.where}: output"), output_names, tensors),
        description=bounds.text(root.Description()),
        metadata=dict(_metadata(root, bounds)),
        signature=key,
    )


_Names = dict[int, list[str]]
"""By tensor: one may be an output under several names."""


def _signature(root: Any, bounds: Bounds) -> tuple[str | None, _Names, _Names]:
    """Key of the first signature, and names of input and output tensors there."""
    if not root.SignatureDefsLength():
        return None, {}, {}
    table = root.SignatureDefs(0)
    if table.SubgraphIndex():
        raise ModelError(f"{bounds.where}: its signature is of subgraph {table.SubgraphIndex()}, which is not there")
    inputs = _names(table.InputsLength(), table.Inputs, bounds)
    outputs = _names(table.OutputsLength(), table.Outputs, bounds)
    return bounds.text(table.SignatureKey()), inputs, outputs


def _names(length: int, item: Any, bounds: Bounds) -> _Names:
    names: _Names = {}
    for index in range(bounds.length(length, MAX_PORTS)):
        names.setdefault(int(item(index).TensorIndex()), []).append(bounds.text(item(index).Name()))
    return names


def _ports(indices: tuple[int, ...], names: _Names, tensors: tuple[Tensor, ...]) -> tuple[Port, ...]:
    """Under the signature's names, else the tensors'; a name that is taken gets the port's position behind it."""
    ports: list[Port] = []
    taken: set[str] = set()
    for position, index in enumerate(indices):
        name = names[index].pop(0) if names.get(index) else tensors[index].name
        while name in taken:
            name = f"{name}:{position}"
        taken.add(name)
        ports.append(Port(name, index))
    return tuple(ports)


def _metadata(root: Any, bounds: Bounds) -> Iterator[tuple[str, bytes]]:
    for index in range(bounds.length(root.MetadataLength(), MAX_METADATA)):
        table = root.Metadata(index)
        if not 0 <= table.Buffer() < root.BuffersLength():
            raise ModelError(f"{bounds.where}: metadata {index} names buffer {table.Buffer()}, which is not there")
        buffer = root.Buffers(table.Buffer())
        yield bounds.text(table.Name()), buffer.DataAsNumpy().tobytes() if bounds.length(buffer.DataLength()) else b""
