"""Whether the operators of a model can run in the order in which they stand."""

from __future__ import annotations

from ...faults import MAX_QUOTED_CHARACTERS, ModelError
from .model import ABSENT, Model


def check_wiring(model: Model, where: str) -> None:
    """Checks that every tensor is made once, by whom it may be made, and before it is read: so there are no cycles.

    Runtimes compute in the file's order and read whatever lies in a tensor that nothing has made yet. Custom operators
    may want just that: Vela hands its own a tensor of scratch memory.

    Raises:
        ModelError: it is not so; the message names the tensor and the operator.
    """
    given = [port.tensor for port in model.inputs]
    if len(set(given)) < len(given) or any(model.tensors[index].data is not None for index in given):
        raise ModelError(f"{where}: an input is a constant, or is given twice")
    empty = {index for index, tensor in enumerate(model.tensors) if 0 in tensor.shape}
    constants = {index for index, tensor in enumerate(model.tensors) if tensor.data is not None}
    variables = {index for index, tensor in enumerate(model.tensors) if tensor.variable}
    made = {*given, *constants}
    known = made | variables | empty
    for place, operator in enumerate(model.operators):
        step = f"{where}: operator {place} ({operator.type})"
        for index in operator.inputs:
            if index != ABSENT and index not in known and operator.type != "CUSTOM":
                raise ModelError(f"{step} reads {_name(model, index)} before anything makes it")
        for index in operator.outputs:
            if index in made:
                raise ModelError(f"{step} writes {_name(model, index)}: a constant, an input, or written before")
            made.add(index)
            known.add(index)
    for port in model.outputs:
        if port.tensor not in known:
            raise ModelError(f"{where}: nothing makes output {_name(model, port.tensor)}")


def _name(model: Model, tensor: int) -> str:
    return f"tensor {model.tensors[tensor].name[:MAX_QUOTED_CHARACTERS]!r}"
