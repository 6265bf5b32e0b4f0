"""Predicts the noise of any plan from what each rounding adds alone.

Noise is the power of the error at the outputs over the power of the outputs (10 ** (-SNR / 10)), summed over outputs.
Errors of different roundings are nearly uncorrelated, so that their powers add: what a plan does to the outputs is
the sum over the tensors that it rounds and the weights that it rounds. A rounding that was not measured is scaled by
its own error: the gain from there to the outputs stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..quantize.calibration.calibrators import expected_error
from ..quantize.calibration.statistics import TensorStatistics
from ..quantize.encodings import to_integers
from ..quantize.plan import Encoding, Plan, WeightEncoding
from ..quantize.weights import restored, rounded
from .groups import Structure, integer_operators


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rounding, measured alone."""

    noise: float
    """At the outputs, relative."""
    local: float
    """Mean square of the error where it arises, in the units of the tensor; the same encoding."""


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another encoding of a tensor, measured alone."""

    low: float
    high: float
    levels: int
    noise: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every rounding of a plan adds at the outputs; found once, used for all targets."""

    samples: int
    """Of *tune*, on which it was measured."""
    sample_runs: float
    """Whole inferences that it took; a run of the last tenth of the model counts a tenth, by multiply-accumulates."""
    weights: dict[str, Source]
    """By node name."""
    tensors: dict[str, Source]
    """By the name of the rounding."""
    others: dict[str, tuple[Measured, ...]] = {}
    """By the name of the rounding: further encodings."""


LocalWeightError = Callable[[str, WeightEncoding], float]
LocalTensorError = Callable[[str, Encoding], float]


class NoiseModel:
    """Noise of plans that round the tensors and weights of one structure."""

    def __init__(
        self,
        structure: Structure,
        sensitivity: Sensitivity,
        weight_error: LocalWeightError,
        tensor_error: LocalTensorError,
    ) -> None:
        self._structure = structure
        self._sensitivity = sensitivity
        self._weight_error = weight_error
        self._tensor_error = tensor_error
        # By identity, because hashing thousands of scales for every plan takes longer than all else; the encoding is
        # kept beside its noise, so that its identity stays its own.
        self._known_weights: dict[tuple[str, int], tuple[WeightEncoding, float]] = {}
        self._known_tensors: dict[tuple[str, Encoding], float] = {}

    def of(self, plan: Plan) -> float:
        """Predicted noise of a plan."""
        return sum(self.parts(plan).values())

    def parts(self, plan: Plan) -> dict[str, float]:
        """By group: the weights that it rounds, and the tensors chosen with it as far as anyone rounds them."""
        integer = integer_operators(plan)
        parts = {}
        for group in self._structure.groups:
            noise = 0.0
            for name in group.operators:
                weight = plan.operators[name].weight if name in integer else None
                noise += 0.0 if weight is None else self.of_weight(name, weight)
            for name in group.roundings:
                rounding = self._structure.roundings[name]
                if rounding.happens(integer):
                    noise += self.of_tensor(name, plan.tensors[name])
            parts[group.name] = noise
        return parts

    def of_weight(self, operator: str, encoding: WeightEncoding) -> float:
        """Noise of one rounded weight alone."""
        known = (operator, id(encoding))
        if known not in self._known_weights:
            source = self._sensitivity.weights.get(operator)
            noise = _scaled(source, lambda: self._weight_error(operator, encoding))
            self._known_weights[known] = (encoding, noise)
        return self._known_weights[known][1]

    def of_tensor(self, rounding: str, encoding: Encoding) -> float:
        """Noise of one rounded tensor alone."""
        known = (rounding, encoding)
        if known not in self._known_tensors:
            self._known_tensors[known] = self._find(rounding, encoding)
        return self._known_tensors[known]

    def _find(self, rounding: str, encoding: Encoding) -> float:
        for other in self._sensitivity.others.get(rounding, ()):
            if levels_of(encoding) == other.levels and np.allclose(
                [encoding.low, encoding.high], [other.low, other.high], rtol=1e-3, atol=encoding.scale / 2
            ):
                return other.noise
        return _scaled(self._sensitivity.tensors.get(rounding), lambda: self._tensor_error(rounding, encoding))


def _scaled(source: Source | None, local: Callable[[], float]) -> float:
    if source is None or source.noise == 0:
        return 0.0
    return source.noise * local() / source.local if source.local > 0 else source.noise


def levels_of(encoding: Encoding) -> int:
    """Integers that the encoding can use."""
    return 65536 if encoding.type.endswith("16") else 256


def weight_error(weight: NDArray[Any], encoding: WeightEncoding) -> float:
    """Mean square of what rounding changes."""
    change = restored(rounded(weight, encoding), encoding).astype(np.float64) - weight
    return float(np.mean(change**2))


def tensor_error(tensor: TensorStatistics, encoding: Encoding) -> float:
    """Expected square of the error of values that fall as calibration saw them."""
    return expected_error(tensor, encoding.low, encoding.high, levels_of(encoding))


def rounded_values(array: NDArray[Any], encoding: Encoding) -> NDArray[np.float32]:
    """The values that the integers stand for."""
    steps = to_integers(array, encoding).astype(np.float32) - np.float32(encoding.zero_point)
    values: NDArray[np.float32] = (steps * np.float32(encoding.scale)).astype(np.float32)
    return values
