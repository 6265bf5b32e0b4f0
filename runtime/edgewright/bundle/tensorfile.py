"""The header of a safetensors file, read strictly and without numpy: the file comes from a stranger.

u64 little-endian n | n bytes of JSON: {"__metadata__": {…}, name: {"dtype", "shape", "data_offsets"}} | data
"""

from __future__ import annotations

import math

import msgspec

from .strict_json import StrictJsonError, parse_json

MAX_HEADER_BYTES = 64 * 1024
MAX_RANK = 16
LENGTH_BYTES = 8

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}


class TensorFileError(ValueError):
    """Not a safetensors file that we accept; the message fits behind a file name."""


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one tensor lies; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


class TensorHeader(msgspec.Struct, frozen=True):
    """The parsed header."""

    metadata: dict[str, str]
    tensors: dict[str, TensorEntry]
    data_start: int


def read_header(start: bytes, file_bytes: int) -> TensorHeader:
    """Parse the header in `start`, the first bytes of a file of `file_bytes` bytes.

    Raises:
        TensorFileError: malformed, too large, or tensors that overlap, leave gaps or do not end where the file ends.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    data_start = LENGTH_BYTES + length
    if len(start) < LENGTH_BYTES or data_start > file_bytes:
        raise TensorFileError(f"the header claims {length} bytes, the file has {file_bytes}")
    if length > MAX_HEADER_BYTES:
        raise TensorFileError(f"the header claims {length} bytes; at most {MAX_HEADER_BYTES} are read")
    try:
        plain = parse_json(start[LENGTH_BYTES:data_start], max_depth=4)
        if not isinstance(plain, dict):
            raise TensorFileError("the header is not a JSON object")
        metadata = msgspec.convert(plain.pop("__metadata__", {}), dict[str, str])
        tensors = msgspec.convert(plain, dict[str, TensorEntry])
    except (StrictJsonError, msgspec.ValidationError) as error:
        raise TensorFileError(f"bad header: {error}") from error
    _check_layout(tensors, file_bytes - data_start)
    return TensorHeader(metadata, tensors, data_start)


def _check_layout(tensors: dict[str, TensorEntry], data_bytes: int) -> None:
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in ITEM_BYTES:
            raise TensorFileError(
                f"tensor {name[:80]!r} has dtype {entry.dtype[:20]!r}; known are {', '.join(ITEM_BYTES)}"
            )
        if len(entry.shape) > MAX_RANK or any(size < 0 for size in entry.shape):
            raise TensorFileError(f"tensor {name[:80]!r} has an impossible shape")
        begin, end = entry.data_offsets
        if begin != position or end - begin != entry.size_bytes:
            raise TensorFileError(f"tensor {name[:80]!r} does not lie where its shape says: overlap, gap or wrong size")
        position = end
    if position != data_bytes:
        raise TensorFileError(f"the tensors end at byte {position} of the data, the data has {data_bytes}")
