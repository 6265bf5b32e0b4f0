"""The operators of the file that Vela wrote."""

from __future__ import annotations

from dataclasses import dataclass

from ...faults import ModelError, UnsupportedModel
from ...tflite.file.read import read
from .faults import VelaFault


@dataclass(frozen=True)
class Remaining:
    """One operator: a command stream, or one that stays on the CPU."""

    type: str
    custom: str
    output: str
    """Name of its first output."""


def remaining_operators(content: bytes) -> tuple[Remaining, ...]:
    """In the order of the file.

    Raises:
        VelaFault: it is no TFLite file, or a damaged one.
    """
    try:
        model = read(content, "what Vela wrote")
    except (ModelError, UnsupportedModel) as error:
        raise VelaFault(str(error)) from error
    return tuple(
        Remaining(each.type, each.custom, model.tensors[each.outputs[0]].name if each.outputs else "")
        for each in model.operators
    )
