"""What the compiler asks of a loaded model, whatever engine has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Value:
    """Name and shape of an input or output; None where the batch is free."""

    name: str
    shape: tuple[int | None, ...]


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that the compiler uses."""

    def get_inputs(self) -> list[Any]:
        """Names and shapes of the inputs, as `Value` has them."""

    def get_outputs(self) -> list[Any]:
        """Names and shapes of the outputs, as `Value` has them."""

    def run(self, names: list[str] | None, inputs: dict[str, Any]) -> list[Any]:
        """All samples; outputs in the order of `names`, or of the model."""
