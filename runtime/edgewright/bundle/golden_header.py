"""What golden.safetensors has to look like, checked without numpy and without reading its data."""

from __future__ import annotations

import math

import msgspec

from .errors import GoldenError, TooLargeError
from .tensorfile import LENGTH_BYTES, MAX_HEADER_BYTES, MAX_RANK, TensorFileError, TensorHeader, read_header

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
    texts: dict[str, tuple[int, ...]]
    """Tensors that hold texts, and their shapes; in the file they are bytes."""


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
    tolerances = _tolerance(header, "relative_tolerance"), _tolerance(header, "absolute_tolerance")
    return GoldenHeader(header, *tolerances, _texts(header))


def _tolerance(header: TensorHeader, key: str) -> float:
    text = header.metadata.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise GoldenError(f"golden.safetensors: metadata `{key}` is {text[:40]!r}; expected a number of 0 or more.")
    return value


def _texts(header: TensorHeader) -> dict[str, tuple[int, ...]]:
    try:
        found = msgspec.json.decode(header.metadata.get("texts", "{}"), type=dict[str, tuple[int, ...]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise GoldenError(f"golden.safetensors: metadata `texts`: {error}.") from error
    for name, shape in found.items():
        entry = header.tensors.get(name)
        if entry is None or entry.dtype != "U8" or len(entry.shape) != 1:
            raise GoldenError(f"golden.safetensors: texts need a tensor {name[:80]!r} of U8 with one dimension.")
        if len(shape) > MAX_RANK or min(shape, default=1) < 1 or 4 * math.prod(shape) > entry.size_bytes:
            raise GoldenError(f"golden.safetensors: tensor {name[:80]!r} has no room for texts of such a shape.")
    return found
