"""Whether the operators of a model can run in the order in which they stand."""

from __future__ import annotations

from ...faults import ModelError
from .model import ABSENT, Model


def check_wiring(model: Model, where: str) -> None:
    """Checks that every tensor is made once, by whom it may be made, and before it is read: so there are no cycles.

    Runtimes compute in the file's order and read whatever lies in a tensor that nothing has made yet.

    Raises:
        ModelError: it is not so; the message names the tensor and the operator.
    """
    known = {
        index
        for index, tensor in enumerate(model.tensors)
        if tensor.data is not None or tensor.variable or 0 in tensor.shape
    }
    given = [port.tensor for port in model.inputs]
    for index in given:
        if model.tensors[index].data is not None or given.count(index) > 1:
            raise ModelError(f"{where}: input {model.tensors[index].name!r} is a constant, or is given twice")
    known.update(given)
    made = {index for index in known if 0 not in model.tensors[index].shape}
    for place, operator in enumerate(model.operators):
        missing = [index for index in operator.inputs if index != ABSENT and index not in known]
        if missing:
            raise ModelError(
                f"{where}: operator {place} ({operator.type}) reads tensor {model.tensors[missing[0]].name!r} before "
                "anything makes it"
            )
        for index in operator.outputs:
            if index in made:
                raise ModelError(
                    f"{where}: operator {place} ({operator.type}) writes tensor {model.tensors[index].name!r}, which "
                    "is a constant, an input, or written before"
                )
            known.add(index)
            made.add(index)
    for port in model.outputs:
        if port.tensor not in known:
            raise ModelError(f"{where}: nothing makes output {port.name!r}")
