"""The device's self-test: a few inputs and the outputs that this target's arithmetic has to give for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import GoldenError
from .files import read_bounded, write_atomically
from .golden_header import INPUT_PREFIX, MAX_GOLDEN_BYTES, OUTPUT_PREFIX, read_golden_header
from .golden_texts import differing, is_text, read_texts, spelled
from .tensorfile import MAX_HEADER_BYTES

Tensors = dict[str, NDArray[Any]]

_NUMPY = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_SAFETENSORS = {np.dtype(code): name for name, code in _NUMPY.items()}


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """An element passes where |got - expected| <= absolute_tolerance + relative_tolerance * |expected|."""

    inputs: Tensors
    outputs: Tensors
    relative_tolerance: float
    absolute_tolerance: float


class GoldenVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the outputs compare."""

    passed: bool
    worst_output: str
    """The output that is furthest out of tolerance (or nearest to it)."""
    worst_error: float
    """Largest absolute difference in that output; infinite where it cannot be compared."""
    detail: str
    """One sentence for people."""


def write_golden(path: Path, golden: Golden) -> None:
    """Write golden.safetensors. The same content always gives the same bytes."""
    data = encode_golden(golden)
    read_golden_header(data, len(data))
    write_atomically(path, data)


def encode_golden(golden: Golden) -> bytes:
    """The bytes of golden.safetensors: tensors sorted by name; the safetensors package does not promise an order."""
    metadata = {
        "absolute_tolerance": repr(float(golden.absolute_tolerance)),
        "relative_tolerance": repr(float(golden.relative_tolerance)),
    }
    tensors = {INPUT_PREFIX + name: array for name, array in golden.inputs.items()}
    tensors |= {OUTPUT_PREFIX + name: array for name, array in golden.outputs.items()}
    texts = {name: list(array.shape) for name, array in sorted(tensors.items()) if is_text(array)}
    if texts:
        metadata["texts"] = json.dumps(texts, separators=(",", ":"), ensure_ascii=False)
        tensors |= {name: spelled(tensors[name]) for name in texts}
    header: dict[str, Any] = {"__metadata__": metadata}
    parts: list[bytes] = []
    position = 0
    for name in sorted(tensors):
        array = tensors[name]
        code = _SAFETENSORS.get(array.dtype.newbyteorder("<"))
        if code is None:
            raise GoldenError(f"golden.safetensors: tensor {name!r} has dtype {array.dtype}, which it cannot hold.")
        part = array.astype(_NUMPY[code], order="C").tobytes()
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [position, position + len(part)]}
        position += len(part)
        parts.append(part)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise GoldenError(
            f"golden.safetensors: too many tensors: the header has {len(text)} of {MAX_HEADER_BYTES} bytes."
        )
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read_golden(path: Path) -> Golden:
    """Read golden.safetensors.

    Raises:
        GoldenError, TooLargeError: it cannot be used; the message says why.
    """
    return decode_golden(read_bounded(path, MAX_GOLDEN_BYTES))


def decode_golden(data: bytes) -> Golden:
    """Arrays that look into `data` (read-only); see `read_golden`."""
    header = read_golden_header(data, len(data))
    tensors: Tensors = {}
    for name, entry in header.file.tensors.items():
        start = header.file.data_start + entry.data_offsets[0]
        if name in header.texts:
            tensors[name] = read_texts(name, data[start : start + entry.size_bytes], header.texts[name])
            continue
        flat = np.frombuffer(data, dtype=_NUMPY[entry.dtype], count=math.prod(entry.shape), offset=start)
        tensors[name] = flat.reshape(entry.shape)
    return Golden(
        inputs=_with_prefix(tensors, INPUT_PREFIX),
        outputs=_with_prefix(tensors, OUTPUT_PREFIX),
        relative_tolerance=header.relative_tolerance,
        absolute_tolerance=header.absolute_tolerance,
    )


def _with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def compare(golden: Golden, outputs: Mapping[str, NDArray[Any]]) -> GoldenVerdict:
    """Compare a model's outputs for `golden.inputs` with the expected ones."""
    worst_excess, verdict = -1.0, None
    for name in sorted(golden.outputs):
        excess, error, detail = _compare_one(golden, name, outputs.get(name))
        if excess > worst_excess:
            worst_excess = excess
            verdict = GoldenVerdict(passed=excess <= 1.0, worst_output=name, worst_error=error, detail=detail)
    if verdict is None:
        raise GoldenError("golden.safetensors: no outputs to compare.")
    return verdict


def _compare_one(golden: Golden, name: str, got: NDArray[Any] | None) -> tuple[float, float, str]:
    """How far out (1.0 is just within tolerance), the largest difference, and a sentence."""
    expected = golden.outputs[name]
    if got is None:
        return math.inf, math.inf, f"output {name!r} is missing"
    if is_text(expected):
        return _compare_texts(name, got, expected)
    if got.shape != expected.shape or got.dtype.newbyteorder("<") != expected.dtype:
        wanted = f"{expected.dtype}{list(expected.shape)}"
        return math.inf, math.inf, f"output {name!r} is {got.dtype}{list(got.shape)}, expected {wanted}"
    difference = _difference(got, expected)
    magnitude = np.abs(expected.astype(np.float64))
    allowed = golden.absolute_tolerance + golden.relative_tolerance * np.where(np.isfinite(magnitude), magnitude, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(difference == 0, 0.0, difference / allowed)
    worst = int(np.argmax(ratio))
    excess, error = float(ratio.flat[worst]), float(difference.max())
    at = [int(index) for index in np.unravel_index(worst, expected.shape)]
    detail = (
        f"output {name!r}: largest difference {error:.3g}; at {at} got {got.flat[worst]!s}, expected "
        f"{expected.flat[worst]!s}, allowed {float(allowed.flat[worst]):.3g}"
    )
    return excess, error, detail


def _compare_texts(name: str, got: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float, str]:
    """Texts are the same or they are not: no tolerance applies."""
    if got.shape != expected.shape or not is_text(got):
        wanted = f"texts{list(expected.shape)}"
        return math.inf, math.inf, f"output {name!r} is {got.dtype}{list(got.shape)}, expected {wanted}"
    wrong = differing(got, expected)
    if not wrong:
        return 0.0, 0.0, f"output {name!r}: all texts are equal"
    at = wrong[0]
    detail = f"output {name!r}: {len(wrong)} texts differ, the first: got {got.flat[at]!r:.80}, expected "
    return math.inf, math.inf, detail + f"{expected.flat[at]!r:.80}"


def _difference(got: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """|got - expected|; equal values, also infinities and expected NaN, differ by 0; any other NaN by infinity."""
    if got.dtype.kind in "iu":  # float64 would hide differences of large integers, and signed ones would overflow
        unsigned = np.dtype(f"u{got.dtype.itemsize}")
        larger, smaller = np.maximum(got, expected).astype(unsigned), np.minimum(got, expected).astype(unsigned)
        exact: NDArray[Any] = np.subtract(larger, smaller)
        return exact.astype(np.float64)
    wide_got, wide_expected = got.astype(np.float64), expected.astype(np.float64)
    same = (wide_got == wide_expected) | (np.isnan(wide_got) & np.isnan(wide_expected))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(wide_got - wide_expected)
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
