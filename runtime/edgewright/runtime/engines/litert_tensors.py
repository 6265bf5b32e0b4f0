"""Tensors of a TFLite file beside those of the manifest: the same values in another layout, or quantized.

A manifest describes what a client sends, often `N,C,H,W` in float32; the file's tensor is `N,H,W,C` and may be int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.native_plan import Port, Shape

from .border import check_tensor
from .protocol import ModelRefused

JUST_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))
"""Added before truncation this rounds half away from zero: 0.5 itself would carry 0.49999997 up to 1."""


class Quantization:
    """Of a whole tensor: value = scale * (stored - zero_point)."""

    __slots__ = ("_dtype", "_highest", "_lowest", "_scale", "_zero_point")

    def __init__(self, dtype: np.dtype[Any], scale: float, zero_point: int) -> None:
        limits = np.iinfo(dtype)
        self._dtype = dtype
        self._scale = np.float32(scale)
        self._zero_point = np.float32(zero_point)
        self._lowest = np.float32(limits.min - zero_point)
        self._highest = np.float32(limits.max - zero_point)

    def quantize(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """What TFLite's QUANTIZE operator makes of them: round(value / scale) + zero_point in float32, clamped.

        Half goes away from zero, as `TfLiteRound` does (tensorflow/lite/kernels/internal/reference/quantize.h,
        AffineQuantize). NaN, for which that is undefined, becomes the lowest value.
        """
        with np.errstate(over="ignore"):
            scaled = values / self._scale
        scaled += np.copysign(JUST_BELOW_HALF, scaled)
        np.fmax(scaled, self._lowest, out=scaled)
        np.fmin(scaled, self._highest, out=scaled)
        np.trunc(scaled, out=scaled)
        scaled += self._zero_point
        return scaled.astype(self._dtype)

    def dequantize(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """What TFLite's DEQUANTIZE operator makes of them."""
        values: NDArray[np.float32] = stored.astype(np.float32)
        values -= self._zero_point
        values *= self._scale
        return values


@dataclass(frozen=True, slots=True)
class FileTensor:
    """One input or output: its index in the file, and what lies between it and the manifest."""

    index: int
    shape: Shape
    """In the file."""
    dtype: np.dtype[Any]
    quantization: Quantization | None
    to_file: tuple[int, ...] | None
    """Axes of the manifest's tensor in the file's order; None where both have the same."""
    to_manifest: tuple[int, ...] | None
    """The other way round."""

    def stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """The manifest's tensor as the file has it."""
        if self.quantization is not None:
            array = self.quantization.quantize(array)
        return array if self.to_file is None else np.ascontiguousarray(array.transpose(self.to_file))

    def served(self, array: NDArray[Any]) -> NDArray[Any]:
        """The file's tensor as the manifest has it."""
        if self.to_manifest is not None:
            array = np.ascontiguousarray(array.transpose(self.to_manifest))
        return array if self.quantization is None else self.quantization.dequantize(array)


def matched(role: str, port: Port, details: Mapping[str, Any], *, channels_last: bool) -> FileTensor:
    """A tensor of the file, after it was found to be what the manifest says of it.

    Args:
        role: `input` or `output`.
        port: the manifest's tensor.
        details: what `Interpreter.get_input_details` says of the file's.
        channels_last: the manifest's N,C,* is N,*,C in the file.

    Raises:
        ModelRefused: another datatype or shape.
    """
    shape, rank = port.of(1), len(port.shape)
    if channels_last and rank < 3:
        raise ModelRefused(
            f"option channels_last names '{port.name}', whose shape {list(port.shape)} has no axes after its channels"
        )
    to_file, to_manifest = (
        ((0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))) if channels_last else (None, None)
    )
    in_file = tuple(shape[axis] for axis in to_file) if to_file else shape
    dtype = np.dtype(details["dtype"])
    found_shape = tuple(int(size) for size in details["shape"])
    quantization = None
    if port.dtype == np.float32 and dtype.kind in "iu":
        quantization = _per_tensor(role, port, dtype, details["quantization_parameters"])
    check_tensor(role, port, ("float32" if quantization else dtype.name, found_shape), in_file)
    return FileTensor(int(details["index"]), found_shape, dtype, quantization, to_file, to_manifest)


def _per_tensor(role: str, port: Port, dtype: np.dtype[Any], parameters: Mapping[str, Any]) -> Quantization | None:
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if dtype.name not in {"int8", "uint8", "int16"} or len(scales) == 0:
        return None
    zero_point, limits = int(zero_points[0]), np.iinfo(dtype)
    if len(scales) != 1 or not (0 < scales[0] < np.inf and limits.min <= zero_point <= limits.max):
        raise ModelRefused(
            f"the model's {role} '{port.name}' is {dtype.name} with scales {scales.tolist()} and zero points "
            f"{zero_points.tolist()}; expected one scale above 0 and one zero point within {dtype.name}"
        )
    return Quantization(dtype, scales[0], zero_point)
