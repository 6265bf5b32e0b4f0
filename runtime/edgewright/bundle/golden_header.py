"""What golden.safetensors has to look like, checked without numpy and without reading its data."""

from __future__ import annotations

import math

import msgspec

from .errors import GoldenError, TooLargeError
from .tensorfile import LENGTH_BYTES, MAX_HEADER_BYTES, TensorFileError, TensorHeader, read_header

MAX_GOLDEN_BYTES = 64 << 20
INPUT_PREFIX = "input/"
OUTPUT_PREFIX = "output/"
HEAD_BYTES = LENGTH_BYTES + MAX_HEADER_BYTES
"""So many bytes from the start of the file are enough for `read_golden_header`."""


class GoldenHeader(msgspec.Struct, frozen=True):
    """The header of a golden file, checked."""

    file: TensorHeader
    relative_tolerance: float
    absolute_tolerance: float


def read_golden_header(start: bytes, file_bytes: int) -> GoldenHeader:
    """Check the shape of a golden file.

    Raises:
        TooLargeError: the file is larger than any self-test needs.
        GoldenError: malformed, without inputs or outputs, or with bad tolerances.
    """
    if file_bytes > MAX_GOLDEN_BYTES:
        raise TooLargeError(f"golden.safetensors: {file_bytes} bytes; at most {MAX_GOLDEN_BYTES} are read.")
    try:
        header = read_header(start, file_bytes)
    except TensorFileError as error:
        raise GoldenError(f"golden.safetensors: {error}.") from error
    for prefix in (INPUT_PREFIX, OUTPUT_PREFIX):
        if not any(name.startswith(prefix) for name in header.tensors):
            raise GoldenError(f"golden.safetensors: no tensor named {prefix}…: the self-test needs inputs and outputs.")
    strange = [name for name in header.tensors if not name.startswith((INPUT_PREFIX, OUTPUT_PREFIX))]
    if strange:
        raise GoldenError(f"golden.safetensors: unexpected tensor {strange[0][:80]!r}; expected input/… and output/….")
    if any(math.prod(entry.shape) == 0 for entry in header.tensors.values()):
        raise GoldenError("golden.safetensors: an empty tensor tests nothing.")
    return GoldenHeader(header, _tolerance(header, "relative_tolerance"), _tolerance(header, "absolute_tolerance"))


def _tolerance(header: TensorHeader, key: str) -> float:
    text = header.metadata.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise GoldenError(f"golden.safetensors: metadata `{key}` is {text[:40]!r}; expected a number of 0 or more.")
    return value
